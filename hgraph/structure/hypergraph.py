"""`Hypergraph`: hyperedges that join any number of vertices."""

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
    """N vertices, M hyperedges, and the E incidences that join them.

    Messages go vertices -> hyperedges along ``v2e`` and back along ``e2v``, two verbs a step.

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
        """Build from the members of each hyperedge; an empty list is a legal hyperedge without members.

        Raises:
            ArgumentError: a member out of range, or named twice in one hyperedge.
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
        """Build from the N x M incidence matrix H of the papers: dense, torch sparse, or scipy sparse.

        Entries that are not zero are incidences. A matrix of ones (or booleans) gives an unweighted
        hypergraph, anything else incidence weights.

        >>> Hypergraph.from_incidence(torch.tensor([[1, 0], [1, 1]])).hyperedge_degree().tolist()
        [2, 1]
        """
        vertex, hyperedge, weight, shape = expansion.incidence_entries(incidence)
        return cls.from_coo(
            node=vertex,
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
        """Every two members of a hyperedge joined, weighted by the sum over shared hyperedges of
        :math:`w_e h(u, e) h(v, e)`; no self-loops."""  # noqa: D205, D209
        return expansion.clique(self)

    def star(self) -> Graph:
        """The bipartite graph on N + M nodes; hyperedge e is node N + e, incidence weights become edge weights."""
        return expansion.star(self)

    def line(self) -> Graph:
        """The graph on M nodes that joins hyperedges with common members, weighted by how many they share."""
        return expansion.line(self)

    def dual(self) -> Hypergraph:
        """Vertices and hyperedges with their roles exchanged; the dual of the dual is the hypergraph itself."""
        return Hypergraph(self.e2v, self.node_weight, self.hyperedge_weight)

    def touching(self, nodes: Tensor) -> Tensor:
        """Ids (ascending) of the hyperedges with at least one member among ``nodes``."""
        return expansion.touching(self, nodes)

    def subhypergraph(self, nodes: Tensor) -> Hypergraph:
        """Keep only ``nodes`` [N'], which become 0 .. N'-1 in the order given.

        Members outside leave their hyperedges; hyperedges left empty go. Hyperedge j of the result is
        ``touching(nodes)[j]`` here. Degrees are the result's own.

        >>> hg = Hypergraph.from_lists([[0, 1], [2, 3], [1, 2, 3]], num_nodes=4)
        >>> hg.subhypergraph(torch.tensor([3, 1])).to_lists()
        [[1], [0], [0, 1]]
        """
        return expansion.subhypergraph(self, nodes)

    def with_singletons(self) -> Hypergraph:
        """A one-vertex hyperedge of weight 1 added, at the end, for each vertex that is in none."""
        return expansion.with_singletons(self)

    def without_repeats(self) -> Hypergraph:
        """Of hyperedges with the same members only the first, with its weights; the others go.

        >>> Hypergraph.from_lists([[0, 1], [2], [1, 0]], num_nodes=3).without_repeats().to_lists()
        [[0, 1], [2]]
        """
        return expansion.without_repeats(self)

    def incidence(self) -> Tensor:
        """The dense N x M incidence matrix H: for tests and small cases."""
        return self.v2e.dense().T

    # ------------------------------------------------------------------ housekeeping

    def equal(self, other: Hypergraph) -> bool:
        """Whether both have the same incidences and the same weights of every kind."""
        if not isinstance(other, Hypergraph) or not self.v2e.equal(other.v2e):
            return False
        return _same(self.hyperedge_weight, other.hyperedge_weight) and _same(self.node_weight, other.node_weight)

    def draw(self, ax: Any = None, **options: Any) -> Any:
        """Draw vertices with a coloured hull around each hyperedge and return the matplotlib axes.

        Args:
            ax: axes to draw into, or None for new ones.
            **options: ``labels`` [N] colour vertices by class, ``names`` writes texts, ``seed`` fixes the layout,
                ``max_hyperedges`` draws only the first so many.
        """
        from hgraph.draw import hypergraphs as draw

        return draw.draw_hypergraph(self, ax, **options)

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        n, m, e = self.num_nodes, self.num_hyperedges, self.num_incidences
        return f"Hypergraph({n} vertices, {m} hyperedges, {e} incidences, {self.device})"


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and torch.equal(a, b.to(a.device))


torch.export.register_dataclass(Hypergraph, serialized_type_name="hgraph.structure.Hypergraph")
torch.serialization.add_safe_globals([Hypergraph])
