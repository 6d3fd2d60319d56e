"""Best paths between two nodes of a knowledge graph."""

from __future__ import annotations

import heapq
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.structure.triple_list import TripleList

__all__ = ["Path", "best_paths"]


class Path(NamedTuple):
    """A path along triples.

    Args:
        nodes: the node ids, from start to end.
        edges: the edge positions, one fewer than nodes.
        weight: the product of the edge weights.

    >>> from hgraph.structure import KnowledgeGraph
    >>> KnowledgeGraph.from_names([("ann", "likes", "Dune"), ("Dune", "by", "Herbert")]).paths("ann", "Herbert")
    [Path(nodes=(0, 1, 2), edges=(0, 1), weight=1.0)]
    """

    nodes: tuple[int, ...]
    edges: tuple[int, ...]
    weight: float


def best_paths(kg: TripleList, start: int, end: int, max_steps: int, limit: int) -> list[Path]:
    r"""The ``limit`` simple paths of largest weight, by best-first search.

    The priority of a partial path is its weight times the best weight that its last node can still reach,
    :math:`B_0 = [v = end]`, :math:`B_s(v) = \max_{v \to u} w_{vu} B_{s-1}(u)`: an upper bound, so the
    first paths to reach the end are the best.
    """
    for name, value in (("max_steps", max_steps), ("limit", limit)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(name, "a whole number, 1 or more", repr(value))
    if start == end:
        return []
    adj = kg.adj
    weight = torch.ones(kg.num_edges) if adj.weight is None else adj.weight.detach().cpu()
    if weight.numel() and not bool((weight >= 0).all()):
        raise ArgumentError("weight", "non-negative weights", float(weight.min()))
    weight = weight.double()
    reach = _reach(adj.target.cpu().long(), adj.indices.cpu().long(), weight, kg.num_nodes, end, max_steps)
    indptr, tails = adj.indptr.cpu(), adj.indices.cpu()
    found: list[Path] = []
    number = count()  # tie-break: first found
    heap = [(-float(reach[max_steps][start]), 0, next(number), Path((start,), (), 1.0))]
    while heap and len(found) < limit:
        worth, steps, _, path = heapq.heappop(heap)
        if worth == 0:
            break
        if path.nodes[-1] == end:
            found.append(path)
            continue
        low, high = indptr[path.nodes[-1]].item(), indptr[path.nodes[-1] + 1].item()
        left = reach[max_steps - steps - 1]
        rest = weight[low:high] * left[tails[low:high].long()]
        for at in rest.nonzero().flatten().tolist():
            edge, tail = low + at, int(tails[low + at])
            if tail not in path.nodes:
                longer = Path((*path.nodes, tail), (*path.edges, edge), path.weight * float(weight[edge]))
                heapq.heappush(heap, (-path.weight * float(rest[at]), steps + 1, next(number), longer))
    return found


def _reach(head: Tensor, tail: Tensor, weight: Tensor, size: int, end: int, steps: int) -> list[Tensor]:
    """The best product from each node to the end in at most 0, 1, .. steps."""
    best = torch.zeros(size, dtype=weight.dtype)
    best[end] = 1.0
    found = [best]
    for _ in range(steps):
        best = found[-1].scatter_reduce(0, head, weight * found[-1][tail], "amax")
        best[end] = 1.0  # a path stops at its end, whatever the weights of loops
        found.append(best)
    return found
