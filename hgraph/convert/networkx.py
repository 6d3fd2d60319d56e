"""networkx: graphs of all four classes, and hypergraphs as bipartite graphs, in both directions."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hgraph.convert.columns import columns, node_columns, pick, records, take, with_column
from hgraph.convert.converted import Converted, names, prepare, refuse
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["from_networkx", "from_networkx_bipartite", "to_networkx", "to_networkx_bipartite"]


def from_networkx(
    graph: Any, *, weight: str | None = None, x: str | Sequence[str] | None = None, y: str | None = None
) -> Converted:
    """Convert a networkx graph of any class; the edge u -> v sends messages from u to v.

    An edge of ``Graph`` or ``MultiGraph`` is stored in both directions, with the same weight and attributes; a
    self-loop is stored once. Parallel edges stay parallel; their keys become the edge attribute ``"key"``.

    Args:
        graph: Graph, DiGraph, MultiGraph or MultiDiGraph.
        weight: the edge attribute for the weight (float64), required on every edge; None: unweighted.
        x: the node attribute or attributes for the features [N, F], concatenated: numbers, or lists of numbers
            of equal length. float64.
        y: the node attribute for the label: integers become int64, other numbers float64.

    Returns:
        The `Graph`; nodes as ``node_ids``; all other attributes in ``node_attrs``, ``edge_attrs``, and
        graph attributes in ``meta``.

    Raises:
        ArgumentError: a named attribute that is missing on a node or edge or is not a number.

    >>> import networkx as nx
    >>> c = from_networkx(nx.Graph([("a", "b", {"w": 2.0})]), weight="w")
    >>> c.node_ids, c.structure.edge_index.tolist(), c.structure.adj.weight.tolist()
    (['a', 'b'], [[1, 0], [0, 1]], [2.0, 2.0])
    """
    import networkx as nx

    if not isinstance(graph, nx.Graph):
        raise ArgumentTypeError("graph", "a networkx graph", type(graph).__name__)
    nodes, index = _nodes(graph)
    ends, attrs = [], []
    for u, v, *key, given in graph.edges(data=True, **({"keys": True} if graph.is_multigraph() else {})):
        if key and "key" in given:
            hint = "The attribute 'key' is reserved for the key of a multigraph's edge; rename it"
            raise ArgumentError("graph", "edges without an attribute 'key'", f"one at {(u, v)!r}", hint)
        attr = dict(given, key=key[0]) if key else dict(given)
        ends.append((index[u], index[v]))
        attrs.append(attr)
        if not graph.is_directed() and u != v:
            ends.append((index[v], index[u]))
            attrs.append(attr)
    edge_attrs, weights = take(columns(attrs), weight, "weight", [(nodes[a], nodes[b]) for a, b in ends])
    pairs = torch.tensor(ends, dtype=torch.long).reshape(-1, 2)
    adj = Adjacency.from_coo(
        target=pairs[:, 1],
        source=pairs[:, 0],
        weight=weights,
        num_targets=len(nodes),
        num_sources=len(nodes),
        duplicates="keep",
    )
    order = _entry_of_edge(adj)
    node_attrs, features, labels = node_columns([graph.nodes[v] for v in nodes], nodes, x, y)
    return Converted(
        Graph(adj),
        nodes,
        [],
        features,
        labels,
        node_attrs,
        {},
        {name: pick(column, order) for name, column in edge_attrs.items()},
        dict(graph.graph),
    )


def to_networkx(
    graph: Graph | Converted, into: type | None = None, *, weight: str = "weight", x: str = "x", y: str = "y"
) -> Any:
    """Convert to a networkx graph of the class ``into``; preserves the structure and all of `Converted`.

    Args:
        graph: the graph; for a hypergraph use :func:`to_networkx_bipartite`.
        into: the networkx class (default ``networkx.DiGraph``). ``Graph`` and ``MultiGraph`` merge two directions of
            equal weight and attributes to one edge; ``DiGraph`` and ``Graph`` cannot hold parallel edges.
        weight: the edge attribute for weights.
        x: the node attribute for features, one list per node.
        y: the node attribute for labels.

    Raises:
        ArgumentError: parallel edges or an edge without its reverse, if the class cannot hold them; an attribute
            name that is used twice.

    >>> g = to_networkx(Graph.from_edge_index([[0], [1]], num_nodes=3, directed=True))
    >>> sorted(g.nodes), list(g.edges)
    ([0, 1, 2], [(0, 1)])
    """
    import networkx as nx

    structure, c = prepare(graph, Graph, "Use to_networkx_bipartite for a hypergraph")
    refuse(c, "a networkx graph", "hyperedge_attrs")
    out = (nx.DiGraph if into is None else into)()
    adj = structure.adj
    source, target = adj.indices.tolist(), adj.target.tolist()
    edges = records(with_column(c.edge_attrs, weight, adj.weight), adj.num_edges)
    if not out.is_multigraph() and len(set(zip(source, target, strict=True))) < adj.num_edges:
        raise ArgumentError("graph", "no parallel edges", "some", "Pass into=networkx.MultiDiGraph, or sum them first")
    kept = range(adj.num_edges) if out.is_directed() else _one_direction(source, target, edges)
    out.graph.update(c.meta)
    _add_nodes(out, c, x, y)
    ids = names(c)[0]
    for e in kept:
        if out.is_multigraph():
            key = edges[e].pop("key", None)
            if key is not None and out.has_edge(ids[source[e]], ids[target[e]], key):
                raise ArgumentError("edge_attrs['key']", "distinct keys of parallel edges", repr(key))
            key = out.add_edge(ids[source[e]], ids[target[e]], key=key)
            out.edges[ids[source[e]], ids[target[e]], key].update(edges[e])
        else:
            out.add_edge(ids[source[e]], ids[target[e]])
            out.edges[ids[source[e]], ids[target[e]]].update(edges[e])
    return out


def from_networkx_bipartite(
    graph: Any,
    *,
    weight: str | None = None,
    hyperedge_weight: str | None = None,
    node_weight: str | None = None,
    x: str | Sequence[str] | None = None,
    y: str | None = None,
) -> Converted:
    """Convert a bipartite networkx graph to a hypergraph: ``bipartite=0`` marks nodes, ``bipartite=1`` hyperedges.

    Args:
        graph: an undirected Graph, every node with the attribute ``bipartite`` that networkx's own functions set.
        weight: the edge attribute for the incidence weight, or None.
        hyperedge_weight: the attribute of ``bipartite=1`` nodes for the hyperedge weight, or None.
        node_weight: the attribute with the node weights (``bipartite=0`` only), or None.
        x: the node attribute or attributes for the features (see :func:`from_networkx`).
        y: the node attribute for the label.

    Raises:
        ArgumentError: a node without ``bipartite``, an edge within one side, a missing attribute.

    >>> import networkx as nx
    >>> g = nx.Graph([("a", "e"), ("b", "e")])
    >>> nx.set_node_attributes(g, {"a": 0, "b": 0, "e": 1}, "bipartite")
    >>> c = from_networkx_bipartite(g)
    >>> c.structure.to_lists(), c.node_ids, c.hyperedge_ids
    ([[0, 1]], ['a', 'b'], ['e'])
    """
    import networkx as nx

    if not isinstance(graph, nx.Graph) or graph.is_multigraph() or graph.is_directed():
        raise ArgumentTypeError("graph", "an undirected networkx.Graph", type(graph).__name__)
    sides: tuple[list[Hashable], list[Hashable]] = ([], [])
    for node, side in graph.nodes(data="bipartite"):
        if side not in (0, 1):
            hint = "networkx.bipartite.sets finds the two sides; set the attribute from them"
            raise ArgumentError("graph", "nodes with bipartite=0 or 1", f"{side!r} at {node!r}", hint)
        sides[side].append(node)
    index = {node: i for side in sides for i, node in enumerate(side)}
    pairs, attrs = [], []
    for u, v, attr in graph.edges(data=True):
        if graph.nodes[u]["bipartite"] == graph.nodes[v]["bipartite"]:
            raise ArgumentError("graph", "edges between the two sides", f"{(u, v)!r}")
        member, hyperedge = (u, v) if graph.nodes[u]["bipartite"] == 0 else (v, u)
        pairs.append((index[member], index[hyperedge]))
        attrs.append(attr)
    between = [(sides[0][v], sides[1][e]) for v, e in pairs]
    edge_attrs, weights = take(columns(attrs), weight, "weight", between)
    bare = [[{k: a for k, a in graph.nodes[v].items() if k != "bipartite"} for v in side] for side in sides]
    node_attrs, features, labels = node_columns(bare[0], sides[0], x, y)
    node_attrs, of_nodes = take(node_attrs, node_weight, "node_weight", sides[0])
    hyperedge_attrs, of_hyperedges = take(columns(bare[1]), hyperedge_weight, "hyperedge_weight", sides[1])
    hg = Hypergraph.from_coo(
        node=[v for v, _ in pairs],
        hyperedge=[e for _, e in pairs],
        num_nodes=len(sides[0]),
        num_hyperedges=len(sides[1]),
        weight=weights,
        hyperedge_weight=of_hyperedges,
        node_weight=of_nodes,
    )
    order = _entry_of_edge(hg.v2e)
    edge_attrs = {name: pick(column, order) for name, column in edge_attrs.items()}
    return Converted(hg, *sides, features, labels, node_attrs, hyperedge_attrs, edge_attrs, dict(graph.graph))


def to_networkx_bipartite(
    hypergraph: Hypergraph | Converted,
    *,
    weight: str = "weight",
    hyperedge_weight: str = "weight",
    node_weight: str = "weight",
    x: str = "x",
    y: str = "y",
) -> Any:
    """Convert a hypergraph to a bipartite ``networkx.Graph``: nodes have ``bipartite=0``, hyperedges 1.

    Args:
        hypergraph: the hypergraph. Without ids, nodes are 0 .. N-1 and hyperedges N .. N+M-1.
        weight: the edge attribute for incidence weights.
        hyperedge_weight: the attribute of ``bipartite=1`` nodes for hyperedge weights.
        node_weight: the attribute to write node weights to (``bipartite=0`` only).
        x: the node attribute for features.
        y: the node attribute for labels.

    Raises:
        ArgumentError: repeated incidences, or an id used by a node and a hyperedge.

    >>> sorted(to_networkx_bipartite(Hypergraph.from_lists([[0, 1], []], num_nodes=2)).edges)
    [(0, 2), (1, 2)]
    """
    import networkx as nx

    hg, c = prepare(hypergraph, Hypergraph, "Use to_networkx for a graph")
    nodes, hyperedges = names(c)
    if isinstance(hyperedges, range):  # no ids given
        hyperedges = range(hg.num_nodes, hg.num_nodes + hg.num_hyperedges)
    shared = set(nodes) & set(hyperedges)
    if shared:
        hint = "Both become nodes of one graph: give hyperedges other ids"
        raise ArgumentError("hyperedge_ids", "ids that no node has", repr(next(iter(shared))), hint)
    target, source = hg.v2e.target.tolist(), hg.v2e.indices.tolist()
    if len(set(zip(target, source, strict=True))) < hg.num_incidences:
        raise ArgumentError(
            "hypergraph", "distinct incidences", "repeated ones", "networkx.Graph holds one edge per pair"
        )
    out = nx.Graph()
    out.graph.update(c.meta)
    sided = c._replace(node_attrs=with_column(c.node_attrs, node_weight, hg.node_weight))
    _add_nodes(out, sided, x, y, bipartite=0)
    attrs = records(with_column(c.hyperedge_attrs, hyperedge_weight, hg.hyperedge_weight), hg.num_hyperedges)
    for node, attr in zip(hyperedges, attrs, strict=True):
        out.add_node(node)
        out.nodes[node].update(_sided(attr, 1))
    for e, attr in enumerate(records(with_column(c.edge_attrs, weight, hg.v2e.weight), hg.num_incidences)):
        out.add_edge(nodes[source[e]], hyperedges[target[e]])
        out.edges[nodes[source[e]], hyperedges[target[e]]].update(attr)
    return out


# ---------------------------------------------------------------------- in


def _nodes(graph: Any) -> tuple[list[Hashable], dict[Hashable, int]]:
    nodes = list(graph.nodes)
    return nodes, {node: i for i, node in enumerate(nodes)}


def _entry_of_edge(adj: Adjacency) -> Tensor:
    """[E]: the input entry of each edge, the inverse of ``input_order``."""
    assert adj.input_order is not None  # noqa: S101 - from_coo always sets it
    return torch.argsort(adj.input_order)


# ---------------------------------------------------------------------- out


def _add_nodes(out: Any, c: Converted, x: str, y: str, bipartite: int | None = None) -> None:
    attrs = with_column(with_column(c.node_attrs, x, c.x), y, c.y)
    ids = names(c)[0]
    for node, attr in zip(ids, records(attrs, len(ids)), strict=True):
        out.add_node(node)
        out.nodes[node].update(attr if bipartite is None else _sided(attr, bipartite))


def _sided(attr: Mapping[str, Any], side: int) -> dict[str, Any]:
    if "bipartite" in attr:
        raise ArgumentError("bipartite", "an unused attribute name", "one in use", "It marks the two sides")
    return {"bipartite": side, **attr}


def _one_direction(source: list[int], target: list[int], edges: list[dict[str, Any]]) -> list[int]:
    """One edge of each pair of opposite ones, which must be equal; parallel edges are paired by key, or in order."""
    kept: list[int] = []
    waiting: dict[tuple[Any, ...], list[int]] = {}
    for e, (u, v) in enumerate(zip(source, target, strict=True)):
        if u >= v:  # edges are sorted by target: the one toward the smaller id comes first, self-loops count once
            kept.append(e)
        if u > v:
            waiting.setdefault((v, u, repr(edges[e].get("key"))), []).append(e)
    for e, (u, v) in enumerate(zip(source, target, strict=True)):
        if u < v:
            others = waiting.get((u, v, repr(edges[e].get("key"))))
            if not others or edges[others.pop(0)] != edges[e]:
                raise _directed(u, v)
    left = next((pair for pair, others in waiting.items() if others), None)
    if left is not None:
        raise _directed(left[1], left[0])
    return kept


def _directed(u: int, v: int) -> ArgumentError:
    hint = "Pass into=networkx.DiGraph (networkx.MultiDiGraph)"
    return ArgumentError("graph", "equal edges in both directions", f"{u} -> {v} without its reverse", hint)
