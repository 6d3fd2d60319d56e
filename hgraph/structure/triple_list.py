"""`TripleList`: the sorted index tensors of a `KnowledgeGraph`, and their sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from hgraph.structure import coo
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.base import Structure
from hgraph.structure.names import Names

__all__ = ["TripleList"]

K = TypeVar("K", bound="TripleList")


@dataclass(frozen=True, eq=False)
class TripleList(Structure):
    """The fields of a `KnowledgeGraph`, without its algebra, which is made of functions over this class."""

    adj: Adjacency
    relation: Tensor
    relation_indptr: Tensor
    by_relation: Tensor
    node_type: Tensor | None = None
    node_names: Names | None = None
    relation_names: Names | None = None
    type_names: Names | None = None

    @classmethod
    def complete(cls: type[K], adj: Adjacency, relation: Tensor, num_relations: int, **others: Any) -> K:
        """The graph of edges that are sorted already."""
        ordered, by_relation = torch.sort(relation, stable=True)
        dtype = adj.indices.dtype
        indptr = coo.pointers(ordered, num_relations)
        return cls(adj, relation.to(dtype), indptr.to(dtype), by_relation.to(dtype), **others)

    # ------------------------------------------------------------------ sizes and columns

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.adj.num_targets

    @property
    def num_edges(self) -> int:
        """E, the number of facts."""
        return self.adj.num_edges

    @property
    def num_relations(self) -> int:
        """R."""
        return self.relation_indptr.shape[0] - 1

    @property
    def triples(self) -> Tensor:
        """[E, 3] int64 ``(head, relation, tail)``, in the order of the edges."""
        return torch.stack([self.adj.target, self.relation, self.adj.indices], 1).long()

    def degree(self) -> Tensor:
        """[N] the facts that each vertex is head of."""
        return self.adj.indptr.diff()

    def with_weight(self: K, weight: Tensor | None) -> K:
        """The same facts with a weight [E] each, such as shares of attention; not checked, so they may be learned."""
        return dataclasses.replace(self, adj=self.adj.with_weight(weight))
