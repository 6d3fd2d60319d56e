"""Structures on disk: safetensors with a JSON header, written atomically, checked when read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hgraph.checks import Checks
from hgraph.data.data import Data
from hgraph.data.interactions import Interactions, TripleSplit
from hgraph.errors import ArgumentTypeError, DataError
from hgraph.files import write_atomically
from hgraph.structure import coo
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.base import Structure
from hgraph.structure.block_adjacency import BlockAdjacency
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph
from hgraph.structure.knowledge_graph import KnowledgeGraph
from hgraph.structure.names import Names
from hgraph.structure.soft import SoftAdjacency, SoftHypergraph
from hgraph.structure.token_graph import TokenGraph

__all__ = ["data_digest", "digest_of", "fingerprint", "load", "save"]

_VERSION = 2
# Old names of tensors in files of version 1.
_RENAMED = {"vertex_weight": "node_weight"}


def digest_of(tensors: Mapping[str, Tensor], header: str = "") -> str:
    """SHA-256 of a text and of named tensors with their dtypes and shapes, in hexadecimal; their order does not count.

    >>> one = {"a": torch.ones(2)}
    >>> digest_of(one) == digest_of({"a": torch.ones(2, 1)})
    False
    """
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        content = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {content.dtype} {list(content.shape)} ".encode())
        digest.update(content.view(-1).view(torch.uint8).numpy().data if content.numel() else b"")
    return digest.hexdigest()


def fingerprint(structure: Structure) -> str:
    """SHA-256 hash of a structure in hexadecimal; the ids of a trained model are only valid for this structure."""
    # pairs in no part do not change what a model is trained on
    return digest_of({name: part for name, part in _parts(structure).items() if not name.startswith("excluded/")})


def data_digest(data: Data) -> str:
    """SHA-256 of the structure, the features, the labels and the splits of labeled data, in hexadecimal.

    Use it to notice that data have changed since a training.

    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> first, second = (Data(graph, torch.eye(2), torch.tensor(y)) for y in ([0, 1], [1, 0]))
    >>> data_digest(first) == data_digest(second)
    False
    """
    tensors = {"x": data.x, "y": data.y}
    for name, split in data.splits.items():
        tensors |= {f"{name} {part}": ids for part, ids in vars(split).items() if isinstance(ids, Tensor)}
    return digest_of(tensors, fingerprint(data.structure))


def save(structure: Structure, path: str | os.PathLike[str]) -> None:
    """Write a structure to one safetensors file (see `Structure.save`)."""
    from safetensors.torch import save as to_bytes

    header = {"hgraph": json.dumps({"type": type(structure).__name__, "version": _VERSION})}
    tensors = {name: t.detach().cpu().contiguous() for name, t in _parts(structure).items()}
    write_atomically(path, to_bytes(tensors, metadata=header))


def load(path: str | os.PathLike[str]) -> Structure:
    """Read a structure written by :meth:`Structure.save`; nothing in the file is executed or trusted.

    Raises:
        DataError: not such a file, or inconsistent content.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True).save(f"{folder}/graph.safetensors")
    ...     load(f"{folder}/graph.safetensors")
    Graph(2 nodes, 1 edges, cpu)
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("hgraph", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (SafetensorError, ValueError, OSError, RuntimeError) as error:  # RuntimeError: too deeply nested JSON
        raise DataError(f"{path}: not a complete safetensors file ({error})") from error
    if isinstance(header, dict) and header.get("version") == 1:
        tensors = {_RENAMED.get(name, name): tensor for name, tensor in tensors.items()}
    elif not isinstance(header, dict) or header.get("version") != _VERSION:
        raise DataError(f"{path}: not a structure saved by this version of hgraph (header {header!r})")
    try:
        return _rebuild(header, tensors)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{path}: damaged ({error})") from error


def _parts(structure: Structure) -> dict[str, Tensor]:
    """The tensors to write, including both pointer lists, so that no header can request memory."""
    if isinstance(structure, SoftAdjacency):
        return {"weight": structure.weight} | ({} if structure.mask is None else {"mask": structure.mask})
    if isinstance(structure, SoftHypergraph):
        parts = ((way, *part) for way in ("v2e", "e2v") for part in _parts(getattr(structure, way)).items())
        soft = {f"{way}.{k}": t.clone() for way, k, t in parts}  # the two may share memory; tensors in a file must not
        return soft | ({} if structure.index is None else {"index": structure.index})
    if isinstance(structure, Graph):
        return _parts(structure.adj)
    if isinstance(structure, Hypergraph):
        named = {"hyperedge_weight": structure.hyperedge_weight, "node_weight": structure.node_weight}
        return _parts(structure.v2e) | {k: v for k, v in named.items() if v is not None}
    if isinstance(structure, (Interactions, TripleSplit)):
        own = {f.name: getattr(structure, f.name) for f in dataclasses.fields(structure) if f.name != "user_names"}
        found = {
            f"{name}/{key}": t.clone()
            for name, part in own.items()
            if part is not None
            for key, t in _parts(part).items()
        }
        users = getattr(structure, "user_names", None)  # clones: parts may share names; tensors in a file must not
        return found if users is None else found | {"user_names.text": users.text, "user_names.indptr": users.indptr}
    if isinstance(structure, KnowledgeGraph):
        return _parts(structure.adj) | _knowledge_parts(structure)
    if isinstance(structure, Adjacency):
        names = ("indptr", "indices", "t_indptr", "input_order", "weight")
        return {name: getattr(structure, name) for name in names if getattr(structure, name) is not None}
    if isinstance(structure, TokenGraph):
        names = ("indptr", "start", "stop", "extent", "order")
        return {name: getattr(structure, name) for name in names if getattr(structure, name) is not None}
    if isinstance(structure, BlockAdjacency):
        return _block_parts(structure)
    kinds = "an Adjacency, BlockAdjacency, Graph, Hypergraph, KnowledgeGraph, Soft..., or TokenGraph"
    raise ArgumentTypeError("structure", kinds, type(structure).__name__)


_LISTS = ("index", "rule", "count", "row")


def _block_parts(tiles: BlockAdjacency) -> dict[str, Tensor]:
    """The lists of tiles, the shared masks, and a flag for the transpose, which is recomputed on load."""
    parts = {"mask": tiles.mask, "extent": tiles.extent} | {name: getattr(tiles, name) for name in _LISTS}
    if tiles.wide is not None:
        parts |= {f"wide.{name}": getattr(tiles.wide, name) for name in _LISTS}
    if tiles.order is not None:
        parts["order"] = tiles.order
    return parts if tiles.t_count is None else parts | {"t_count": tiles.t_count}


_NAMES = ("node_names", "relation_names", "type_names")


def _knowledge_parts(kg: KnowledgeGraph) -> dict[str, Tensor]:
    """The tensors of a knowledge graph other than its adjacency."""
    parts = {"relation": kg.relation, "relation_indptr": kg.relation_indptr}
    if kg.node_type is not None:
        parts["node_type"] = kg.node_type
    for name in _NAMES:
        texts = getattr(kg, name)
        if texts is not None:
            parts |= {f"{name}.text": texts.text, f"{name}.indptr": texts.indptr}
    return parts


def _rebuild(header: dict[str, Any], tensors: dict[str, Tensor]) -> Structure:
    if header["type"] == "SoftAdjacency":
        return SoftAdjacency.from_weight(tensors["weight"], mask=tensors.get("mask"))
    if header["type"] == "SoftHypergraph":
        return _soft_hypergraph(tensors)
    if header["type"] == "TokenGraph":
        return _token_graph(tensors)
    if header["type"] == "BlockAdjacency":
        return _block_adjacency(tensors)
    if header["type"] in ("Interactions", "TripleSplit"):
        return _divided(header["type"], tensors)
    if header["type"] not in ("Adjacency", "Graph", "Hypergraph", "KnowledgeGraph"):
        raise DataError(f"unknown type {header['type']!r}")
    adj = _adjacency(tensors)
    if header["type"] == "Adjacency":
        return adj
    if header["type"] == "Graph":
        if adj.num_targets != adj.num_sources:
            raise DataError(f"a graph has as many targets as sources, not {adj.shape}")
        return Graph(adj)
    if header["type"] == "KnowledgeGraph":
        return _knowledge_graph(adj, tensors)
    edge, node = tensors.get("hyperedge_weight"), tensors.get("node_weight")
    checks = Checks()
    edge = coo.as_weight("hyperedge_weight", edge, adj.num_targets, "hyperedge", checks)
    node = coo.as_weight("node_weight", node, adj.num_sources, "node", checks)
    checks.read()
    return Hypergraph(adj, edge, node)


def _soft_hypergraph(tensors: dict[str, Tensor]) -> SoftHypergraph:
    """Both directions of a soft hypergraph; checks that they are consistent with each other and the selection."""
    v2e, e2v = (
        SoftAdjacency.from_weight(tensors[f"{way}.weight"], mask=tensors.get(f"{way}.mask")) for way in ("v2e", "e2v")
    )
    index = tensors.get("index")
    if v2e.weight.mT.shape != e2v.weight.shape or (index is not None and index.shape != v2e.weight.shape[:-1]):
        raise DataError("v2e, e2v and index have different sizes")
    return SoftHypergraph(
        v2e, e2v, None if index is None else coo.as_indices("index", index.flatten()).view(index.shape)
    )


def _divided(kind: str, tensors: dict[str, Tensor]) -> Interactions | TripleSplit:
    """The three parts of a file; checks that they are consistent and disjoint."""

    def part(name: str, kind: str) -> Any:
        own = {key.removeprefix(f"{name}/"): t for key, t in tensors.items() if key.startswith(f"{name}/")}
        return _rebuild({"type": kind}, own)

    inner = "Adjacency" if kind == "Interactions" else "KnowledgeGraph"
    parts = [part(name, inner) for name in ("train", "val", "test")]
    split: Interactions | TripleSplit
    if kind == "TripleSplit":
        split = TripleSplit(*parts)
        sizes = {(kg.num_nodes, kg.num_relations) for kg in parts}
    else:
        kg = part("kg", "KnowledgeGraph")
        users = Names.checked("user_names", _names(tensors, "user_names"), parts[0].num_targets, "user")
        excluded = part("excluded", inner) if any(key.startswith("excluded/") for key in tensors) else None
        parts += [] if excluded is None else [excluded]
        split, sizes = Interactions(parts[0], parts[1], parts[2], kg, users, excluded), {adj.shape for adj in parts}
        if parts[0].num_sources > kg.num_nodes:
            raise DataError("there are more items than nodes")
    if len(sizes) > 1:
        raise DataError("the parts have different sizes")
    split.validate()
    return split


def _knowledge_graph(adj: Adjacency, tensors: dict[str, Tensor]) -> KnowledgeGraph:
    """The knowledge graph of a file; raises if its tensors are inconsistent."""
    relation, indptr = coo.as_indices("relation", tensors["relation"]), tensors["relation_indptr"]
    names = {name: _names(tensors, name) for name in _NAMES}
    kg = KnowledgeGraph.from_triples(
        head=adj.target,
        relation=relation,
        tail=adj.indices,
        num_nodes=adj.num_targets,
        num_relations=len(indptr) - 1,
        node_type=tensors.get("node_type"),
        duplicates="keep",
        **names,
    )
    if adj.num_targets != adj.num_sources or not torch.equal(kg.relation.long(), relation):
        raise DataError("the triples are not sorted by head, tail and relation")
    if not torch.equal(kg.relation_indptr.long(), indptr.long()):
        raise DataError("relation_indptr does not match the relations")
    return dataclasses.replace(kg, adj=adj)


def _names(tensors: dict[str, Tensor], name: str) -> Names | None:
    """The texts of that name in a file, or None."""
    if f"{name}.text" not in tensors:
        return None
    text, ends = tensors[f"{name}.text"], coo.as_indices(name, tensors[f"{name}.indptr"])
    if text.dtype != torch.uint8 or not len(ends) or ends[0] != 0 or ends[-1] != len(text):
        raise DataError(f"{name}: the pointers do not match the bytes")
    if bool((ends.diff() < 0).any()):
        raise DataError(f"{name}: the pointers do not match the bytes")
    names = Names(text, ends)
    list(names)  # each must be UTF-8
    return names


def _token_graph(tensors: dict[str, Tensor]) -> TokenGraph:
    """The token graph of a file; raises if its tensors are inconsistent."""
    indptr, extent = coo.as_indices("indptr", tensors["indptr"]), tensors["extent"]
    count = indptr.diff()
    if extent.dim() != 5 or extent.shape[4] or len(count) != extent.shape[:3].numel() or bool((count < 0).any()):
        raise DataError("indptr does not match the rows of the heads")
    batch, heads, targets, sources, _ = extent.shape
    graph = TokenGraph.from_runs(
        row=torch.arange(len(count)).repeat_interleave(count, output_size=len(tensors["start"])),
        start=tensors["start"],
        stop=tensors["stop"],
        num_targets=targets,
        num_sources=sources,
        order=tensors.get("order"),
        batch=batch,
        num_heads=heads,
    )
    if not torch.equal(graph.indptr, indptr):
        raise DataError("the runs are not sorted or overlap")
    return graph


def _block_adjacency(tensors: dict[str, Tensor]) -> BlockAdjacency:
    """The tiles of a file; raises if its tensors are inconsistent."""

    def part(prefix: str) -> BlockAdjacency:
        index, rule, count, row = (tensors[prefix + name] for name in _LISTS)
        return BlockAdjacency(index, rule, count, row, tensors["mask"], tensors["extent"])

    tiles = part("")
    if "wide.index" in tensors:
        wide = part("wide.")
        wide.check_fields()
        tiles = dataclasses.replace(tiles, wide=wide)
    if "order" in tensors:
        tiles = dataclasses.replace(tiles, order=coo.as_indices("order", tensors["order"]))
    tiles.check_fields()
    if "t_count" not in tensors:
        return tiles
    columns = -(-tiles.num_sources // tiles.block_size)  # as many as in the file: the next line allocates them
    if tensors["t_count"].shape != (*tiles.index.shape[:2], columns):
        raise DataError("t_count does not match the tiles of sources")
    tiles = tiles.with_transpose()
    if tiles.t_count is None or not torch.equal(tiles.t_count, tensors["t_count"]):
        raise DataError("t_count does not match the tiles")
    return tiles


def _adjacency(tensors: dict[str, Tensor]) -> Adjacency:
    """The adjacency of a file; raises if its tensors are inconsistent."""
    indptr, source = coo.as_indices("indptr", tensors["indptr"]), coo.as_indices("indices", tensors["indices"])
    t_indptr, count = coo.as_indices("t_indptr", tensors["t_indptr"]), indptr.diff()
    if not len(indptr) or not len(t_indptr) or indptr[0] != 0 or indptr[-1] != len(source) or bool((count < 0).any()):
        raise DataError("indptr does not match the rows of indices")
    adj = Adjacency.from_coo(
        target=torch.arange(len(count)).repeat_interleave(count, output_size=len(source)),
        source=source,
        weight=tensors.get("weight"),
        num_targets=len(count),
        num_sources=len(t_indptr) - 1,
        duplicates="keep",
    )
    if not torch.equal(adj.t_indptr.long(), t_indptr) or not torch.equal(adj.indices.long(), source):
        raise DataError("the edges are not sorted or t_indptr does not match them")
    order = tensors.get("input_order")
    if order is None:
        return dataclasses.replace(adj, input_order=None)
    order = coo.as_indices("input_order", order)
    coo.check_range("input_order", order, adj.num_edges, "edges")
    if len(torch.unique(order)) < adj.num_edges:
        raise DataError("input_order does not cover all edges")
    return dataclasses.replace(adj, input_order=order.to(adj.indices.dtype))
