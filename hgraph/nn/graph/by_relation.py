"""Message passing with one linear map per relation, for layers over knowledge graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.cache import cached
from hgraph.ops import propagate
from hgraph.structure import Adjacency, KnowledgeGraph, coo

__all__ = ["inverse_counts", "propagate_by_relation"]

Turn = Callable[[Tensor, int], Tensor]  # rows [..., P_r, F] and relation r -> [..., P_r, F']


def propagate_by_relation(kg: KnowledgeGraph, x: Tensor, weight: Tensor, turn: Turn) -> Tensor:
    r"""Two steps of messages with a linear map between them: tails to pairs (head, relation), pairs to heads.

    .. math:: y_h = \sum_r \mathrm{turn}_r \Bigl(\sum_{(h, r, t)} w_{hrt}\, x_t\Bigr)

    Memory: one row for each pair (head, relation) that has triples, which are fewer than triples.

    Args:
        kg: N nodes.
        x: [..., N, F].
        weight: [E] or [E, H] in the order of the edges, as in `propagate`.
        turn: the linear map of a relation, for any number of rows.

    Returns:
        [..., N, F'].
    """
    pairs = cached(kg, "pairs of heads and relations", lambda: _pairs(kg))
    gathered = propagate(pairs.gather, x, weight=weight.index_select(0, kg.by_relation.long()))
    parts = enumerate(gathered.split(pairs.counts, -2))
    return propagate(pairs.combine, torch.cat([turn(rows, relation) for relation, rows in parts], -2))


class _Pairs(NamedTuple):
    """Structures from tails to P pairs and from pairs to N heads; and the number of pairs of each relation."""

    gather: Adjacency
    combine: Adjacency
    counts: list[int]


def _pairs(kg: KnowledgeGraph) -> _Pairs:
    order = kg.by_relation.long()
    head, relation = kg.adj.target.long()[order], kg.relation.long()[order]  # sorted by relation, then by head
    code, counts = torch.unique_consecutive(relation * kg.num_nodes + head, return_counts=True)
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    owner = code % max(kg.num_nodes, 1)
    combine = Adjacency.from_coo(
        target=owner, source=torch.arange(len(code), device=kg.device), num_targets=kg.num_nodes, num_sources=len(code)
    )
    gather = Adjacency.trusted(indptr=indptr, indices=kg.adj.indices[order], num_sources=kg.num_nodes)
    return _Pairs(gather, combine, torch.bincount(code // max(kg.num_nodes, 1), minlength=kg.num_relations).tolist())


def inverse_counts(kg: KnowledgeGraph) -> Tensor:
    """[E] one over the number of triples of the same head and relation, in float64; cached, read-only."""

    def compute() -> Tensor:
        code = coo.pair_codes(kg.adj.target, kg.relation, kg.num_nodes, kg.num_relations)
        _, inverse, counts = torch.unique(code, return_inverse=True, return_counts=True)
        return counts.double().reciprocal()[inverse]

    return cached(kg, "inverse counts", compute)
