"""DHG (DeepHypergraph): ``Graph``, ``DiGraph`` and ``Hypergraph``, in both directions.

DHG stores neither names nor features, merges repeated edges and hyperedges, and requires at least one node; anything
it cannot hold raises an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hgraph.convert.converted import Converted, prepare, refuse, require
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["from_dhg", "to_dhg_digraph", "to_dhg_graph", "to_dhg_hypergraph"]

_BESIDE = ("node_ids", "hyperedge_ids", "x", "y", "node_attrs", "edge_attrs", "meta")


def from_dhg(structure: Any, *, weighted: bool = True, node_weighted: bool = False) -> Converted:
    """Convert a DHG ``Graph``, ``DiGraph`` or ``Hypergraph``; nodes keep their ids.

    An undirected edge is stored in both directions, a self-loop once. Hyperedges keep their order, group by group;
    groups other than ``"main"`` give the hyperedge attribute ``"group"``.

    Args:
        structure: the DHG structure.
        weighted: whether to use the weights of edges or hyperedges (float64); False requires them to be 1.
        node_weighted: whether to use a hypergraph's node weights; False requires them to be 1.

    Raises:
        ArgumentError: weights other than 1 that were not requested.
    """
    dhg = require("dhg", "dhg")
    if isinstance(structure, dhg.Hypergraph):
        return _hypergraph(structure, weighted, node_weighted)
    if not isinstance(structure, (dhg.Graph, dhg.DiGraph)):
        hint = "Convert a BiGraph with dhg.Hypergraph.from_bigraph first"
        raise ArgumentTypeError("structure", "a DHG Graph, DiGraph or Hypergraph", type(structure).__name__, hint)
    ends, weight = structure.e
    pairs = torch.tensor([tuple(e) for e in ends], dtype=torch.long).reshape(-1, 2)
    values = _weights("weighted", weight, weighted)
    if isinstance(structure, dhg.Graph):
        back = pairs[:, 0] != pairs[:, 1]
        pairs = torch.cat([pairs, pairs[back].flip(1)])
        values = None if values is None else torch.cat([values, values[back]])
    n = structure.num_v
    adj = Adjacency.from_coo(
        target=pairs[:, 1],
        source=pairs[:, 0],
        weight=values,
        num_targets=n,
        num_sources=n,
        duplicates="keep",  # DHG counts an explicit self-loop and an added one twice
    )
    return Converted(Graph(adj), range(n), range(0))


def to_dhg_graph(graph: Graph | Converted) -> Any:
    """Convert to an undirected ``dhg.Graph``.

    Raises:
        ArgumentError: an edge without a reverse of equal weight, parallel edges, no nodes, or data besides the
            structure (ids, features, labels).
    """
    adj = _adjacency(graph)
    if not adj.equal(adj.transpose()):
        hint = "Use to_dhg_digraph for directed edges"
        raise ArgumentError("graph", "equal edges in both directions", "a directed graph", hint)
    once = adj.indices <= adj.target
    weight = None if adj.weight is None else adj.weight[once].tolist()
    return require("dhg", "dhg").Graph(adj.num_sources, _pairs(adj, once), weight)


def to_dhg_digraph(graph: Graph | Converted) -> Any:
    """Convert to a directed ``dhg.DiGraph``, edges from source to target.

    Raises:
        ArgumentError: parallel edges, no nodes, or data besides the structure (ids, features, labels).
    """
    adj = _adjacency(graph)
    weight = None if adj.weight is None else adj.weight.tolist()
    return require("dhg", "dhg").DiGraph(adj.num_sources, _pairs(adj, slice(None)), weight)


def to_dhg_hypergraph(hypergraph: Hypergraph | Converted) -> Any:
    """Convert to a ``dhg.Hypergraph``; the hyperedge attribute ``"group"``, if present, names the groups.

    Raises:
        ArgumentError: empty hyperedges, two with the same members in one group, incidence weights, no nodes,
            hyperedges of a group that are not consecutive, anything other than the structure.
    """
    dhg = require("dhg", "dhg")
    hg, c = prepare(hypergraph, Hypergraph, "Use to_dhg_graph or to_dhg_digraph for a graph")
    refuse(c, "a DHG hypergraph", "weight", *_BESIDE)
    _some(hg.num_nodes)
    other = next((name for name in c.hyperedge_attrs if name != "group"), None)
    if other is not None:
        raise ArgumentError(f"hyperedge_attrs[{other!r}]", "no attribute but 'group'", "one that DHG cannot hold")
    members = [tuple(e) for e in hg.to_lists()]
    groups = list(c.hyperedge_attrs.get("group", ["main"] * len(members)))
    _check_hyperedges(members, groups)
    weight = [1.0] * len(members) if hg.hyperedge_weight is None else hg.hyperedge_weight.tolist()
    node_weight = None if hg.node_weight is None else hg.node_weight.tolist()
    out = dhg.Hypergraph(hg.num_nodes, v_weight=node_weight)
    for group in dict.fromkeys(groups):
        own = [i for i, name in enumerate(groups) if name == group]
        out.add_hyperedges([members[i] for i in own], [weight[i] for i in own], group_name=group)
    return out


def _hypergraph(structure: Any, weighted: bool, node_weighted: bool) -> Converted:
    members: list[Sequence[int]] = []
    weight: list[float] = []
    groups: list[str] = []
    for group in structure.group_names:
        hyperedges, values = structure.e_of_group(group)
        members.extend(hyperedges)
        weight.extend(float(w) for w in values)
        groups.extend([group] * len(hyperedges))
    hg = Hypergraph.from_lists(
        members,
        num_nodes=structure.num_v,
        hyperedge_weight=_weights("weighted", weight, weighted),
        node_weight=_weights("node_weighted", structure.v_weight, node_weighted),
    )
    attrs = {"group": groups} if set(groups) - {"main"} else {}
    return Converted(hg, range(hg.num_nodes), range(hg.num_hyperedges), hyperedge_attrs=attrs)


def _weights(argument: str, values: Sequence[float], wanted: bool) -> Tensor | None:
    if wanted:
        return torch.tensor([float(v) for v in values], dtype=torch.float64)
    other = next((v for v in values if v != 1), None)
    if other is not None:
        raise ArgumentError(argument, "True for weights other than 1", f"False and a weight {other}")
    return None


def _adjacency(graph: Graph | Converted) -> Adjacency:
    structure, c = prepare(graph, Graph, "Use to_dhg_hypergraph for a hypergraph")
    refuse(c, "a DHG graph", *_BESIDE, "hyperedge_attrs")
    adj = structure.adj
    _some(adj.num_sources)
    same = (adj.indices[1:] == adj.indices[:-1]) & (adj.target[1:] == adj.target[:-1])
    if bool(same.any()):
        hint = "Build the graph with duplicates='sum'"
        raise ArgumentError("graph", "no parallel edges, which DHG would merge", "some", hint)
    return adj


def _pairs(adj: Adjacency, chosen: Any) -> list[tuple[int, int]]:
    return list(zip(adj.indices[chosen].tolist(), adj.target[chosen].tolist(), strict=True))


def _some(n: int) -> None:
    if n == 0:
        raise ArgumentError("structure", "at least one node, as DHG requires", "none")


def _check_hyperedges(members: list[tuple[int, ...]], groups: list[Any]) -> None:
    seen: dict[tuple[Any, ...], int] = {}
    for i, (hyperedge, group) in enumerate(zip(members, groups, strict=True)):
        if not isinstance(group, str):
            raise ArgumentError("hyperedge_attrs['group']", "group names", f"{group!r} at hyperedge {i}")
        if not hyperedge:
            hint = "Drop empty hyperedges first"
            raise ArgumentError("hypergraph", "members in every hyperedge", f"none in hyperedge {i}", hint)
        first = seen.setdefault((group, hyperedge), i)
        if first != i:
            hint = "DHG would merge them: keep one with the weights added up, or put them into groups"
            raise ArgumentError("hypergraph", "distinct hyperedges", f"{first} and {i} with the same members", hint)
    if len([i for i, group in enumerate(groups) if i == 0 or group != groups[i - 1]]) > len(set(groups)):
        raise ArgumentError("hyperedge_attrs['group']", "consecutive hyperedges per group", "interleaved groups")
