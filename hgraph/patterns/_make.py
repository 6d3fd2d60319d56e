"""Shared helpers of all patterns: runs that are in range by construction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hgraph.checks import count, whole
from hgraph.errors import ArgumentError
from hgraph.memory import check_memory
from hgraph.structure import intervals
from hgraph.structure.token_graph import TokenGraph

__all__ = ["graph_of", "residues", "shape_of", "sizes_of", "token_count"]

_RUN = 64  # bytes per run, including temporary memory


def graph_of(
    row: Tensor,
    start: Tensor,
    stop: Tensor,
    targets: int,
    sources: int,
    order: Tensor | None = None,
    *,
    batch: int = 1,
    heads: int = 1,
) -> TokenGraph:
    """Build a graph from runs that are in range by construction."""
    base = row * (sources + 1)
    extent = torch.empty(batch, heads, targets, sources, 0, device=row.device)
    return TokenGraph.from_line(intervals.united(intervals.Line(base + start, base + stop)), extent, order)


def token_count(name: str, value: int) -> int:
    """Check a number of tokens, including that their runs fit into memory."""
    return count(name, value, _RUN)


def sizes_of(num_targets: int, num_sources: int | None) -> tuple[int, int]:
    """Check (T, S); S defaults to T."""
    token_count("num_targets", num_targets)
    return num_targets, num_targets if num_sources is None else token_count("num_sources", num_sources)


def shape_of(shape: int | Sequence[int]) -> tuple[int, ...]:
    """Check the sides of a grid; a number is a line."""
    sides = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sides:
        raise ArgumentError("shape", "at least one side", sides)
    sides = tuple(whole("shape", side) for side in sides)
    check_memory("shape", math.prod(sides) * _RUN, f"{math.prod(sides):,} tokens")
    return sides


def residues(n: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens ordered by residue: the order, and by position its residue's start and length, and its offset."""
    order = torch.sort(torch.arange(token_count("num_tokens", n)) % step, stable=True).indices
    residue = order % step
    length = (n - 1 - residue).div(step, rounding_mode="floor") + 1
    index = order.div(step, rounding_mode="floor")
    return order, torch.arange(n) - index, length, index
