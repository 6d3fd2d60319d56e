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
    """The fields of a `KnowledgeGraph`, without its algebra, which is implemented as functions over this class."""

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
        """Build from edges that are already sorted."""
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
        """E, the number of triples."""
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
        """[N] the number of triples with each node as head."""
        return self.adj.indptr.diff()

    def with_weight(self: K, weight: Tensor | None) -> K:
        """The same triples with weights [E], such as attention weights; not checked, so they may require gradients."""
        return dataclasses.replace(self, adj=self.adj.with_weight(weight))

    def check_fields(self) -> None:
        """Check that every triple has a relation, and every node a type and a name if there are any.

        Raises:
            DataError: the fields are inconsistent.
        """
        edges, nodes = self.adj.num_edges, self.adj.num_targets
        require(self.adj.num_sources == nodes, f"there are {nodes} heads but {self.adj.num_sources} tails")
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
            require(not nodes or self.node_type.min() >= 0, "node_type has negative entries")
        for name, count in (("node_names", nodes), ("relation_names", relations)):
            names = getattr(self, name)
            require(names is None or len(names) == count, f"{name} must have {count} texts")
        require(self.type_names is None or len(self.type_names) >= types, f"type_names needs {types} texts or more")
