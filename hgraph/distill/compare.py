"""Compares a teacher, its student, and the same network as the student trained on labels only."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
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
from hgraph.distill.teach import check_objective, distill
from hgraph.distill.teachers import fit_temperature
from hgraph.errors import ArgumentError
from hgraph.train import (
    Classification,
    FitResult,
    NodeTask,
    expected_calibration_error,
    fit,
    task_loss,
    training_view,
)

__all__ = ["Comparison", "Measured", "compare", "unseen_accuracies"]

_LOG = logging.getLogger("hgraph")


@dataclass(frozen=True)
class Measured:
    """Measurements of one trained model.

    Args:
        test_accuracy: accuracy on the test nodes; None if the task has no classes.
        ece: expected calibration error (15 bins) on the test nodes; None likewise.
        parameters: number of trained parameters.
        latency_one_s: seconds to predict one node.
        latency_all_s: seconds to predict every node.
        unseen_accuracy: accuracy on the test nodes outside the training structure; None if transductive.
        fit: the training history.
        logits: outputs of the test nodes, on the CPU.
        temperature: result of `fit_temperature` on the validation nodes; None without validation nodes or classes.
        calibrated_ece: calibration error on the test nodes after dividing logits by the temperature; None likewise.
        timing_one: ``latency_one_s`` with quartiles; None if unknown.
        timing_all: ``latency_all_s`` with quartiles; None if unknown.
        task: the task of the labels.
        metrics: all metrics of the task on the test nodes.
        unseen_metric: the main metric of the task on the nodes of ``unseen_accuracy``.

    >>> measured = Measured(0.9, 0.05, 10, 1e-4, 2e-4, None, FitResult([], 0, 0.0), torch.zeros(1, 2), None, None)
    >>> measured.figures()
    {'test_accuracy': 0.9, 'ece': 0.05, 'parameters': 10, 'latency_one_s': 0.0001, 'latency_all_s': 0.0002}
    """

    test_accuracy: float | None
    ece: float | None
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
    task: NodeTask = field(default_factory=Classification)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    unseen_metric: float | None = None

    @property
    def main(self) -> float | None:
        """The main metric of the task on the test nodes."""
        return self.metrics[self.task.main] if self.metrics else self.test_accuracy

    @property
    def unseen(self) -> float | None:
        """The main metric of the task on the test nodes outside the training structure; None if transductive."""
        return self.unseen_accuracy if self.unseen_metric is None else self.unseen_metric

    def speed_up(self, teacher: Measured, which: Literal["one", "all"]) -> float:
        """The speed-up of a call over the teacher, a conservative estimate.

        It is the lower quartile of the teacher divided by the upper quartile of this model, so three of four calls of
        each reach it. The ratio of medians would promise more than a busy machine delivers.
        """
        mine, other = getattr(self, f"timing_{which}"), getattr(teacher, f"timing_{which}")
        if mine is None or other is None or self is teacher:
            return float(getattr(teacher, f"latency_{which}_s") / getattr(self, f"latency_{which}_s"))
        return float(other.low / mine.high)

    def figures(self) -> dict[str, float | int | None]:
        """The numbers that ``hgraph distill --json`` prints; with a production split also ``unseen_accuracy``.

        For another task than classification, all its metrics are there instead of accuracy and calibration error.
        """
        found: dict[str, float | int | None] = {"test_accuracy": self.test_accuracy, "ece": self.ece}
        if self.task.kind != "classification":
            found = {f"test_{name}": value for name, value in self.metrics.items()}
        found |= {name: getattr(self, name) for name in ("parameters", "latency_one_s", "latency_all_s")}
        return found if self.unseen is None else found | {f"unseen_{self.task.main}": self.unseen}


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
    task: NodeTask | None = None,
    objective: Term | None = None,
    positions: Tensor | None = None,
    teacher_fit: FitResult | None = None,
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
        task: how labels are learned and scored; None derives it from the labels, see `hgraph.train.task_of`.
        objective: the loss of the student, see `distill`.
        positions: [N, P] features that only the student gets, see `distill`.
        teacher_fit: how the teacher was trained, if it is trained already; None trains it.
        seed: random seed of dropout.
        checkpoints: a folder for checkpoints; an interrupted earlier call with it is continued.
        **options: ``epochs``, ``lr``, ``weight_decay``, ``patience``, ``progress`` of `fit`, for all three.

    Raises:
        ArgumentError: the split has no training or no test nodes, or the objective does not suit the task.

    >>> from hgraph.models import GCN, MLP
    >>> from hgraph.structure import Graph
    >>> ids = torch.arange(3)
    >>> path = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> data = Data(path, torch.eye(3), ids, {"default": Split(path, ids[:1], ids[1:2], ids[2:])})
    >>> found = compare(GCN(3, 4, 3), MLP(3, 4, 3), MLP(3, 4, 3), data, epochs=1)
    >>> sorted(found.student.figures())
    ['ece', 'latency_all_s', 'latency_one_s', 'parameters', 'test_accuracy']
    """
    part, parts = training_view(data, split, task=task), data.split(split)
    check_objective(objective, part)
    for name in ("train", "test"):
        if not len(getattr(parts, name)):
            raise ArgumentError("split", f"at least one {name} node", "none")
    loss, validate = task_loss(part)

    def fit_options(label: str) -> dict[str, Any]:
        file = None if checkpoints is None else Path(checkpoints) / f"{label}.safetensors"
        return {"label": label, "seed": seed, "checkpoint": file, **options}

    if teacher_fit is None:
        teacher_fit = fit(teacher, (part.x, part.structure), loss, validate=validate, **fit_options("teacher"))
    shared: dict[str, Any] = {"split": split, "task": part.task}
    baseline_fit = distill(None, mlp, data, objective=Labels(), **shared, **fit_options("mlp"))
    shared |= {"objective": objective, "positions": positions}
    student_fit = distill(teacher, student, data, **shared, **fit_options("student"))
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
            outputs = every[name]()
        measured[name] = _measure(model, outputs, data, parts, result, part.task, one_s[name], all_s[name])
    return Comparison(**measured)


def unseen_accuracies(
    teacher: nn.Module,
    student: nn.Module,
    data: Data,
    *,
    split: str,
    task: NodeTask | None = None,
    objective: Term | None = None,
    positions: Tensor | None = None,
    teacher_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    checkpoints: str | os.PathLike[str] | None = None,
    **options: Any,
) -> tuple[float | None, float | None] | None:
    """Train a teacher and a student without the unseen nodes of a production split, and test both on those nodes.

    Use it together with a transductive `compare`: there, the student learns from the teacher's predictions for the test
    nodes, while an exported student predicts rows that were not in training.

    Args:
        teacher: as in `compare`.
        student: as in `compare`.
        data: as in `compare`.
        split: name of a production split.
        task: as in `compare`.
        objective: as in `compare`.
        positions: as in `compare`; the unseen nodes are tested without.
        teacher_options: options of `fit` for the teacher, in place of those in ``options``.
        seed: as in `compare`.
        checkpoints: as in `compare`.
        **options: as in `compare`.

    Returns:
        The accuracies (or the main metrics of another task) of the teacher, with the whole structure, and of the
        student; None if no unseen node has a label.

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
    part, unseen = training_view(data, split, task=task), data.split(split).unseen
    unseen = unseen[labeled(data.y[unseen])]
    if not len(unseen):
        return None
    loss, validate = task_loss(part)
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
        **{**fit_options, **(teacher_options or {})},
    )
    distill(
        teacher,
        student,
        data,
        objective=objective,
        positions=positions,
        split=split,
        task=part.task,
        label="student, unseen",
        checkpoint=second,
        **fit_options,
    )
    metric, main = part.task.metric, part.task.main
    with torch.inference_mode():
        outputs = teacher(data.x, data.structure)[unseen], student(data.x[unseen])
    return metric(main, outputs[0], data.y[unseen]), metric(main, outputs[1], data.y[unseen])


def _measure(
    model: nn.Module,
    outputs: Tensor,
    data: Data,
    parts: Split,
    result: FitResult,
    task: NodeTask,
    one: Timing,
    every: Timing,
) -> Measured:
    test, unseen, val = (ids[labeled(data.y[ids])] for ids in (parts.test, parts.unseen, parts.val))
    metrics = task.metrics(outputs[test], data.y[test])
    unseen_metric = task.metric(task.main, outputs[unseen], data.y[unseen]) if len(unseen) else None
    temperature = calibrated = None
    if task.kind == "classification" and len(val):
        temperature = fit_temperature(outputs[val], data.y[val])
        calibrated = expected_calibration_error(outputs[test] / temperature, data.y[test])
    return Measured(
        test_accuracy=metrics.get("accuracy"),
        ece=task.calibration(outputs[test], data.y[test]).get("ece"),
        parameters=sum(p.numel() for p in model.parameters()),
        latency_one_s=one.median,
        latency_all_s=every.median,
        timing_one=one,
        timing_all=every,
        unseen_accuracy=unseen_metric if task.kind == "classification" else None,
        fit=result,
        logits=outputs[parts.test].cpu(),
        temperature=temperature,
        calibrated_ece=calibrated,
        task=task,
        metrics=metrics,
        unseen_metric=unseen_metric,
    )
