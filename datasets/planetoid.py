"""Cora, CiteSeer and PubMed as citation graphs, from the files of Planetoid, with the public split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hgraph.data import Data, Split
from hgraph.datasets.common import Root, check_sizes, files_of
from hgraph.datasets.download import fetch_listed, fetch_unlisted
from hgraph.datasets.registry import register
from hgraph.errors import DataError
from hgraph.structure import Graph

__all__: list[str] = []

_CAVEATS = (
    "The default split is the public one: the first 20 papers a class train, the next 500 validate, 1,000 test.",
    "Neighbour lists repeat entries; repeats are merged, and each undirected edge is two directed ones.",
    "Class numbers are the files' columns; the files have no class names, which are told by the published class sizes.",
    "Features are words present or absent (PubMed: weights); normalize_features=True divides rows by their sum.",
)
_NEURAL = (
    "Theory", "Reinforcement Learning", "Genetic Algorithms", "Neural Networks", "Probabilistic Methods", "Case Based",
    "Rule Learning",
)  # fmt: skip

_PUBMED = "https://raw.githubusercontent.com/kimiyoung/planetoid/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data"
_MAX_BYTES = 2**28
_VALIDATION = 500

# name: words of the description, classes, sizes, own caveats
_SETS: dict[str, tuple[str, tuple[str, ...] | None, dict[str, int], tuple[str, ...]]] = {
    "cora": (
        "2,708 papers on machine learning, joined where one cites the other.",
        _NEURAL,
        {"nodes": 2708, "edges": 10556, "features": 1433, "classes": 7},
        ("The often quoted 5,429 edges count repeats; there are 5,278 different ones.",),
    ),
    "citeseer": (
        "3,327 papers on computer science, joined where one cites the other.",
        ("AI", "ML", "IR", "DB", "Agents", "HCI"),
        {"nodes": 3327, "edges": 9104, "features": 3703, "classes": 6},
        (
            "15 papers have neither features nor a label: their features are zero, their label is -1 (missing), and "
            "they are in no part of the split.",
            "48 papers have no neighbour; they are kept.",
            "124 papers are listed as their own neighbours; self_loops=True keeps these loops.",
            "The often quoted 4,732 edges count repeats and loops; there are 4,552 different ones between papers.",
        ),
    ),
    "pubmed": (
        "19,717 papers on diabetes, joined where one cites the other.",
        None,
        {"nodes": 19717, "edges": 88648, "features": 500, "classes": 3},
        (
            "Its files have not been counted here: the counts are the published ones, without repeats and loops, and "
            "the files are checked against them. The first download is trusted, later ones must equal it.",
        ),
    ),
}


def _make_loader(name: str, classes: tuple[str, ...] | None, sizes: dict[str, int]) -> Callable[..., Data]:
    def loader(root: Root = None, *, normalize_features: bool = True, self_loops: bool = False) -> Data:
        read = {part: _read(name, part, root) for part in ("x", "tx", "allx", "ally", "ty", "graph")}
        test = np.array(_file(name, "test.index", root).read_bytes().split(), dtype=np.int64)
        structure = _graph(read["graph"], sizes["nodes"], self_loops)
        x, y = _assemble(read, test, sizes)
        if normalize_features:
            x = x / x.sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        labelled = read["x"].shape[0]
        ids = torch.arange(labelled + _VALIDATION)
        split = Split(structure, ids[:labelled], ids[labelled:], torch.from_numpy(np.sort(test)))
        meta = {"class_names": classes, "row_sums": normalize_features}
        data = Data(structure, x, y, {"default": split, "public": split}, meta).validate()
        check_sizes(name, [data], sizes, but=["edges"] * self_loops)
        return data

    loader.__doc__ = f"The data set ``{name}``; see its card."
    return loader


def _read(name: str, part: str, root: Root) -> Any:
    from hgraph.datasets.unpickle import loads

    path = _file(name, part, root)
    return loads(path.read_bytes(), source=str(path))


def _file(name: str, part: str, root: Root) -> Path:
    """By its hash where the files could be counted, else as it comes the first time."""
    path = f"ind.{name}.{part}"
    if name == "pubmed":
        return fetch_unlisted("planetoid", path, f"{_PUBMED}/{path}", max_bytes=_MAX_BYTES, root=root)
    return fetch_listed("planetoid", path, root)


def _graph(neighbours: dict[int, list[int]], num_nodes: int, self_loops: bool) -> Graph:
    pairs = np.array([(u, v) for v, heard in neighbours.items() for u in heard], dtype=np.int64)
    pairs = np.unique(pairs, axis=0)
    if not self_loops:
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return Graph.from_edge_index(torch.from_numpy(pairs.T.copy()), num_nodes=num_nodes, directed=False)


def _assemble(read: dict[str, Any], test: np.ndarray[Any, Any], sizes: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Row i of the test files is node test[i], in no order; nodes without a row stay zero and unlabelled."""
    known, (n, f, c) = read["allx"].shape[0], (sizes["nodes"], sizes["features"], sizes["classes"])
    if read["allx"].shape[1] != f or read["tx"].shape != (len(test), f) or read["ally"].shape != (known, c):
        raise DataError(f"planetoid: features {read['allx'].shape} and {read['tx'].shape} do not fit the card")
    if len(test) != len(np.unique(test)) or test.min() < known or test.max() >= n:
        raise DataError(f"planetoid: test.index must name {len(test)} nodes in {known} .. {n - 1}")
    x, y = np.zeros((n, f), dtype=np.float32), np.full(n, -1, dtype=np.int64)
    x[:known], x[test] = read["allx"].toarray(), read["tx"].toarray()
    y[:known], y[test] = read["ally"].argmax(1), read["ty"].argmax(1)
    for rows in (read["ally"], read["ty"]):
        if not (rows.sum(1) == 1).all():
            raise DataError("planetoid: every row of labels must have one 1")
    return torch.from_numpy(x), torch.from_numpy(y)


for _name, (_description, _classes, _sizes, _own_caveats) in _SETS.items():
    register(
        _name,
        description=_description,
        kind="graph",
        task="node classification",
        target_spec={"kind": "class", "num_classes": _sizes["classes"]},
        license="MIT",
        redistribute=True,
        citation="Z. Yang, W. Cohen, R. Salakhutdinov: Revisiting Semi-Supervised Learning with Graph Embeddings. "
        "ICML 2016; data after P. Sen et al.: Collective Classification in Network Data. AI Magazine, 2008.",
        caveats=(*_own_caveats, *_CAVEATS),
        sizes=_sizes,
        files=files_of("planetoid", f"ind.{_name}."),
        download=None,
    )(_make_loader(_name, _classes, _sizes))
