"""`UnitRows`, `UnitSums`: features without their length, or counts without their total."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["UnitRows", "UnitSums"]


class UnitRows(nn.Module):
    r"""Each row divided by its length, :math:`x_v / \lVert x_v \rVert_2`; a row of zeros stays."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows [N, F] of length one."""
        return nn.functional.normalize(x)


class UnitSums(nn.Module):
    r"""Each row divided by its sum, :math:`x_v / \sum_f |x_{vf}|`; rows of zeros and of sum one stay."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows [N, F] of sum one."""
        return x / x.abs().sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
