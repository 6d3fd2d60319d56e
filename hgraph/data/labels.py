"""Labels: which are missing, and class numbers in the one shape that everything else reads."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["class_labels", "labeled"]


def labeled(y: Tensor) -> Tensor:
    """Which rows have a label; missing are class numbers below 0 and rows that are NaN throughout.

    Use it before anything that counts, trains on or scores labels. Numbers with fractions may be negative, so of a
    floating dtype NaN alone is missing.

    Args:
        y: [N] or [N, C], as `Data` has it.

    Returns:
        [N] booleans.

    >>> labeled(torch.tensor([2, -1])).tolist(), labeled(torch.tensor([-1.5, float("nan")])).tolist()
    ([True, False], [True, False])
    """
    if y.dtype == torch.bool:
        there = torch.ones_like(y)
    else:
        there = ~y.isnan() if y.is_floating_point() else y >= 0
    return there.flatten(1).any(1) if there.dim() > 1 else there


def class_labels(y: Tensor) -> Tensor:
    """Class numbers [N] of [N] or [N, 1], the form in which OGB and scikit-learn's encoders store them.

    Booleans [N, 1] and numbers with fractions [N, 1] stay as they are: they are several labels, and a regression.

    >>> class_labels(torch.tensor([[3], [0]])).tolist()
    [3, 0]
    """
    column = y.dim() == 2 and y.shape[1] == 1
    return y.squeeze(1) if column and not (y.is_floating_point() or y.dtype == torch.bool) else y
