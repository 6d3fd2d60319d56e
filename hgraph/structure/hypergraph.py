"""`Hypergraph`: hyperedges that connect any number of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hgraph.checks import Checks
from hgraph.structure import coo, expansion
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.graph import Graph
from hgraph.structure.incidence_list import IncidenceList

__all__ = ["Hypergraph"]


@dataclass(frozen=True, eq=False)
class Hypergraph(IncidenceList):
    """N nodes, M hyperedges, and E incidences (node-hyperedge pairs).

    Use it when a relation may join more than two nodes: authors of a paper, items of an order, members of a group.

    Messages go from nodes to hyperedges along ``v2e`` and back along ``e2v``.

    Args:
        v2e: the M x N `Adjacency`; row e lists the members of hyperedge e. Its weights, if any, are the
            incidence weights h(v, e).
        hyperedge_weight: [M] floats or None (ones).
        node_weight: [N] floats or None (ones).

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=5)
    >>> hg.num_nodes, hg.num_hyperedges, hg.node_degree().tolist(), hg.hyperedge_degree().tolist()
    (5, 2, [1, 1, 2, 1, 0], [3, 2])
    """

    def __post_init__(self) -> None:
        """Refuse what another constructor takes."""
        made = "Hypergraph.from_lists(hyperedges, num_nodes=...) makes a hypergraph of lists of nodes"
        coo.check_made("v2e", self.v2e, made)
        super().__post_init__()

    # ------------------------------------------------------------------ construction

    @classmethod
    def from_lists(
        cls,
        hyperedges: Iterable[Sequence[int]],
        *,
        num_nodes: int,
        hyperedge_weight: Any = None,
        node_weight: Any = None,
    ) -> Hypergraph:
        """Build from the members of each hyperedge; an empty list is a hyperedge without members.

        Raises:
            ArgumentError: a member out of range, or repeated in one hyperedge.
        """
        members = [coo.as_indices(f"hyperedges[{i}]", list(e)) for i, e in enumerate(hyperedges)]
        sizes = torch.tensor([len(e) for e in members], dtype=torch.long)
        return cls._from_coo(
            node=torch.cat(members) if members else torch.empty(0, dtype=torch.long),
            hyperedge=torch.arange(len(members)).repeat_interleave(sizes),
            num_nodes=num_nodes,
            num_hyperedges=len(members),
            hyperedge_weight=hyperedge_weight,
            node_weight=node_weight,
            repeated="Name each member once, as set(members) has them",
        )

    @classmethod
    def from_incidence(cls, incidence: Any, *, hyperedge_weight: Any = None, node_weight: Any = None) -> Hypergraph:
        """Build from an N x M incidence matrix H: dense, torch sparse, or scipy sparse.

        Nonzero entries are incidences. A matrix of ones (or booleans) gives an unweighted
        hypergraph, any other matrix gives incidence weights.

        >>> Hypergraph.from_incidence(torch.tensor([[1, 0], [1, 1]])).hyperedge_degree().tolist()
        [2, 1]
        """
        node, hyperedge, weight, shape = expansion.incidence_entries(incidence)
        return cls.from_coo(
            node=node,
            hyperedge=hyperedge,
            weight=weight,
            num_nodes=shape[0],
            num_hyperedges=shape[1],
            hyperedge_weight=hyperedge_weight,
            node_weight=node_weight,
        )

    @classmethod
    def from_coo(
        cls,
        *,
        node: Any,
        hyperedge: Any,
        num_nodes: int,
        num_hyperedges: int,
        weight: Any = None,
        hyperedge_weight: Any = None,
        node_weight: Any = None,
        duplicates: Literal["error", "sum", "keep"] = "error",
    ) -> Hypergraph:
        """Build from incidence pairs [E] in any order; ``weight`` [E] are incidence weights.

        Raises:
            ArgumentError: indices out of range, repeated pairs, weights of a wrong shape or NaN.
        """
        return cls._from_coo(
            node=node,
            hyperedge=hyperedge,
            num_nodes=num_nodes,
            num_hyperedges=num_hyperedges,
            weight=weight,
            hyperedge_weight=hyperedge_weight,
            node_weight=node_weight,
            duplicates=duplicates,
        )

    @classmethod
    def _from_coo(
        cls,
        *,
        node: Any,
        hyperedge: Any,
        num_nodes: int,
        num_hyperedges: int,
        weight: Any = None,
        hyperedge_weight: Any = None,
        node_weight: Any = None,
        duplicates: Literal["error", "sum", "keep"] = "error",
        repeated: str = coo.Names().repeated,
    ) -> Hypergraph:
        names = coo.Names("hyperedge", "node", "num_hyperedges", "num_nodes", "hyperedges", "nodes", repeated)
        checks = Checks()
        sizes = num_hyperedges, num_nodes
        for name, size in zip((names.num_targets, names.num_sources), sizes, strict=True):
            coo.check_size(name, size)
        hyperedge_weight = coo.as_weight("hyperedge_weight", hyperedge_weight, num_hyperedges, "hyperedge", checks)
        node_weight = coo.as_weight("node_weight", node_weight, num_nodes, "node", checks)
        v2e = Adjacency._from_coo(hyperedge, node, weight, *sizes, duplicates, names, checks)
        return cls(v2e, hyperedge_weight, node_weight)

    # ------------------------------------------------------------------ other structures made of it

    def clique(self) -> Graph:
        """Clique expansion: joins all pairs in a hyperedge, weighted by the sum over their common hyperedges of
        :math:`w_e h(u, e) h(v, e)`; no self-loops."""  # noqa: D205, D209
        return expansion.clique(self)

    def star(self) -> Graph:
        """The bipartite graph on N + M nodes; hyperedge e is node N + e, incidence weights become edge weights."""
        return expansion.star(self)

    def line(self) -> Graph:
        """The graph on M nodes that joins hyperedges with common members, weighted by the number of common members."""
        return expansion.line(self)

    def dual(self) -> Hypergraph:
        """Swap nodes and hyperedges; the dual of the dual is the hypergraph itself."""
        return Hypergraph(self.e2v, self.node_weight, self.hyperedge_weight)

    def touching(self, nodes: Tensor) -> Tensor:
        """Ids (ascending) of the hyperedges with at least one member among ``nodes``."""
        return expansion.touching(self, nodes)

    def subhypergraph(self, nodes: Tensor) -> Hypergraph:
        """Keep only ``nodes`` [N'], which become 0 .. N'-1 in the given order.

        Other members are removed from their hyperedges; empty hyperedges are dropped. Hyperedge j of the result is
        ``touching(nodes)[j]`` of this hypergraph. Degrees are recomputed.

        >>> hg = Hypergraph.from_lists([[0, 1], [2, 3], [1, 2, 3]], num_nodes=4)
        >>> hg.subhypergraph(torch.tensor([3, 1])).to_lists()
        [[1], [0], [0, 1]]
        """
        return expansion.subhypergraph(self, nodes)

    def with_singletons(self) -> Hypergraph:
        """Append a one-node hyperedge of weight 1 for each isolated node."""
        return expansion.with_singletons(self)

    def without_repeats(self) -> Hypergraph:
        """Keep only the first of hyperedges with the same members, with its weights.

        >>> Hypergraph.from_lists([[0, 1], [2], [1, 0]], num_nodes=3).without_repeats().to_lists()
        [[0, 1], [2]]
        """
        return expansion.without_repeats(self)

    def incidence(self) -> Tensor:
        """The dense N x M incidence matrix H: for tests and small cases."""
        return self.v2e.dense().T

    # ------------------------------------------------------------------ housekeeping

    def equal(self, other: Hypergraph) -> bool:
        """Whether both have the same incidences and the same weights."""
        if not isinstance(other, Hypergraph) or not self.v2e.equal(other.v2e):
            return False
        return _same(self.hyperedge_weight, other.hyperedge_weight) and _same(self.node_weight, other.node_weight)

    def draw(self, ax: Any = None, **options: Any) -> Any:
        """Draw nodes with a colored hull around each hyperedge and return the matplotlib axes.

        Args:
            ax: axes to draw into, or None for new ones.
            **options: ``labels`` [N] color nodes by class, ``names`` are node labels, ``seed`` fixes the layout,
                ``max_hyperedges`` limits the number of hulls, and ``form`` is ``"hulls"``, ``"bipartite"`` or
                ``"matrix"`` (default: the first that can be read).
        """
        from hgraph.draw import hypergraphs as draw

        return draw.draw_hypergraph(self, ax, **options)

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        n, m, e = self.num_nodes, self.num_hyperedges, self.num_incidences
        return f"Hypergraph({n} nodes, {m} hyperedges, {e} incidences, {self.device})"


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and torch.equal(a, b.to(a.device))


torch.export.register_dataclass(Hypergraph, serialized_type_name="hgraph.structure.Hypergraph")
torch.serialization.add_safe_globals([Hypergraph])
