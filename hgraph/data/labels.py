"""Labels: detection of missing labels, the kind of labels, and a standard shape for class numbers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hgraph.errors import ArgumentError

__all__ = ["class_labels", "labeled", "target_kind"]


def labeled(y: Tensor) -> Tensor:
    """Which rows have a label; missing labels are class numbers below 0 and rows that are all NaN.

    Use it before counting, training on or scoring labels. Floating-point labels may be negative, so for these
    only NaN is missing.

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
    """Convert class numbers [N] or [N, 1], as stored by OGB and scikit-learn's encoders, to [N].

    Booleans [N, 1] and floats [N, 1] are unchanged: they are multi-label and regression targets.

    >>> class_labels(torch.tensor([[3], [0]])).tolist()
    [3, 0]
    """
    column = y.dim() == 2 and y.shape[1] == 1
    return y.squeeze(1) if column and not (y.is_floating_point() or y.dtype == torch.bool) else y


def target_kind(y: Tensor) -> Literal["classification", "multilabel", "regression"]:
    """What labels [N] or [N, C] are: class numbers, several labels per node, or numbers.

    Booleans [N, C] are several labels, and so are numbers [N, C], C > 1, if all that are known are 0 or 1.

    Raises:
        ArgumentError: whole numbers with several columns.

    >>> target_kind(torch.tensor([2, 0])), target_kind(torch.tensor([[True, False]])), target_kind(torch.tensor([0.5]))
    ('classification', 'multilabel', 'regression')
    """
    if y.dtype == torch.bool:
        return "multilabel"
    wide = y.dim() == 2 and y.shape[1] > 1
    if y.is_floating_point():
        return "multilabel" if wide and bool((y.isnan() | (y == 0) | (y == 1)).all()) else "regression"
    if wide:
        hint = "Use y.bool() for several labels per node, and y.float() for numbers"
        raise ArgumentError("y", "class numbers [N]", f"{y.dtype} {list(y.shape)}", hint)
    return "classification"
