"""Compares a teacher, its student, and the same network as the student trained on labels only."""

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
    """Measurements of one trained model.

    Args:
    test_accuracy: accuracy on the test nodes.
            ece: expected calibration error (15 bins) on the test nodes.
            parameters: number of trained parameters.
            latency_one_s: seconds to predict one node.
            latency_all_s: seconds to predict every node.
            unseen_accuracy: accuracy on the test nodes outside the training structure; None if transductive.
            fit: the training history.
            logits: logits of the test nodes, on the CPU.
            temperature: result of `fit_temperature` on the validation nodes; None without validation nodes.
            calibrated_ece: calibration error on the test nodes after dividing logits by the temperature; None likewise.
            timing_one: ``latency_one_s`` with quartiles; None if unknown.
            timing_all: ``latency_all_s`` with quartiles; None if unknown.

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
        """The speed-up of a call over the teacher, a conservative estimate.

        It is the lower quartile of the teacher divided by the upper quartile of this model, so three of four calls of
        each reach it. The ratio of medians would promise more than a busy machine delivers.
        """
        mine, other = getattr(self, f"timing_{which}"), getattr(teacher, f"timing_{which}")
        if mine is None or other is None or self is teacher:
            return float(getattr(teacher, f"latency_{which}_s") / getattr(self, f"latency_{which}_s"))
        return float(other.low / mine.high)

    def figures(self) -> dict[str, float | int]:
        """The numbers that ``hgraph distill --json`` prints; with a production split also ``unseen_accuracy``."""
        names = ("test_accuracy", "ece", "parameters", "latency_one_s", "latency_all_s")
        unseen = {} if self.unseen_accuracy is None else {"unseen_accuracy": self.unseen_accuracy}
        return {name: getattr(self, name) for name in names} | unseen


@dataclass(frozen=True)
class Comparison:
    """Measurements of the three models on one data set and split.

    >>> one = Measured(0.9, 0.05, 10, 1e-4, 2e-4, None, FitResult([], 0, 0.0), torch.zeros(1, 2), None, None)
    >>> [name for name, _ in Comparison(mlp=one, teacher=one, student=one).items()]
    ['mlp', 'teacher', 'student']
    """

    mlp: Measured
    teacher: Measured
    student: Measured

    def items(self) -> list[tuple[str, Measured]]:
        """The models by name, in the order of tables."""
        return [("mlp", self.mlp), ("teacher", self.teacher), ("student", self.student)]


def compare(
    teacher: nn.Module,
    mlp: nn.Module,
    student: nn.Module,
    data: Data,
    *,
    split: str = "default",
    objective: Term | None = None,
    positions: Tensor | None = None,
    seed: int = 0,
    checkpoints: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Comparison:
    """Train a teacher, distill it into a student, train the same network on labels only, and measure all three.

    Test accuracy is measured on all test nodes. With a production split, the teacher gets the whole structure for this,
    as if new nodes had arrived; the others need only features. Predicting one node takes the teacher a full forward
    pass, since its output depends on degrees and features around the node; the others read one row.

    Args:
        teacher: an untrained module, called with ``(x, structure)``.
        mlp: an untrained module, called with ``x``: the baseline, trained with `Labels` only.
        student: an untrained module, called with ``x``, of the same architecture as ``mlp``.
        data: data with a structure that the teacher takes.
        split: name of the split.
        objective: the loss of the student, see `distill`.
        positions: [N, P] features that only the student gets, see `distill`.
        seed: random seed of dropout.
        checkpoints: a folder for checkpoints; an interrupted earlier call with it is continued.
        **options: ``epochs``, ``lr``, ``weight_decay``, ``patience``, ``progress`` of `fit`, for all three.

    Raises:
        ArgumentError: the split has no training or no test nodes.

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

    def fit_options(label: str) -> dict[str, Any]:
        file = None if checkpoints is None else Path(checkpoints) / f"{label}.safetensors"
        return {"label": label, "seed": seed, "checkpoint": file, **options}

    teacher_fit = fit(teacher, (part.x, part.structure), loss, validate=validate, **fit_options("teacher"))
    baseline_fit = distill(None, mlp, data, objective=Labels(), split=split, **fit_options("mlp"))
    taught: dict[str, Any] = {"objective": objective, "positions": positions, "split": split}
    student_fit = distill(teacher, student, data, **taught, **fit_options("student"))
    x_student = data.x if positions is None else torch.cat([data.x, positions.to(data.x)], 1)
    row, row_student = data.x[:1].clone(), x_student[:1].clone()
    one = {"mlp": lambda: mlp(row), "student": lambda: student(row_student)}
    every = {
        "mlp": lambda: mlp(data.x),
        "teacher": lambda: teacher(data.x, data.structure),
        "student": lambda: student(x_student),
    }
    all_s = timings(every, device=data.x.device)
    one_s = {"teacher": all_s["teacher"]} | timings(one, device=data.x.device)
    for name, timing in (*all_s.items(), *one_s.items()):
        if not timing.is_steady:
            text = "latency of the %s: the interquartile range is %.0f %% of the median; the machine was busy"
            _LOG.warning(text, name, 100 * timing.spread)
    models = {"mlp": (mlp, baseline_fit), "teacher": (teacher, teacher_fit), "student": (student, student_fit)}
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
    positions: Tensor | None = None,
    seed: int = 0,
    checkpoints: str | os.PathLike[str] | None = None,
    **options: Any,
) -> tuple[float, float] | None:
    """Train a teacher and a student without the unseen nodes of a production split, and test both on those nodes.

    Use it together with a transductive `compare`: there, the student learns from the teacher's predictions for the test
    nodes, while an exported student predicts rows that were not in training.

    Returns:
        The accuracies of the teacher, with the whole structure, and of the student; None if no unseen node has a label.

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
    fit_options: dict[str, Any] = {"seed": seed, **options}
    fit(
        teacher,
        (part.x, part.structure),
        loss,
        validate=validate,
        label="teacher, unseen",
        checkpoint=first,
        **fit_options,
    )
    distill(
        teacher,
        student,
        data,
        objective=objective,
        positions=positions,
        split=split,
        label="student, unseen",
        checkpoint=second,
        **fit_options,
    )
    with torch.inference_mode():
        logits = teacher(data.x, data.structure)[unseen], student(data.x[unseen])
    return accuracy(logits[0], data.y[unseen]), accuracy(logits[1], data.y[unseen])


def _measure(
    model: nn.Module, logits: Tensor, data: Data, parts: Split, result: FitResult, one: Timing, every: Timing
) -> Measured:
    test, unseen, val = parts.test, parts.unseen, parts.val
    unseen, val = (ids[labeled(data.y[ids])] for ids in (unseen, val))  # a part may have no labels
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
