"""KGAT distilled into a two-tower MLP: the order of items, no message passing, and equal scores with ONNX."""

from __future__ import annotations

import pytest
import torch

from hgraph import Interactions, models, train
from hgraph.distill import distill_recommender, export_towers
from hgraph.errors import ArgumentError
from hgraph.testing import random_knowledge_graph

U, I = 20, 15


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    pairs = torch.stack([torch.arange(100) % U, torch.randint(I, (100,), generator=generator)]).unique(dim=1)
    kg = random_knowledge_graph(I + 6, 60, 2, seed=1)
    return Interactions.random(*pairs, kg, num_users=U, num_items=I)


@pytest.fixture(scope="module")
def teacher(data):
    with train.seeded(0):
        relations = data.collaborative().num_relations
        model = models.KGAT(U, I, data.kg.num_nodes, relations, dim=8, relation_dim=4, layer_channels=(8,))
    options = {"lr": 0.02, "batch": 20, "patience": None, "progress": False, "k": 5}
    train.fit_recommender(model, data, epochs=20, **options)
    return model


def student_of(data, seed=0):
    with train.seeded(seed):
        return models.TwoTower(U, I, data.kg.num_nodes, dim=8, hidden_channels=16, out_channels=8)


def table(model, data):
    return train.scorer(model, train.structure_of(model, data))(torch.arange(U))


def agreement(a, b, k=5):
    """Fraction of the k best items that both have."""
    best = [x.topk(k, dim=1).indices for x in (a, b)]
    return float((best[0].unsqueeze(2) == best[1].unsqueeze(1)).any(2).double().mean())


def test_the_student_learns_the_teacher_s_order(data, teacher):
    student = student_of(data)
    before = agreement(table(student, data), table(teacher, data))
    losses = [
        epoch["loss"]
        for epoch in distill_recommender(teacher, data, student, steps=300, batch=128, near=8, lr=0.01).history
    ]
    after = agreement(table(student, data), table(teacher, data))
    assert len(losses) == 300
    assert losses[-1] < losses[0]
    assert after >= 0.85
    assert after > before + 0.2
    assert not student.training


def test_the_student_receives_no_messages(data):
    """Purchases of other users do not change the student's scores."""
    student = student_of(data)
    pairs = torch.stack([data.train.target, data.train.indices]).long()
    none = torch.empty(2, 0, dtype=torch.long)
    other = Interactions.from_pairs(pairs[:, ::2], none, none, data.kg, num_users=U, num_items=I)
    assert torch.equal(table(student, data), table(student, other))


def test_same_seed_same_student(data, teacher):
    students = [student_of(data) for _ in range(2)]
    losses = [distill_recommender(teacher, data, s, steps=5, batch=16, near=5).history for s in students]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("changed", [{"near": 0}, {"near": I + 1}, {"temperature": 0.0}, {"batch": 0}])
def test_wrong_settings_are_named(data, teacher, changed):
    with pytest.raises(ArgumentError, match="near, temperature"):
        distill_recommender(teacher, data, student_of(data), **changed)


def test_other_sizes_are_refused(data, teacher):
    with pytest.raises(ArgumentError, match="20 users and 15 items"):
        distill_recommender(teacher, data, models.TwoTower(U, I - 1, data.kg.num_nodes))


def test_onnx_gives_the_same_scores(data, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    student = student_of(data)
    path = export_towers(student, data, tmp_path / "student.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for users in ([0], [3, 7, 19], list(range(U))):
        found = session.run(None, {"users": torch.tensor(users).numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), table(student, data)[users], rtol=1e-4, atol=1e-5)


def test_a_checkpoint_is_of_one_teacher_and_of_one_set(data, teacher, tmp_path):
    """A distillation does not go on towards the scores of another teacher, or with other triples."""
    options = {"steps": 2, "batch": 16, "near": 5, "checkpoint": tmp_path / "c"}
    distill_recommender(teacher, data, student_of(data), **options)
    assert len(distill_recommender(teacher, data, student_of(data), **options | {"steps": 3}).history) == 3
    with pytest.raises(ArgumentError, match="teacher: expected"):
        distill_recommender(student_of(data, seed=1), data, student_of(data), **options)
    pairs = torch.stack([data.train.target, data.train.indices]).long()
    none = torch.empty(2, 0, dtype=torch.long)
    other = Interactions.from_pairs(pairs[:, :-1], none, none, data.kg, num_users=U, num_items=I)
    with pytest.raises(ArgumentError, match="data: expected"):
        distill_recommender(teacher, other, student_of(data), **options)
