"""Open Graph Benchmark: ``ogbn-*``, ``ogbl-*`` and ``ogbg-*``, read from its raw files.

The package ``ogb`` is not needed for that (its own loader fails under current torch); `evaluator` hands out its
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
from hgraph.datasets.common import Root, made_features
from hgraph.datasets.download import fetch_unlisted
from hgraph.datasets.rawfiles import Files, arrays, columns, integers, torch_saved
from hgraph.datasets.registry import dataset, register
from hgraph.errors import ArgumentError, DataError, MissingPackageError
from hgraph.structure import Graph

__all__ = ["Facts", "evaluator", "read_graphs", "read_links", "read_nodes"]

_MAX_BYTES = 128 * 2**30
_TASKS = {"ogbn": "node classification", "ogbl": "link prediction", "ogbg": "graph classification"}
_CAVEATS = {
    "ogbn": "The default split is OGB's own; every split is transductive.",
    "ogbl": "The structure is OGB's graph, which holds the training links alone; meta['links'] has OGB's split: train, "
    "valid and test, each with its links and, where OGB has them, negatives and weights. y is -1 (missing) throughout.",
    "ogbg": "The default split of the examples is OGB's own.",
}
_COMMON = (
    "OGB publishes no hash: the first download is trusted, and later ones must equal it (a lock file beside the "
    "archive); sha256= asks for a known one.",
    "folder= reads an unpacked folder of OGB's instead (the one with raw/ and split/ in it).",
    "What else OGB knows is in meta: edge_features and edge_*, in the structure's edge order, and node_*.",
    "The license is the one told on OGB's pages, which has the terms of the sources.",
)


@dataclass(frozen=True)
class Facts:
    """A row of the table: what OGB's files do not say themselves.

    Args:
        name: small letters, as registered.
        url: of the archive.
        target: ``"class"``, ``"multilabel"``, ``"real"`` or ``"link"``.
        classes: how many classes, labels or numbers.
        count: published number of nodes, or of graphs.
        inverse: whether each edge is listed once and meant in both directions.
        split: OGB's name of the split.
        extra: further files of nodes and edges.
        license: as told by OGB.
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
    """OGB's own evaluator of a set, from the package ``ogb``.

    Raises:
        ArgumentError: not a set of OGB's.
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


def read_nodes(files: Files, facts: Facts, features: str = "degree") -> Data:
    """One graph with labelled nodes, from OGB's raw layout.

    Args:
        files: the archive or folder.
        facts: the set's row of the table.
        features: of sets without any: see `hgraph.datasets.common.made_features`.
    """
    raw = _Raw(files, facts)
    structure, x, meta = raw.only(features)
    y = _labels(_column(files, "node-label"), facts, len(x))
    ids = {part: integers(files, f"split/{facts.split}/{part}.csv.gz", 1)[:, 0] for part in ("train", "valid", "test")}
    split = Split(structure, ids["train"], ids["valid"], ids["test"])
    return Data(structure, x, y, {"default": split}, meta).validate()


def read_links(files: Files, facts: Facts, features: str = "degree") -> Data:
    """One graph of training links, with OGB's split of the links in ``meta["links"]``."""
    structure, x, meta = _Raw(files, facts).only(features)
    parts = ("train", "valid", "test")
    meta["links"] = {part: dict(torch_saved(files, f"split/{facts.split}/{part}.pt")) for part in parts}
    for part, tensors in meta["links"].items():
        for key in ("edge", "edge_neg", "source_node", "target_node", "target_node_neg"):
            ids = tensors.get(key)
            if ids is not None and ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= len(x)):
                raise DataError(f"{files.place}: links {part}/{key} name nodes outside 0 .. {len(x) - 1}")
    y = torch.full((structure.num_edges,), -1)
    return Data(structure, x, y, meta=meta, target="edge").validate()


def read_graphs(files: Files, facts: Facts, features: str = "degree") -> tuple[int, Callable[[int], Data], Parts]:
    """Many graphs with a label each: how many, example i, and OGB's split; a graph is made when it is asked for."""
    raw = _Raw(files, facts)
    y = _labels(_column(files, "graph-label"), facts, len(raw.nodes))
    names = ("train", "valid", "test")
    parts = Parts(*(integers(files, f"split/{facts.split}/{part}.csv.gz", 1)[:, 0] for part in names))

    def example(i: int) -> Data:
        structure, x, meta = raw.graph(i, features)
        return Data(structure, x, y[i], meta=meta, target="graph")

    return len(raw.nodes), example, parts


class _Raw:
    """The arrays of all graphs one after the other, and where each begins."""

    def __init__(self, files: Files, facts: Facts) -> None:
        self.inverse = facts.inverse
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
            named |= {name: name for name in facts.extra if f"raw/{name}.csv.gz" in files}
            tables = {k: columns(files, f"raw/{f}.csv.gz") for k, f in named.items() if f"raw/{f}.csv.gz" in files}
        lists = (self.nodes, self.edges)
        if len(self.nodes) != len(self.edges) or any(len(n) and int(n.min()) < 0 for n in lists):
            raise DataError(f"{files.place}: the lists of nodes and edges of the graphs do not fit each other")
        for key, table in [("edge", self.edge), *tables.items()]:
            rows = int((self.nodes if key.startswith("node") else self.edges).sum())
            if len(table) != rows:
                raise DataError(f"{files.place}: {key} has {len(table)} rows, the lists of the graphs need {rows}")
        self.tables, self.files = tables, files
        self.first_node, self.first_edge = (n.cumsum(0) - n for n in lists)

    def only(self, features: str) -> tuple[Graph, Tensor, dict[str, Any]]:
        if len(self.nodes) != 1:
            raise DataError(f"{self.files.place}: one graph is needed, not {len(self.nodes)}")
        return self.graph(0, features)

    def graph(self, i: int, features: str) -> tuple[Graph, Tensor, dict[str, Any]]:
        """Structure, features and the rest of graph i."""
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
                own = torch.cat([table[edges], table[edges]]) if self.inverse else table[edges]
                meta[key.replace("edge_feat", "edge_features")] = structure.adj.sort_edges(own)
        x = meta.pop("node_feat", None)
        return structure, made_features(structure, features) if x is None else x, meta


def _column(files: Files, name: str) -> Tensor:
    """Labels: ``<name>.csv.gz``, or the array of ``<name>.npz``."""
    if f"raw/{name}.npz" in files:
        return arrays(files, f"raw/{name}.npz")[name.replace("-", "_")]
    return columns(files, f"raw/{name}.csv.gz")


def _labels(table: Tensor, facts: Facts, rows: int) -> Tensor:
    """Class numbers (-1 where missing), booleans (floats with NaN where some are missing), or numbers."""
    table = table[:, None] if table.dim() == 1 else table
    width = facts.classes if facts.target == "multilabel" else 1
    if table.shape != (rows, width):
        raise DataError(f"{facts.name}: labels [{rows}, {width}] are needed, not {list(table.shape)}")
    if facts.target == "real":
        return table[:, 0].float()
    if facts.target == "multilabel":
        return table.float() if table.is_floating_point() and bool(table.isnan().any()) else table.bool()
    y = table[:, 0].float().nan_to_num(nan=-1) if table.is_floating_point() else table[:, 0]
    if len(y) and int(y.max()) >= facts.classes:
        raise DataError(f"{facts.name}: class {int(y.max())} of {facts.classes}")
    return y.long()


# ---------------------------------------------------------------------- registration


def _make_loader(facts: Facts) -> Callable[..., Any]:
    def loader(
        root: Root = None,
        *,
        sha256: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        features: str = "degree",
    ) -> Data | Dataset[Data]:
        if folder is None:
            path = facts.url.rsplit("/", 1)[1]
            place = fetch_unlisted("ogb", path, facts.url, max_bytes=_MAX_BYTES, sha256=sha256, root=root)
        else:
            place = Path(folder)
        files = Files(place)
        if facts.name.startswith("ogbg"):
            count, example, parts = read_graphs(files, facts, features)
            _check(facts, count, "graphs")
            return dataset(facts.name, example, {"default": parts}, length=count)
        data = (read_nodes if facts.name.startswith("ogbn") else read_links)(files, facts, features)
        _check(facts, data.num_nodes, "nodes")
        return data

    loader.__doc__ = f"The data set ``{facts.name}``; see its card."
    return loader


def _check(facts: Facts, found: int, what: str) -> None:
    if found != facts.count:
        raise DataError(f"{facts.name}: the files hold {found} {what}, OGB says {facts.count}")


def _rows() -> list[Facts]:
    lines = Path(__file__).with_name("ogb.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = []
    for name, url, target, classes, count, inverse, split, extra, license in (line.split("\t") for line in lines):
        names = tuple(filter(None, extra.split(",")))
        rows.append(Facts(name, url, target, int(classes), int(count), inverse == "true", split, names, license))
    return rows


for _facts in _rows():
    _family = _facts.name[:4]
    _real = _facts.target == "real"
    register(
        _facts.name,
        description=f"{_facts.name} of the Open Graph Benchmark, split by {_facts.split.replace('_', ' ')}.",
        kind="graph",
        task="graph regression" if _real else _TASKS[_family],
        target_spec={"kind": _facts.target}
        | ({"num_classes": _facts.classes} if _facts.target in ("class", "multilabel") else {}),
        license=_facts.license,
        redistribute=_facts.license in ("CC0", "MIT", "ODC-BY"),
        citation="W. Hu et al.: Open Graph Benchmark: Datasets for Machine Learning on Graphs. NeurIPS 2020.",
        caveats=(_CAVEATS[_family], *_COMMON),
        sizes={"graphs" if _family == "ogbg" else "nodes": _facts.count},
        download=None,
    )(_make_loader(_facts))
