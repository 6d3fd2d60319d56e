"""Node classification sets that PyTorch Geometric loads, from the ``.npz`` files it fetches them from.

Two layouts: a sparse matrix of edges and one of features (A. Bojchevski, O. Shchur and others), and a list of
edges with ten published splits (O. Platonov and others). Only their arrays of numbers are read; names pickled beside
them are not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hgraph.data import Data, Split
from hgraph.datasets.common import Root, check_sizes, random_split
from hgraph.datasets.download import fetch_unlisted
from hgraph.datasets.rawfiles import npz
from hgraph.datasets.registry import register
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Graph

__all__: list[str] = []

_MAX_BYTES = 2**30
_MATRICES = [f"{of}_{part}" for of in ("adj", "attr") for part in ("data", "indices", "indptr", "shape")] + ["labels"]
_LISTS = ["edges", "node_features", "node_labels", "train_masks", "val_masks", "test_masks"]
_COMMON = (
    "No hash is published: the first download is trusted, and later ones must equal it (a lock file beside the file); "
    "file= reads one that PyG has fetched already, such as data/Computers/raw/amazon_electronics_computers.npz.",
    "Counts are those of PyG's documentation; the file is checked against them.",
    "As with PyG, loops are dropped, repeated edges are merged, and each undirected edge is two directed ones.",
)
_OWN = {
    "matrices": (
        "Features are present or absent (1 or 0), as PyG has them, whatever numbers the file holds.",
        "The default split is drawn under `seed`: half of every class trains, a quarter validates, a quarter tests.",
    ),
    "lists": ("The ten published splits are named 'published-1' .. 'published-10'; the first is the default.",),
}
_CITATIONS = {
    "matrices": "O. Shchur, M. Mumme, A. Bojchevski, S. Günnemann: Pitfalls of Graph Neural Network Evaluation, 2018; "
    "A. Bojchevski, S. Günnemann: Deep Gaussian Embedding of Graphs. ICLR 2018.",
    "lists": "O. Platonov et al.: A Critical Look at the Evaluation of GNNs under Heterophily: Are We Really Making "
    "Progress? ICLR 2023.",
}


@dataclass(frozen=True)
class _Facts:
    """A row of the table: where the file is, and what PyG says of it."""

    name: str
    url: str
    sizes: Mapping[str, int]
    description: str

    @property
    def layout(self) -> str:
        """Which of the two layouts the file has."""
        return "lists" if "heterophilous" in self.url else "matrices"


def _make_loader(facts: _Facts) -> Callable[..., Data]:
    def loader(root: Root = None, *, seed: int = 0, file: str | os.PathLike[str] | None = None) -> Data:
        name = facts.url.rsplit("/", 1)[1]
        fetched = file is None
        place = fetch_unlisted("pyg", name, facts.url, max_bytes=_MAX_BYTES, root=root) if fetched else Path(str(file))
        read = {"matrices": _from_matrices, "lists": _from_lists}[facts.layout]
        try:
            data = read(place, facts.sizes["nodes"], seed).validate()
        except (
            ArgumentError,
            IndexError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:  # arrays that do not fit each other
            raise error if isinstance(error, DataError) else DataError(f"{place}: {error}") from error
        check_sizes(facts.name, [data], facts.sizes)
        return data

    loader.__doc__ = f"The data set ``{facts.name}``; see its card."
    return loader


def _from_matrices(place: Path, num_nodes: int, seed: int) -> Data:
    found = npz(place, _MATRICES)
    row, column, _ = _entries(found, "adj")
    structure, y = _graph(torch.stack([row, column]), num_nodes), found["labels"].long()
    row, column, shape = _entries(found, "attr")
    value = found["attr_data"]
    if shape[0] != num_nodes or shape[0] * shape[1] > 2**31 or len(value) != len(row):
        raise DataError(f"{place}: features of {num_nodes} nodes are needed, not {shape}")
    x = torch.zeros(shape)
    x[row[value > 0], column[value > 0]] = 1
    return Data(structure, x, y, {"default": random_split(structure, y, seed=seed)}, {"class_names": None})


def _from_lists(place: Path, num_nodes: int, seed: int) -> Data:
    found = npz(place, _LISTS)
    if found["edges"].dim() != 2:
        raise DataError(f"{place}: edges [E, 2] are needed, not {list(found['edges'].shape)}")
    structure = _graph(found["edges"].long().T, num_nodes)
    masks = [found[f"{part}_masks"].bool() for part in ("train", "val", "test")]
    if any(mask.shape != (10, num_nodes) for mask in masks):
        raise DataError(f"{place}: ten masks of {num_nodes} nodes are needed")
    splits = {
        f"published-{i + 1}": Split(structure, *(mask[i].nonzero().flatten() for mask in masks)) for i in range(10)
    }
    splits["default"] = splits["published-1"]
    x, y = found["node_features"].float(), found["node_labels"].long()
    return Data(structure, x, y, splits, {"class_names": None})


def _entries(found: Mapping[str, Tensor], of: str) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Row and column of each entry of a sparse matrix by rows, and its shape."""
    indptr, column = found[f"{of}_indptr"].long(), found[f"{of}_indices"].long()
    rows, columns = found[f"{of}_shape"].tolist()
    sizes = indptr.diff()
    if len(indptr) != rows + 1 or bool((sizes < 0).any()) or int(indptr[0]) or int(indptr[-1]) != len(column):
        raise DataError(f"{of}: the rows do not divide the entries")
    if len(column) and not 0 <= int(column.min()) <= int(column.max()) < columns:
        raise DataError(f"{of}: columns outside 0 .. {columns - 1}")
    return torch.arange(rows).repeat_interleave(sizes), column, (rows, columns)


def _graph(edges: Tensor, num_nodes: int) -> Graph:
    pairs = np.unique(np.sort(edges.numpy(), axis=0), axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    return Graph.from_edge_index(torch.from_numpy(pairs), num_nodes=num_nodes, directed=False)


def _rows() -> list[_Facts]:
    lines = Path(__file__).with_name("pyg.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = []
    for name, url, *numbers, description in (line.split("\t") for line in lines):
        sizes = dict(zip(("nodes", "edges", "features", "classes"), map(int, numbers), strict=True))
        rows.append(_Facts(name, url, sizes, description))
    return rows


for _facts in _rows():
    register(
        _facts.name,
        description=_facts.description,
        kind="graph",
        task="node classification",
        target_spec={"kind": "class", "num_classes": _facts.sizes["classes"]},
        license="MIT (the repository of the file); the terms of its sources are not stated",
        redistribute=False,
        citation=_CITATIONS[_facts.layout],
        caveats=(*_OWN[_facts.layout], *_COMMON),
        sizes=_facts.sizes,
        download=None,
    )(_make_loader(_facts))
