"""PyTorch Geometric: ``Data``, ``HyperGraphData`` and ``HeteroData``, in both directions.

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
    """Convert a PyG ``Data``: ``edge_index = [source, target]``, edges exactly as listed, with parallel edges.

    PyG lists an undirected edge in both directions, and so does a `Graph`.

    Args:
        data: a ``torch_geometric.data.Data``.
        weight: the edge attribute [E] or [E, 1] for the weight, such as ``"edge_weight"``; None: unweighted.
        label_of: what ``y`` labels. None decides by its length, as PyG does; for a graph of one node, which is
            ambiguous, it is the node, and that is logged. The label of a graph is ``meta["y"]``.

    Returns:
        The `Graph`; ``x`` and ``y``; what PyG considers attributes of nodes and edges in ``node_attrs`` and
        ``edge_attrs`` (the latter in the order of ``structure.adj``), everything else in ``meta``.

    Raises:
        ArgumentError: unknown number of nodes, indices out of range, or an unknown weight.
    """
    pyg = require("torch_geometric.data", "pyg")
    if not isinstance(data, pyg.Data) or isinstance(data, _hypergraph_class()):
        hint = "Use from_pyg_hypergraph for HyperGraphData, from_pyg_hetero for HeteroData"
        raise ArgumentTypeError("data", "a torch_geometric.data.Data", type(data).__name__, hint)
    if data.edge_index is None and any(key in data for key in ("adj", "adj_t")):
        raise ArgumentError("data", "edge_index", "an adjacency matrix", "Use from_torch_sparse for it")
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
            _LOG.warning("a graph of one node with one label: treated as the node's; set label_of= to choose")
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
    """Convert a graph to PyG ``Data``, with ``num_nodes``, columns as attributes and ids as lists.

    Args:
        graph: the graph.
        weight: the attribute for weights.

    Raises:
        ArgumentError: an attribute that PyG would misinterpret, whose name is used twice, or
            that is missing on some nodes or edges.
    """
    pyg = require("torch_geometric.data", "pyg")
    structure, c = prepare(graph, Graph, "Use to_pyg_hypergraph for a hypergraph")
    refuse(c, "a PyG Data", "hyperedge_attrs")
    out = pyg.Data(edge_index=structure.edge_index, num_nodes=structure.num_nodes)
    nodes, edges = _node_columns(c), dict(c.edge_attrs)
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
    """Convert a PyG ``HyperGraphData``: ``edge_index = [node, hyperedge]``.

    The number of hyperedges is the number of rows of ``edge_attr``, or else the largest index + 1, as in PyG.
    Attributes named ``incidence_...`` belong to incidences, ``edge_...`` and ``hyperedge_...`` to hyperedges; others
    with one value per node to nodes; the rest is ``meta``.

    Args:
        data: a ``torch_geometric.data.HyperGraphData``.
        weight: the attribute [E] for the incidence weight, or None.
        hyperedge_weight: the attribute [M] for the hyperedge weight, or None.
        node_weight: the attribute [N] for the node weight, or None.

    Raises:
        ArgumentError: unknown number of nodes, a repeated incidence, or an unknown weight.
    """
    if not isinstance(data, _hypergraph_class()):
        raise ArgumentTypeError("data", "a torch_geometric.data.HyperGraphData", type(data).__name__)
    values = {key: value for key, value in data.to_dict().items() if value is not None}
    index = values.pop("edge_index", torch.empty(2, 0, dtype=torch.long))
    # Not data.num_nodes: with equal numbers of nodes and hyperedges it counts the largest index + 1.
    n = values.pop("num_nodes", None)
    if n is None and not isinstance(values.get("x"), Tensor):
        raise ArgumentError("data", "num_nodes or x", "neither", "Isolated nodes need an explicit num_nodes")
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
    """Convert a hypergraph to PyG ``HyperGraphData``; hyperedge columns are named ``hyperedge_...`` or ``edge_...``.

    Args:
        hypergraph: the hypergraph.
        weight: the attribute for incidence weights.
        hyperedge_weight: the attribute for hyperedge weights.
        node_weight: the attribute for node weights.

    Raises:
        ArgumentError: the last hyperedge is empty, which PyG does not count, or a column with an ambiguous
            name.
    """
    hg, c = prepare(hypergraph, Hypergraph, "Use to_pyg for a graph, to_pyg_triples for a knowledge graph")
    if hg.num_hyperedges and int(hg.v2e.indptr[-1] - hg.v2e.indptr[-2]) == 0:
        hint = "Drop it, reorder the hyperedges, or use to_pyg_hetero, which counts both sides"
        raise ArgumentError("hypergraph", "members in the last hyperedge, as PyG infers the count", "none", hint)
    index = torch.stack([hg.v2e.indices, hg.v2e.target]).long() if hg.num_incidences else None
    out = _hypergraph_class()(edge_index=index)
    out.num_nodes = hg.num_nodes
    nodes, hyperedges, incidences = _node_columns(c), dict(c.hyperedge_attrs), dict(c.edge_attrs)
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
        ("nodes", "hyperedges", "incidences", "whole hypergraph"),
        (nodes, hyperedges, incidences, c.meta),
        found,
        strict=True,
    ):
        _as_intended([key for key in meant if key in out], kind, seen.__contains__)
    return out


# ---------------------------------------------------------------------- shared


def _hypergraph_class() -> Any:
    return require("torch_geometric.data.hypergraph_data", "pyg").HyperGraphData  # not exported by its package


def _num_nodes(data: Any) -> int:
    """The number of nodes, if PyG knows it; raises where PyG would warn and infer it from the largest index."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        n = data.num_nodes
    if said or n is None:
        hint = "Set data.num_nodes: isolated nodes need an explicit count"
        raise ArgumentError("data", "num_nodes, x or another attribute of every node", "none of them", hint)
    return int(n)


def _sorted_out(
    values: Mapping[str, Any], n: int, m: int, e: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Attributes of nodes, hyperedges, incidences and of the whole, by name and length."""
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
    """Remove a column from ``attrs`` and return it as a copied float tensor [size]."""
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


def _node_columns(c: Converted) -> dict[str, Any]:
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
        raise ArgumentError(name, "an unused attribute name", "one in use", "Pass another name for it")
    attrs[name] = value


def _write(out: Any, nodes: dict[str, Any], edges: dict[str, Any], meta: Mapping[str, Any], count: int = -1) -> None:
    """Set the attributes; names must be distinct and values complete."""
    every = {**nodes, **edges, **meta}
    expected = len(nodes) + (len(edges) if count < 0 else count) + len(meta)
    if len(every) < expected or {"edge_index", "num_nodes"} & set(every):
        hint = "PyG has one name space for nodes, edges and the graph: rename the columns"
        raise ArgumentError("attributes", "distinct names", "one name for two attributes", hint)
    for key, value in every.items():
        if not isinstance(key, str):
            raise ArgumentError("meta", "names that are strings, as PyG requires", repr(key))
        if isinstance(value, (list, tuple)) and any(v is ABSENT for v in value):
            hint = "Fill it, or drop the column"
            raise ArgumentError(key, "a value everywhere, as PyG requires", "a missing one", hint)
        if key in meta or isinstance(value, Tensor) or len(value):  # an empty list would be ambiguous
            out[key] = value


def _as_intended(keys: Any, kind: str, seen: Callable[[str], bool]) -> None:
    """PyG distinguishes attributes of nodes and edges by length and name; reject what it would confuse."""
    for key in keys:
        if not seen(key):
            hint = "PyG assigns attributes by length and by 'edge' in the name: rename, reshape or drop it"
            raise ArgumentError(
                key, f"an attribute that PyG assigns to the {kind}", "one that it assigns elsewhere", hint
            )
