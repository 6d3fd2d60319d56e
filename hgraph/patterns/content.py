"""Patterns from content or random draws: documents, padding, clusters, selections, per-head spans."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hgraph.checks import count, seed_of, whole
from hgraph.errors import ArgumentError
from hgraph.memory import check_memory
from hgraph.patterns._make import graph_of, token_count
from hgraph.structure import coo, intervals
from hgraph.structure.token_graph import TokenGraph

__all__ = ["clusters", "packed", "padded", "present", "random", "sink_band", "top_k"]


def packed(lengths: Any, *, causal: bool = False) -> TokenGraph:
    """Packed documents: each token attends only to its own document.

    >>> packed([2, 3], causal=True).num_edges
    9
    """
    lengths = coo.as_indices("lengths", lengths)
    coo.check_range("lengths", lengths, 2**62, "lengths")
    n = token_count("lengths", sum(lengths.tolist()))
    rows = torch.arange(n)
    stop = lengths.cumsum(0).repeat_interleave(lengths)
    return graph_of(rows, stop - lengths.repeat_interleave(lengths), rows + 1 if causal else stop, n, n)


def padded(num_tokens: int, lengths: Any) -> TokenGraph:
    """One graph per example: its first ``lengths[b]`` tokens attend to each other, padding is disconnected.

    >>> from hgraph.patterns import causal
    >>> (causal(4) & padded(4, [2, 4])).degree().tolist()
    [[[1, 2, 0, 0]], [[1, 2, 3, 4]]]
    """
    lengths = coo.as_indices("lengths", lengths)
    coo.check_range("lengths", lengths, token_count("num_tokens", num_tokens) + 1, "lengths")
    check_memory("num_tokens", 64 * num_tokens * len(lengths), f"{num_tokens:,} in {len(lengths):,} examples")
    row, example = intervals.expanded(torch.zeros_like(lengths), lengths)
    zero = torch.zeros_like(row)
    return TokenGraph.from_runs(
        row=example * num_tokens + row,
        start=zero,
        stop=lengths[example],
        num_targets=num_tokens,
        num_sources=num_tokens,
        batch=len(lengths),
    )


def present(mask: Tensor, sources: Tensor | None = None) -> TokenGraph:
    """One graph per example: tokens marked in a boolean mask [B, N] attend to each other, the others are padding.

    Args:
        mask: boolean [B, T], the targets that are real tokens.
        sources: boolean [B, S], the sources that are real tokens; ``mask`` by default.

    >>> present(torch.tensor([[True, False, True]])).degree().tolist()
    [[[2, 0, 2]]]
    """
    sources = mask if sources is None else sources
    for name, value in (("mask", mask), ("sources", sources)):
        if not isinstance(value, Tensor) or value.dtype != torch.bool or value.dim() != 2:
            raise ArgumentError(name, "booleans [B, N]", getattr(value, "dtype", type(value).__name__))
    if len(sources) != len(mask):
        raise ArgumentError("sources", f"{len(mask)} examples, as many as mask", len(sources))
    batch, n = mask.shape
    steps = torch.nn.functional.pad(sources.to(torch.int8), (1, 1)).diff(dim=1)
    (example, start), (_, stop) = ((steps == k).nonzero().unbind(1) for k in (1, -1))
    count = torch.bincount(example, minlength=batch)
    row = mask.flatten().nonzero().flatten()
    example_of_row = row.div(max(n, 1), rounding_mode="floor")
    first = (count.cumsum(0) - count)[example_of_row]
    run, position = intervals.expanded(first, first + count[example_of_row])
    return graph_of(row[position], start[run], stop[run], n, sources.shape[1], batch=batch)


def clusters(assignment: Any, *, causal: bool = False) -> TokenGraph:
    """Tokens attend to the tokens of their own cluster.

    Args:
        assignment: integers [N], or [H, N] or [B, H, N] if heads or examples differ: the cluster of each token; a
            negative entry means no cluster.
        causal: whether tokens attend only to themselves and earlier tokens.

    >>> clusters(torch.tensor([0, 1, 0, -1])).degree().flatten().tolist()
    [2, 1, 2, 0]
    """
    assignment = torch.as_tensor(assignment)
    coo.as_indices("assignment", assignment.flatten())
    if not 1 <= assignment.dim() <= 3:
        raise ArgumentError("assignment", "shape [N], [H, N] or [B, H, N]", f"shape {list(assignment.shape)}")
    batch, heads, n = (1,) * (3 - assignment.dim()) + tuple(assignment.shape)
    flat = assignment.reshape(batch * heads, n).long()
    # Sort members of one cluster next to each other, then list their pairs.
    key, order = torch.sort(flat, dim=1, stable=True)
    group = torch.arange(batch * heads, device=flat.device).unsqueeze(1)
    fresh = torch.ones_like(key, dtype=torch.bool)
    fresh[:, 1:] = key[:, 1:] != key[:, :-1]
    run = fresh.flatten().long().cumsum(0) - 1
    size = torch.bincount(run)
    stop = size.cumsum(0)
    member = (key >= 0).flatten()
    begin, end = (stop - size)[run][member], stop[run][member]
    place = member.nonzero().flatten()
    source, position = intervals.expanded(begin, place + 1 if causal else end)
    row, column = (group * n + order).flatten()[place[position]], order.flatten()[source]
    return graph_of(row, column, column + 1, n, n, batch=batch, heads=heads)


def top_k(index: Tensor, *, num_sources: int) -> TokenGraph:
    """Targets attend to the sources selected for them.

    Args:
        index: integers [T, K], or [H, T, K] or [B, H, T, K]; negative entries are ignored.
        num_sources: S.

    >>> top_k(torch.tensor([[0, 2], [1, -1]]), num_sources=3).num_edges
    3
    """
    if not isinstance(index, Tensor) or not 2 <= index.dim() <= 4:
        raise ArgumentError("index", "integers [T, K], [H, T, K] or [B, H, T, K]", getattr(index, "shape", index))
    batch, heads, targets, k = (1,) * (4 - index.dim()) + tuple(index.shape)
    column = coo.as_indices("index", index.flatten())
    row = torch.arange(batch * heads * targets, device=index.device).repeat_interleave(k)
    keep = column >= 0
    return TokenGraph.from_runs(
        row=row[keep],
        start=column[keep],
        stop=column[keep] + 1,
        num_targets=targets,
        num_sources=num_sources,
        batch=batch,
        num_heads=heads,
    )


def sink_band(num_tokens: int, spans: Any, *, num_sink: int = 64, block_size: int = 64) -> TokenGraph:
    """Sink tokens and a causal band with a separate width per head, in whole blocks that end with the diagonal block.

    Args:
        num_tokens: number of tokens.
        spans: integers [H], tokens in each head's band; rounded down to blocks, at least one block.
        num_sink: leading tokens that every head attends to, in addition to the band.
        block_size: tokens per block.

    >>> sink_band(8, [2, 4], num_sink=1, block_size=2).degree()[0].tolist()
    [[1, 2, 2, 3, 2, 3, 2, 3], [1, 2, 3, 4, 4, 5, 4, 5]]
    """
    spans = coo.as_indices("spans", spans)
    rows = torch.arange(token_count("num_tokens", num_tokens))
    block, heads = rows.div(whole("block_size", block_size, 1), rounding_mode="floor"), len(spans)
    bands = spans.div(block_size, rounding_mode="floor").clamp(min=1)
    start = (block + 1 - bands.unsqueeze(1)).clamp(min=0) * block_size
    row = torch.arange(heads).unsqueeze(1) * num_tokens + rows
    sinks_ = torch.zeros_like(row), (rows + 1).clamp(max=whole("num_sink", num_sink)).expand(heads, num_tokens)
    first = torch.cat([start.flatten(), sinks_[0].flatten()])
    stop = torch.cat([(rows + 1).repeat(heads), sinks_[1].flatten()])
    return graph_of(row.flatten().repeat(2), first, stop, num_tokens, num_tokens, heads=heads)


def random(num_tokens: int, degree: int, *, seed: int, causal: bool = False) -> TokenGraph:
    """Every token attends to itself and to ``degree`` tokens drawn with replacement (duplicates are merged).

    >>> drawn = random(5, 2, seed=0)
    >>> drawn.degree().max().item() <= 3, bool((drawn.adjacency().dense().diagonal() == 1).all())  # self-loops
    (True, True)
    """
    generator = torch.Generator().manual_seed(seed_of(seed))
    rows = torch.arange(token_count("num_tokens", num_tokens)).unsqueeze(1)
    count("degree", degree, 64 * num_tokens)
    uniform = torch.rand(num_tokens, degree, generator=generator, dtype=torch.float64)
    column = torch.cat([(uniform * (rows + 1 if causal else num_tokens)).long(), rows], 1).flatten()
    row = rows.expand(num_tokens, degree + 1).flatten()
    return graph_of(row, column, column + 1, num_tokens, num_tokens)
