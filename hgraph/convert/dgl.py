"""DGL: homogeneous graphs, in both directions. Features and columns are shared, edges are copied."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hgraph.convert.columns import pick
from hgraph.convert.converted import Converted, prepare, refuse, require
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.graph import Graph

__all__ = ["from_dgl", "to_dgl"]


def from_dgl(graph: Any, *, weight: str | None = None, x: str | None = None, y: str | None = None) -> Converted:
    """Convert a homogeneous ``DGLGraph``: edges from source to target, in the order of their ids, with parallel edges.

    Args:
        graph: the DGL graph; undirected ones have both directions of each edge, as in `Graph`.
        weight: the name of the weight in ``edata``, [E] or [E, 1], or None.
        x: the name of the features in ``ndata``, or None.
        y: the name of the label in ``ndata``, or None.

    Returns:
        The `Graph`; the remaining ``ndata`` and ``edata`` as ``node_attrs`` and ``edge_attrs``.

    Raises:
        ArgumentError: several types of nodes or edges, or an unknown name.
    """
    if not type(graph).__module__.startswith("dgl.") or not hasattr(graph, "ndata"):
        raise ArgumentTypeError("graph", "a DGLGraph", type(graph).__name__)
    if not graph.is_homogeneous:
        hint = "Select one relation, graph[etype], or merge types: dgl.to_homogeneous keeps them as columns"
        raise ArgumentError("graph", "one node type and one edge type", f"{graph.canonical_etypes}", hint)
    source, target = graph.edges(order="eid")
    of_nodes, of_edges = dict(graph.ndata), dict(graph.edata)
    values = _take(of_edges, weight, "weight")
    if values is not None:
        if values.numel() != len(source):
            raise ArgumentError("weight", f"shape [{len(source)}]", f"shape {list(values.shape)}")
        values = values.detach().reshape(-1).clone()
        values = values if values.is_floating_point() else values.double()
    n = graph.num_nodes()
    adj = Adjacency.from_coo(
        target=target, source=source, weight=values, num_targets=n, num_sources=n, duplicates="keep"
    )
    assert adj.input_order is not None  # noqa: S101 - from_coo always sets it
    order = torch.argsort(adj.input_order)
    features, labels = _take(of_nodes, x, "x"), _take(of_nodes, y, "y")
    edge_attrs = {name: pick(column, order) for name, column in of_edges.items()}
    return Converted(Graph(adj), range(n), range(0), features, labels, of_nodes, {}, edge_attrs)


def to_dgl(graph: Graph | Converted, *, weight: str = "weight", x: str = "x", y: str = "y") -> Any:
    """The ``DGLGraph`` of a graph, edges in the order of ``graph.adj``.

    Args:
        graph: the graph.
        weight: the name for weights in ``edata``.
        x: the name for features in ``ndata``.
        y: the name for labels in ``ndata``.

    Raises:
        ArgumentError: ids or attributes of the whole structure, which DGL cannot hold, a column that is not a tensor,
            or a name that is used twice.
    """
    structure, c = prepare(graph, Graph, "DGL stores a hypergraph as its bipartite graph: hypergraph.star()")
    refuse(c, "a DGL graph", "node_ids", "hyperedge_attrs", "meta")
    nodes = _columns("node_attrs", c.node_attrs, {x: c.x, y: c.y})
    weights = structure.adj.weight
    edges = _columns("edge_attrs", c.edge_attrs, {weight: None if weights is None else weights.detach().clone()})
    source, target = structure.edge_index
    out = require("dgl", "").graph((source, target), num_nodes=structure.num_nodes)
    for name, column in nodes.items():
        out.ndata[name] = column
    for name, column in edges.items():
        out.edata[name] = column
    return out


def _take(columns: dict[str, Tensor], name: str | None, argument: str) -> Tensor | None:
    if name is None:
        return None
    if name not in columns:
        raise ArgumentError(argument, f"one of {sorted(columns)}", repr(name))
    return columns.pop(name)


def _columns(argument: str, given: Any, more: dict[str, Tensor | None]) -> dict[str, Tensor]:
    out = dict(given)
    for name, column in more.items():
        if column is not None and name in out:
            raise ArgumentError(name, "an unused name", "one in use", "Pass another name for it")
        if column is not None:
            out[name] = column
    for name, column in out.items():
        if not isinstance(column, Tensor):
            raise ArgumentError(f"{argument}[{name!r}]", "a tensor, as DGL only holds tensors", type(column).__name__)
    return out
