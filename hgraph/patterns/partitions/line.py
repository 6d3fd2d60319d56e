"""Partitions of tokens on a line: segments, and the blocks of a binary tree."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph import patterns
from hgraph.checks import whole
from hgraph.patterns._make import graph_of
from hgraph.patterns.partition import Layout, Partition, Regions
from hgraph.structure.token_graph import TokenGraph

__all__ = ["fixed", "logsparse"]


def fixed(num_tokens: int, size: int, *, causal: bool = True, twice: bool = False) -> Partition:
    """A token's own segment directly (up to the token if causal), every other (earlier) segment as a region.

    Args:
        num_tokens: number of tokens.
        size: tokens per segment; the last one may be shorter. About the square root of n gives the fewest edges.
        causal: whether tokens attend only to themselves and earlier tokens.
        twice: without ``causal``, whether a token also attends to its own segment as a region, as some published code
            does. Then the result is not a partition.

    >>> fixed(6, 2).support().equal(patterns.causal(6))
    True
    """
    rows, blocks = torch.arange(whole("num_tokens", num_tokens)), -(-num_tokens // whole("size", size, 1))
    direct = patterns.block_local(num_tokens, size, causal=causal)
    count = max(blocks - 1, 0) if causal else blocks
    if count == 0 or (blocks == 1 and not twice):
        return Partition((direct,))
    first = torch.arange(count) * size
    members = graph_of(torch.arange(count), first, (first + size).clamp(max=num_tokens), count, num_tokens)
    segment, zero = rows.div(size, rounding_mode="floor"), torch.zeros_like(rows)
    if causal:
        attended = graph_of(rows, zero, segment, num_tokens, count)
    elif twice:
        attended = patterns.full(num_tokens, count)
    else:
        attended = graph_of(
            rows.repeat(2), torch.cat([zero, segment + 1]), torch.cat([segment, zero + count]), num_tokens, count
        )
    return Partition((direct,), (Regions(members, attended, Layout("segments", size)),))


def logsparse(num_tokens: int, *, causal: bool = True) -> Partition:
    r"""A token and its neighbor directly, the rest as blocks of a binary tree.

    .. math:: [0, i) = \dot\bigcup_{l:\, \text{bit } l \text{ of } i}
              \big[ (\lfloor i / 2^l \rfloor - 1) \, 2^l,\; \lfloor i / 2^l \rfloor \, 2^l \big)

    and its mirror image for the tokens after i without ``causal``; for n a power of two these are the siblings
    of the ancestors of i. Blocks of one token are direct edges.

    >>> logsparse(1024).num_edges                  # n (1 + log2(n) / 2)
    6144
    """
    rows = torch.arange(whole("num_tokens", num_tokens))
    before = rows % 2
    after = torch.zeros_like(rows) if causal else (num_tokens - 1 - rows) % 2
    direct = graph_of(rows, rows - before, rows + 1 + after, num_tokens, num_tokens)
    families = [_tree(num_tokens, mirrored) for mirrored in ((False,) if causal else (False, True))]
    return Partition((direct,), tuple(f for f in families if f is not None))


def _tree(n: int, mirrored: bool) -> Regions | None:
    """The blocks before each token or, if mirrored, after it."""
    tokens = torch.arange(n)
    row, source, first, last, count = [], [], [], [], 0
    level = 1
    while 1 << level < n:
        targets = tokens[(tokens >> level) % 2 == 1]
        row.append(targets)
        source.append(count + (targets >> (level + 1)))
        begin = torch.arange(-(-n // (1 << level)) // 2) << (level + 1)  # the even blocks that have a successor
        first.append(begin)
        last.append(begin + (1 << level))
        count, level = count + len(begin), level + 1
    if not count:
        return None
    a, b, t, r = (torch.cat(x) for x in (first, last, row, source))
    if mirrored:
        a, b, t = n - b, n - a, n - 1 - t
    members = graph_of(torch.arange(count), a, b, count, n)
    return Regions(members, _edges(t, r, n, count), Layout("tree", reverse=mirrored))


def _edges(row: Tensor, source: Tensor, num_targets: int, num_sources: int) -> TokenGraph:
    """Single edges, in any order."""
    return graph_of(row, source, source + 1, num_targets, num_sources)
