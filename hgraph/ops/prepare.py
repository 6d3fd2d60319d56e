"""Structures made on the device, inside a forward: from pairs, from scores; nothing is checked.

Sorting is stable and counting is by search, so there are no atomics and the same input gives the same structure. Only
`coalesce` and `top_edges`, whose number of edges hangs on values, wait for the device, once.
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
    """The structure of pairs in any order, repeated ones kept, and the pair behind each edge; never syncs.

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
    """As `from_pairs`, with repeated pairs made one edge whose weight is their sum (of ones when unweighted).

    Waits for the device once, for the number of edges; ``sort_edges`` brings values of the pairs to the edges.

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
    """For each target its k best sources, and the scores of these edges [T k]; never syncs.

    Args:
        score: [T, S], of which ties go as torch's topk has them; the edges' scores carry gradients.
        k: edges a target, at most S.

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
    """Of each target's edges the k best (the earlier of two equal ones), and which they are [E']; waits once.

    Args:
        adj: the edges.
        score: [E] in row-sorted order, without NaN.
        k: edges a target at most.

    >>> adj = Adjacency.from_coo(target=[0, 0, 0, 1], source=[0, 1, 2, 0], num_targets=2, num_sources=3)
    >>> best, edges = top_edges(adj, torch.tensor([0.3, 0.1, 0.7, 0.2]), 2)
    >>> best.indices.tolist(), edges.tolist()
    ([0, 2, 0], [0, 2, 3])
    """
    order = torch.sort(score, descending=True, stable=True).indices
    order = order.index_select(0, torch.sort(adj.target.index_select(0, order), stable=True).indices)
    place = torch.arange(len(order), device=order.device)
    rank = place - adj.indptr.index_select(0, adj.target).long()  # rows lie where they did, each by falling score
    edges = order[rank < k].sort().values  # the one wait
    indptr = coo.pointers(adj.target.index_select(0, edges), adj.num_targets)
    indices = adj.indices.index_select(0, edges).to(indptr.dtype)
    weight = None if adj.weight is None else adj.weight.index_select(0, edges)
    return Adjacency.trusted(indptr=indptr, indices=indices, num_sources=adj.num_sources, weight=weight), edges
