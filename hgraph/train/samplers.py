"""Batches for recommenders: users with a positive and a negative item, and triples with a negative tail."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.structure import Adjacency, KnowledgeGraph, coo

__all__ = ["PairSampler", "TripleSampler"]

_TRIES = 100  # largest number of draws of a negative; then the last one is used, whatever it is


class PairSampler:
    """Samples users, each with one positive and one negative item.

    Use it when a ranking loss on pairs is trained in your own loop.

    Users are sampled without replacement (with replacement if a batch is larger than their number), then one of the
    user's items, then uniformly one of the other items. So users with few items count as much as users with many.

    Args:
        taken: the U x I `Adjacency` of the training pairs. Users with no items or with all items are not sampled.

    Source: the published code of Wang et al., "KGAT", KDD 2019.

    >>> pairs = Adjacency.from_coo(target=[0, 1], source=[0, 1], num_targets=3, num_sources=2)
    >>> users, items, others = PairSampler(pairs).draw(2)
    >>> bool((items == users).all() and (others == 1 - items).all())
    True
    """

    def __init__(self, taken: Adjacency) -> None:
        self.taken, degree = taken, taken.indptr.diff()
        self.users = ((degree > 0) & (degree < taken.num_sources)).nonzero().flatten()
        if not len(self.users):
            raise ArgumentError("taken", "a user with a positive and a negative item", "none")
        # computed once, so that the cost of a draw does not grow with E
        self._codes = coo.pair_codes(taken.target, taken.indices, *taken.shape)

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """(users, positive items, negative items), each [count]; uses torch's global generator."""
        users = self.users[_some(len(self.users), count, self.users.device)]
        edges = _one_of_row(self.taken, users)
        size = self.taken.num_sources
        others = _not_in(self._codes, users, count, size)
        return users, self.taken.indices[edges].long(), others


class TripleSampler:
    """Samples triples, each with a negative tail that forms no known triple.

    Use it when a loss on triples is trained in your own loop.

    Heads are sampled like the users of `PairSampler`, then one of the triples of the head. So heads with few triples
    count more than in a uniform sample of triples. The negative tail can be any node.

    Args:
        kg: the known triples.

    Source: the published code of Wang et al., "KGAT", KDD 2019.

    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> [ids.tolist() for ids in TripleSampler(kg).draw(1)]  # the only other tail is node 0
    [[0], [0], [1], [0]]
    """

    def __init__(self, kg: KnowledgeGraph) -> None:
        self.kg = kg
        self.heads = (kg.degree() > 0).nonzero().flatten()
        if not len(self.heads):
            raise ArgumentError("kg", "at least one triple", "none")
        # Number only the existing (head, relation) pairs: codes of all possible triples could exceed 2**63.
        pairs = coo.pair_codes(kg.adj.target, kg.relation, kg.num_nodes, kg.num_relations)
        _, self._pair = pairs.unique(return_inverse=True)
        self._codes = coo.pair_codes(self._pair, kg.adj.indices, kg.num_edges, kg.num_nodes).sort().values

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(heads, relations, tails, negative tails), each [count]; uses torch's global generator."""
        kg = self.kg
        heads = self.heads[_some(len(self.heads), count, self.heads.device)]
        edges = _one_of_row(kg.adj, heads)
        wrong = _not_in(self._codes, self._pair[edges], count, kg.num_nodes)
        return heads, kg.relation[edges].long(), kg.adj.indices[edges].long(), wrong


def _some(size: int, count: int, device: torch.device) -> Tensor:
    """[count] numbers in 0 .. size - 1, without replacement if ``count`` is at most ``size``."""
    if count > size:
        return torch.randint(size, (count,), device=device)
    return torch.randperm(size, device=device)[:count]


def _one_of_row(adj: Adjacency, rows: Tensor) -> Tensor:
    """One edge per row, uniformly at random."""
    start, end = adj.indptr[rows].long(), adj.indptr[rows + 1].long()
    place = (torch.rand(len(rows), device=rows.device, dtype=torch.float64) * (end - start)).long()
    return start + torch.minimum(place, end - start - 1)


def _not_in(codes: Tensor, rows: Tensor, count: int, size: int) -> Tensor:
    """[count] numbers below ``size`` that form no pair with their row; ``codes`` are the sorted codes of all pairs."""
    device = rows.device
    drawn = torch.randint(size, (count,), device=device)
    for _ in range(_TRIES):
        code = rows.long() * size + drawn
        at = torch.searchsorted(codes, code).clamp(max=max(len(codes) - 1, 0))
        known = codes[at] == code
        if not bool(known.any()):
            break
        drawn = torch.where(known, torch.randint(size, (count,), device=device), drawn)
    return drawn
