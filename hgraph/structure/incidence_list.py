"""`IncidenceList`: the fields of a `Hypergraph`, its sizes and degrees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from hgraph.structure.adjacency import Adjacency
from hgraph.structure.base import Structure
from hgraph.structure.validate import require

__all__ = ["IncidenceList"]

I = TypeVar("I", bound="IncidenceList")  # noqa: E741


@dataclass(frozen=True, eq=False)
class IncidenceList(Structure):
    """The fields of a `Hypergraph`, without its algebra, which is implemented as functions over this class."""

    v2e: Adjacency
    hyperedge_weight: Tensor | None = None
    node_weight: Tensor | None = None

    # ------------------------------------------------------------------ sizes, degrees, the way back

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.v2e.num_sources

    @property
    def num_hyperedges(self) -> int:
        """M."""
        return self.v2e.num_targets

    @property
    def num_incidences(self) -> int:
        """E, the number of (node, hyperedge) pairs."""
        return self.v2e.num_edges

    @property
    def e2v(self) -> Adjacency:
        """The N x M adjacency from hyperedges to nodes: row v lists the hyperedges of node v."""
        return self.v2e.transpose()

    def node_degree(self) -> Tensor:
        r""":math:`d_v = \sum_e w_e h(v, e)` [N]; a count for unweighted hypergraphs."""
        e2v = self.e2v
        if self.hyperedge_weight is None:
            return e2v.target_degree()
        weight = self.hyperedge_weight[e2v.indices]
        weight = weight if e2v.weight is None else weight * e2v.weight
        return e2v.with_weight(weight).target_degree()

    def hyperedge_degree(self) -> Tensor:
        r""":math:`d_e = \sum_v h(v, e)` [M]; a count when incidences are unweighted."""
        return self.v2e.target_degree()

    def with_hyperedge_weight(self: I, weight: Tensor | None) -> I:
        """The same hypergraph with other hyperedge weights [M]; not checked, so they may require gradients."""
        return dataclasses.replace(self, hyperedge_weight=weight)

    def to_lists(self) -> list[list[int]]:
        """The members of each hyperedge, ascending."""
        return [e.tolist() for e in self.v2e.indices.split(self.v2e.indptr.diff().tolist())]

    def check_fields(self) -> None:
        """Check that weights, if any, have one entry per node or hyperedge.

        Raises:
            DataError: the fields are inconsistent.
        """
        sizes = {"hyperedge_weight": self.num_hyperedges, "node_weight": self.num_nodes}
        for name, size in sizes.items():
            weight = getattr(self, name)
            fits = weight is None or (weight.is_floating_point() and weight.shape == (size,))
            require(fits, f"{name} must have {size} numbers")
