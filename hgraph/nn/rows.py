"""`UnitRows`, `UnitSums`: normalize each row of features by its length or its sum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["UnitRows", "UnitSums"]


class UnitRows(nn.Module):
    r"""Divide each row by its length, :math:`x_v / \lVert x_v \rVert_2`; zero rows are unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize rows [N, F] to length one."""
        return nn.functional.normalize(x)


class UnitSums(nn.Module):
    r"""Divide each row by its sum, :math:`x_v / \sum_f |x_{vf}|`; zero rows are unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize rows [N, F] to sum one."""
        return x / x.abs().sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
