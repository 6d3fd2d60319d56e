"""A teacher, the student distilled from it, and the same network trained on labels alone, side by side."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hgraph.data import Data, Split
from hgraph.data.labels import labeled
from hgraph.distill.objectives.lesson import Term
from hgraph.distill.objectives.soft_labels import Labels
from hgraph.distill.serving.latency import Timing, timings
from hgraph.distill.teach import distill
from hgraph.distill.teachers import fit_temperature
from hgraph.errors import ArgumentError
from hgraph.train import FitResult, accuracy, classification_loss, expected_calibration_error, fit, training_view

__all__ = ["Comparison", "Measured", "compare", "unseen_accuracies"]

_LOG = logging.getLogger("hgraph")


@dataclass(frozen=True)
class Measured:
    """What was measured of one trained model.

    Args:
        test_accuracy: on every test node.
        ece: expected calibration error (15 bins) there.
        parameters: how many numbers were learned.
        latency_one_s: seconds to predict one node.
        latency_all_s: seconds to predict every node.
        unseen_accuracy: on the test nodes that training never saw; None when transductive.
        fit: the training's history.
        logits: on the test nodes, on the CPU.
        temperature: `fit_temperature` of the validation nodes; None without any.
        calibrated_ece: the calibration error on the test nodes when logits are divided by it; None likewise.
        timing_one: ``latency_one_s`` with its quartiles, as ``timing_all`` of ``latency_all_s``; None if not known.
        timing_all: as above.

    >>> measured = Measured(0.9, 0.05, 10, 1e-4, 2e-4, None, FitResult([], 0, 0.0), torch.zeros(1, 2), None, None)
    >>> measured.figures()
    {'test_accuracy': 0.9, 'ece': 0.05, 'parameters': 10, 'latency_one_s': 0.0001, 'latency_all_s': 0.0002}
    """

    test_accuracy: float
    ece: float
    parameters: int
    latency_one_s: float
    latency_all_s: float
    unseen_accuracy: float | None
    fit: FitResult
    logits: Tensor = field(repr=False, compare=False)
    temperature: float | None
    calibrated_ece: float | None
    timing_one: Timing | None = None
    timing_all: Timing | None = None

    def speed_up(self, teacher: Measured, which: Literal["one", "all"]) -> float:
        """How many times as fast as the teacher a call is: at least so many times in three of four calls of each.

        It is the teacher's lower quartile over the upper one of this model; the ratio of medians would promise more
        than a busy machine keeps.
        """
        mine, other = getattr(self, f"timing_{which}"), getattr(teacher, f"timing_{which}")
        if mine is None or other is None or self is teacher:
            return float(getattr(teacher, f"latency_{which}_s") / getattr(self, f"latency_{which}_s"))
        return float(other.low / mine.high)

    def figures(self) -> dict[str, float | int]:
        """The five figures that ``hgraph distill --json`` prints; of a production split also that of the unseen."""
        names = ("test_accuracy", "ece", "parameters", "latency_one_s", "latency_all_s")
        unseen = {} if self.unseen_accuracy is None else {"unseen_accuracy": self.unseen_accuracy}
        return {name: getattr(self, name) for name in names} | unseen


@dataclass(frozen=True)
class Comparison:
    """The three models measured on one data set under one split.

    >>> one = Measured(0.9, 0.05, 10, 1e-4, 2e-4, None, FitResult([], 0, 0.0), torch.zeros(1, 2), None, None)
    >>> [name for name, _ in Comparison(mlp=one, teacher=one, student=one).items()]
    ['mlp', 'teacher', 'student']
    """

    mlp: Measured
    teacher: Measured
    student: Measured

    def items(self) -> list[tuple[str, Measured]]:
        """The models by name, in the order of every table."""
        return [("mlp", self.mlp), ("teacher", self.teacher), ("student", self.student)]


def compare(
    teacher: nn.Module,
    mlp: nn.Module,
    student: nn.Module,
    data: Data,
    *,
    split: str = "default",
    objective: Term | None = None,
    seed: int = 0,
    checkpoints: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Comparison:
    """Train a teacher on a structure, distill it into a student, train the same network on labels, measure all.

    Test accuracy is on all test nodes. In production the teacher is then given the whole structure, as it would be
    when new nodes have arrived; the others need features alone. One node costs the teacher a full pass, because
    its answer depends on the degrees and features around the node; the others read one row.

    Args:
        teacher: called with ``(x, structure)``, untrained.
        mlp: called with ``x``, untrained: the baseline (`Labels` alone).
        student: called with ``x``, untrained; of the same kind as ``mlp``.
        data: its structure, and that of the split, of the kind the teacher takes.
        split: the split to train under.
        objective: what the student learns from, see `distill`.
        seed: what dropout draws from.
        checkpoints: a folder; where it holds checkpoints of an earlier call that was stopped, this one goes on.
        **options: ``epochs``, ``lr``, ``weight_decay``, ``patience``, ``progress`` of `fit`, for all three.

    Raises:
        ArgumentError: a split without training or test nodes.

    >>> from hgraph.models import GCN, MLP
    >>> from hgraph.structure import Graph
    >>> ids = torch.arange(3)
    >>> path = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> data = Data(path, torch.eye(3), ids, {"default": Split(path, ids[:1], ids[1:2], ids[2:])})
    >>> found = compare(GCN(3, 4, 3), MLP(3, 4, 3), MLP(3, 4, 3), data, epochs=1)
    >>> sorted(found.student.figures())
    ['ece', 'latency_all_s', 'latency_one_s', 'parameters', 'test_accuracy']
    """
    part, parts = training_view(data, split), data.split(split)
    for name in ("train", "test"):
        if not len(getattr(parts, name)):
            raise ArgumentError("split", f"at least one {name} node", "none")
    loss, validate = classification_loss(part)

    def named(label: str) -> dict[str, Any]:
        file = None if checkpoints is None else Path(checkpoints) / f"{label}.safetensors"
        return {"label": label, "seed": seed, "checkpoint": file, **options}

    told = fit(teacher, (part.x, part.structure), loss, validate=validate, **named("teacher"))
    alone = distill(None, mlp, data, objective=Labels(), split=split, **named("mlp"))
    taught = distill(teacher, student, data, objective=objective, split=split, **named("student"))
    row = data.x[:1].clone()
    one = {"mlp": lambda: mlp(row), "student": lambda: student(row)}
    every = {
        "mlp": lambda: mlp(data.x),
        "teacher": lambda: teacher(data.x, data.structure),
        "student": lambda: student(data.x),
    }
    all_s = timings(every, device=data.x.device)
    one_s = {"teacher": all_s["teacher"]} | timings(one, device=data.x.device)
    for name, timing in (*all_s.items(), *one_s.items()):
        if not timing.is_steady:
            text = "latency of the %s: the quartiles are %.0f %% of the median apart; the machine was busy"
            _LOG.warning(text, name, 100 * timing.spread)
    models = {"mlp": (mlp, alone), "teacher": (teacher, told), "student": (student, taught)}
    measured = {}
    for name, (model, result) in models.items():
        with torch.inference_mode():
            logits = every[name]()
        measured[name] = _measure(model, logits, data, parts, result, one_s[name], all_s[name])
    return Comparison(**measured)


def unseen_accuracies(
    teacher: nn.Module,
    student: nn.Module,
    data: Data,
    *,
    split: str,
    objective: Term | None = None,
    seed: int = 0,
    checkpoints: str | os.PathLike[str] | None = None,
    **options: Any,
) -> tuple[float, float] | None:
    """Train a teacher and a student without the unseen nodes of a production split, and test both on these.

    Use it beside a transductive `compare`: its student has learned from the teacher's answers for the test nodes, while
    a student that is exported answers for rows that nothing was learned of.

    Returns:
        The accuracies of the teacher, with the whole structure, and of the student; None where no unseen node has a
        label.

    >>> from hgraph.models import GCN, MLP
    >>> from hgraph.structure import Graph
    >>> ids = torch.arange(4)
    >>> path = Graph.from_edge_index([[0, 1, 2], [1, 2, 3]], num_nodes=4, directed=False)
    >>> data = Data(path, torch.eye(4), ids % 2, {"all": Split(path, ids[:1], ids[1:2], ids[2:])})
    >>> parts = Split.production(data, data.split("all"), unseen_fraction=0.5)
    >>> data = Data(path, data.x, data.y, {"production": parts})
    >>> found = unseen_accuracies(GCN(4, 2, 2), MLP(4, 2, 2), data, split="production", epochs=1, progress=False)
    >>> len(found)
    2
    """
    part, unseen = training_view(data, split), data.split(split).unseen
    unseen = unseen[labeled(data.y[unseen])]
    if not len(unseen):
        return None
    loss, validate = classification_loss(part)
    folder = None if checkpoints is None else Path(checkpoints)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    first, second = (None if folder is None else folder / f"{n}.safetensors" for n in ("teacher", "student"))
    named: dict[str, Any] = {"seed": seed, **options}
    fit(teacher, (part.x, part.structure), loss, validate=validate, label="teacher, unseen", checkpoint=first, **named)
    distill(
        teacher, student, data, objective=objective, split=split, label="student, unseen", checkpoint=second, **named
    )
    with torch.inference_mode():
        answers = teacher(data.x, data.structure)[unseen], student(data.x[unseen])
    return accuracy(answers[0], data.y[unseen]), accuracy(answers[1], data.y[unseen])


def _measure(
    model: nn.Module, logits: Tensor, data: Data, parts: Split, result: FitResult, one: Timing, every: Timing
) -> Measured:
    test, unseen, val = parts.test, parts.unseen, parts.val
    unseen, val = (ids[labeled(data.y[ids])] for ids in (unseen, val))  # a part may have no label at all
    temperature = fit_temperature(logits[val], data.y[val]) if len(val) else None
    calibrated = None if temperature is None else expected_calibration_error(logits[test] / temperature, data.y[test])
    return Measured(
        test_accuracy=accuracy(logits[test], data.y[test]),
        ece=expected_calibration_error(logits[test], data.y[test]),
        parameters=sum(p.numel() for p in model.parameters()),
        latency_one_s=one.median,
        latency_all_s=every.median,
        timing_one=one,
        timing_all=every,
        unseen_accuracy=accuracy(logits[unseen], data.y[unseen]) if len(unseen) else None,
        fit=result,
        logits=logits[test].cpu(),
        temperature=temperature,
        calibrated_ece=calibrated,
    )
