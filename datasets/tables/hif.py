"""Reads HIF files: the structure, and the attributes of its nodes as a table."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from hgraph.convert import ABSENT, read_hif
from hgraph.datasets.tables.incidence import Made
from hgraph.datasets.tables.table import Table, read_table, wrong
from hgraph.structure import Hypergraph

__all__ = ["is_hif", "read"]


def is_hif(source: Any) -> bool:
    """Whether the argument ``hyperedges`` is a path to a JSON file."""
    return isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".json"


def read(path: str | os.PathLike[str]) -> tuple[Table, str, dict[str, int], Made]:
    """The table of node attributes, its id column, the map of id to node, and the hypergraph.

    Weights become float32. Attributes of hyperedges and incidences are dropped, except the direction of incidences.

    Raises:
        DataError: not a HIF file, or two nodes have the same id as text.
    """
    converted = read_hif(Path(path).expanduser())
    hg = converted.structure
    assert isinstance(hg, Hypergraph)  # noqa: S101 - HIF files contain only hypergraphs
    node_ids = converted.node_ids or []
    index = {str(name): i for i, name in enumerate(node_ids)}
    if len(index) < len(node_ids):
        twice = next(str(name) for i, name in enumerate(node_ids) if index[str(name)] != i)
        raise wrong(f"{path}", "node ids that differ as text", f"{twice!r} as a number and as a string")
    key = "id" if "id" not in converted.node_attrs else "id of the node"
    columns: dict[str, Any] = {key: list(index)}
    for name, values in converted.node_attrs.items():
        columns[name] = [None if v is ABSENT else v for v in (values.tolist() if hasattr(values, "tolist") else values)]
    meta: dict[str, Any] = {"hyperedge_names": tuple(map(str, converted.hyperedge_ids or ()))}
    if "direction" in converted.edge_attrs:
        directions = converted.edge_attrs["direction"]
        meta["incidence_direction"] = tuple(None if d is ABSENT else str(d) for d in directions)
    weight = hg.v2e.weight
    structure = dataclasses.replace(
        hg,
        v2e=hg.v2e if weight is None else hg.v2e.with_weight(weight.float()),
        hyperedge_weight=None if hg.hyperedge_weight is None else hg.hyperedge_weight.float(),
        node_weight=None if hg.node_weight is None else hg.node_weight.float(),
    )
    unused = {*converted.hyperedge_attrs, *converted.edge_attrs} - {"direction"}
    return read_table(columns, name=str(path)), key, index, Made(structure, meta, tuple(sorted(map(str, unused))))
