"""Tolerances derived from the number of terms and the rounding unit of the dtype."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["assert_close"]


def assert_close(actual: Tensor, expected: Tensor, *, terms: int, magnitude: float | Tensor = 1.0) -> None:
    r"""Compare a computed sum with its float64 reference, within rounding error.

    The bound is :math:`((n + 4)\, u_{acc} + 2 u) \cdot m`: n terms of total magnitude m, accumulated with unit
    :math:`u_{acc}` (float32 for half types) and rounded once to the dtype with unit u, or to one of its subnormals.

    Args:
        actual: the computed tensor, in its dtype.
        expected: the reference, float64.
        terms: the maximum number of terms in one output.
        magnitude: the maximum sum of absolute values in one output (a number, or one per output).

    >>> assert_close(torch.tensor([0.1 + 0.2]), torch.tensor([0.3], dtype=torch.float64), terms=2)
    """
    unit = torch.finfo(actual.dtype).eps / 2
    accumulator = torch.float32 if actual.dtype in (torch.float16, torch.bfloat16) else actual.dtype
    bound = ((terms + 4) * torch.finfo(accumulator).eps / 2 + 2 * unit) * torch.as_tensor(magnitude).double()
    bound = bound + torch.finfo(actual.dtype).smallest_normal * 2 * unit
    if actual.shape != expected.shape:
        raise AssertionError(f"shape {list(actual.shape)}, expected {list(expected.shape)}")
    same = (actual.double() == expected) | ((actual.double() - expected).abs() <= bound)
    if not bool(same.all()):
        worst = (actual.double() - expected).abs().masked_fill(same, 0).max()
        raise AssertionError(
            f"{int((~same).sum())} of {same.numel()} differ, the worst by {worst:.3g} (bound {bound.max():.3g})"
        )
