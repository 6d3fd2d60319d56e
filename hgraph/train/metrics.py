"""How good, and how honest, class predictions are."""

from __future__ import annotations

from torch import Tensor

from hgraph.errors import ArgumentError

__all__ = ["accuracy", "expected_calibration_error"]


def accuracy(logits: Tensor, y: Tensor) -> float:
    r"""The share of rows whose largest logit is that of their label.

    .. math:: \frac{1}{N} \sum_i [\arg\max_c z_{ic} = y_i]

    Args:
        logits: [N, C], N at least 1.
        y: [N] integer labels.

    Raises:
        ArgumentError: shapes that do not fit, or no row.

    >>> import torch
    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    0.5
    """
    _check(logits, y)
    return float((logits.argmax(-1) == y).double().mean())


def expected_calibration_error(logits: Tensor, y: Tensor, bins: int = 15) -> float:
    r"""How far confidence is from accuracy, averaged over equal-width bins of confidence.

    .. math:: \sum_b \frac{|B_b|}{N} |\mathrm{acc}(B_b) - \mathrm{conf}(B_b)|

    The confidence of a row is its largest softmax probability; bin b holds those in (b / bins, (b + 1) / bins].

    Args:
        logits: [N, C], N at least 1.
        y: [N] integer labels.
        bins: how many bins; 15 as in Guo et al., On Calibration of Modern Neural Networks (2017).

    Returns:
        A number in 0 .. 1; 0 is perfectly calibrated.

    Raises:
        ArgumentError: shapes that do not fit, no row, or fewer than one bin.

    >>> import torch
    >>> sure_and_right = torch.tensor([[99.0, 0.0], [0.0, 99.0]])
    >>> expected_calibration_error(sure_and_right, torch.tensor([0, 1]))
    0.0
    """
    _check(logits, y)
    if bins < 1:
        raise ArgumentError("bins", "at least 1", bins)
    confidence, predicted = logits.detach().double().softmax(-1).max(-1)
    gap = (predicted == y).double() - confidence
    member = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    # |B| / N * |mean gap of B| is |sum of the gaps of B| / N
    sums = gap.new_zeros(bins).index_add(0, member, gap)
    return float(sums.abs().sum() / len(y))


def _check(logits: Tensor, y: Tensor) -> None:
    if logits.dim() != 2:
        raise ArgumentError("logits", "shape [N, C]", f"shape {list(logits.shape)}")
    if y.shape != logits.shape[:1]:
        raise ArgumentError("y", f"shape [{logits.shape[0]}] (one label a row)", f"shape {list(y.shape)}")
    if len(y) == 0:
        raise ArgumentError("y", "at least one label", "none", "Is this part of the split empty?")
