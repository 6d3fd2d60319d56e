"""Distills a recommender over a structure into a two-tower MLP without one, and exports the MLP to ONNX."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hgraph.data import Interactions
from hgraph.data.io import fingerprint
from hgraph.distill.serving.onnx import needs_onnx, onnx_program, silenced
from hgraph.errors import ArgumentError, DataError
from hgraph.models.recommend.base import Recommender
from hgraph.train import FitResult, eval_mode, scorer, structure_of
from hgraph.train.checkpoint import Checkpoint, state_digest
from hgraph.train.loop import descend, train_loop

__all__ = ["distill_recommender", "export_towers"]


def distill_recommender(
    teacher: Recommender,
    data: Interactions,
    student: Recommender,
    *,
    steps: int = 2000,
    lr: float = 5e-3,
    batch: int = 512,
    near: int = 50,
    temperature: float = 1.0,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = False,
) -> FitResult:
    r"""Train a student to rank pairs of items like the teacher, and put it into eval mode.

    .. math:: \frac{1}{B} \sum_{(u, i, j)} \mathrm{BCE}\big(\sigma(s_{ui} - s_{uj}), \sigma((t_{ui} - t_{uj}) / T)\big)

    This is the objective of `PairwiseRanking`; i is one of the ``near`` items that the teacher ranks highest for u, and
    j is any item. The recorded interactions are not used, only the teacher's scores.

    Args:
        teacher: a trained recommender.
        data: the training data of the teacher; the student uses only its knowledge graph.
        student: the student, trained in place.
        steps: number of steps of Adam.
        lr: learning rate.
        batch: triples (u, i, j) per step.
        near: number of the teacher's best items from which i is sampled.
        temperature: T; for small values only the order of the teacher's scores counts.
        seed: random seed of the triples.
        checkpoint: a checkpoint file to continue from, as in `hgraph.train.fit`; written every half minute.
        progress: show a progress bar on stderr; None shows it on a terminal only.

    Returns:
        The loss of each step, in a history whose epochs are the steps.

    Raises:
        ArgumentError: different numbers of users or items, numbers out of range, or a checkpoint with different
            settings, a different teacher or different data.

    >>> from hgraph.models import BPRMF, LightGCN
    >>> from hgraph.structure import KnowledgeGraph
    >>> kg = KnowledgeGraph.from_names([("Dune", "is like", "Ubik")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=2)
    >>> result = distill_recommender(LightGCN(1, 2), data, BPRMF(1, 2), steps=3, near=2)
    >>> result.best_epoch, result.history[2]["loss"] < result.history[0]["loss"]
    (3, True)
    """
    for model in (teacher, student):
        if (model.num_users, model.num_items) != (data.num_users, data.num_items):
            sizes = f"{data.num_users} users and {data.num_items} items as in the data"
            raise ArgumentError("teacher, student", sizes, f"{model.num_users} and {model.num_items}")
    if not 1 <= near <= data.num_items or temperature <= 0 or steps < 0 or batch < 1:
        raise ArgumentError(
            "near, temperature, steps, batch",
            f"near in 1 .. {data.num_items}, temperature above 0, steps 0 or more, batch 1 or more",
            f"{near}, {temperature}, {steps}, {batch}",
        )
    score, structure = scorer(teacher, structure_of(teacher, data)), structure_of(student, data)
    optimizer, device = torch.optim.Adam(student.parameters(), lr=lr), next(student.parameters()).device
    settings: dict[str, Any] = {"lr": lr, "batch": batch, "near": near, "temperature": temperature, "seed": seed}
    if checkpoint is not None:  # with a different teacher or data, training would continue towards different scores
        settings |= {"teacher": state_digest(teacher), "data": fingerprint(data)}
    file = Checkpoint(checkpoint, settings)

    def step(epoch: int) -> float:
        student.train()
        return descend(optimizer, _order_loss(score, student(structure), data, batch, near, temperature), epoch)

    return train_loop(
        student, step, None, file, optimizer=optimizer, devices=[device],
        epochs=steps, seed=seed, label="student", progress=progress, unit="step",
    )  # fmt: skip


def _order_loss(score: Any, z: Tensor, data: Interactions, batch: int, near: int, temperature: float) -> Tensor:
    """The loss of one batch of triples, for the student's embeddings z."""
    users = torch.randint(data.num_users, (batch,))
    teacher_scores = score(users)
    best = teacher_scores.topk(near, dim=1).indices
    i = best.gather(1, torch.randint(near, (batch, 1)).to(best.device)).squeeze(1)
    j = torch.randint(data.num_items, (batch,)).to(best.device)
    rows = torch.arange(batch, device=best.device)
    target = torch.sigmoid((teacher_scores[rows, i] - teacher_scores[rows, j]) / temperature)
    u, first, second = (z[ids.to(z.device)] for ids in (users, data.num_users + i, data.num_users + j))
    return F.binary_cross_entropy_with_logits((u * (first - second)).sum(-1), target.to(z))


class _Scores(nn.Module):
    """Scores of all items for user ids; the embeddings of items are constants."""

    def __init__(self, student: Any, items: Tensor) -> None:
        super().__init__()
        self.student = student
        self.register_buffer("items", items)

    def forward(self, users: Tensor) -> Tensor:
        """Scores [B, I] of users [B]."""
        return self.student.users(users) @ self.items.T


def export_towers(student: Recommender, data: Interactions, path: str | os.PathLike[str]) -> Path:
    """Export an ONNX program from ``users`` [B] int64 to ``scores`` [B, I]; it is run and compared with the student.

    If the data has names of users and items, they are JSON lists in the metadata ``users`` and ``items``.

    Args:
        student: a trained recommender with a method ``users(ids)`` that returns embeddings of users without the
            structure, such as `hgraph.models.TwoTower`.
        data: data with the knowledge graph of the items.
        path: the file.

    Raises:
        MissingPackageError: onnx, onnxscript or onnxruntime is missing.
        DataError: the scores of the program differ from the student's; the file is not written.
    """
    needs_onnx()
    import onnxruntime

    from hgraph.files import write_atomically

    with torch.no_grad(), eval_mode(student):
        rows = student(structure_of(student, data))[data.num_users :].contiguous()
        program = _Scores(student, rows).eval()
        users = torch.arange(min(3, data.num_users))
        shapes = ({0: torch.export.Dim("users", min=1)},)
        with silenced():
            exported = torch.export.export(program, (users,), dynamic_shapes=shapes)
        made = onnx_program(exported, users, names=("users", "scores"), metadata=_names(data))
        content = made.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        for some in torch.arange(data.num_users).split(1024):
            found = torch.from_numpy(session.run(None, {"users": some.numpy()})[0])
            if not torch.allclose(found, program(some), rtol=1e-3, atol=1e-4):
                raise DataError(f"{path}: expected the exported program to equal the student; the file was not written")
    write_atomically(path, content)
    return Path(path)


def _names(data: Interactions) -> dict[str, str]:
    """The names of users and items, as JSON."""
    all_names = {"users": data.user_names, "items": data.kg.node_names}
    sizes = {"users": data.num_users, "items": data.num_items}
    return {
        what: json.dumps([names[i] for i in range(sizes[what])])
        for what, names in all_names.items()
        if names is not None
    }
