"""Additional nodes next to the tokens: memory, landmarks, summaries."""

from __future__ import annotations

import torch

from hgraph.checks import whole
from hgraph.errors import ArgumentError
from hgraph.patterns._make import graph_of, token_count
from hgraph.structure.token_graph import TokenGraph

__all__ = ["beside", "summaries", "with_extra"]


def beside(left: TokenGraph, right: TokenGraph) -> TokenGraph:
    """The same targets over the concatenated sources of ``left`` and ``right``.

    >>> from hgraph.patterns import causal, full
    >>> beside(causal(3), full(3, 2)).shape[2:]
    (3, 5)
    """
    left, right = left.natural(), right.natural()
    if left.shape[:3] != right.shape[:3]:
        raise ArgumentError("right", f"examples, heads and targets {left.shape[:3]}, as in left", right.shape[:3])
    a, b = left.num_sources, right.num_sources
    row = torch.cat([left.row(), right.row()])
    start, stop = torch.cat([left.start, right.start + a]), torch.cat([left.stop, right.stop + a])
    return graph_of(row, start, stop, left.num_targets, a + b, batch=left.batch, heads=left.num_heads)


def with_extra(graph: TokenGraph, count: int, *, attend: bool = True) -> TokenGraph:
    """Prepend ``count`` nodes (memory, landmarks, registers) that every token attends to.

    Args:
        graph: a square graph.
        count: nodes to add; tokens become nodes count .. count + N - 1.
        attend: whether the new nodes attend to all nodes; otherwise only to themselves.

    >>> from hgraph.patterns import causal
    >>> with_extra(causal(2), 1).adjacency().dense().int().tolist()
    [[1, 1, 1], [1, 1, 0], [1, 1, 1]]
    """
    if not graph.is_square:
        raise ArgumentError("graph", "a square graph (targets are the sources)", repr(graph))
    graph, n, m = graph.natural(), graph.num_targets, whole("count", count)
    row, device = graph.row(), graph.device
    groups = torch.arange(graph.batch * graph.num_heads, device=device).unsqueeze(1) * (n + m)
    places = torch.arange(n + m, device=device)
    tokens, extra = (groups + places[m:]).flatten(), (groups + places[:m]).flatten()
    extra_node = places[:m].repeat(len(groups))
    row = row.div(max(n, 1), rounding_mode="floor") * (n + m) + m + row % max(n, 1)
    zero, all_ = torch.zeros_like(extra_node), torch.full_like(extra_node, n + m)
    start = torch.cat([graph.start + m, torch.zeros_like(tokens), zero if attend else extra_node])
    stop = torch.cat([graph.stop + m, torch.full_like(tokens, m), all_ if attend else extra_node + 1])
    row = torch.cat([row, tokens, extra])
    return graph_of(row, start, stop, n + m, n + m, batch=graph.batch, heads=graph.num_heads)


def summaries(num_tokens: int, size: int, *, causal: bool = True) -> TokenGraph:
    """Tokens attend to summaries of blocks of ``size`` tokens, one source each; if causal, only complete past blocks.

    >>> summaries(6, 2).degree().flatten().tolist()
    [0, 0, 1, 1, 2, 2]
    """
    rows, blocks = torch.arange(token_count("num_tokens", num_tokens)), -(-num_tokens // whole("size", size, 1))
    stop = rows.div(size, rounding_mode="floor") if causal else torch.full_like(rows, blocks)
    return graph_of(rows, torch.zeros_like(rows), stop, num_tokens, blocks)
