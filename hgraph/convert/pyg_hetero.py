"""PyTorch Geometric's ``HeteroData``: one node type and one edge type, or a bipartite pair as a hypergraph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hgraph.convert.converted import Converted, names, prepare, require
from hgraph.convert.pyg import _add, _copy, _node_columns, _num_nodes, _result, _weight
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["from_pyg_hetero", "to_pyg_hetero"]


def from_pyg_hetero(
    data: Any,
    *,
    nodes: str | None = None,
    weight: str | None = None,
    hyperedge_weight: str | None = None,
    node_weight: str | None = None,
) -> Converted:
    """Convert a PyG ``HeteroData`` to a single structure.

    One node type with one edge type is a `Graph`. Two node types with one edge type between them (and possibly its
    exact reverse) are a `Hypergraph`: one node type becomes the nodes, the other the hyperedges. More types
    raise an error, because no structure could keep them apart.

    Args:
        data: a ``torch_geometric.data.HeteroData``.
        nodes: the node type that becomes the nodes, if there are two; None takes the edge type's source.
        weight: the edge attribute for the weight of edges or incidences, or None.
        hyperedge_weight: the attribute of the hyperedge type for the hyperedge weight, or None.
        node_weight: the attribute of the node type for the node weight, or None.

    Returns:
        The structure with the attributes of each side as columns; ``meta`` holds graph attributes, the names
        ``"node_types"`` and ``"edge_type"``, and other attributes of a type under ``"type.name"``.

    Raises:
        ArgumentError: unsupported numbers of types, an unknown number of nodes, or an unknown weight.
    """
    pyg = require("torch_geometric.data", "pyg")
    if not isinstance(data, pyg.HeteroData):
        raise ArgumentTypeError("data", "a torch_geometric.data.HeteroData", type(data).__name__)
    edge_type = _one_edge_type(data)
    if edge_type[0] == edge_type[2]:
        refused = {"nodes": nodes, "hyperedge_weight": hyperedge_weight, "node_weight": node_weight}
        given = next((name for name, value in refused.items() if value is not None), None)
        if given is not None:
            raise ArgumentError(given, "None, as one node type makes a graph", repr(refused[given]))
    chosen = edge_type[0] if nodes is None else nodes
    if chosen not in (edge_type[0], edge_type[2]):
        raise ArgumentError("nodes", f"{edge_type[0]!r} or {edge_type[2]!r}", repr(nodes))
    other = edge_type[2] if chosen == edge_type[0] else edge_type[0]
    meta: dict[str, Any] = {"node_types": (chosen, other), "edge_type": edge_type}
    _extend(meta, {k: v for k, v in data.to_dict()["_global_store"].items() if v is not None})
    index = data[edge_type].edge_index
    n, m, e = _num_nodes(data[chosen]), _num_nodes(data[other]), index.shape[1]
    of_nodes = _columns(data, chosen, n, meta)
    of_edges = _columns(data, edge_type, e, meta)
    edge_weight = _weight(of_edges, weight, e, "weight")
    if chosen == other:
        graph = Graph.from_edge_index(index, num_nodes=n, directed=True, weight=edge_weight, duplicates="keep")
        return _result(graph, graph.adj, of_nodes, {}, of_edges, meta)
    of_hyperedges = _columns(data, other, m, meta)
    if "node_ids" in of_hyperedges:  # to_pyg_hetero names the ids of both types so
        of_hyperedges["hyperedge_ids"] = of_hyperedges.pop("node_ids")
    hg = Hypergraph.from_coo(
        node=index[0 if chosen == edge_type[0] else 1],
        hyperedge=index[1 if chosen == edge_type[0] else 0],
        num_nodes=n,
        num_hyperedges=m,
        weight=edge_weight,
        hyperedge_weight=_weight(of_hyperedges, hyperedge_weight, m, "hyperedge_weight"),
        node_weight=_weight(of_nodes, node_weight, n, "node_weight"),
        duplicates="keep",
    )
    return _result(hg, hg.v2e, of_nodes, of_hyperedges, of_edges, meta)


def to_pyg_hetero(
    hypergraph: Hypergraph | Converted,
    *,
    nodes: str = "node",
    hyperedges: str = "hyperedge",
    relation: str = "in",
    weight: str = "edge_weight",
    hyperedge_weight: str = "weight",
    node_weight: str = "weight",
) -> Any:
    """Convert a hypergraph to a bipartite PyG ``HeteroData``, with isolated nodes and empty hyperedges.

    Args:
        hypergraph: the hypergraph; for a graph use :func:`~hgraph.convert.to_pyg`.
        nodes: the name of the node type for nodes.
        hyperedges: the name of the node type for hyperedges.
        relation: the edge type is ``(nodes, relation, hyperedges)``; ``torch_geometric.transforms.ToUndirected``
            adds the reverse edges.
        weight: the edge attribute for incidence weights.
        hyperedge_weight: the attribute for hyperedge weights.
        node_weight: the attribute for node weights.

    Raises:
        ArgumentError: the same name for both types, or an attribute name that is used twice.
    """
    pyg = require("torch_geometric.data", "pyg")
    hg, c = prepare(hypergraph, Hypergraph, "Use to_pyg for a graph, to_pyg_triples for a knowledge graph")
    if nodes == hyperedges:
        raise ArgumentError("hyperedges", f"a name other than {nodes!r}", repr(hyperedges))
    out = pyg.HeteroData()
    edge_type = (nodes, relation, hyperedges)
    columns, others, edges = _node_columns(c), dict(c.hyperedge_attrs), dict(c.edge_attrs)
    if not isinstance(names(c)[1], range):
        _add(others, "node_ids", list(names(c)[1]))
    _add(columns, node_weight, _copy(hg.node_weight))
    _add(others, hyperedge_weight, _copy(hg.hyperedge_weight))
    _add(edges, weight, _copy(hg.v2e.weight))
    stores = ((nodes, columns, hg.num_nodes), (hyperedges, others, hg.num_hyperedges))
    for name, attrs, size in stores:
        _fill(out[name], attrs, "num_nodes")
        out[name].num_nodes = size
    out[edge_type].edge_index = torch.stack([hg.v2e.indices, hg.v2e.target]).long()
    _fill(out[edge_type], edges, "edge_index")
    for key, value in c.meta.items():
        if key in ("node_types", "edge_type"):  # describe the source document
            continue
        if not isinstance(key, str) or key in (nodes, hyperedges):
            raise ArgumentError("meta", "names that are strings and not node types", repr(key))
        out[key] = value
    return out


def _one_edge_type(data: Any) -> tuple[str, str, str]:
    """The edge type, or the first of two mutually reverse ones."""
    types, kinds = list(data.edge_types), list(data.node_types)
    reverse = len(types) == 2 and types[0][::2] == types[1][::-2] and types[0][0] != types[0][2]
    if reverse:
        there, back = data[types[0]].edge_index, data[types[1]].edge_index.flip(0)
        reverse = _same_edges(there, back) and set(data[types[1]].keys()) <= set(data[types[0]].keys())
    if (len(types) == 1 or reverse) and set(kinds) <= set(types[0][::2]):
        return types[0]
    hint = (
        "Select one edge type with data.edge_type_subgraph([...]) and data.node_type_subgraph([...]), or merge types: "
        "data.to_homogeneous() keeps them as the columns node_type and edge_type, and from_pyg reads that"
    )
    expected = "one edge type (and at most its exact reverse) over one or two node types"
    raise ArgumentError("data", expected, f"edge types {types} over node types {kinds}", hint)


def _same_edges(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    size = int(torch.stack([a, b]).max()) + 1 if a.numel() else 1
    return torch.equal((a[0] * size + a[1]).sort().values, (b[0] * size + b[1]).sort().values)


def _columns(data: Any, kind: Any, size: int, meta: dict[str, Any]) -> dict[str, Any]:
    """The columns of one type; other attributes go to ``meta``."""
    out: dict[str, Any] = {}
    for key, value in data[kind].to_dict().items():
        if key in ("edge_index", "num_nodes") or value is None:
            continue
        whole = isinstance(value, (str, Mapping)) or not hasattr(value, "__len__")
        whole = whole or (isinstance(value, Tensor) and value.dim() == 0)
        if whole or len(value) != size:
            name = kind if isinstance(kind, str) else "__".join(kind)
            _extend(meta, {f"{name}.{key}": value})
        else:
            out[key] = value
    return out


def _extend(meta: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        _add(meta, key, value)


def _fill(store: Any, attrs: Mapping[str, Any], reserved: str) -> None:
    from hgraph.convert.columns import ABSENT

    for key, value in attrs.items():
        if key == reserved:
            raise ArgumentError(key, "an unused attribute name", "one that PyG uses itself")
        if isinstance(value, (list, tuple)) and any(v is ABSENT for v in value):
            hint = "Fill it, or drop the column"
            raise ArgumentError(key, "a value everywhere, as PyG requires", "a missing one", hint)
        store[key] = value
