"""What one step of a recommender learns from: users with an item taken and one not, facts with a wrong tail."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.structure import Adjacency, KnowledgeGraph, coo

__all__ = ["PairSampler", "TripleSampler"]

_TRIES = 100  # draws of a negative before the last one is taken as it is


class PairSampler:
    """Different users, each with one item of theirs and one that they did not take.

    Users are drawn without replacement (with it where a batch asks for more than there are), then one of the user's
    items, then an item uniformly among the others: users with few items count as much as those with many.

    Args:
        taken: the U x I `Adjacency` of the training pairs. Users without an item, or with all of them, are not drawn.

    Source: KGAT's published sampling (card 01, item 9).

    >>> pairs = Adjacency.from_coo(target=[0, 1], source=[0, 1], num_targets=3, num_sources=2)
    >>> users, items, others = PairSampler(pairs).draw(2)
    >>> bool((items == users).all() and (others == 1 - items).all())
    True
    """

    def __init__(self, taken: Adjacency) -> None:
        self.taken, degree = taken, taken.indptr.diff()
        self.users = ((degree > 0) & (degree < taken.num_sources)).nonzero().flatten()
        if not len(self.users):
            raise ArgumentError("taken", "a user with an item taken and one not", "none")
        self._codes = coo.pair_codes(taken.target, taken.indices, *taken.shape)  # once: a draw costs nothing in E

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """(users, items taken, items not taken), each [count]; from torch's own generator."""
        users = self.users[_some(len(self.users), count, self.users.device)]
        edges = _one_of_row(self.taken, users)
        size = self.taken.num_sources
        others = _not_in(self._codes, users, count, size)
        return users, self.taken.indices[edges].long(), others


class TripleSampler:
    """Facts of different heads, each with another tail that makes no fact.

    Heads are drawn as the users of `PairSampler` are, then one of the head's facts: heads with few facts count more
    than they would among facts drawn uniformly. The wrong tail is any node.

    Args:
        kg: the facts.

    Source: KGAT's published sampling (card 01, items 2 and 9).

    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> [ids.tolist() for ids in TripleSampler(kg).draw(1)]  # the only other tail is node 0
    [[0], [0], [1], [0]]
    """

    def __init__(self, kg: KnowledgeGraph) -> None:
        self.kg = kg
        self.heads = (kg.degree() > 0).nonzero().flatten()
        if not len(self.heads):
            raise ArgumentError("kg", "at least one fact", "none")
        # A number for each (head, relation) that is there: of all that could be, times the tails, there may be 2**63.
        pairs = coo.pair_codes(kg.adj.target, kg.relation, kg.num_nodes, kg.num_relations)
        _, self._pair = pairs.unique(return_inverse=True)
        self._codes = coo.pair_codes(self._pair, kg.adj.indices, kg.num_edges, kg.num_nodes).sort().values

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(heads, relations, tails, wrong tails), each [count]; from torch's own generator."""
        kg = self.kg
        heads = self.heads[_some(len(self.heads), count, self.heads.device)]
        edges = _one_of_row(kg.adj, heads)
        wrong = _not_in(self._codes, self._pair[edges], count, kg.num_nodes)
        return heads, kg.relation[edges].long(), kg.adj.indices[edges].long(), wrong


def _some(size: int, count: int, device: torch.device) -> Tensor:
    """[count] of 0 .. size - 1, different ones where there are as many."""
    if count > size:
        return torch.randint(size, (count,), device=device)
    return torch.randperm(size, device=device)[:count]


def _one_of_row(adj: Adjacency, rows: Tensor) -> Tensor:
    """An edge of each row, uniformly."""
    start, end = adj.indptr[rows].long(), adj.indptr[rows + 1].long()
    place = (torch.rand(len(rows), device=rows.device, dtype=torch.float64) * (end - start)).long()
    return start + torch.minimum(place, end - start - 1)


def _not_in(codes: Tensor, rows: Tensor, count: int, size: int) -> Tensor:
    """[count] numbers below ``size`` that make no pair of ``codes``, which ascend, with their row; drawn until so."""
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
