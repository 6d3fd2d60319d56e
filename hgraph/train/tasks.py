"""The tasks of labeled nodes: one class, several labels, or numbers.

A task holds all that depends on the kind of label: the loss, the score that selects the epoch, the metrics, and how the
outputs of a network become an answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from hgraph.data.labels import labeled, target_kind
from hgraph.errors import ArgumentError, DataError
from hgraph.schema import Span, fields_of, naming
from hgraph.train.metrics import accuracy, expected_calibration_error
from hgraph.train.node_metrics import auroc, balanced_accuracy, mae, multilabel_f1, r2, rmse
from hgraph.train.ranking import f1

__all__ = ["Classification", "MultiLabel", "NodeTask", "Regression", "task_from", "task_of"]

Metrics = dict[str, "float | None"]
_LOWER = ("loss", "mae", "rmse")  # smaller is better


class NodeTask:
    """The base of the three tasks; `task_of` makes the one for given labels.

    Args:
        select: the score of the validation nodes that selects the epoch, one of ``SELECT``; None is the first of them.
        class_weight: ``"balanced"`` weights each class by the inverse of its frequency in the training part.

    Raises:
        ArgumentError: the task has no such score, or has no classes to balance.

    >>> Classification().main, MultiLabel().main, Regression().main
    ('accuracy', 'micro_f1', 'mae')
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    METRICS: ClassVar[tuple[str, ...]]
    SELECT: ClassVar[tuple[str, ...]]
    has_classes: ClassVar[bool] = True

    def __init__(self, select: str | None = None, class_weight: str | None = None) -> None:
        if select is not None and select not in self.SELECT:
            raise ArgumentError("select", f"one of {', '.join(self.SELECT)}, because this is {self.title}", select)
        if class_weight not in (None, "balanced"):
            raise ArgumentError("class_weight", "'balanced' or None", repr(class_weight))
        if class_weight is not None and not self.has_classes:
            raise ArgumentError("class_weight", f"no value, because {self.title} has no classes", class_weight)
        self.select, self.class_weight = select or self.SELECT[0], class_weight

    def loss(self, y: Tensor, train: Tensor) -> Callable[[Tensor], Tensor]:
        """The mean loss of the labeled training nodes, a function of the outputs of all nodes [N, C]."""
        raise NotImplementedError

    @property
    def main(self) -> str:
        """The metric that stands for the others in tables."""
        return self.METRICS[0]

    def metric(self, name: str, outputs: Tensor, y: Tensor) -> float | None:
        """One of ``METRICS`` of outputs [N, C]; None if it is undefined for these labels."""
        raise NotImplementedError

    def metrics(self, outputs: Tensor, y: Tensor) -> Metrics:
        """All metrics of outputs [N, C]."""
        return {name: self.metric(name, outputs, y) for name in self.METRICS}

    def baseline(self, train: Tensor, test: Tensor) -> Metrics:
        """The metric of a constant prediction that is made from the training labels, if there is one."""
        return {}

    def calibration(self, outputs: Tensor, y: Tensor) -> Metrics:
        """How far probabilities are from frequencies, if the task has probabilities of classes."""
        return {}

    def divergence(self, outputs: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
        """How far the outputs of a student are from those of its teacher; for classes, see `SoftLabels`."""
        raise NotImplementedError

    def activate(self, outputs: Tensor) -> Tensor:
        """Probabilities, or predictions in the unit of the labels."""
        raise NotImplementedError

    def columns(self, predicted: Tensor, names: Sequence[str], *, proba: bool = False) -> dict[str, list[Any]]:
        """The answers to activated outputs [N, C] as columns; with ``proba`` the probability of every class."""
        raise NotImplementedError

    def answers(self, predicted: Tensor, names: Sequence[str], *, proba: bool = False) -> list[dict[str, Any]]:
        """The answers to activated outputs [N, C], one dict per row; with ``proba`` also ``"probabilities"``."""
        columns = self.columns(predicted, names)
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if proba and self.has_classes:
            for row, values in zip(rows, predicted.tolist(), strict=True):
                row["probabilities"] = dict(zip(names, values, strict=True))
        return rows

    def score(self, y: Tensor, val: Tensor) -> Callable[[Tensor], float] | None:
        """The score that selects the epoch, a function of the outputs of all nodes; None without labeled nodes.

        Higher is better: for ``loss`` and ``mae`` it is the negative value, see `shown`.
        """
        val = val[labeled(y)[val]]
        if not len(val):
            return None
        loss = self._plain().loss(y, val) if self.select == "loss" else None
        target, metric = y[val], {"f1": self.f1, "auc": "auroc"}.get(self.select, self.select)

        def score(outputs: Tensor) -> float:
            value = self.metric(metric, outputs[val], target) if loss is None else float(loss(outputs))
            if value is None:
                hint = "Select by another score, or use a split with both"
                raise ArgumentError("select", "validation nodes with and without a class", self.select, hint)
            return self.shown(value)

        return score

    f1: ClassVar[str] = "f1"

    def shown(self, score: float) -> float:
        """A score as the value that is shown, and back: a loss or an error is negative as a score."""
        return -score if self.select in _LOWER else score

    def _plain(self) -> NodeTask:
        """The same task without class weights."""
        return type(self)()

    def settings(self) -> dict[str, Any]:
        """The task as JSON values, for `task_from`."""
        return {"kind": self.kind, "select": self.select, "class_weight": self.class_weight}

    def name_of(self, name: str) -> str:
        """A metric's name in tables."""
        return {"mae": "MAE", "rmse": "RMSE", "r2": "R2", "auroc": "AUROC", "f1": "macro F1"}.get(
            name, name.replace("_f1", " F1").replace("_", " ")
        )

    def format(self, name: str, value: float | None) -> str:
        """A metric as text: fractions in percent, errors in the unit of the labels."""
        if value is None:
            return "-"
        return f"{value:.4g}" if name in (*_LOWER, "r2") else f"{100 * value:.1f} %"


class Classification(NodeTask):
    """One class per node: cross-entropy; accuracy, macro F1, balanced accuracy and AUROC (each class against the rest).

    >>> Classification().columns(torch.tensor([[0.25, 0.75]]), ["cat", "dog"])
    {'label': ['dog'], 'probability': [0.75]}
    """

    kind, title = "classification", "node classification"
    METRICS = ("accuracy", "f1", "balanced_accuracy", "auroc")
    SELECT = ("accuracy", "f1", "auc", "loss")

    def loss(self, y: Tensor, train: Tensor) -> Callable[[Tensor], Tensor]:
        """Cross-entropy."""
        train, given = train[labeled(y)[train]], len(train)
        weights: list[Tensor] = []  # computed in the first call, which says how many classes there are

        def loss(logits: Tensor) -> Tensor:
            if not len(train):  # checked in the loss, because a student may learn only from its teacher
                raise ArgumentError("part", "at least one training node with a label", f"{given} without a label")
            if y.dim() != 1 or y.is_floating_point():
                hint = "y.nan_to_num(-1).long(), if these are classes"
                raise ArgumentError("y", "class numbers", y.dtype, hint)
            if self.class_weight is not None and not weights:
                weights.append(balanced(y[train], logits.shape[1]).to(logits))
            return F.cross_entropy(logits[train], y[train], weight=weights[0] if weights else None)

        return loss

    def metric(self, name: str, outputs: Tensor, y: Tensor) -> float | None:
        """Accuracy, macro F1, balanced accuracy or AUROC."""
        if name == "auroc":
            known = labeled(y)
            return auroc(outputs[known].softmax(-1), F.one_hot(y[known].flatten().long(), outputs.shape[1]))
        return {"accuracy": accuracy, "f1": f1, "balanced_accuracy": balanced_accuracy}[name](outputs, y)

    def baseline(self, train: Tensor, test: Tensor) -> Metrics:
        """The accuracy of the most frequent training class; None without training labels."""
        train = train[labeled(train)]
        if not len(train):
            return {"majority_accuracy": None}
        return {"majority_accuracy": float((test == train.bincount().argmax()).double().mean())}

    def calibration(self, outputs: Tensor, y: Tensor) -> Metrics:
        """The expected calibration error."""
        return {"ece": expected_calibration_error(outputs, y)}

    def activate(self, outputs: Tensor) -> Tensor:
        """Softmax."""
        return outputs.softmax(-1)

    def columns(self, predicted: Tensor, names: Sequence[str], *, proba: bool = False) -> dict[str, list[Any]]:
        """``label`` and ``probability``, and with ``proba`` ``probability of NAME``."""
        best, at = predicted.max(-1)
        found: dict[str, list[Any]] = {"label": [names[i] for i in at.tolist()], "probability": best.tolist()}
        return found | _probabilities(predicted, names) if proba else found


class MultiLabel(NodeTask):
    """Any number of labels per node: binary cross-entropy; micro F1, macro F1 and AUROC.

    >>> MultiLabel().columns(torch.tensor([[0.9, 0.8], [0.1, 0.2]]), ["cat", "dog"])
    {'labels': ['cat;dog', '']}
    """

    kind, title = "multilabel", "node classification with several labels per node"
    METRICS = ("micro_f1", "macro_f1", "auroc")
    SELECT = ("f1", "auc", "loss")
    f1 = "micro_f1"

    def loss(self, y: Tensor, train: Tensor) -> Callable[[Tensor], Tensor]:
        """Binary cross-entropy over the known labels; balanced: positives weigh as much as negatives."""
        _need_labels(y, train)
        known = ~y[train].isnan() if y.is_floating_point() else torch.ones_like(y[train], dtype=torch.bool)
        target, count = torch.where(known, y[train], 0).float(), known.sum()
        weight = None
        if self.class_weight is not None:
            positive = target.sum(0)
            weight = torch.where(positive > 0, (known.sum(0) - positive) / positive.clamp(min=1), 1.0).clamp(min=1e-3)

        def loss(logits: Tensor) -> Tensor:
            _check_width(logits, target.shape[1])
            each = F.binary_cross_entropy_with_logits(logits[train], target, reduction="none", pos_weight=weight)
            return (each * known).sum() / count

        return loss

    def metric(self, name: str, outputs: Tensor, y: Tensor) -> float | None:
        """Micro F1, macro F1 or AUROC."""
        if name == "auroc":
            return auroc(outputs, y)
        return multilabel_f1(outputs, y, "macro" if name == "macro_f1" else "micro")

    def divergence(self, outputs: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
        """The KL divergence of the probabilities of each label, times the square of the temperature."""
        t, s = (target / temperature).sigmoid(), outputs / temperature
        entropy = torch.xlogy(t, t) + torch.xlogy(1 - t, 1 - t)
        cross = F.binary_cross_entropy_with_logits(s, t, reduction="none")
        return temperature**2 * (entropy + cross).sum(-1).mean()

    def activate(self, outputs: Tensor) -> Tensor:
        """Sigmoid."""
        return outputs.sigmoid()

    def columns(self, predicted: Tensor, names: Sequence[str], *, proba: bool = False) -> dict[str, list[Any]]:
        """``labels``, separated by semicolons, and with ``proba`` ``probability of NAME``."""
        chosen: list[list[str]] = [[] for _ in range(len(predicted))]
        for row, label in (predicted > 0.5).nonzero().tolist():
            chosen[row].append(names[label])
        found: dict[str, list[Any]] = {"labels": [";".join(labels) for labels in chosen]}
        return found | _probabilities(predicted, names) if proba else found


class Regression(NodeTask):
    """Numbers: mean squared error of standardized targets; MAE, RMSE and R2 in the unit of the targets.

    Args:
        select: ``"mae"`` or ``"loss"``.
        class_weight: None; there are no classes.
        mean: [T] subtracted from the targets before training.
        scale: [T] the targets are divided by it.

    >>> Regression(mean=[10.0], scale=[2.0]).columns(torch.tensor([[11.5]]), [])
    {'prediction': [11.5]}
    """

    kind, title = "regression", "node regression"
    METRICS = ("mae", "rmse", "r2")
    SELECT = ("mae", "loss")
    has_classes = False

    def __init__(
        self,
        select: str | None = None,
        class_weight: str | None = None,
        mean: Sequence[float] = (0.0,),
        scale: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__(select, class_weight)
        self.mean, self.scale = tuple(map(float, mean)), tuple(map(float, scale))

    def loss(self, y: Tensor, train: Tensor) -> Callable[[Tensor], Tensor]:
        """Mean squared error of the known targets, standardized."""
        _need_labels(y, train)
        target = y[train].reshape(len(train), -1)
        known = ~target.isnan()
        # in float64, because a large mean takes the digits of a small scale
        mean, scale = (target.new_tensor(v, dtype=torch.float64) for v in (self.mean, self.scale))
        target = torch.where(known, (target.double() - mean) / scale, 0).float()
        count = known.sum()

        def loss(outputs: Tensor) -> Tensor:
            _check_width(outputs, target.shape[1])
            return ((outputs[train] - target) * known).square().sum() / count

        return loss

    def metric(self, name: str, outputs: Tensor, y: Tensor) -> float | None:
        """MAE, RMSE or R2."""
        return {"mae": mae, "rmse": rmse, "r2": r2}[name](self.activate(outputs), y)

    def baseline(self, train: Tensor, test: Tensor) -> Metrics:
        """The error of the mean of the training targets."""
        mean = torch.tensor(self.mean, device=test.device).expand(len(test), -1)
        return {"mean_mae": mae(mean, test)}

    def divergence(self, outputs: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
        """The mean squared difference, standardized; there is no temperature."""
        return (outputs - target).square().mean()

    def activate(self, outputs: Tensor) -> Tensor:
        """Predictions in the unit of the targets."""
        mean, scale = (torch.tensor(v, dtype=torch.float64, device=outputs.device) for v in (self.mean, self.scale))
        return (outputs.double() * scale + mean).to(outputs)

    def columns(self, predicted: Tensor, names: Sequence[str], *, proba: bool = False) -> dict[str, list[Any]]:
        """``prediction``, or one column per target."""
        if proba:
            raise ArgumentError("proba", "no value, because regression has no probabilities", "a value")
        columns = predicted.T.tolist()
        return {"prediction" if len(columns) == 1 else f"prediction {i}": c for i, c in enumerate(columns)}

    def settings(self) -> dict[str, Any]:
        """The task as JSON values."""
        return super().settings() | {"mean": list(self.mean), "scale": list(self.scale)}

    def _plain(self) -> NodeTask:
        return Regression(mean=self.mean, scale=self.scale)


_TASKS: dict[str, type[NodeTask]] = {task.kind: task for task in (Classification, MultiLabel, Regression)}


def task_of(y: Tensor, train: Tensor, *, select: str | None = None, class_weight: str | None = None) -> NodeTask:
    """The task of labels; numbers are standardized with the mean and deviation of the training part.

    Use it when a network of your own loop shall train on whatever labels a `Data` has.

    Args:
        y: [N] class numbers, [N, C] booleans (or numbers 0, 1 and NaN), or [N] or [N, T] numbers.
        train: ids of the training nodes.
        select: see `NodeTask`.
        class_weight: see `NodeTask`.

    Raises:
        ArgumentError: labels of the wrong kind, a score that the task lacks, or weights without classes.

    >>> task_of(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([0, 1])).settings()["mean"]
    [2.0]
    """
    kind = _TASKS[target_kind(y)]
    if kind is not Regression:
        return kind(select, class_weight)
    known = y[train].reshape(len(train), -1).double()
    mean = known.nanmean(0).nan_to_num()
    deviation = (known - mean).square().nanmean(0).sqrt()
    scale = torch.where(deviation > 1e-12 * mean.abs(), deviation, 1.0)  # also 1 where it is NaN or 0
    return Regression(select, class_weight, mean.tolist(), scale.tolist())


@dataclass(frozen=True)
class _Settings:
    """The keys of `NodeTask.settings`."""

    kind: Literal["classification", "multilabel", "regression"]
    select: str | None = None
    class_weight: Literal["balanced"] | None = None
    mean: tuple[float, ...] | None = None
    scale: tuple[Annotated[float, Span(1e-300)], ...] | None = None


def task_from(settings: Mapping[str, Any] | None, file: str | os.PathLike[str] = "task") -> NodeTask:
    """The task of `NodeTask.settings`; None, as in older runs, is the classification of nodes.

    Args:
        settings: the settings.
        file: the file that they come from, for errors.

    Raises:
        DataError: the settings are not those of a task.

    >>> task_from(Regression(mean=[3.0], scale=[2.0]).settings()).activate(torch.ones(1, 1)).item()
    5.0
    """
    if settings is None:
        return Classification()
    found = fields_of(_Settings, settings, file, at="task", strict=True)
    options: dict[str, Any] = {name: getattr(found, name) for name in settings if name != "kind"}
    numbers = found.mean, found.scale
    given = [n for n in ("mean", "scale") if n in settings]
    fits = all(numbers) and len(numbers[0] or ()) == len(numbers[1] or ()) and found.kind == "regression"
    if given and not fits:
        expected = "two lists of equal length, with at least one number, and kind regression"
        raise DataError(f"{file}: task.mean, task.scale: expected {expected}")
    with naming("task", file):
        return _TASKS[found.kind](**options)


def balanced(y: Tensor, num_classes: int) -> Tensor:
    """Weights [C] of classes, N / (C' n_c) for the C' classes with n_c > 0 rows; 0 for the others.

    >>> balanced(torch.tensor([0, 0, 0, 1]), 3).tolist()
    [0.6666666865348816, 2.0, 0.0]
    """
    count = torch.bincount(y, minlength=num_classes).float()
    return torch.where(count > 0, len(y) / (count.clamp(min=1) * (count > 0).sum()), 0.0)


def _probabilities(predicted: Tensor, names: Sequence[str]) -> dict[str, list[Any]]:
    return {f"probability of {name}": column for name, column in zip(names, predicted.T.tolist(), strict=True)}


def _need_labels(y: Tensor, train: Tensor) -> None:
    if not bool(labeled(y)[train].any()):
        raise ArgumentError("part", "at least one training node with a label", f"{len(train)} without a label")


def _check_width(outputs: Tensor, expected: int) -> None:
    if outputs.dim() != 2 or outputs.shape[1] != expected:
        raise ArgumentError("model", f"outputs [N, {expected}], as many as the labels", f"{list(outputs.shape)}")
