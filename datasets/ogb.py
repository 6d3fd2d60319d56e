"""Open Graph Benchmark: ``ogbn-*``, ``ogbl-*`` and ``ogbg-*``, read from their raw files.

The package ``ogb`` is not needed to load the data (its loader fails with current torch); `evaluator` returns its
official metrics.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hgraph.data import Data, Dataset, Split
from hgraph.data.split import Parts
from hgraph.datasets.common import Root, default_features, features_meta
from hgraph.datasets.download import fetch_unlisted
from hgraph.datasets.rawfiles import Files, arrays, columns, integers, torch_saved
from hgraph.datasets.registry import dataset, register
from hgraph.errors import ArgumentError, DataError, MissingPackageError
from hgraph.structure import Graph

__all__ = ["OgbInfo", "evaluator", "read_graphs", "read_links", "read_nodes"]

_MAX_BYTES = 128 * 2**30
_TASKS = {"ogbn": "node classification", "ogbl": "link prediction", "ogbg": "graph classification"}
_CAVEATS = {
    "ogbn": "The default split is OGB's; every split is transductive.",
    "ogbl": "The structure is OGB's graph, with only the training links; meta['links'] has OGB's split: train, valid "
    "and test, each with its links and, if OGB has them, negatives and weights. y is -1 (missing) for every edge.",
    "ogbg": "The default split of the examples is OGB's.",
}
_COMMON = (
    "OGB publishes no hash: the first download is trusted, and later ones must match it (by a lock file next to the "
    "archive); sha256= requires a known hash.",
    "folder= reads an unpacked folder of OGB instead (the one that contains raw/ and split/).",
    "meta has the other data of OGB: edge_features and edge_*, in the edge order of the structure, and node_*.",
    "The license is the one stated on OGB's website, which also links the terms of the sources.",
)


@dataclass(frozen=True)
class OgbInfo:
    """A row of the table: properties that are not in OGB's files.

    Args:
        name: the registered name, in lower case.
        url: URL of the archive.
        target: ``"class"``, ``"multilabel"``, ``"real"`` or ``"link"``.
        classes: number of classes, labels or regression targets.
        count: published number of nodes, or of graphs.
        inverse: whether each edge is listed once but is undirected.
        split: name of the split at OGB.
        extra: further files of nodes and edges.
        license: as stated by OGB.
    """

    name: str
    url: str
    target: str
    classes: int
    count: int
    inverse: bool
    split: str
    extra: tuple[str, ...] = ()
    license: str = ""


def evaluator(name: str) -> Any:
    """The official evaluator of a set, from the package ``ogb``.

    Raises:
        ArgumentError: not a data set of OGB.
        MissingPackageError: ``ogb`` is not installed.
    """
    part = {"ogbn": "nodeproppred", "ogbl": "linkproppred", "ogbg": "graphproppred"}.get(name.split("-")[0])
    if part is None:
        raise ArgumentError("name", "an ogbn-, ogbl- or ogbg- name", repr(name))
    import importlib

    try:
        module = importlib.import_module(f"ogb.{part}")
    except ImportError as error:
        raise MissingPackageError("ogb", "ogb", "OGB's official evaluation") from error
    return module.Evaluator(name=name.replace("papers100m", "papers100M"))


# ---------------------------------------------------------------------- nodes, links, graphs


def read_nodes(files: Files, info: OgbInfo, features: str = "degree") -> Data:
    """Read one graph with labeled nodes from OGB's raw files.

    Args:
        files: the archive or folder.
        info: the row of the set in the table.
        features: for sets without features: see `hgraph.datasets.common.default_features`.
    """
    raw = _Raw(files, info)
    structure, x, meta = raw.single_graph(features)
    y = _labels(_column(files, "node-label"), info, len(x))
    ids = {part: integers(files, f"split/{info.split}/{part}.csv.gz", 1)[:, 0] for part in ("train", "valid", "test")}
    split = Split(structure, ids["train"], ids["valid"], ids["test"])
    return Data(structure, x, y, {"default": split}, meta).validate()


def read_links(files: Files, info: OgbInfo, features: str = "degree") -> Data:
    """Read one graph of training links, with OGB's split of the links in ``meta["links"]``."""
    structure, x, meta = _Raw(files, info).single_graph(features)
    parts = ("train", "valid", "test")
    meta["links"] = {part: dict(torch_saved(files, f"split/{info.split}/{part}.pt")) for part in parts}
    for part, tensors in meta["links"].items():
        for key in ("edge", "edge_neg", "source_node", "target_node", "target_node_neg"):
            ids = tensors.get(key)
            if ids is not None and ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= len(x)):
                raise DataError(
                    f"{files.place}: expected nodes 0 .. {len(x) - 1} in the links {part}/{key}, got others"
                )
    y = torch.full((structure.num_edges,), -1)
    return Data(structure, x, y, meta=meta, target="edge").validate()


def read_graphs(files: Files, info: OgbInfo, features: str = "degree") -> tuple[int, Callable[[int], Data], Parts]:
    """Read many labeled graphs: their number, a function that builds graph i, and OGB's split."""
    raw = _Raw(files, info)
    y = _labels(_column(files, "graph-label"), info, len(raw.nodes))
    names = ("train", "valid", "test")
    parts = Parts(*(integers(files, f"split/{info.split}/{part}.csv.gz", 1)[:, 0] for part in names))

    def example(i: int) -> Data:
        structure, x, meta = raw.graph(i, features)
        return Data(structure, x, y[i], meta=meta, target="graph")

    return len(raw.nodes), example, parts


class _Raw:
    """The concatenated arrays of all graphs, and where each graph begins."""

    def __init__(self, files: Files, info: OgbInfo) -> None:
        self.inverse = info.inverse
        if "raw/data.npz" in files:
            found = arrays(files, "raw/data.npz")
            self.edge = found.pop("edge_index").T
            self.nodes, self.edges = found.pop("num_nodes_list"), found.pop("num_edges_list")
            tables = found
        else:
            self.edge = integers(files, "raw/edge.csv.gz", 2)
            self.nodes = integers(files, "raw/num-node-list.csv.gz", 1)[:, 0]
            self.edges = integers(files, "raw/num-edge-list.csv.gz", 1)[:, 0]
            named = {"node_feat": "node-feat", "edge_feat": "edge-feat", "node_species": "species"}
            named |= {name: name for name in info.extra if f"raw/{name}.csv.gz" in files}
            tables = {k: columns(files, f"raw/{f}.csv.gz") for k, f in named.items() if f"raw/{f}.csv.gz" in files}
        lists = (self.nodes, self.edges)
        if len(self.nodes) != len(self.edges) or any(len(n) and int(n.min()) < 0 for n in lists):
            raise DataError(f"{files.place}: the numbers of nodes and of edges per graph do not fit together")
        for key, table in [("edge", self.edge), *tables.items()]:
            rows = int((self.nodes if key.startswith("node") else self.edges).sum())
            if len(table) != rows:
                raise DataError(f"{files.place}: {key}: expected {rows} rows, got {len(table)}")
        self.tables, self.files = tables, files
        self.first_node, self.first_edge = (n.cumsum(0) - n for n in lists)

    def single_graph(self, features: str) -> tuple[Graph, Tensor, dict[str, Any]]:
        if len(self.nodes) != 1:
            raise DataError(f"{self.files.place}: expected one graph, got {len(self.nodes)}")
        return self.graph(0, features)

    def graph(self, i: int, features: str) -> tuple[Graph, Tensor, dict[str, Any]]:
        """Structure, features and metadata of graph i."""
        nodes = slice(int(self.first_node[i]), int(self.first_node[i] + self.nodes[i]))
        edges = slice(int(self.first_edge[i]), int(self.first_edge[i] + self.edges[i]))
        edge = self.edge[edges].T
        edge = torch.cat([edge, edge.flip(0)], 1) if self.inverse else edge
        try:
            structure = Graph.from_edge_index(edge, num_nodes=int(self.nodes[i]), directed=True, duplicates="keep")
        except ArgumentError as error:
            raise DataError(f"{self.files.place}: graph {i}: {error}") from error
        meta: dict[str, Any] = {}
        for key, table in self.tables.items():
            if key.startswith("node"):
                meta[key] = table[nodes]
            else:
                values = torch.cat([table[edges], table[edges]]) if self.inverse else table[edges]
                meta[key.replace("edge_feat", "edge_features")] = structure.adj.sort_edges(values)
        x = meta.pop("node_feat", None)
        if x is None:
            return structure, default_features(structure, features), meta | features_meta(features)
        return structure, x, meta


def _column(files: Files, name: str) -> Tensor:
    """Labels: ``<name>.csv.gz``, or the array of ``<name>.npz``."""
    if f"raw/{name}.npz" in files:
        return arrays(files, f"raw/{name}.npz")[name.replace("-", "_")]
    return columns(files, f"raw/{name}.csv.gz")


def _labels(table: Tensor, info: OgbInfo, rows: int) -> Tensor:
    """Class ids (-1 if missing), booleans (floats with NaN if some are missing), or numbers."""
    table = table[:, None] if table.dim() == 1 else table
    width = info.classes if info.target == "multilabel" else 1
    if table.shape != (rows, width):
        raise DataError(f"{info.name}: expected labels of shape [{rows}, {width}], got {list(table.shape)}")
    if info.target == "real":
        return table[:, 0].float()
    if info.target == "multilabel":
        return table.float() if table.is_floating_point() and bool(table.isnan().any()) else table.bool()
    y = table[:, 0].float().nan_to_num(nan=-1) if table.is_floating_point() else table[:, 0]
    if len(y) and int(y.max()) >= info.classes:
        raise DataError(f"{info.name}: expected classes below {info.classes}, got {int(y.max())}")
    return y.long()


# ---------------------------------------------------------------------- registration


def _make_loader(info: OgbInfo) -> Callable[..., Any]:
    def loader(
        root: Root = None,
        *,
        sha256: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        features: str = "degree",
    ) -> Data | Dataset[Data]:
        if folder is None:
            path = info.url.rsplit("/", 1)[1]
            place = fetch_unlisted("ogb", path, info.url, max_bytes=_MAX_BYTES, sha256=sha256, root=root)
        else:
            place = Path(folder)
        files = Files(place)
        if info.name.startswith("ogbg"):
            count, example, parts = read_graphs(files, info, features)
            _check(info, count, "graphs")
            return dataset(info.name, example, {"default": parts}, length=count)
        data = (read_nodes if info.name.startswith("ogbn") else read_links)(files, info, features)
        _check(info, data.num_nodes, "nodes")
        return data

    loader.__doc__ = f"The data set ``{info.name}``; see its card for details."
    return loader


def _check(info: OgbInfo, found: int, what: str) -> None:
    if found != info.count:
        raise DataError(f"{info.name}: expected {info.count} {what} as published by OGB, got {found}")


def _rows() -> list[OgbInfo]:
    lines = Path(__file__).with_name("ogb.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = []
    for name, url, target, classes, count, inverse, split, extra, license in (line.split("\t") for line in lines):
        names = tuple(filter(None, extra.split(",")))
        rows.append(OgbInfo(name, url, target, int(classes), int(count), inverse == "true", split, names, license))
    return rows


for _info in _rows():
    _family = _info.name[:4]
    _real = _info.target == "real"
    register(
        _info.name,
        description=f"{_info.name} of the Open Graph Benchmark, split by {_info.split.replace('_', ' ')}.",
        kind="graph",
        task="graph regression" if _real else _TASKS[_family],
        target_spec={"kind": _info.target}
        | ({"num_classes": _info.classes} if _info.target in ("class", "multilabel") else {}),
        license=_info.license,
        redistribute=_info.license in ("CC0", "MIT", "ODC-BY"),
        citation="W. Hu et al.: Open Graph Benchmark: Datasets for Machine Learning on Graphs. NeurIPS 2020.",
        caveats=(_CAVEATS[_family], *_COMMON),
        sizes={"graphs" if _family == "ogbg" else "nodes": _info.count},
        download=None,
    )(_make_loader(_info))
