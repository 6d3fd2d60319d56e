"""Files that hold a structure with attributes of its nodes: HIF, XGI's JSON, GraphML, GML."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hgraph.convert import ABSENT, Converted, read_gml, read_graphml
from hgraph.convert.hif import convert_document, json_file
from hgraph.convert.xgi import from_xgi_json, is_xgi_json
from hgraph.datasets.tables.incidence import Duplicates, Made, from_edges
from hgraph.datasets.tables.roles import Roles
from hgraph.datasets.tables.table import Table, read_table, wrong
from hgraph.errors import DataError
from hgraph.files import valid_path
from hgraph.structure import Hypergraph

__all__ = ["is_graph_file", "is_hif", "read", "read_graph_file"]


def is_hif(source: Any) -> bool:
    """Whether the argument ``hyperedges`` is a path to a JSON file."""
    return _suffix(source) == ".json"


def is_graph_file(source: Any) -> bool:
    """Whether the argument ``edges`` is a path to a GraphML or GML file."""
    return _suffix(source) in (".graphml", ".gml")


def _suffix(source: Any) -> str:
    return Path(source).suffix.lower() if isinstance(source, (str, os.PathLike)) else ""


def read(path: str | os.PathLike[str], decimal: str | None = None) -> tuple[Table, str, dict[str, int], Made]:
    """The table of node attributes, its id column, the map of id to node, and the hypergraph.

    Weights become float32. Attributes of hyperedges and incidences are dropped, except the direction of incidences.

    Raises:
        DataError: neither a HIF file nor one of XGI, or two nodes have the same id as text.
    """
    place = valid_path(path)
    document = json_file(place, 2**30)
    read_document = from_xgi_json if is_xgi_json(document) else convert_document
    converted = read_document(document, str(place), x=None, y=None)
    hg = converted.structure
    assert isinstance(hg, Hypergraph)  # noqa: S101 - these files contain only hypergraphs
    table, key, index = _nodes(converted, path, decimal)
    meta: dict[str, Any] = {"hyperedge_names": tuple(map(str, converted.hyperedge_ids or ()))}
    if "direction" in converted.edge_attrs:
        directions = converted.edge_attrs["direction"]
        meta["incidence_direction"] = tuple(None if d is ABSENT else str(d) for d in directions)
    weight = _float32(hg.v2e.weight, place, "incidences")
    structure = dataclasses.replace(
        hg,
        v2e=hg.v2e if weight is None else hg.v2e.with_weight(weight),
        hyperedge_weight=_float32(hg.hyperedge_weight, place, "edges"),
        node_weight=_float32(hg.node_weight, place, "nodes"),
    )
    unused = {*converted.hyperedge_attrs, *converted.edge_attrs} - {"direction"}
    return table, key, index, Made(structure, meta, tuple(sorted(map(str, unused))))


def read_graph_file(
    path: str | os.PathLike[str], directed: bool, duplicates: Duplicates, decimal: str | None = None
) -> tuple[Table, str, dict[str, int], Made]:
    """As `read`, for a GraphML or GML file: the edge attribute ``weight`` becomes the weight, if every edge has it.

    Edges of a directed file are followed in both directions unless ``directed``.
    """
    place = valid_path(path)
    converted = (read_gml if place.suffix.lower() == ".gml" else read_graphml)(place)
    adj = converted.structure.adj  # type: ignore[union-attr]
    table, key, index = _nodes(converted, path, decimal)
    attrs = converted.edge_attrs
    known = attrs.get("weight", [ABSENT])
    values = known.tolist() if hasattr(known, "tolist") else list(known)
    weighted = not any(v is ABSENT or isinstance(v, (str, bool)) for v in values)
    ids = list(index)
    columns: dict[str, Any] = {
        "source": [ids[i] for i in adj.indices.tolist()],
        "target": [ids[i] for i in adj.target.tolist()],
        **({"weight": values} if weighted else {}),
    }
    links = read_table(columns, name=str(path))
    made = from_edges(Roles(links, {}), index, str(path), directed, duplicates)
    unused = tuple(sorted(str(name) for name in attrs if name != "weight" or not weighted))
    return table, key, index, dataclasses.replace(made, unused=unused)


def _float32(weight: Tensor | None, place: Path, part: str) -> Tensor | None:
    if weight is not None and bool((weight.abs() > torch.finfo(torch.float32).max).any()):
        raise DataError(f"{place}: {part}: expected weights that float32 can hold, got {float(weight.abs().max()):g}")
    return None if weight is None else weight.float()


def _nodes(
    converted: Converted, path: str | os.PathLike[str], decimal: str | None
) -> tuple[Table, str, dict[str, int]]:
    """The attributes of the nodes as a table, its id column, and the map of id to node."""
    node_ids = converted.node_ids or []
    index = {str(name): i for i, name in enumerate(node_ids)}
    if len(index) < len(node_ids):
        twice = next(str(name) for i, name in enumerate(node_ids) if index[str(name)] != i)
        raise wrong(f"{path}", "node ids that differ as text", f"{twice!r} as a number and as a string")
    key = "id" if "id" not in converted.node_attrs else "id of the node"
    columns: dict[str, Any] = {key: list(index)}
    for name, values in converted.node_attrs.items():
        columns[name] = [None if v is ABSENT else v for v in (values.tolist() if hasattr(values, "tolist") else values)]
    return read_table(columns, name=str(path), decimal=decimal), key, index
