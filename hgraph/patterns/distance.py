"""Patterns by distance: full, windows, dilations, powers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from hgraph.checks import whole
from hgraph.errors import ArgumentError
from hgraph.patterns._make import graph_of, residues, shape_of, sizes_of, token_count
from hgraph.structure import intervals
from hgraph.structure.token_graph import TokenGraph

__all__ = ["causal", "dilated", "full", "longnet", "none", "power", "prefix_lm", "sliding_window", "strided"]


def full(num_targets: int, num_sources: int | None = None) -> TokenGraph:
    """Every target attends to every source (self-attention, or cross-attention with ``num_sources``).

    >>> full(3, 5).num_edges
    15
    """
    n, s = sizes_of(num_targets, num_sources)
    rows = torch.arange(n)
    return graph_of(rows, torch.zeros_like(rows), torch.full_like(rows, s), n, s)


def none(num_targets: int, num_sources: int | None = None) -> TokenGraph:
    """The empty graph, for example as the start of a union.

    >>> none(2, 3).degree().flatten().tolist()
    [0, 0]
    """
    n, s = sizes_of(num_targets, num_sources)
    rows = torch.empty(0, dtype=torch.long)
    return graph_of(rows, rows, rows, n, s)


def causal(num_targets: int, num_sources: int | None = None) -> TokenGraph:
    """Every token attends to itself and all earlier tokens; with more sources than targets, targets come last.

    >>> causal(2, 4).adjacency().dense().int().tolist()
    [[1, 1, 1, 0], [1, 1, 1, 1]]
    """
    n, s = sizes_of(num_targets, num_sources)
    rows = torch.arange(n)
    return graph_of(rows, torch.zeros_like(rows), (rows + 1 + s - n).clamp(min=0), n, s)


def prefix_lm(num_tokens: int, prefix: int) -> TokenGraph:
    """Causal, but the first ``prefix`` tokens attend to each other in both directions.

    >>> prefix_lm(3, 2).adjacency().dense().int().tolist()
    [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    """
    prefix, rows = min(whole("prefix", prefix), token_count("num_tokens", num_tokens)), torch.arange(num_tokens)
    return graph_of(rows, torch.zeros_like(rows), (rows + 1).clamp(min=prefix), num_tokens, num_tokens)


def sliding_window(shape: int | Sequence[int], window: int | Sequence[int], *, causal: bool = False) -> TokenGraph:
    r"""Tokens less than ``window`` apart: :math:`|i - j| < w` along every axis of the grid.

    Args:
        shape: n tokens on a line, or the sides of a grid of any dimension, with tokens in raster order.
        window: w, one for all axes or one per axis; 1 is the token itself.
        causal: whether tokens attend only to themselves and earlier tokens in raster order. On a line these are w
            tokens instead of 2 w - 1.

    >>> sliding_window(5, 2, causal=True).degree().flatten().tolist()
    [1, 2, 2, 2, 2]
    >>> sliding_window((3, 3), 2).degree().view(3, 3).tolist()
    [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    """
    sides = shape_of(shape)
    windows = (window,) * len(sides) if isinstance(window, int) else tuple(window)
    if len(windows) != len(sides):
        raise ArgumentError("window", f"one number, or {len(sides)} numbers (one per axis)", windows)
    for w in windows:
        whole("window", w, 1)
    n = math.prod(sides)
    row, low = torch.arange(n), torch.zeros(n, dtype=torch.long)
    for axis, (side, w) in enumerate(zip(sides[:-1], windows[:-1], strict=True)):
        coordinate = row.div(math.prod(sides[axis + 1 :]), rounding_mode="floor") % max(side, 1)
        start, stop = (coordinate - w + 1).clamp(min=0), (coordinate + w).clamp(max=side)
        other, position = intervals.expanded(start, stop)  # grid lines within the window along this axis
        row, low = row[position], low[position] * side + other
    coordinate = row % max(sides[-1], 1)
    start, stop = (coordinate - windows[-1] + 1).clamp(min=0), (coordinate + windows[-1]).clamp(max=sides[-1])
    start, stop = low * sides[-1] + start, low * sides[-1] + stop
    if causal:
        stop = torch.minimum(stop, row + 1)
    return graph_of(row, start, stop, n, n)


def dilated(num_tokens: int, window: int, dilation: int, *, causal: bool = False) -> TokenGraph:
    r"""A dilated window: :math:`|i - j| < w d` and d divides :math:`i - j`.

    Tokens are ordered by their residues modulo d; in that order this is a plain window.

    >>> dilated(9, 3, 2, causal=True).adjacency().select(torch.tensor([7])).indices.tolist()
    [3, 5, 7]
    """
    whole("window", window, 1)
    order, first, length, index = residues(num_tokens, whole("dilation", dilation, 1))
    start = first + (index - window + 1).clamp(min=0)
    stop = first + torch.minimum(index + (1 if causal else window), length)
    return graph_of(torch.arange(num_tokens), start, stop, num_tokens, num_tokens, order)


def strided(num_tokens: int, stride: int, *, causal: bool = False) -> TokenGraph:
    """Tokens a multiple of ``stride`` apart (with a window of ``stride``, the two steps of the Sparse Transformer).

    >>> (strided(256, 16, causal=True) @ sliding_window(256, 16, causal=True)).num_edges == 256 * 257 // 2
    True
    """
    order, first, length, index = residues(num_tokens, whole("stride", stride, 1))
    stop = first + (index + 1 if causal else length)
    return graph_of(torch.arange(num_tokens), first, stop, num_tokens, num_tokens, order)


def power(num_tokens: int, block_size: int = 1, *, window: int = 0, num_sink: int = 0, base: int = 2) -> TokenGraph:
    r"""Causal edges at distances 0 and powers of a base, in tokens or blocks: every distance is reached in a few hops.

    With :math:`\delta = \lfloor i/b \rfloor - \lfloor j/b \rfloor \ge 0`, i attends to j <= i if :math:`\delta` is 0, a
    power of the base, or below ``window``, and to the first ``num_sink`` tokens.

    Args:
        num_tokens: number of tokens.
        block_size: b, tokens per block.
        window: number of consecutive blocks without gaps, including the token's own block.
        num_sink: leading tokens that every token attends to.
        base: the base of the powers.

    >>> power(8).adjacency().select(torch.tensor([7])).indices.tolist()
    [3, 5, 6, 7]
    """
    whole("window", window), whole("num_sink", num_sink), whole("base", base, 2)
    block = torch.arange(token_count("num_tokens", num_tokens)).div(
        whole("block_size", block_size, 1), rounding_mode="floor"
    )
    near = max(window, 1)
    rows = torch.arange(num_tokens)
    pieces = [(rows, (block - near + 1).clamp(min=0) * block_size, rows + 1)]
    delta = 1
    while delta * block_size < num_tokens:
        far = rows[block >= delta]
        at = block[far] - delta
        if delta >= near:
            pieces.append((far, at * block_size, (at + 1) * block_size))
        delta *= base
    if num_sink:
        pieces.append((rows, torch.zeros_like(rows), (rows + 1).clamp(max=num_sink)))
    row, start, stop = (torch.cat(p) for p in zip(*pieces, strict=True))
    return graph_of(row, start, stop, num_tokens, num_tokens)


def longnet(num_tokens: int, segments: Sequence[int], dilations: Sequence[int], *, causal: bool = False) -> TokenGraph:
    """LongNet: for each pair (w, r), tokens of a segment of w at multiples of r attend to each other.

    >>> longnet(16, [4, 16], [1, 4]).num_edges
    76
    """
    if len(segments) != len(dilations):
        raise ArgumentError("dilations", f"{len(segments)} numbers, as many as segments", len(dilations))
    graph, rows = none(num_tokens), torch.arange(token_count("num_tokens", num_tokens))
    for w, r in zip(segments, dilations, strict=True):
        whole("segments", w, 1), whole("dilations", r, 1)
        token = rows[rows % w % r == 0]
        begin = token - token % w
        end = token + 1 if causal else (begin + w).clamp(max=num_tokens)
        count = -(-(end - begin) // r)
        step, position = intervals.expanded(torch.zeros_like(count), count)
        at = begin[position] + step * r
        graph = graph | graph_of(token[position], at, at + 1, num_tokens, num_tokens)
    return graph
