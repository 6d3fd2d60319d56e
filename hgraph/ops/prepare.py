"""Unchecked construction of structures on the device, inside a forward: from pairs or scores.

Sorting is stable and counting uses binary search, so there are no atomics and results are deterministic. Only
`coalesce` and `top_edges`, whose number of edges depends on values, synchronize, once each.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from hgraph.checks import Checks
from hgraph.structure import Adjacency, coo
from hgraph.structure.edge_list import united

__all__ = ["coalesce", "from_pairs", "invert", "top_edges", "top_sources"]


def from_pairs(
    target: Tensor, source: Tensor, *, num_targets: int, num_sources: int, weight: Tensor | None = None
) -> tuple[Adjacency, Tensor]:
    """Build from pairs in any order, with parallel edges; also returns the pair of each edge; never syncs.

    Args:
        target: [E] integers in range.
        source: [E] integers in range.
        num_targets: T.
        num_sources: S.
        weight: [E] or None; gradients flow through.

    >>> adj, order = from_pairs(torch.tensor([1, 0]), torch.tensor([0, 2]), num_targets=2, num_sources=3)
    >>> adj.indices.tolist(), order.tolist()
    ([2, 0], [1, 0])
    """
    target, source = target.long(), source.long()
    order = coo.lexsort(target, source)
    indptr = coo.pointers(target.index_select(0, order), num_targets)
    weight = None if weight is None else weight.index_select(0, order)
    indices = source.index_select(0, order)
    return Adjacency.trusted(indptr=indptr, indices=indices, num_sources=num_sources, weight=weight), order


def coalesce(
    target: Tensor, source: Tensor, *, num_targets: int, num_sources: int, weight: Tensor | None = None
) -> Adjacency:
    """Like `from_pairs`, but merges repeated pairs into one edge with the sum of weights (of ones if unweighted).

    Synchronizes with the device once, for the number of edges; ``sort_edges`` permutes per-pair values to the edges.

    >>> pairs = torch.tensor([0, 0, 1]), torch.tensor([2, 2, 0])
    >>> coalesce(*pairs, num_targets=2, num_sources=3).weight.tolist()
    [2.0, 1.0]
    """
    adj, order = from_pairs(target, source, num_targets=num_targets, num_sources=num_sources)
    ones = torch.ones(len(order), device=order.device) if weight is None else weight.index_select(0, order)
    repeats = dataclasses.replace(adj, weight=ones, input_order=coo.inverse(order))
    return united(repeats, coo.first_of_run(adj.target, adj.indices), Checks())


def invert(indptr: Tensor, indices: Tensor, num_sources: int) -> tuple[Tensor, Tensor, Tensor]:
    """(t_indptr [S+1], t_indices [E], perm [E]) of the transpose of row lists; never syncs.

    Args:
        indptr: [T+1].
        indices: [E], the source of each entry, in any order within its row.
        num_sources: S.

    >>> [t.tolist() for t in invert(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), 2)]
    [[0, 1, 3], [0, 0, 1], [0, 1, 2]]
    """
    place = torch.arange(len(indices), dtype=indptr.dtype, device=indptr.device)
    target = torch.searchsorted(indptr, place, right=True) - 1
    source, perm = torch.sort(indices, stable=True)
    return coo.pointers(source, num_sources), target.index_select(0, perm), perm


def top_sources(score: Tensor, k: int) -> tuple[Adjacency, Tensor]:
    """The k best sources of each target, and the scores of these edges [T k]; never syncs.

    Args:
        score: [T, S]; ties are broken as in torch.topk; the edges' scores carry gradients.
        k: edges per target, at most S.

    >>> adj, _ = top_sources(torch.tensor([[0.1, 0.9, 0.5]]), 2)
    >>> adj.indices.tolist()
    [1, 2]
    """
    targets, sources = score.shape
    indices = score.topk(k, dim=1).indices.sort(dim=1).values
    indptr = torch.arange(targets + 1, device=score.device) * k
    adj = Adjacency.trusted(indptr=indptr, indices=indices.flatten(), num_sources=sources)
    return adj, score.gather(1, indices).flatten()


def top_edges(adj: Adjacency, score: Tensor, k: int) -> tuple[Adjacency, Tensor]:
    """The k best edges of each target (ties: the earlier), and their ids [E']; syncs once.

    Args:
        adj: the edges.
        score: [E] in row-sorted order, without NaN.
        k: maximum number of edges per target.

    >>> adj = Adjacency.from_coo(target=[0, 0, 0, 1], source=[0, 1, 2, 0], num_targets=2, num_sources=3)
    >>> best, edges = top_edges(adj, torch.tensor([0.3, 0.1, 0.7, 0.2]), 2)
    >>> best.indices.tolist(), edges.tolist()
    ([0, 2, 0], [0, 2, 3])
    """
    order = torch.sort(score, descending=True, stable=True).indices
    order = order.index_select(0, torch.sort(adj.target.index_select(0, order), stable=True).indices)
    place = torch.arange(len(order), device=order.device)
    rank = place - adj.indptr.index_select(0, adj.target).long()  # rows stay contiguous, sorted by descending score
    edges = order[rank < k].sort().values  # the only sync
    indptr = coo.pointers(adj.target.index_select(0, edges), adj.num_targets)
    indices = adj.indices.index_select(0, edges).to(indptr.dtype)
    weight = None if adj.weight is None else adj.weight.index_select(0, edges)
    return Adjacency.trusted(indptr=indptr, indices=indices, num_sources=adj.num_sources, weight=weight), edges
