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
    "The default split is the public one: 20 papers per class for training, 500 for validation, 1,000 for testing.",
    "Repeated entries of the neighbor lists are merged, and each undirected edge is stored as two directed ones.",
    "Class ids are columns of the files. The files have no class names; these follow from the published class sizes.",
    "Features say which words are present (PubMed: weights); normalize_features=True divides each row by its sum.",
)
_NEURAL = (
    "Theory", "Reinforcement Learning", "Genetic Algorithms", "Neural Networks", "Probabilistic Methods", "Case Based",
    "Rule Learning",
)  # fmt: skip

_PUBMED = "https://raw.githubusercontent.com/kimiyoung/planetoid/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data"
_MAX_BYTES = 2**28
_VALIDATION = 500

# name: description, classes, sizes, caveats of the set
_SETS: dict[str, tuple[str, tuple[str, ...] | None, dict[str, int], tuple[str, ...]]] = {
    "cora": (
        "2,708 papers on machine learning, connected if one cites the other.",
        _NEURAL,
        {"nodes": 2708, "edges": 10556, "features": 1433, "classes": 7},
        ("The often quoted 5,429 edges include repeats; there are 5,278 distinct edges.",),
    ),
    "citeseer": (
        "3,327 papers on computer science, connected if one cites the other.",
        ("AI", "ML", "IR", "DB", "Agents", "HCI"),
        {"nodes": 3327, "edges": 9104, "features": 3703, "classes": 6},
        (
            "15 papers have neither features nor a label: their features are zero, their label is -1 (missing), and "
            "they are not in the split.",
            "48 papers have no neighbors; they are kept.",
            "124 papers are listed as neighbors of themselves; self_loops=True keeps these self-loops.",
            "The often quoted 4,732 edges include repeats and self-loops; there are 4,552 distinct edges without them.",
        ),
    ),
    "pubmed": (
        "19,717 papers on diabetes, connected if one cites the other.",
        None,
        {"nodes": 19717, "edges": 88648, "features": 500, "classes": 3},
        (
            "The counts are the published ones, without repeats and self-loops, and the files are checked against "
            "them. The first download is trusted, and later ones must match it.",
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
        labeled = read["x"].shape[0]
        ids = torch.arange(labeled + _VALIDATION)
        split = Split(structure, ids[:labeled], ids[labeled:], torch.from_numpy(np.sort(test)))
        meta = {"class_names": classes, "row_sums": normalize_features}
        data = Data(structure, x, y, {"default": split, "public": split}, meta).validate()
        check_sizes(name, [data], sizes, skip=["edges"] * self_loops)
        return data

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


def _read(name: str, part: str, root: Root) -> Any:
    from hgraph.datasets.unpickle import loads

    path = _file(name, part, root)
    return loads(path.read_bytes(), source=str(path))


def _file(name: str, part: str, root: Root) -> Path:
    """Files with a known hash are verified by it; for PubMed, the first download is trusted."""
    path = f"ind.{name}.{part}"
    if name == "pubmed":
        return fetch_unlisted("planetoid", path, f"{_PUBMED}/{path}", max_bytes=_MAX_BYTES, root=root)
    return fetch_listed("planetoid", path, root)


def _graph(neighbors: dict[int, list[int]], num_nodes: int, self_loops: bool) -> Graph:
    pairs = np.array([(u, v) for v, sources in neighbors.items() for u in sources], dtype=np.int64)
    pairs = np.unique(pairs, axis=0)
    if not self_loops:
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return Graph.from_edge_index(torch.from_numpy(pairs.T.copy()), num_nodes=num_nodes, directed=False)


def _assemble(read: dict[str, Any], test: np.ndarray[Any, Any], sizes: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Row i of the test files is node test[i] (unsorted); nodes without a row stay zero and unlabeled."""
    known, (n, f, c) = read["allx"].shape[0], (sizes["nodes"], sizes["features"], sizes["classes"])
    if read["allx"].shape[1] != f or read["tx"].shape != (len(test), f) or read["ally"].shape != (known, c):
        raise DataError(
            f"planetoid: features of shapes {read['allx'].shape} and {read['tx'].shape} do not fit the card"
        )
    if len(test) != len(np.unique(test)) or test.min() < known or test.max() >= n:
        raise DataError(f"planetoid: expected {len(test)} distinct nodes of {known} .. {n - 1} in test.index")
    x, y = np.zeros((n, f), dtype=np.float32), np.full(n, -1, dtype=np.int64)
    x[:known], x[test] = read["allx"].toarray(), read["tx"].toarray()
    y[:known], y[test] = read["ally"].argmax(1), read["ty"].argmax(1)
    for rows in (read["ally"], read["ty"]):
        if not (rows.sum(1) == 1).all():
            raise DataError("planetoid: expected exactly one 1 in each row of labels")
    return torch.from_numpy(x), torch.from_numpy(y)


for _name, (_description, _classes, _sizes, _set_caveats) in _SETS.items():
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
        caveats=(*_set_caveats, *_CAVEATS),
        sizes=_sizes,
        files=files_of("planetoid", f"ind.{_name}."),
        download=None,
    )(_make_loader(_name, _classes, _sizes))
