"""The tasks of labeled nodes against scikit-learn and plain formulas; missing labels change nothing."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hgraph import Data, Graph, Split
from hgraph.data.labels import target_kind
from hgraph.errors import ArgumentError, DataError
from hgraph.models import GCN
from hgraph.train import (
    Classification,
    MultiLabel,
    Regression,
    auroc,
    balanced_accuracy,
    build_model,
    fit,
    mae,
    multilabel_f1,
    r2,
    rmse,
    task_from,
    task_loss,
    task_of,
    training_view,
)
from hgraph.train.tasks import balanced

NAN = float("nan")
DRAW = torch.Generator().manual_seed(0)
LOGITS = torch.randn(40, 3, generator=DRAW)
Y = torch.randint(3, (40,), generator=DRAW)
TAGS = torch.rand(40, 3, generator=DRAW) < 0.4
NUMBERS = 1e4 + 50 * torch.randn(40, generator=DRAW)
RING = Graph.from_edge_index([list(range(40)), [*range(1, 40), 0]], num_nodes=40, directed=False)


def test_metrics_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    got = NUMBERS + 3
    for found, expected in (
        (balanced_accuracy(LOGITS, Y), metrics.balanced_accuracy_score(Y, LOGITS.argmax(1))),
        (multilabel_f1(LOGITS, TAGS), metrics.f1_score(TAGS, LOGITS > 0, average="micro")),
        (multilabel_f1(LOGITS, TAGS, "macro"), metrics.f1_score(TAGS, LOGITS > 0, average="macro")),
        (auroc(LOGITS, TAGS), metrics.roc_auc_score(TAGS, LOGITS, average="macro")),
        (mae(got, NUMBERS), metrics.mean_absolute_error(NUMBERS, got)),
        (rmse(got[:, None], NUMBERS), metrics.mean_squared_error(NUMBERS, got) ** 0.5),
        (r2(got, NUMBERS), metrics.r2_score(NUMBERS, got)),
        (
            Classification().metric("auroc", LOGITS, Y),
            metrics.roc_auc_score(Y, LOGITS.softmax(1), multi_class="ovr", average="macro"),
        ),
    ):
        assert found == pytest.approx(expected, rel=1e-5)


CASES = {
    "classes": (Y, torch.tensor([-1, 0]), LOGITS),
    "tags": (TAGS.float(), torch.full((2, 3), NAN), LOGITS),
    "numbers": (NUMBERS, torch.tensor([NAN, NAN]), LOGITS[:, :1]),
    "two numbers": (torch.stack([NUMBERS, -NUMBERS], 1), torch.full((2, 2), NAN), LOGITS[:, :2]),
}


@pytest.mark.checked(
    "labels", "Missing labels of a regression, or of several labels per node, are in no loss or metric."
)
@pytest.mark.parametrize(("y", "more", "outputs"), CASES.values(), ids=CASES)
def test_missing_labels_stay_missing(y, more, outputs):
    """Rows without a label, here NaN or -1, change no metric and no loss; other outputs there change nothing either."""
    more = torch.tensor([-1, -1]) if not y.is_floating_point() else more
    all_y, all_outputs = torch.cat([y, more]), torch.cat([outputs, 100 * outputs[:2]])
    ids = torch.arange(40)
    task = task_of(y, ids)
    assert task_of(all_y, torch.arange(42)).settings() == task.settings()
    assert task.metrics(all_outputs, all_y) == task.metrics(outputs, y)
    torch.testing.assert_close(task.loss(all_y, torch.arange(42))(all_outputs), task.loss(y, ids)(outputs))
    assert task.score(all_y, torch.arange(42))(all_outputs) == task.score(y, ids)(outputs)
    assert task.score(all_y, torch.tensor([40, 41])) is None


def test_a_missing_cell_of_a_labeled_row_is_ignored():
    y = TAGS.float()
    y[3, 1] = NAN
    task, ids = MultiLabel(), torch.arange(40)
    known = ~y.isnan()
    expected = F.binary_cross_entropy_with_logits(LOGITS[known], y[known])
    torch.testing.assert_close(task.loss(y, ids)(LOGITS), expected)
    other = LOGITS.clone()
    other[3, 1] *= -50
    assert task.metrics(other, y) == task.metrics(LOGITS, y)
    numbers = torch.stack([NUMBERS, NUMBERS], 1)
    numbers[3, 1] = NAN
    task = task_of(numbers, ids)
    mean, scale = (torch.tensor(v, dtype=torch.float64) for v in (task.mean, task.scale))
    target, known = (numbers.double() - mean) / scale, ~numbers.isnan()
    expected = (LOGITS[:, :2].double() - target)[known].square().mean().float()
    torch.testing.assert_close(task.loss(numbers, ids)(LOGITS[:, :2]), expected)


def test_the_standardization_is_undone():
    """A network that predicts the standardized targets exactly has no error, at a mean of 1e6 times the scale too."""
    y = torch.tensor([1e6, 1e6 + 1, 1e6 + 4, 5.0])
    task = task_of(y, torch.tensor([0, 1, 2]))
    values = y[:3].double()
    assert task.mean == pytest.approx([values.mean().item()])
    assert task.scale == pytest.approx([values.std(correction=0).item()])
    outputs = ((y.double() - task.mean[0]) / task.scale[0]).float().unsqueeze(1)
    assert task.metric("mae", outputs[:3], y[:3]) < 0.1
    assert task.loss(y, torch.tensor([0, 1, 2]))(outputs).item() < 1e-12
    constant = task_of(torch.tensor([7.0, 7.0]), torch.tensor([0, 1]))
    assert (constant.mean, constant.scale) == ((7.0,), (1.0,))


def test_balanced_weights_make_classes_equal():
    y, logits = torch.tensor([0, 0, 0, 1]), torch.randn(4, 3, generator=DRAW)
    loss = Classification(class_weight="balanced").loss(y, torch.arange(4))(logits)
    each = F.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(loss, (each[:3].mean() + each[3]) / 2)
    assert balanced(y, 3)[2] == 0
    tags = torch.tensor([[True], [False], [False], [False]])
    weighted = MultiLabel(class_weight="balanced").loss(tags, torch.arange(4))(torch.zeros(4, 1))
    assert weighted.item() == pytest.approx((3 + 3) * torch.tensor(2.0).log().item() / 4)


@pytest.mark.parametrize(
    "task", [Classification("f1", "balanced"), MultiLabel("auc"), Regression("loss", None, [3.0], [2.0])]
)
def test_settings_make_the_same_task(task):
    again = task_from(task.settings())
    assert type(again) is type(task)
    assert again.settings() == task.settings()


def test_kinds_of_labels():
    assert [target_kind(v) for v in (Y, TAGS, TAGS.float(), NUMBERS, TAGS.float()[:, :1], NUMBERS[:, None])] == [
        "classification", "multilabel", "multilabel", "regression", "regression", "regression",
    ]  # fmt: skip
    with pytest.raises(ArgumentError, match=r"y.bool\(\) for several labels"):
        task_of(torch.zeros(4, 2, dtype=torch.long), torch.arange(4))
    with pytest.raises(DataError, match="task.kind: expected one of"):
        task_from({"kind": "poetry"})
    assert task_from(None).kind == "classification"


def test_an_undefined_score_says_so():
    """AUROC needs positives and negatives."""
    score = Classification("auc").score(torch.zeros(4, dtype=torch.long), torch.arange(4))
    with pytest.raises(ArgumentError, match="validation nodes with and without a class"):
        score(torch.randn(4, 2, generator=DRAW))
    assert auroc(LOGITS, torch.ones(40, 3)) is None
    assert r2(NUMBERS, torch.ones(40)) is None
    with pytest.raises(ArgumentError, match=r"outputs \[N, 3\]"):
        MultiLabel().loss(TAGS, torch.arange(40))(LOGITS[:, :2])


@pytest.mark.parametrize(("y", "width"), [(Y, 3), (TAGS, 3), (NUMBERS, 1)], ids=["classes", "tags", "numbers"])
def test_fit_trains_whatever_labels_the_data_has(y, width):
    ids = torch.arange(40)
    data = Data(RING, torch.eye(40), y, {"default": Split(RING, ids[::2], ids[1::4], ids[3::4])})
    model = build_model("gcn", data, seed=0)
    assert model(data.x, RING).shape == (40, width)
    assert isinstance(model, GCN)
    loss, validate = task_loss(training_view(data))
    first = loss(model.eval()(data.x, RING)).detach().item()
    result = fit(model, data, epochs=30, progress=False)
    assert result.history[-1]["loss"] < first
    assert result.best["validation"] == pytest.approx(validate(model(data.x, RING)), rel=1e-6)
