"""Metrics of regression, of several labels per node, and of imbalanced classes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hgraph.data.labels import labeled
from hgraph.errors import ArgumentError
from hgraph.train.metrics import scored_rows
from hgraph.train.ranking import roc_auc

__all__ = ["auroc", "balanced_accuracy", "mae", "multilabel_f1", "r2", "rmse"]


def balanced_accuracy(logits: Tensor, y: Tensor) -> float:
    r"""The mean recall over the classes that occur among the labels.

    Use it when classes are imbalanced and each of them matters equally.

    .. math:: \frac{1}{|C'|} \sum_{c \in C'} \frac{|\{i : \hat y_i = y_i = c\}|}{|\{i : y_i = c\}|}

    Args:
        logits: [N, C], N at least 1.
        y: [N] or [N, 1] class numbers; unlabeled rows (-1, NaN) are ignored.

    Raises:
        ArgumentError: as `accuracy`.

    >>> balanced_accuracy(torch.tensor([[2.0, 0.0], [2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0, 1]))
    0.5
    """
    logits, y = scored_rows(logits, y)
    count = torch.bincount(y, minlength=logits.shape[1])
    hit = torch.bincount(y[logits.argmax(1) == y], minlength=logits.shape[1])
    return float((hit[count > 0].double() / count[count > 0]).mean())


def auroc(score: Tensor, y: Tensor) -> float | None:
    r"""Macro ROC-AUC: the mean of `roc_auc` over the columns that have positives and negatives; None without any.

    Use it when scores of several labels, or of classes against the rest, are compared without thresholds.

    Args:
        score: [N, C] numbers, larger if a positive is more likely.
        y: [N, C] 1 or True for positives, 0 or False for negatives, NaN if missing.

    Raises:
        ArgumentError: shapes differ, scores are NaN, or labels are not 0 and 1.

    >>> auroc(torch.tensor([[0.1, 0.3], [0.8, 0.6]]), torch.tensor([[False, True], [True, True]]))
    1.0
    """
    known = _known_labels(score, y)
    positive = (y == 1) & known
    both = positive.any(0) & (known & ~positive).any(0)
    columns = both.nonzero().flatten().tolist()
    values = [roc_auc(score[known[:, c], c], positive[known[:, c], c]) for c in columns]
    return sum(values) / len(values) if values else None


def multilabel_f1(logits: Tensor, y: Tensor, average: Literal["micro", "macro"] = "micro") -> float:
    r"""F1 of several labels per node; a label is predicted if its logit is above 0.

    Use it when a node may have any number of labels.

    .. math:: \frac{2\, TP}{2\, TP + FP + FN}, \qquad \text{macro: its mean over labels}

    Args:
        logits: [N, C].
        y: [N, C] booleans, or numbers 0, 1 and NaN if missing.
        average: ``"micro"`` counts over all labels; ``"macro"`` is the mean over the labels that occur or are
            predicted.

    Returns:
        A number in 0 .. 1; 0 if no label occurs or is predicted.

    Raises:
        ArgumentError: shapes differ, logits are NaN, no label is known, or labels are not 0 and 1.

    >>> multilabel_f1(torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[True, False], [True, False]]))
    0.8
    """
    known = _known_labels(logits, y)
    positive, predicted = (y == 1) & known, (logits > 0) & known
    hit = (positive & predicted).sum(0)
    both = positive.sum(0) + predicted.sum(0)
    if average == "micro":
        return float(2 * hit.sum().double() / both.sum().clamp(min=1))
    present = both > 0
    return float((2 * hit[present].double() / both[present]).mean()) if bool(present.any()) else 0.0


def mae(predicted: Tensor, y: Tensor) -> float:
    r"""Mean absolute error :math:`\frac1N \sum_i |\hat y_i - y_i|`; missing targets (NaN) are ignored.

    Use it when the error of a regression is wanted in the unit of the target.

    Args:
        predicted: [N], [N, 1] or [N, T] numbers.
        y: [N] or [N, T] targets.

    Raises:
        ArgumentError: shapes differ, predictions are NaN, or no target is known.

    >>> mae(torch.tensor([[1.0], [5.0], [0.0]]), torch.tensor([2.0, 5.0, float("nan")]))
    0.5
    """
    return float(_errors(predicted, y)[0].abs().mean())


def rmse(predicted: Tensor, y: Tensor) -> float:
    r"""Root mean squared error; missing targets (NaN) are ignored. Arguments and errors as in `mae`.

    Use it when large errors of a regression matter more than small ones.

    >>> rmse(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.0]))
    2.1213203435596424
    """
    return float(_errors(predicted, y)[0].square().mean().sqrt())


def r2(predicted: Tensor, y: Tensor) -> float | None:
    r"""The fraction of explained variance, :math:`1 - \sum_i (\hat y_i - y_i)^2 / \sum_i (y_i - \bar y)^2`.

    Use it when a regression is compared with predicting the mean: 0 is the mean, 1 is exact.

    With several targets it is the mean over them. None if no target varies. Arguments and errors as in `mae`.

    >>> r2(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 2.0])), r2(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 2.0]))
    (1.0, 0.0)
    """
    _errors(predicted, y)
    target = y.reshape(len(y), -1).double()
    known = ~target.isnan()
    gap = torch.where(known, predicted.detach().reshape(target.shape).double() - target, 0)
    mean = torch.where(known, target, 0).sum(0) / known.sum(0)
    spread = torch.where(known, target - mean, 0).square().sum(0)
    some = spread > 0
    return float((1 - gap.square().sum(0)[some] / spread[some]).mean()) if bool(some.any()) else None


def _errors(predicted: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The errors of all known targets, in float64, and which targets are known."""
    if predicted.numel() != y.numel() or len(predicted) != len(y):
        raise ArgumentError("predicted, y", "the same shape", f"{list(predicted.shape)}, {list(y.shape)}")
    known = ~y.isnan() if y.is_floating_point() else torch.ones_like(y, dtype=torch.bool)
    if not bool(known.any()):
        raise ArgumentError("y", "at least one known target", f"{len(y)} rows without one")
    error = (predicted.detach().reshape(y.shape).double() - y.double())[known]
    if bool(error.isnan().any()):
        hint = "The model diverged or a feature is NaN: try a smaller lr"
        raise ArgumentError("predicted", "numbers", f"{int(error.isnan().sum())} NaN", hint)
    return error, known


def _known_labels(score: Tensor, y: Tensor) -> Tensor:
    """[N, C] which labels are known."""
    if score.dim() != 2 or y.shape != score.shape:
        raise ArgumentError("logits, y", "two tensors [N, C]", f"{list(score.shape)}, {list(y.shape)}")
    known = ~y.isnan() if y.is_floating_point() else torch.ones_like(y, dtype=torch.bool)
    if not bool(labeled(y).any()):
        raise ArgumentError("y", "at least one label", f"{len(y)} rows, all without a label")
    if bool(score[known].isnan().any()):
        hint = "The model diverged or a feature is NaN: try a smaller lr"
        raise ArgumentError("logits", "numbers", f"NaN in {int(score[known].isnan().sum())} places", hint)
    if bool((wrong := known & (y != 0) & (y != 1)).any()):
        raise ArgumentError("y", "labels 0 and 1, or NaN for missing labels", y[wrong][0].item())
    return known
