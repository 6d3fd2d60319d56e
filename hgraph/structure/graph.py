"""`Graph`: nodes and pairwise edges."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hgraph.checks import Checks
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import coo
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.base import Structure
from hgraph.structure.validate import require

__all__ = ["Graph"]


@dataclass(frozen=True, eq=False)
class Graph(Structure):
    """N nodes and the edges along which they send messages.

    Use it when each relation joins two nodes: citations, contacts, bonds.

    Args:
        adj: the N x N `Adjacency`; row v lists the in-neighbors of node v.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=4, directed=False)
    >>> g.num_nodes, g.num_edges, g.degree().tolist()
    (4, 4, [1, 2, 1, 0])
    """

    adj: Adjacency

    def __post_init__(self) -> None:
        """Refuse what another constructor takes."""
        made = "Graph.from_edge_index(edge_index, num_nodes=..., directed=...) makes a graph of pairs of nodes"
        coo.check_made("adj", self.adj, made)
        super().__post_init__()

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Any,
        *,
        num_nodes: int,
        directed: bool,
        weight: Any = None,
        duplicates: Literal["error", "sum", "keep"] = "error",
    ) -> Graph:
        """Build from ``[source, target]`` rows.

        Args:
            edge_index: [2, E] integers, ``edge_index[0]`` the sources, ``edge_index[1]`` the targets.
            num_nodes: N, never inferred from the largest index.
            directed: if False, each missing reverse edge is added with the same weight; an edge may be
                listed in one direction or in both, and then both weights must agree.
            weight: [E] floats without NaN, or None.
            duplicates: what to do with repeated edges (see `Adjacency.from_coo`), before reverses are added.

        Raises:
            ArgumentError: wrong shape, index out of range, a repeated edge under ``"error"``, or an undirected
                edge with two different weights.
        """
        try:
            edge_index = torch.as_tensor(edge_index)
        except (TypeError, ValueError, RuntimeError) as error:
            got = f"{type(edge_index).__name__} ({error})"
            raise ArgumentTypeError("edge_index", "integers [2, E]", got, coo.names_hint(edge_index)) from error
        if edge_index.dim() != 2 or edge_index.shape[0] != 2:
            hint = "Rows are [sources, targets]; did you pass the transpose?"
            raise ArgumentError("edge_index", "shape [2, E]", f"shape {list(edge_index.shape)}", hint)
        names = coo.Names("edge_index[1]", "edge_index[0]", "num_nodes", "num_nodes", "nodes", "nodes")
        adj = Adjacency._from_coo(
            edge_index[1], edge_index[0], weight, num_nodes, num_nodes, duplicates, names, Checks()
        )
        return cls(adj if directed else _symmetrized(adj))

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.adj.num_targets

    @property
    def num_edges(self) -> int:
        """E, the number of directed edges: an undirected edge counts twice, a self-loop once."""
        return self.adj.num_edges

    @property
    def edge_index(self) -> Tensor:
        """[2, E] int64 ``[source, target]``, sorted by (target, source)."""
        return torch.stack([self.adj.indices, self.adj.target]).long()

    @property
    def directed(self) -> bool:
        """Whether some edge has no reverse edge of equal weight."""
        return not self.adj.equal(self.adj.transpose())

    def sort_edges(self, values: Tensor) -> Tensor:
        """Permute values of the listed edges [E_in, ...] to the order of the edges [E, ...].

        Use it for edge features in the order of the ``edge_index`` that you passed to `from_edge_index`. The reverse of
        an undirected edge that is listed once gets the same value. Values that `hgraph.convert` returns are already in
        the order of the edges.

        Args:
            values: [E_in, ...] one row per listed edge, or as `Adjacency.sort_edges` takes them.

        Raises:
            ArgumentError: the number of rows is not that of the listed edges.

        >>> Graph.from_edge_index([[2, 0], [1, 1]], num_nodes=3, directed=False).sort_edges(torch.tensor([20.0, 10.0]))
        tensor([10., 10., 20., 20.])
        """
        order, count = self.adj.input_order, values.shape[0]
        if order is None or count >= len(order):
            return self.adj.sort_edges(values)
        own = order[:count].long()
        known = torch.zeros(self.num_edges, dtype=torch.bool, device=self.adj.device)
        known[own] = True
        twin = self.adj.perm.long()  # of each edge in a symmetric graph, the edge in the other direction
        if self.directed or not bool((known | known[twin]).all()) or bool(known[order[count:].long()].any()):
            expected = f"one row per edge that was given to from_edge_index, or {len(order)}, one per direction"
            raise ArgumentError("values", expected, f"{count} rows")
        found = coo.segment_sum(values, own, self.num_edges).to(values.dtype)
        mask = known.view(-1, *[1] * (values.dim() - 1))
        return torch.where(mask, found, found[twin])

    def degree(self) -> Tensor:
        """Weighted in-degree [N] (a count when unweighted)."""
        return self.adj.target_degree()

    def add_self_loops(self) -> Graph:
        """The graph with every missing self-loop added; new loops have weight 1."""
        return Graph(self.adj.add_self_loops())

    def subgraph(self, nodes: Tensor) -> Graph:
        """The induced subgraph of ``nodes`` [N'], which become 0 .. N'-1 in the given order."""
        rows = self.adj.select(nodes)
        return Graph(rows.transpose().select(nodes).transpose())

    def equal(self, other: Graph) -> bool:
        """Whether both have the same nodes, edges and weights."""
        return isinstance(other, Graph) and self.adj.equal(other.adj)

    def check_fields(self) -> None:
        """Check that sources and targets are the same nodes."""
        require(self.adj.num_targets == self.adj.num_sources, f"a graph is square, not {self.adj.shape}")

    def draw(self, ax: Any = None, **options: Any) -> Any:
        """Draw nodes and edges and return the matplotlib axes.

        Args:
            ax: axes to draw into, or None for new ones.
            **options: ``labels`` [N] color nodes by class, ``names`` are node labels, ``seed`` fixes the layout.
        """
        from hgraph.draw import hypergraphs as draw

        return draw.draw_graph(self, ax, **options)

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        weight = "" if self.adj.weight is None else ", weighted"
        return f"Graph({self.num_nodes} nodes, {self.num_edges} edges{weight}, {self.device})"


def _symmetrized(adj: Adjacency) -> Adjacency:
    """Add each missing reverse edge; the reverse of a parallel edge is parallel too."""
    reverse = adj.transpose()
    keys, reverse_keys = (coo.pair_codes(a.target, a.indices, *adj.shape) for a in (adj, reverse))
    missing = (~torch.isin(reverse_keys, keys)).nonzero().flatten()
    if adj.input_order is not None:  # added reverses in the order in which the caller listed their edges
        listed = torch.zeros(adj.num_edges, dtype=torch.long, device=adj.device)
        place = torch.arange(len(adj.input_order), device=adj.device)
        listed.scatter_reduce_(0, adj.input_order.long(), place, "amin", include_self=False)
        missing = missing[listed[adj.perm.long()[missing]].argsort(stable=True)]
    both = Adjacency.from_coo(
        target=torch.cat([adj.target, reverse.target[missing]]),
        source=torch.cat([adj.indices, reverse.indices[missing]]),
        weight=None if adj.weight is None else torch.cat([adj.weight, reverse.weight[missing]]),  # type: ignore[index]
        num_targets=adj.num_targets,
        num_sources=adj.num_sources,
        duplicates="keep",
    )
    # from_coo counted row-sorted entries; the caller's entries come first, then the added reverses.
    order, own = both.input_order, adj.num_edges
    if order is not None and adj.input_order is not None:
        both = dataclasses.replace(both, input_order=torch.cat([order[:own][adj.input_order], order[own:]]))
    if not both.equal(both.transpose()):
        hint = "List each undirected edge once, or pass directed=True, or duplicates='sum' to add up the weights"
        raise ArgumentError("weight", "equal weights in both directions of an undirected edge", "different ones", hint)
    return both


torch.export.register_dataclass(Graph, serialized_type_name="hgraph.structure.Graph")
torch.serialization.add_safe_globals([Graph])
