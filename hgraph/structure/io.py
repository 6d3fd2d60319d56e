"""Structures on disk: safetensors with a JSON header, written atomically, checked when read."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from pathlib import Path
from typing import Any

from torch import Tensor

from hgraph.errors import ArgumentTypeError, DataError
from hgraph.structure import _coo
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.base import Structure
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph
from hgraph.structure.soft import SoftAdjacency

__all__ = ["load", "save", "write_atomically"]

_VERSION = 1


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that, killed at any moment, either the old or the whole new content is there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save(structure: Structure, path: str | os.PathLike[str]) -> None:
    """Write a structure to one safetensors file (see `Structure.save`)."""
    from safetensors.torch import save as to_bytes

    tensors, sizes = _parts(structure)
    header = {"hgraph": json.dumps({"type": type(structure).__name__, "version": _VERSION, **sizes})}
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomically(path, to_bytes(tensors, metadata=header))


def load(path: str | os.PathLike[str]) -> Structure:
    """Read a structure that :meth:`Structure.save` wrote; nothing in the file is executed or trusted.

    Raises:
        DataError: not such a file, or one whose content contradicts itself.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("hgraph", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (SafetensorError, ValueError, OSError) as error:
        raise DataError(f"{path}: not a whole safetensors file ({error})") from error
    if not isinstance(header, dict) or header.get("version") != _VERSION:
        raise DataError(f"{path}: not a structure saved by this version of hgraph (header {header!r})")
    try:
        return _rebuild(header, tensors)
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error})") from error


def _parts(structure: Structure) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if isinstance(structure, SoftAdjacency):
        return {"weight": structure.weight}, {}
    if isinstance(structure, Graph):
        return _parts(structure.adj)
    if isinstance(structure, Hypergraph):
        tensors, sizes = _parts(structure.v2e)
        named = {"hyperedge_weight": structure.hyperedge_weight, "vertex_weight": structure.vertex_weight}
        return tensors | {k: v for k, v in named.items() if v is not None}, sizes
    if isinstance(structure, Adjacency):
        named = {"target": structure.target, "source": structure.indices, "weight": structure.weight}
        named["input_order"] = structure.input_order
        sizes = {"num_targets": structure.num_targets, "num_sources": structure.num_sources}
        return {k: v for k, v in named.items() if v is not None}, sizes
    raise ArgumentTypeError("structure", "an Adjacency, Graph, Hypergraph or SoftAdjacency", type(structure).__name__)


def _rebuild(header: dict[str, Any], tensors: dict[str, Tensor]) -> Structure:
    if header["type"] == "SoftAdjacency":
        return SoftAdjacency.from_weight(tensors["weight"])
    adj = Adjacency.from_coo(
        target=tensors["target"],
        source=tensors["source"],
        weight=tensors.get("weight"),
        num_targets=header["num_targets"],
        num_sources=header["num_sources"],
        duplicates="keep",
    )
    order = tensors.get("input_order")
    if order is not None:
        _coo.check_range("input_order", order, adj.num_edges, "edges")
        order = order.to(adj.indices.dtype)
    # The file's edges are sorted already, so sorting them again leaves them where they are.
    adj = dataclasses.replace(adj, input_order=order)
    if header["type"] == "Adjacency":
        return adj
    if header["type"] == "Graph":
        if adj.num_targets != adj.num_sources:
            raise DataError(f"a graph has as many targets as sources, not {adj.shape}")
        return Graph(adj)
    if header["type"] == "Hypergraph":
        edge, vertex = tensors.get("hyperedge_weight"), tensors.get("vertex_weight")
        return Hypergraph(
            adj,
            _coo.as_weight("hyperedge_weight", edge, adj.num_targets, "hyperedge"),
            _coo.as_weight("vertex_weight", vertex, adj.num_sources, "vertex"),
        )
    raise DataError(f"unknown type {header['type']!r}")
