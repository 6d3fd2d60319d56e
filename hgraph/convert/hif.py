"""HIF, the Hypergraph Interchange Format: a JSON format of several hypergraph libraries, read and written.

The standard: https://github.com/HIF-org/HIF-standard. Every document is checked against ``hif_schema.json`` next to
this file, then for repeated nodes, edges and incidences.
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hgraph.convert.columns import ABSENT, columns, node_columns, pick, records, short, with_column
from hgraph.convert.converted import Converted, names, prepare
from hgraph.convert.schema import check_hif
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError
from hgraph.files import write_atomically
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["from_hif", "read_hif", "to_hif", "write_hif"]

_TYPE = "network-type"


def read_hif(
    path: str | os.PathLike[str], *, x: str | Sequence[str] | None = None, y: str | None = None, max_bytes: int = 2**30
) -> Converted:
    """Read a HIF file; arguments and result as in :func:`from_hif`.

    Args:
        path: a JSON file.
        x: the node attribute or attributes for the features.
        y: the node attribute for the label.
        max_bytes: larger files are rejected; reading takes about ten times the file size in memory.

    Raises:
        DataError: no such file, too large, not JSON (no NaN, no repeated names), or not a HIF document; the
            message names the file and the position.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(f"{folder}/a", b'{"incidences": [{"edge": "e", "node": 7}, {"edge": "e", "node": 8}]}')
    ...     read_hif(f"{folder}/a").node_ids
    [7, 8]
    """
    return convert_document(json_file(path, max_bytes), str(path), x, y)


def from_hif(document: Mapping[str, Any], *, x: str | Sequence[str] | None = None, y: str | None = None) -> Converted:
    """Convert a HIF document to a hypergraph.

    Nodes and edges are in the order of the lists ``"nodes"`` and ``"edges"``; those named only in incidences follow in
    the order of their first incidence. The integer 1 and the string "1" are different ids. If some records of a type
    have a weight, the others get weight 1; if none has, the result is unweighted. Weights are float64.

    A directed hypergraph stores the directions ``"head"`` and ``"tail"`` as the incidence attribute
    ``"direction"``: message passing ignores them. A node that is head and tail of one edge is
    a member twice.

    Args:
        document: the JSON document, as dictionaries and lists.
        x: the node attribute or attributes (inside ``attrs``) for the features [N, F]: numbers, or lists of
            numbers of equal length. float64.
        y: the node attribute for the label: integers become int64, other numbers float64.

    Returns:
        The `Hypergraph`, ids, attributes as columns, and in ``meta`` the metadata with the document's
        ``"network-type"``, if it has one.

    Raises:
        DataError: a violation of the standard; the message names the position, such as ``incidences[3].weight``.

    >>> c = from_hif({"incidences": [{"edge": "e", "node": 7}, {"edge": "e", "node": 8}], "nodes": [{"node": 9}]})
    >>> c.structure.to_lists(), c.node_ids, c.hyperedge_ids
    ([[1, 2]], [9, 7, 8], ['e'])
    """
    if not isinstance(document, Mapping):
        raise ArgumentTypeError("document", "a HIF document, as a dictionary", type(document).__name__, "See read_hif")
    return convert_document(document, "document", x, y)


def to_hif(hypergraph: Hypergraph | Converted, *, x: str = "x", y: str = "y") -> dict[str, Any]:
    """Convert a hypergraph to a HIF document; :func:`from_hif` restores the same hypergraph.

    Args:
        hypergraph: the hypergraph; ids are integers or strings. ``meta["network-type"]`` becomes the network type
            (default ``"undirected"``), the rest of ``meta`` the metadata.
        x: the node attribute for features, one list per node.
        y: the node attribute for labels.

    Raises:
        ArgumentError: ids that are neither integers nor strings, weights that are not finite, repeated incidences, or
            an attribute name that is used twice.

    >>> to_hif(Hypergraph.from_lists([[1]], num_nodes=2))["incidences"]
    [{'edge': 0, 'node': 1}]
    """
    hint = "HIF holds hypergraphs: convert a graph with Hypergraph.from_lists, which drops edge directions"
    hg, c = prepare(hypergraph, Hypergraph, hint)
    nodes, edges = (_json_ids(kind, ids) for kind, ids in zip(("node_ids", "hyperedge_ids"), names(c), strict=True))
    metadata = dict(c.meta)
    network = metadata.pop(_TYPE, "undirected")
    attrs = with_column(with_column(c.node_attrs, x, c.x), y, c.y)
    out: dict[str, Any] = {_TYPE: network, "metadata": metadata}
    target, source = hg.v2e.target.tolist(), hg.v2e.indices.tolist()
    rows: list[dict[str, Any]] = [{"edge": edges[t], "node": nodes[s]} for t, s in zip(target, source, strict=True)]
    own = dict(c.edge_attrs)
    direction = own.pop("direction", None) if network == "directed" else None
    for row, value in zip(rows, direction if direction is not None else (), strict=direction is not None):
        if value is not ABSENT:
            row["direction"] = value
    _fill(rows, own, hg.v2e.weight)
    out["incidences"] = rows
    out["nodes"] = _fill([{"node": i} for i in nodes], attrs, hg.node_weight)
    out["edges"] = _fill([{"edge": i} for i in edges], c.hyperedge_attrs, hg.hyperedge_weight)
    try:
        check_hif(out, "hypergraph")
        _once(rows, "hypergraph")
    except DataError as error:
        raise ArgumentError("hypergraph", "a hypergraph that HIF supports", f"another ({error})") from None
    return out


def write_hif(hypergraph: Hypergraph | Converted, path: str | os.PathLike[str], *, x: str = "x", y: str = "y") -> None:
    """Write a hypergraph as a HIF file, atomically; arguments as in :func:`to_hif`.

    Raises:
        ArgumentError: as in :func:`to_hif`, or an attribute that JSON cannot represent; then nothing is written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_hif(Hypergraph.from_lists([[0, 1]], num_nodes=3), f"{folder}/hypergraph.json")
    ...     read_hif(f"{folder}/hypergraph.json").structure.to_lists()
    [[0, 1]]
    """
    document = to_hif(hypergraph, x=x, y=y)
    try:
        text = json.dumps(document, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ArgumentError("hypergraph", "attributes that JSON supports", _first_foreign(document)) from None
    write_atomically(path, text.encode("ascii"))


# ---------------------------------------------------------------------- in


def json_file(path: str | os.PathLike[str], max_bytes: int) -> Any:
    """The content of a JSON file, without NaN and repeated names."""
    try:
        with open(os.path.expanduser(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(min(size, max_bytes) + 1)  # read(max_bytes) would reserve that much memory
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise DataError(f"{path}: cannot be read ({error})") from error
    if len(content) > max_bytes:
        raise DataError(f"{path}: larger than {max_bytes} bytes. Pass a larger max_bytes if you trust the file")
    try:
        document = json.loads(content, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise DataError(f"{path}: nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"an object has the name {short(twice)} twice")
    return out


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def convert_document(document: Any, name: str, x: str | Sequence[str] | None, y: str | None) -> Converted:
    """Convert a document whose errors begin with ``name``."""
    check_hif(document, name)
    rows = document["incidences"]
    network = document.get(_TYPE)
    meta = dict(document.get("metadata", {}))
    if _TYPE in meta:
        raise DataError(f"{name}: metadata: expected no {_TYPE!r}, which belongs at the top level, got it in metadata")
    if network is not None:
        meta[_TYPE] = network
    at = next((i for i, row in enumerate(rows) if "direction" in row), None)
    if at is not None and network in ("undirected", "asc"):
        raise DataError(f"{name}: incidences[{at}].direction: expected none, as the network is {network}, got one")
    if at is not None:
        meta[_TYPE] = "directed"
    _once(rows, name)
    node_ids, node_rows = _listed(document.get("nodes", ()), rows, "node", name)
    edge_ids, edge_rows = _listed(document.get("edges", ()), rows, "edge", name)
    node_of, edge_of = ({i: k for k, i in enumerate(ids)} for ids in (node_ids, edge_ids))
    hg = Hypergraph.from_coo(
        node=[node_of[_id(row["node"])] for row in rows],
        hyperedge=[edge_of[_id(row["edge"])] for row in rows],
        num_nodes=len(node_ids),
        num_hyperedges=len(edge_ids),
        weight=_weight(rows),
        hyperedge_weight=_weight(edge_rows),
        node_weight=_weight(node_rows),
        duplicates="keep",  # in a directed edge a node may be head and tail; _once rejected other repeats
    )
    order = hg.v2e.input_order
    assert order is not None  # noqa: S101 - from_coo always sets it
    try:
        edge_attrs = columns([row.get("attrs", {}) for row in rows])
        hyperedge_attrs = columns([row.get("attrs", {}) for row in edge_rows])
        node_attrs, features, labels = node_columns([row.get("attrs", {}) for row in node_rows], node_ids, x, y)
    except ArgumentError as error:
        raise DataError(f"{name}: {error}") from error
    if at is not None:
        if "direction" in edge_attrs:
            raise DataError(f"{name}: incidences: expected no attribute 'direction' beside directions, got one")
        edge_attrs["direction"] = [row.get("direction", ABSENT) for row in rows]
    back = torch.argsort(order)
    edge_attrs = {key: pick(column, back) for key, column in edge_attrs.items()}
    return Converted(hg, node_ids, edge_ids, features, labels, node_attrs, hyperedge_attrs, edge_attrs, meta)


def _id(given: Any) -> str | int:
    return given if isinstance(given, str) else int(given)  # 1.0 is the integer 1 in JSON


def _once(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    seen: set[tuple[Any, ...]] = set()
    for i, row in enumerate(rows):
        key = (_id(row["edge"]), _id(row["node"]), row.get("direction"))
        if key in seen:
            got = f"edge {short(row['edge'])}, node {short(row['node'])} again"
            raise DataError(f"{name}: incidences[{i}]: expected each incidence once, got {got}")
        seen.add(key)


def _listed(
    given: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], kind: str, name: str
) -> tuple[list[Hashable], list[Mapping[str, Any]]]:
    """(ids, records) of the listed nodes or edges, then of those named only in incidences."""
    found: dict[Hashable, Mapping[str, Any]] = {}
    for i, record in enumerate(given):
        key = _id(record[kind])
        if key in found:
            raise DataError(f"{name}: {kind}s[{i}].{kind}: expected each {kind} once, got {short(key)} again")
        found[key] = record
    for row in rows:
        found.setdefault(_id(row[kind]), {})
    return list(found), list(found.values())


def _weight(rows: Sequence[Mapping[str, Any]]) -> Tensor | None:
    if not any("weight" in row for row in rows):
        return None
    return torch.tensor([float(row.get("weight", 1.0)) for row in rows], dtype=torch.float64)


# ---------------------------------------------------------------------- out


def _json_ids(name: str, ids: Sequence[Hashable]) -> list[str | int]:
    from numbers import Integral

    for i in ids:
        if isinstance(i, bool) or not isinstance(i, (str, Integral)):
            raise ArgumentError(name, "strings or integers, as HIF requires", short(i), "Map them to strings first")
    return [str(i) if isinstance(i, str) else int(i) for i in ids]  # type: ignore[call-overload]


def _fill(rows: list[dict[str, Any]], attrs: Mapping[str, Any], weight: Tensor | None) -> list[dict[str, Any]]:
    """Add weights and attributes to the records."""
    if weight is not None:
        for row, value in zip(rows, weight.tolist(), strict=True):
            row["weight"] = value
    for row, own in zip(rows, records(attrs, len(rows)), strict=True):
        if own:
            row["attrs"] = own
    return rows


def _first_foreign(document: Mapping[str, Any]) -> str:
    for part, value in document.items():
        for i, record in enumerate(value if isinstance(value, list) else [value]):
            try:
                json.dumps(record, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                return f"another one in {part}" + (f"[{i}]" if isinstance(value, list) else "") + f" ({error})"
    return "another one"
