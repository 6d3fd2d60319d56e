"""PyTorch Geometric: ``Data``, ``HyperGraphData`` and ``HeteroData``, both ways.

Features, labels and columns are shared, not copied; edges are copied.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from hgraph.convert.columns import ABSENT, pick
from hgraph.convert.converted import Converted, names, prepare, refuse, require
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["from_pyg", "from_pyg_hypergraph", "to_pyg", "to_pyg_hypergraph"]

_LOG = logging.getLogger("hgraph")


def from_pyg(data: Any, *, weight: str | None = None, label_of: Literal["node", "graph"] | None = None) -> Converted:
    """A PyG ``Data``: ``edge_index = [source, target]``, edges exactly as listed, parallel ones kept.

    PyG lists an undirected edge in both directions, and so does a `Graph`.

    Args:
        data: a ``torch_geometric.data.Data``.
        weight: the edge attribute [E] or [E, 1] that is the weight, such as ``"edge_weight"``; None: unweighted.
        label_of: what ``y`` labels. None goes by its length, as PyG does; of a graph of one node, where that does not
            tell, it is the node, and that is logged. The label of a graph is ``meta["y"]``.

    Returns:
        The `Graph`; ``x`` and ``y``; what PyG takes for attributes of nodes and edges in ``node_attrs`` and
        ``edge_attrs`` (the latter in the order of ``structure.adj``), all else in ``meta``.

    Raises:
        ArgumentError: the number of nodes is not certain, indices out of range, or no such weight.
    """
    pyg = require("torch_geometric.data", "pyg")
    if not isinstance(data, pyg.Data) or isinstance(data, _hypergraph_class()):
        hint = "HyperGraphData has from_pyg_hypergraph, HeteroData from_pyg_hetero"
        raise ArgumentTypeError("data", "a torch_geometric.data.Data", type(data).__name__, hint)
    if data.edge_index is None and any(key in data for key in ("adj", "adj_t")):
        raise ArgumentError("data", "edge_index", "an adjacency matrix", "from_torch_sparse reads those")
    n = _num_nodes(data)
    index = torch.empty(2, 0, dtype=torch.long) if data.edge_index is None else data.edge_index
    of_nodes: dict[str, Any] = {}
    of_edges: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in data.to_dict().items():
        if key not in ("edge_index", "num_nodes") and value is not None:
            kind = of_nodes if data.is_node_attr(key) else of_edges if data.is_edge_attr(key) else rest
            kind[key] = value
    if label_of == "graph" or (n == 1 and label_of is None and "y" in of_nodes):
        if label_of is None:
            _LOG.warning("one label of a graph of one node: read as the node's; label_of= says whose it is")
        elif "y" in of_nodes:
            rest["y"] = of_nodes.pop("y")
    graph = Graph.from_edge_index(
        torch.as_tensor(index),
        num_nodes=n,
        directed=True,
        weight=_weight(of_edges, weight, index.shape[1], "weight"),
        duplicates="keep",
    )
    return _result(graph, graph.adj, of_nodes, {}, of_edges, rest)


def to_pyg(graph: Graph | Converted, *, weight: str = "edge_weight") -> Any:
    """The PyG ``Data`` of a graph, with ``num_nodes``, its columns as attributes and ids as lists.

    Args:
        graph: the graph.
        weight: the attribute that weights become.

    Raises:
        ArgumentError: an attribute that PyG would take for something else, that two things would be written to, or
            that some vertices or edges lack.
    """
    pyg = require("torch_geometric.data", "pyg")
    structure, c = prepare(graph, Graph, "A hypergraph goes through to_pyg_hypergraph")
    refuse(c, "a PyG Data", "hyperedge_attrs")
    out = pyg.Data(edge_index=structure.edge_index, num_nodes=structure.num_nodes)
    nodes, edges = _vertex_columns(c), dict(c.edge_attrs)
    _add(edges, weight, _copy(structure.adj.weight))
    _write(out, nodes, edges, c.meta)
    _as_intended([k for k in nodes if k in out], "nodes", out.is_node_attr)
    _as_intended([k for k in edges if k in out], "edges", out.is_edge_attr)
    _as_intended(list(c.meta), "whole graph", lambda key: not (out.is_node_attr(key) or out.is_edge_attr(key)))
    return out


# ---------------------------------------------------------------------- hypergraphs


def from_pyg_hypergraph(
    data: Any, *, weight: str | None = None, hyperedge_weight: str | None = None, node_weight: str | None = None
) -> Converted:
    """A PyG ``HyperGraphData``: ``edge_index = [vertex, hyperedge]``.

    Hyperedges are as many as ``edge_attr`` has rows, or else the largest index + 1, which is how PyG counts them.
    Attributes named ``incidence_...`` belong to incidences, ``edge_...`` and ``hyperedge_...`` to hyperedges; others
    with one value a vertex to vertices; the rest is ``meta``.

    Args:
        data: a ``torch_geometric.data.HyperGraphData``.
        weight: the attribute [E] that is the incidence weight, or None.
        hyperedge_weight: the attribute [M] that is the hyperedge weight, or None.
        node_weight: the attribute [N] that is the vertex weight, or None.

    Raises:
        ArgumentError: the number of vertices is not certain, a repeated incidence, or no such weight.
    """
    if not isinstance(data, _hypergraph_class()):
        raise ArgumentTypeError("data", "a torch_geometric.data.HyperGraphData", type(data).__name__)
    values = {key: value for key, value in data.to_dict().items() if value is not None}
    index = values.pop("edge_index", torch.empty(2, 0, dtype=torch.long))
    # Not data.num_nodes: where vertices and hyperedges are equally many, it counts the largest index + 1.
    n = values.pop("num_nodes", None)
    if n is None and not isinstance(values.get("x"), Tensor):
        raise ArgumentError("data", "num_nodes or x", "neither", "Isolated vertices are only known by their number")
    n = len(values["x"]) if n is None else int(n)
    m = int(index[1].max()) + 1 if index.numel() else 0
    m = max(m, *(len(values[k]) for k in ("edge_attr", "hyperedge_attr") if isinstance(values.get(k), Tensor)), 0)
    of_nodes, of_hyperedges, of_incidences, rest = _sorted_out(values, n, m, index.shape[1])
    hg = Hypergraph.from_coo(
        node=index[0],
        hyperedge=index[1],
        num_nodes=n,
        num_hyperedges=m,
        weight=_weight(of_incidences, weight, index.shape[1], "weight"),
        hyperedge_weight=_weight(of_hyperedges, hyperedge_weight, m, "hyperedge_weight"),
        node_weight=_weight(of_nodes, node_weight, n, "node_weight"),
    )
    return _result(hg, hg.v2e, of_nodes, of_hyperedges, of_incidences, rest)


def to_pyg_hypergraph(
    hypergraph: Hypergraph | Converted,
    *,
    weight: str = "incidence_weight",
    hyperedge_weight: str = "hyperedge_weight",
    node_weight: str = "node_weight",
) -> Any:
    """The PyG ``HyperGraphData`` of a hypergraph; hyperedge columns are named ``hyperedge_...`` or ``edge_...``.

    Args:
        hypergraph: the hypergraph.
        weight: the attribute that incidence weights become.
        hyperedge_weight: the attribute that hyperedge weights become.
        node_weight: the attribute that vertex weights become.

    Raises:
        ArgumentError: the last hyperedge is empty, which PyG does not count, or a column whose name does not say
            whose it is.
    """
    hg, c = prepare(hypergraph, Hypergraph, "A graph goes through to_pyg, a knowledge graph through to_pyg_triples")
    if hg.num_hyperedges and int(hg.v2e.indptr[-1] - hg.v2e.indptr[-2]) == 0:
        hint = "Drop it, put it before another, or use to_pyg_hetero, which counts both sides"
        raise ArgumentError("hypergraph", "members in the last hyperedge, as PyG counts up to it", "none", hint)
    index = torch.stack([hg.v2e.indices, hg.v2e.target]).long() if hg.num_incidences else None
    out = _hypergraph_class()(edge_index=index)
    out.num_nodes = hg.num_nodes
    nodes, hyperedges, incidences = _vertex_columns(c), dict(c.hyperedge_attrs), dict(c.edge_attrs)
    if not isinstance(names(c)[1], range):
        _add(hyperedges, "hyperedge_ids", list(names(c)[1]))
    _add(incidences, weight, _copy(hg.v2e.weight))
    _add(hyperedges, hyperedge_weight, _copy(hg.hyperedge_weight))
    _add(nodes, node_weight, _copy(hg.node_weight))
    _write(out, nodes, {**hyperedges, **incidences}, c.meta, len(hyperedges) + len(incidences))
    found = _sorted_out(
        {k: v for k, v in out.to_dict().items() if k not in ("edge_index", "num_nodes")},
        hg.num_nodes,
        hg.num_hyperedges,
        hg.num_incidences,
    )
    for kind, meant, seen in zip(
        ("vertices", "hyperedges", "incidences", "whole hypergraph"),
        (nodes, hyperedges, incidences, c.meta),
        found,
        strict=True,
    ):
        _as_intended([key for key in meant if key in out], kind, seen.__contains__)
    return out


# ---------------------------------------------------------------------- shared


def _hypergraph_class() -> Any:
    return require("torch_geometric.data.hypergraph_data", "pyg").HyperGraphData  # not handed on by its package


def _num_nodes(data: Any) -> int:
    """What PyG is certain of; where it would warn and guess from the largest index, we do not."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        n = data.num_nodes
    if said or n is None:
        hint = "Set data.num_nodes: isolated nodes are only known by their number"
        raise ArgumentError("data", "num_nodes, x or another attribute of every node", "none of them", hint)
    return int(n)


def _sorted_out(
    values: Mapping[str, Any], n: int, m: int, e: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Attributes of vertices, hyperedges, incidences and of the whole, by name and length."""
    out: tuple[dict[str, Any], ...] = ({}, {}, {}, {})
    for key, value in values.items():
        size = len(value) if hasattr(value, "__len__") and not isinstance(value, (str, Mapping)) else None
        size = None if isinstance(value, Tensor) and value.dim() == 0 else size
        if key.startswith("incidence_"):
            kind = 2 if size == e else 3
        elif key.startswith(("hyperedge_", "edge_")):
            kind = 1 if size == m else 3
        else:
            kind = 0 if size == n else 3
        out[kind][key] = value
    return out[0], out[1], out[2], out[3]


def _weight(attrs: dict[str, Any], name: str | None, size: int, argument: str) -> Tensor | None:
    """Take a column out of ``attrs`` as a copied float tensor [size]."""
    if name is None:
        return None
    value = attrs.pop(name, None)
    if not isinstance(value, Tensor) or value.numel() != size or value.is_complex():
        if value is None and size == 0:
            return torch.zeros(0)
        got = (
            "none"
            if value is None
            else f"shape {list(value.shape)}"
            if isinstance(value, Tensor)
            else type(value).__name__
        )
        raise ArgumentError(f"{argument}={name!r}", f"an attribute of that name and shape [{size}]", got)
    value = value.detach().reshape(size).clone()
    return value if value.is_floating_point() else value.double()


def _result(
    structure: Graph | Hypergraph,
    adj: Adjacency,
    of_nodes: dict[str, Any],
    of_hyperedges: dict[str, Any],
    of_edges: dict[str, Any],
    meta: dict[str, Any],
) -> Converted:
    n, m = adj.num_sources, 0 if isinstance(structure, Graph) else adj.num_targets
    x = of_nodes.pop("x") if isinstance(of_nodes.get("x"), Tensor) and of_nodes["x"].dim() == 2 else None
    y = of_nodes.pop("y") if isinstance(of_nodes.get("y"), Tensor) else None
    order = None if adj.input_order is None else torch.argsort(adj.input_order)
    return Converted(
        structure,
        of_nodes.pop("node_ids", range(n)),
        of_hyperedges.pop("hyperedge_ids", range(m)),
        x,
        y,
        of_nodes,
        of_hyperedges,
        {key: value if order is None else pick(value, order) for key, value in of_edges.items()},
        meta,
    )


def _vertex_columns(c: Converted) -> dict[str, Any]:
    out = dict(c.node_attrs)
    _add(out, "x", c.x)
    _add(out, "y", c.y)
    ids = names(c)[0]
    _add(out, "node_ids", None if isinstance(ids, range) else list(ids))
    return out


def _copy(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else weight.detach().clone()


def _add(attrs: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        return
    if name in attrs:
        raise ArgumentError(name, "an attribute name that is free", "one in use", "Pass another name for it")
    attrs[name] = value


def _write(out: Any, nodes: dict[str, Any], edges: dict[str, Any], meta: Mapping[str, Any], count: int = -1) -> None:
    """Set the attributes; each name once, none of them partly absent."""
    every = {**nodes, **edges, **meta}
    expected = len(nodes) + (len(edges) if count < 0 else count) + len(meta)
    if len(every) < expected or {"edge_index", "num_nodes"} & set(every):
        hint = "PyG has one name space for vertices, edges and the graph: rename the columns"
        raise ArgumentError("attributes", "names that differ", "one name for two things", hint)
    for key, value in every.items():
        if not isinstance(key, str):
            raise ArgumentError("meta", "names that are strings, as PyG's attributes have", repr(key))
        if isinstance(value, (list, tuple)) and any(v is ABSENT for v in value):
            hint = "Fill it, or drop the column"
            raise ArgumentError(key, "a value everywhere, as PyG's attributes have", "one that is absent", hint)
        if key in meta or isinstance(value, Tensor) or len(value):  # an empty list would look like a column of anything
            out[key] = value


def _as_intended(keys: Any, kind: str, seen: Callable[[str], bool]) -> None:
    """PyG tells attributes of nodes and edges apart by length and name; refuse what it would mix up."""
    for key in keys:
        if not seen(key):
            hint = "It goes by names ('edge' in it) and lengths: rename, reshape or drop it"
            raise ArgumentError(key, f"what PyG takes for an attribute of the {kind}", "something else", hint)
