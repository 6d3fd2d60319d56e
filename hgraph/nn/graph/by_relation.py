"""What heads hear through the map of each relation, for layers over knowledge graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.cache import cached
from hgraph.ops import propagate
from hgraph.structure import Adjacency, KnowledgeGraph, coo

__all__ = ["hear_by_relation", "shares_by_relation"]

Turn = Callable[[Tensor, int], Tensor]  # rows [..., P_r, F] and r -> [..., P_r, F']


def hear_by_relation(kg: KnowledgeGraph, x: Tensor, weight: Tensor, turn: Turn) -> Tensor:
    r"""Two steps of messages with a linear map between them: tails to pairs (head, relation), pairs to heads.

    .. math:: y_h = \sum_r \mathrm{turn}_r \Bigl(\sum_{(h, r, t)} w_{hrt}\, x_t\Bigr)

    What is kept is a row for each pair that has facts, of which there are fewer than facts.

    Args:
        kg: N vertices.
        x: [..., N, F].
        weight: [E] or [E, H] in the order of the edges, as `propagate` has it.
        turn: the map of a relation, over any number of rows.

    Returns:
        [..., N, F'].
    """
    pairs = cached(kg, "pairs of heads and relations", lambda: _pairs(kg))
    heard = propagate(pairs.hear, x, weight=weight.index_select(0, kg.by_relation.long()))
    parts = enumerate(heard.split(pairs.counts, -2))
    return propagate(pairs.tell, torch.cat([turn(rows, relation) for relation, rows in parts], -2))


class _Pairs(NamedTuple):
    """Who hears whom: P pairs the tails, N heads their pairs; and how many pairs each relation has."""

    hear: Adjacency
    tell: Adjacency
    counts: list[int]


def _pairs(kg: KnowledgeGraph) -> _Pairs:
    order = kg.by_relation.long()
    head, relation = kg.adj.target.long()[order], kg.relation.long()[order]  # sorted by relation, then by head
    code, facts = torch.unique_consecutive(relation * kg.num_nodes + head, return_counts=True)
    indptr = torch.cat([facts.new_zeros(1), facts.cumsum(0)])
    owner = code % max(kg.num_nodes, 1)
    tell = Adjacency.from_coo(
        target=owner, source=torch.arange(len(code), device=kg.device), num_targets=kg.num_nodes, num_sources=len(code)
    )
    hear = Adjacency.trusted(indptr=indptr, indices=kg.adj.indices[order], num_sources=kg.num_nodes)
    return _Pairs(hear, tell, torch.bincount(code // max(kg.num_nodes, 1), minlength=kg.num_relations).tolist())


def shares_by_relation(kg: KnowledgeGraph) -> Tensor:
    """[E] one over the facts of the same head and relation, in float64; made once a graph, not to be written to."""

    def compute() -> Tensor:
        code = coo.pair_codes(kg.adj.target, kg.relation, kg.num_nodes, kg.num_relations)
        _, inverse, counts = torch.unique(code, return_inverse=True, return_counts=True)
        return counts.double().reciprocal()[inverse]

    return cached(kg, "shares by relation", compute)
