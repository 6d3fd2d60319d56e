"""Accuracy and calibration of class predictions."""

from __future__ import annotations

from torch import Tensor

from hgraph.data.labels import labeled
from hgraph.errors import ArgumentError

__all__ = ["accuracy", "expected_calibration_error", "scored_rows"]


def accuracy(logits: Tensor, y: Tensor) -> float:
    r"""The fraction of labeled rows whose largest logit is at their label.

    Use it when classes are balanced or all errors cost the same.

    .. math:: \frac{1}{N} \sum_i [\arg\max_c z_{ic} = y_i]

    Args:
        logits: [N, C], N at least 1.
        y: [N] or [N, 1] class numbers; unlabeled rows (-1, NaN) are ignored.

    Raises:
        ArgumentError: shapes do not match, logits are NaN, a class has no logit, or no row is labeled.

    >>> import torch
    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 0, -1]))
    0.5
    """
    logits, y = scored_rows(logits, y)
    return float((logits.argmax(-1) == y).double().mean())


def expected_calibration_error(logits: Tensor, y: Tensor, bins: int = 15) -> float:
    r"""Expected calibration error: mean difference of confidence and accuracy over equal-width bins of confidence.

    Use it when probabilities are used, not only the predicted classes.

    .. math:: \sum_b \frac{|B_b|}{N} |\mathrm{acc}(B_b) - \mathrm{conf}(B_b)|

    The confidence of a row is its largest softmax probability; bin b holds those in (b / bins, (b + 1) / bins].

    Args:
        logits: [N, C], N at least 1.
        y: [N] or [N, 1] class numbers; unlabeled rows (-1, NaN) are ignored.
        bins: number of bins; 15 as in Guo et al., On Calibration of Modern Neural Networks (2017).

    Returns:
        A number in 0 .. 1; 0 is perfectly calibrated.

    Raises:
        ArgumentError: shapes do not match, logits are NaN, a class has no logit, no row is labeled, or ``bins`` is
            less than 1.

    >>> import torch
    >>> correct = torch.tensor([[99.0, 0.0], [0.0, 99.0]])
    >>> expected_calibration_error(correct, torch.tensor([0, 1]))
    0.0
    """
    logits, y = scored_rows(logits, y)
    if bins < 1:
        raise ArgumentError("bins", "at least 1", bins)
    confidence, predicted = logits.detach().double().softmax(-1).max(-1)
    gap = (predicted == y).double() - confidence
    member = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    # |B| / N * |mean gap of B| is |sum of the gaps of B| / N
    sums = gap.new_zeros(bins).index_add(0, member, gap)
    return float(sums.abs().sum() / len(y))


def scored_rows(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [N', C] and class numbers [N'] of the labeled rows.

    Raises:
        ArgumentError: shapes do not match, logits are NaN, a class has no logit, or no row is labeled.

    >>> import torch
    >>> scored_rows(torch.eye(2), torch.tensor([[1], [-1]]))[1]
    tensor([1])
    """
    if logits.dim() != 2:
        raise ArgumentError("logits", "shape [N, C]", f"shape {list(logits.shape)}")
    y = y.squeeze(1) if y.dim() == 2 and y.shape[1] == 1 else y
    if y.shape != logits.shape[:1]:
        raise ArgumentError("y", f"shape [{logits.shape[0]}] (one label per row)", f"shape {list(y.shape)}")
    known = labeled(y)
    if not bool(known.any()):
        got = f"{len(y)} rows, all without a label" if len(y) else "none"
        raise ArgumentError("y", "at least one label", got, "Is this part of the split empty?")
    logits, y = logits[known], y[known]
    if bool((bad := logits.isnan().any(1)).any()):
        hint = "The model diverged or a feature is NaN: try a smaller lr"
        raise ArgumentError("logits", "numbers", f"NaN in {int(bad.sum())} of {len(bad)} rows", hint)
    if y.is_floating_point() and bool((y != y.round()).any()):
        raise ArgumentError("y", "class numbers", "numbers with fractions", "Use a metric of regression")
    y = y.long()
    if int(y.min()) < 0 or int(y.max()) >= logits.shape[1]:
        got = f"{int(y.min())} .. {int(y.max())}"
        raise ArgumentError("y", f"classes in 0 .. {logits.shape[1] - 1}, one per logit", got)
    return logits, y
