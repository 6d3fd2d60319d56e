"""XGI: its networks, in both directions, and its JSON files, via HIF."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hgraph.convert.columns import ABSENT, take, with_column
from hgraph.convert.converted import Converted, names, prepare, refuse, require
from hgraph.convert.hif import convert_document, from_hif, json_file, to_hif
from hgraph.errors import ArgumentError, DataError
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["from_xgi", "from_xgi_json", "is_xgi_json", "read_xgi", "to_xgi"]

_NETWORKS = {"hypergraph": "undirected", "dihypergraph": "directed", "simplicialcomplex": "asc"}


def from_xgi(
    network: Any,
    *,
    hyperedge_weight: str | None = None,
    node_weight: str | None = None,
    x: str | Sequence[str] | None = None,
    y: str | None = None,
) -> Converted:
    """Convert an XGI ``Hypergraph``, ``DiHypergraph`` or ``SimplicialComplex``, via its HIF document.

    Directions become the incidence attribute ``"direction"`` (see :func:`from_hif`). XGI's document lists isolated
    and annotated nodes first, so identify nodes by id, not by position.

    Args:
        network: the XGI network; ids are integers or strings.
        hyperedge_weight: the edge attribute for the weight, required on every edge, or None.
        node_weight: the node attribute for the weight, or None.
        x: the node attribute or attributes for the features.
        y: the node attribute for the label.

    Raises:
        DataError: ids that HIF does not support.
        ArgumentError: a named weight that is missing or not a number.
    """
    c = from_hif(require("xgi", "hif").to_hif_dict(network), x=x, y=y)
    nodes, edges = names(c)
    hyperedge_attrs, of_hyperedges = take(c.hyperedge_attrs, hyperedge_weight, "hyperedge_weight", edges)
    node_attrs, of_nodes = take(c.node_attrs, node_weight, "node_weight", nodes)
    hg = Hypergraph(c.structure.v2e, of_hyperedges, of_nodes)  # type: ignore[union-attr]
    return c._replace(structure=hg, node_attrs=node_attrs, hyperedge_attrs=hyperedge_attrs)


def to_xgi(
    hypergraph: Hypergraph | Converted,
    *,
    hyperedge_weight: str = "weight",
    node_weight: str = "weight",
    x: str = "x",
    y: str = "y",
) -> Any:
    """Convert a hypergraph to an XGI network, via HIF; ``meta["network-type"]`` selects its class.

    XGI completes a simplicial complex (``"asc"``) with all faces of its simplices.

    Args:
        hypergraph: the hypergraph; ids are integers or strings.
        hyperedge_weight: the edge attribute for hyperedge weights.
        node_weight: the node attribute for node weights.
        x: the node attribute for features, one list per node.
        y: the node attribute for labels.

    Raises:
        ArgumentError: incidence weights or attributes, which XGI cannot hold, or an incidence of a directed
            hypergraph without direction.
    """
    xgi = require("xgi", "hif")
    hg, c = prepare(hypergraph, Hypergraph)
    refuse(c, "an XGI network", "weight")
    directed = c.meta.get("network-type") == "directed"
    others = {name: column for name, column in c.edge_attrs.items() if not (directed and name == "direction")}
    refuse(c._replace(edge_attrs=others), "an XGI network", "edge_attrs")
    direction = c.edge_attrs.get("direction", [ABSENT] * hg.num_incidences)
    if directed and any(value is ABSENT for value in direction):
        raise ArgumentError("edge_attrs['direction']", "head or tail at every incidence", "a missing one")
    document = to_hif(
        c._replace(
            structure=Hypergraph(hg.v2e),
            node_attrs=with_column(c.node_attrs, node_weight, hg.node_weight),
            hyperedge_attrs=with_column(c.hyperedge_attrs, hyperedge_weight, hg.hyperedge_weight),
        ),
        x=x,
        y=y,
    )
    return xgi.from_hif_dict(document)


def read_xgi(
    path: str | os.PathLike[str], *, x: str | Sequence[str] | None = None, y: str | None = None, max_bytes: int = 2**30
) -> Converted:
    """Read a JSON file of XGI (``xgi.write_json``, XGI-DATA); XGI need not be installed.

    Use it for the hypergraphs of XGI-DATA; HIF files, which XGI also writes, are read by `read_hif`.

    Args:
        path: the file of one hypergraph, directed hypergraph or simplicial complex.
        x: the node attribute or attributes for the features.
        y: the node attribute for the label.
        max_bytes: larger files are rejected.

    Returns:
        As `from_hif`: ids are texts, and the attributes of the network are in ``meta``.

    Raises:
        DataError: no such file, too large, not JSON, or not of this form; the message names the file and the part.

    >>> import json, tempfile
    >>> from pathlib import Path
    >>> document = {"type": "hypergraph", "node-data": {"a": {"age": 3}}, "edge-dict": {"e": ["a", "b"]}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.json").write_text(json.dumps(document))
    ...     c = read_xgi(f"{folder}/a.json")
    >>> c.node_ids, c.hyperedge_ids, c.structure.to_lists()
    (['a', 'b'], ['e'], [[0, 1]])
    """
    return from_xgi_json(json_file(path, max_bytes), str(path), x=x, y=y)


def is_xgi_json(document: Any) -> bool:
    """Whether a JSON document has the form of XGI's files, and not of HIF."""
    return isinstance(document, dict) and "edge-dict" in document and "incidences" not in document


def from_xgi_json(document: Any, name: str, *, x: str | Sequence[str] | None = None, y: str | None = None) -> Converted:
    """Convert the document of a file that `read_xgi` reads."""
    if not is_xgi_json(document):
        hint = "read_hif reads HIF files" if isinstance(document, dict) and "incidences" in document else ""
        got = f"the keys {sorted(document)[:6]}" if isinstance(document, dict) else type(document).__name__
        raise DataError(
            f"{name}: expected a JSON object with an 'edge-dict', got {got}" + (f". {hint}" if hint else "")
        )
    parts = {part: _object_of(document, part, name) for part in ("hypergraph-data", "node-data", "edge-data")}
    edges_of = _object_of(document, "edge-dict", name)
    kind = _kind(document, edges_of, name)
    incidences: list[dict[str, Any]] = []
    for edge, members in edges_of.items():
        incidences += _incidences(edge, members, kind == "dihypergraph", name)
    metadata = {key: value for key, value in parts["hypergraph-data"].items() if key != "network-type"}
    nodes = [{"node": node, "attrs": own} for node, own in parts["node-data"].items()]
    attributes = {edge: parts["edge-data"].get(edge, {}) for edge in document["edge-dict"]}
    strange = sorted(parts["edge-data"].keys() - attributes.keys())
    if strange:
        raise DataError(f"{name}: edge-data: expected hyperedges of 'edge-dict', got {strange[0]!r}")
    edges = [{"edge": edge, "attrs": own} for edge, own in attributes.items()]
    hif = {"network-type": _NETWORKS[kind], "metadata": metadata, "incidences": incidences, "nodes": nodes}
    return convert_document(hif | {"edges": edges}, name, x, y)


def _kind(document: Mapping[str, Any], edges: Mapping[str, Any], name: str) -> str:
    """The kind of network that a file states, under either key; without one, the form of the hyperedges decides."""
    stated = {key: document[key] for key in ("type", "hypergraph-type") if key in document}
    kinds = {key: str(value).lower().replace("-", "").replace(" ", "") for key, value in stated.items()}
    for key, kind in kinds.items():
        if kind not in _NETWORKS:
            raise DataError(f"{name}: {key}: expected one of {', '.join(_NETWORKS)}, got {stated[key]!r:.60}")
    if len(set(kinds.values())) > 1:
        raise DataError(f"{name}: expected one kind of network, got {' and '.join(map(repr, stated.values()))}")
    if kinds:
        return next(iter(kinds.values()))
    two_sided = edges and all(isinstance(m, dict) or _is_pair_of_lists(m) for m in edges.values())
    return "dihypergraph" if two_sided else "hypergraph"


def _is_pair_of_lists(members: Any) -> bool:
    return isinstance(members, list) and len(members) == 2 and all(isinstance(side, list) for side in members)


def _object_of(document: Mapping[str, Any], part: str, name: str) -> dict[str, Any]:
    value = document.get(part, {})
    if not isinstance(value, dict):
        raise DataError(f"{name}: {part}: expected a JSON object, got {type(value).__name__}")
    if part.endswith("-data") and part != "hypergraph-data":
        for key, own in value.items():
            if not isinstance(own, dict):
                raise DataError(f"{name}: {part}: expected an object of attributes, got {own!r:.60} for {key!r}")
    return value


def _incidences(edge: str, members: Any, directed: bool, name: str) -> list[dict[str, Any]]:
    """The incidences of one hyperedge; members are texts, as the keys of the nodes in JSON are."""
    sides: dict[Any, Any] = {None: members}
    if directed:
        if not (isinstance(members, dict) or _is_pair_of_lists(members)):
            got = f"{members!r:.60}"
            raise DataError(f"{name}: edge-dict: expected [[tail nodes], [head nodes]] for {edge!r}, got {got}")
        sides = members if isinstance(members, dict) else dict(zip(("tail", "head"), members, strict=True))
    found = []
    for side, nodes in sides.items():
        scalar = (str, int)
        if not isinstance(nodes, list) or not all(isinstance(n, scalar) and not isinstance(n, bool) for n in nodes):
            got = f"{nodes!r:.60}"
            raise DataError(f"{name}: edge-dict: expected a list of nodes for {edge!r}, got {got}")
        if side not in (None, "tail", "head"):
            raise DataError(f"{name}: edge-dict: expected 'tail' and 'head' of {edge!r}, got {side!r}")
        direction: dict[str, str] = {} if side is None else {"direction": side}
        found += [{"edge": edge, "node": str(node), **direction} for node in nodes]
    return found
