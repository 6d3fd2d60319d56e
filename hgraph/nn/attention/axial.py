"""Axial attention along the axes of a grid."""

from __future__ import annotations

import functools
import math
import operator

import torch
from torch import Tensor, nn

from hgraph import patterns
from hgraph.cache import cached_by_size, traced_as_constant
from hgraph.errors import ArgumentError
from hgraph.nn.attention.base import TokenAttention
from hgraph.nn.attention.kinds import SELF
from hgraph.nn.attention.masks import fitting, token_mask
from hgraph.structure import TokenGraph

__all__ = ["AxialAttention"]


@functools.lru_cache(maxsize=32)  # shared by layers
def _line(shape: tuple[int, ...], axis: int, causal: bool, device: torch.device) -> TokenGraph:
    return patterns.axial(shape, axis, causal=causal).to(device)


class AxialAttention(nn.Module):
    r"""Cells of a grid attend along one axis, or along all axes sequentially or in parallel.

    Use it for images and other grids, where full attention over all cells is too expensive.

    .. math:: y_i = W_O \sum_{j \in \ell_a(i)} \operatorname{softmax}_j\!\Big(\frac{q_i \cdot k_j}{\sqrt{D}}\Big) v_j,
              \qquad \ell_a(i) = \{ j : j_b = i_b \text{ for all } b \ne a \} \; (\text{and } j_a \le i_a)

    One layer per axis connects every pair of cells.

    Args:
        dim: features per cell.
        num_heads: H, heads per axis.
        ndim: d, number of axes of the grid.
        axis: the axis, or ``"all"`` axes, each with its own weights.
        causal: whether cells attend only to cells with a coordinate up to their own.
        bias: whether the four projections have a bias.
        reduce: how ``"all"`` combines axes: ``"sequential"`` or ``"sum"``.
        dropout: dropout probability of the attention weights.

    Shapes:
        x [B, S_1, .., S_d, dim] -> the same; ``mask``, boolean [B, S_1, .., S_d], is True at real cells: padding may
        contain any values, gets no attention, and its output is 0; ``head_mask``, boolean [.., S_1 .. S_d or 1s,
        H], selects the heads that a cell uses, along every axis.

    Source: Ho et al., "Axial Attention in Multidimensional Transformers", section 3.

    >>> AxialAttention(8, 2, axis="all")(torch.randn(2, 5, 7, 8)).shape
    torch.Size([2, 5, 7, 8])
    """

    kinds = SELF

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        ndim: int = 2,
        axis: int | str = "all",
        causal: bool = False,
        bias: bool = True,
        reduce: str = "sequential",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if reduce not in ("sequential", "sum"):
            raise ArgumentError("reduce", "'sequential' or 'sum'", repr(reduce))
        if axis != "all" and not (isinstance(axis, int) and -ndim <= axis < ndim):
            raise ArgumentError("axis", f"'all' or {-ndim} .. {ndim - 1}", repr(axis))
        self.ndim, self.causal, self.reduce = ndim, causal, reduce
        self.axes = tuple(range(ndim)) if isinstance(axis, str) else (axis % ndim,)
        self.layers = nn.ModuleList(
            TokenAttention(dim, num_heads, bias=bias, out_bias=bias, dropout=dropout) for _ in self.axes
        )

        self._lines: dict[tuple[tuple[int, ...], torch.device], tuple[TokenGraph, ...]] = {}

    def reset_parameters(self) -> None:
        """Reset all parameters, as `torch.nn.Linear`."""
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]

    def forward(self, x: Tensor, mask: Tensor | None = None, *, head_mask: Tensor | None = None) -> Tensor:
        """Attend along the axes."""
        shape = x.shape[1:-1]
        if len(shape) != self.ndim:
            raise ArgumentError("x", f"shape [B, {self.ndim} sides, dim]", f"shape {list(x.shape)}")
        mask = token_mask("mask", mask, x.shape[:-1])
        mask = None if mask is None else mask.flatten(1)
        used = None
        if head_mask is not None:
            every = torch.Size([*x.shape[:-1], self.layers[0].query_heads])  # type: ignore[list-item]
            used = fitting("head_mask", head_mask, every).expand(every).flatten(1, -2)
        cells = x.reshape(x.shape[0], math.prod(shape), x.shape[-1])
        total = torch.zeros_like(cells)
        lines = self._lines_of(tuple([operator.index(side) for side in shape]), x.device)  # specializes symbolic sizes
        for graph, layer in zip(lines, self.layers, strict=True):
            out = layer.run(cells, graph=graph, head_mask=used, mask=mask)  # type: ignore[operator]
            if self.reduce == "sum":
                total = total + out
            else:
                cells = total = out
        return total.view_as(x)

    def _lines_of(self, shape: tuple[int, ...], device: torch.device) -> tuple[TokenGraph, ...]:
        self._make(shape, device)
        return self._lines[shape, device]

    @traced_as_constant
    def _make(self, shape: tuple[int, ...], device: torch.device) -> None:
        cached_by_size(
            self._lines, (shape, device), lambda: tuple(_line(shape, axis, self.causal, device) for axis in self.axes)
        )
