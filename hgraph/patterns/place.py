"""Patterns by position: sinks, global tokens, blocks, lines of a grid, segments of a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from hgraph.checks import whole
from hgraph.errors import ArgumentError
from hgraph.patterns._curve import hilbert_order
from hgraph.patterns._make import graph_of, shape_of, token_count
from hgraph.structure import coo
from hgraph.structure.token_graph import TokenGraph

__all__ = ["axial", "block_local", "global_tokens", "hilbert_windows", "landmark_blocks", "sinks"]


def sinks(num_tokens: int, count: int, *, causal: bool = True) -> TokenGraph:
    """Every token attends to the first ``count`` tokens.

    >>> sinks(3, 1).adjacency().dense().int().tolist()
    [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    """
    count, rows = min(whole("count", count), token_count("num_tokens", num_tokens)), torch.arange(num_tokens)
    stop = (rows + 1).clamp(max=count) if causal else torch.full_like(rows, count)
    return graph_of(rows, torch.zeros_like(rows), stop, num_tokens, num_tokens)


def global_tokens(num_tokens: int, tokens: Any) -> TokenGraph:
    """The given tokens attend to all tokens, and all tokens attend to them (restrict with ``& causal(n)``).

    >>> global_tokens(3, [1]).adjacency().dense().int().tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    tokens = coo.as_indices("tokens", tokens).unique()
    coo.check_range("tokens", tokens, token_count("num_tokens", num_tokens), "tokens")
    rows = torch.arange(num_tokens).repeat_interleave(len(tokens))
    columns = tokens.repeat(num_tokens)
    wide = torch.zeros_like(tokens)
    row, start, stop = (
        torch.cat([rows, tokens]),
        torch.cat([columns, wide]),
        torch.cat([columns + 1, wide + num_tokens]),
    )
    return graph_of(row, start, stop, num_tokens, num_tokens)


def block_local(num_tokens: int, size: int, *, before: int = 0, after: int = 0, causal: bool = False) -> TokenGraph:
    """Blocks of ``size`` tokens attend to themselves and to ``before`` blocks before and ``after`` blocks after.

    >>> block_local(5, 2).degree().flatten().tolist()
    [2, 2, 2, 2, 1]
    """
    whole("size", size, 1), whole("before", before), whole("after", after)
    rows = torch.arange(token_count("num_tokens", num_tokens))
    block = rows.div(size, rounding_mode="floor")
    stop = ((block + 1 + after) * size).clamp(max=num_tokens)
    return graph_of(
        rows,
        (block - before).clamp(min=0) * size,
        torch.minimum(stop, rows + 1) if causal else stop,
        num_tokens,
        num_tokens,
    )


def landmark_blocks(num_tokens: int, block_size: int) -> TokenGraph:
    """Blocks of ``block_size`` tokens and a landmark: a token attends to its block up to itself, never to a landmark.

    >>> landmark_blocks(5, 2).adjacency().dense().int().tolist()
    [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    """
    size = whole("block_size", block_size, 1) + 1
    rows = torch.arange(token_count("num_tokens", num_tokens))
    return graph_of(rows, rows - rows % size, rows + (rows % size != block_size).long(), num_tokens, num_tokens)


def axial(shape: Sequence[int], axis: int, *, causal: bool = False) -> TokenGraph:
    """Cells of a grid attend to the cells of their own line along one axis (up to themselves if causal).

    Args:
        shape: the sides of the grid; tokens are its cells in raster order.
        axis: the axis of the lines; negative values count from the end.
        causal: whether cells attend only to cells with a coordinate up to their own.

    >>> grid = axial((4, 6), 0) @ axial((4, 6), 1)        # two layers reach every cell
    >>> axial((4, 6), 0).num_edges, grid.density
    (96, 1.0)
    """
    sides = shape_of(shape)
    if not -len(sides) <= axis < len(sides):
        raise ArgumentError("axis", f"{-len(sides)} .. {len(sides) - 1}", axis)
    n, side = math.prod(sides), sides[axis]
    order = torch.arange(n).view(sides).movedim(axis, -1).flatten()  # innermost axis: lines are contiguous
    places = torch.arange(n)
    coordinate = places % max(side, 1)
    stop = places + 1 if causal else places - coordinate + side
    return graph_of(places, places - coordinate, stop, n, n, None if axis in (-1, len(sides) - 1) else order)


def hilbert_windows(shape: Sequence[int], window: int) -> TokenGraph:
    """Blocks of ``window`` consecutive cells on a Hilbert curve attend to each other: compact, of equal size.

    >>> hilbert_windows((2, 2), 2).degree().flatten().tolist()
    [2, 2, 2, 2]
    """
    whole("window", window, 1)
    order = hilbert_order(shape_of(shape))
    n = len(order)
    places = torch.arange(n)
    start = places - places % window
    return graph_of(places, start, (start + window).clamp(max=n), n, n, order)
