"""`UnitRows`: features without their length."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["UnitRows"]


class UnitRows(nn.Module):
    r"""Each row divided by its length, :math:`x_v / \lVert x_v \rVert_2`; a row of zeros stays."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows [N, F] of length one."""
        return nn.functional.normalize(x)
