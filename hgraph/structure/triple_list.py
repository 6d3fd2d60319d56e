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
from hgraph.structure.validate import check_integers, check_permutation, check_pointers, check_range, require, rows_of

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

    def check_fields(self) -> None:
        """Check that there is a relation for every triple, and a type and a name for every node, if there are any.

        Raises:
            DataError: they contradict each other.
        """
        edges, nodes = self.adj.num_edges, self.adj.num_targets
        require(self.adj.num_sources == nodes, f"heads and tails are of {nodes} and {self.adj.num_sources} nodes")
        for name in ("relation", "by_relation"):
            check_integers(name, getattr(self, name), edges)
        check_integers("relation_indptr", self.relation_indptr)
        check_pointers("relation_indptr", self.relation_indptr, edges)
        relations = len(self.relation_indptr) - 1
        check_range("relation", self.relation, relations)
        check_permutation("by_relation", self.by_relation)
        by_relation = self.relation.long()[self.by_relation.long()]
        require(by_relation.equal(rows_of(self.relation_indptr)), "by_relation does not sort the triples by relation")
        types = 0
        if self.node_type is not None:
            check_integers("node_type", self.node_type, nodes)
            types = int(self.node_type.max()) + 1 if nodes else 0
            require(not nodes or self.node_type.min() >= 0, "node_type is negative")
        for name, count in (("node_names", nodes), ("relation_names", relations)):
            names = getattr(self, name)
            require(names is None or len(names) == count, f"{name} are not {count} texts")
        require(self.type_names is None or len(self.type_names) >= types, f"there are {types} types, but fewer names")
