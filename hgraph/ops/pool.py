"""`pool`: reductions over the tokens of each region, computed from the layout of the regions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.ops.propagate import propagate
from hgraph.ops.sparse.linear import upcast
from hgraph.patterns import Regions
from hgraph.patterns.partition import Layout

__all__ = ["pool"]


class _Fold(NamedTuple):
    """A commutative reduction: its neutral element, and functions of two tensors and along a dimension."""

    neutral: float
    two: Callable[[Tensor, Tensor], Tensor]
    along: Callable[[Tensor, int], Tensor]


_MAX = _Fold(float("-inf"), torch.maximum, lambda x, dim: x.amax(dim))
_SUM = _Fold(0.0, torch.add, lambda x, dim: x.sum(dim))


def pool(
    regions: Regions,
    x: Tensor,
    *,
    reduce: Literal["max", "mean", "sum"] = "max",
    present: Tensor | None = None,
) -> Tensor:
    r"""Reduce the features of each region's tokens.

    .. math:: y_r = \operatorname{reduce}_{j \in \Omega_r} x_j

    Equals `propagate` over the edges from tokens to regions, at a cost of N tokens (or N per level of a tree) however
    many edges there are: nested regions are reduced incrementally.

    Args:
        regions: M regions of N tokens.
        x: [..., N, H, D].
        reduce: ``"max"`` (ties share the gradient), ``"mean"`` or ``"sum"``.
        present: boolean [..., N], False for tokens to ignore; None uses all.

    Returns:
        [..., M, H, D]; 0 for a region without tokens. Half precision accumulates in float32.

    >>> from hgraph.patterns import partitions
    >>> (segments,) = partitions.fixed(6, 2, causal=False).regions
    >>> pool(segments, torch.arange(6.0).view(6, 1, 1)).flatten().tolist()
    [1.0, 3.0, 5.0]
    """
    if reduce not in ("max", "mean", "sum"):
        raise ArgumentError("reduce", "'max', 'mean' or 'sum'", repr(reduce))
    n = regions.members.num_sources
    if x.dim() < 3 or x.shape[-3] != n:
        raise ArgumentError("x", f"shape [..., {n}, H, D]", f"shape {list(x.shape)}")
    there = None if present is None else present.unsqueeze(-1).unsqueeze(-1)
    if reduce == "max":
        x = x if there is None else torch.where(there, x, float("-inf"))
        y = _folded(regions, x, _MAX)
        return y if there is None else torch.where(y == float("-inf"), 0.0, y)
    wide = upcast(x if there is None else torch.where(there, x, 0.0))
    y = _folded(regions, wide, _SUM)
    if reduce == "mean":
        if there is None:
            size = regions.sizes.to(y.dtype).unsqueeze(-1).unsqueeze(-1)
        else:
            size = _folded(regions, there.to(y.dtype), _SUM)
        y = y / size.clamp(min=1)
    return y.to(x.dtype)


def _folded(regions: Regions, x: Tensor, fold: _Fold) -> Tensor:
    layout, count = regions.layout, regions.num_regions
    if layout.kind == "segments":
        x = _padded(x[..., : count * layout.size, :, :], count * layout.size, fold)
        return fold.along(x.unflatten(-3, (count, layout.size)), -3)
    if layout.kind == "tree":
        return _tree(x.flip(-3) if layout.reverse else x, fold)
    if layout.kind in ("line", "others"):
        return _grid(layout, x, fold)
    edges = regions.members.adjacency()
    name: Literal["max", "sum"] = "max" if fold is _MAX else "sum"
    return propagate(edges, x.flatten(-2), reduce=name).unflatten(-1, x.shape[-2:])


def _padded(x: Tensor, size: int, fold: _Fold) -> Tensor:
    more = size - x.shape[-3]
    return F.pad(x, (0, 0, 0, 0, 0, more), value=fold.neutral) if more else x


def _tree(x: Tensor, fold: _Fold) -> Tensor:
    """Blocks of 2, 4, .. tokens, each from its two halves; the even ones that have a successor."""
    n, step, found = x.shape[-3], 2, []
    while step < n:
        pairs = x[..., : x.shape[-3] // 2 * 2, :, :].unflatten(-3, (-1, 2))
        x = fold.two(pairs[..., 0, :, :], pairs[..., 1, :, :])
        found.append(x[..., : -(-n // step) // 2 * 2 : 2, :, :])
        step *= 2
    return torch.cat(found, -3)


def _grid(layout: Layout, x: Tensor, fold: _Fold) -> Tensor:
    n, columns = x.shape[-3], layout.size
    rows = -(-n // columns)
    cells = _padded(x, rows * columns, fold).unflatten(-3, (rows, columns))
    if layout.kind == "line":
        cells = _running(cells, -4 if layout.axis == 0 else -3, layout.reverse, fold)
    else:
        edge = torch.full_like(cells[..., :1, :, :], fold.neutral)
        before, after = (_running(cells, -3, reverse, fold) for reverse in (False, True))
        before = torch.cat([edge, before[..., :-1, :, :]], -3)
        cells = fold.two(before, torch.cat([after[..., 1:, :, :], edge], -3))
    return cells.flatten(-4, -3)[..., :n, :, :]


def _running(x: Tensor, dim: int, reverse: bool, fold: _Fold) -> Tensor:
    """Running reduction, line by line; torch's cummax takes 30 times as long."""
    parts = x.unbind(dim)
    found = list(itertools.accumulate(parts[::-1] if reverse else parts, fold.two))
    return torch.stack(found[::-1] if reverse else found, dim)
