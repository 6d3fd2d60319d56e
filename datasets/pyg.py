"""Node classification sets of PyTorch Geometric, from the same ``.npz`` files.

There are two layouts: sparse matrices of edges and of features (A. Bojchevski, O. Shchur and others), and a list of
edges with ten published splits (O. Platonov and others). Only the numeric arrays are read, not the pickled names.
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
    "No hash is published: the first download is trusted, and later ones must match it (by a lock file next to it); "
    "file= reads one that PyG has already downloaded, such as data/Computers/raw/amazon_electronics_computers.npz.",
    "Counts are those in PyG's documentation, and the file is checked against them.",
    "As in PyG, self-loops are dropped, repeated edges are merged, and each undirected edge becomes two directed ones.",
)
_LAYOUT_CAVEATS = {
    "matrices": (
        "Features are 1 or 0 (present or not), as in PyG, whatever numbers the file has.",
        "The default split is random (`seed`): 50 % of each class for training, 25 % for validation, 25 % for testing.",
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
class _Info:
    """A row of the table: the URL of the file, and the sizes that PyG publishes."""

    name: str
    url: str
    sizes: Mapping[str, int]
    description: str

    @property
    def layout(self) -> str:
        """Which of the two layouts the file has."""
        return "lists" if "heterophilous" in self.url else "matrices"


def _make_loader(info: _Info) -> Callable[..., Data]:
    def loader(root: Root = None, *, seed: int = 0, file: str | os.PathLike[str] | None = None) -> Data:
        name = info.url.rsplit("/", 1)[1]
        fetched = file is None
        place = fetch_unlisted("pyg", name, info.url, max_bytes=_MAX_BYTES, root=root) if fetched else Path(str(file))
        read = {"matrices": _from_matrices, "lists": _from_lists}[info.layout]
        try:
            data = read(place, info.sizes["nodes"], seed).validate()
        except (
            ArgumentError,
            IndexError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:  # arrays that do not fit together
            raise error if isinstance(error, DataError) else DataError(f"{place}: {error}") from error
        check_sizes(info.name, [data], info.sizes)
        return data

    loader.__doc__ = f"The data set ``{info.name}``; see its card for details."
    return loader


def _from_matrices(place: Path, num_nodes: int, seed: int) -> Data:
    found = npz(place, _MATRICES)
    row, column, _ = _entries(found, "adj")
    structure, y = _graph(torch.stack([row, column]), num_nodes), found["labels"].long()
    row, column, shape = _entries(found, "attr")
    value = found["attr_data"]
    if shape[0] != num_nodes or shape[0] * shape[1] > 2**31 or len(value) != len(row):
        raise DataError(f"{place}: expected features of {num_nodes} nodes, got shape {shape}")
    x = torch.zeros(shape)
    x[row[value > 0], column[value > 0]] = 1
    return Data(structure, x, y, {"default": random_split(structure, y, seed=seed)}, {"class_names": None})


def _from_lists(place: Path, num_nodes: int, seed: int) -> Data:
    found = npz(place, _LISTS)
    if found["edges"].dim() != 2:
        raise DataError(f"{place}: expected edges of shape [E, 2], got {list(found['edges'].shape)}")
    structure = _graph(found["edges"].long().T, num_nodes)
    masks = [found[f"{part}_masks"].bool() for part in ("train", "val", "test")]
    if any(mask.shape != (10, num_nodes) for mask in masks):
        raise DataError(f"{place}: expected masks of shape [10, {num_nodes}]")
    splits = {
        f"published-{i + 1}": Split(structure, *(mask[i].nonzero().flatten() for mask in masks)) for i in range(10)
    }
    splits["default"] = splits["published-1"]
    x, y = found["node_features"].float(), found["node_labels"].long()
    return Data(structure, x, y, splits, {"class_names": None})


def _entries(found: Mapping[str, Tensor], of: str) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Row and column of each entry of a CSR matrix, and its shape."""
    indptr, column = found[f"{of}_indptr"].long(), found[f"{of}_indices"].long()
    rows, columns = found[f"{of}_shape"].tolist()
    sizes = indptr.diff()
    if len(indptr) != rows + 1 or bool((sizes < 0).any()) or int(indptr[0]) or int(indptr[-1]) != len(column):
        raise DataError(f"{of}: indptr does not divide the entries into rows")
    if len(column) and not 0 <= int(column.min()) <= int(column.max()) < columns:
        raise DataError(f"{of}: expected columns 0 .. {columns - 1}, got others")
    return torch.arange(rows).repeat_interleave(sizes), column, (rows, columns)


def _graph(edges: Tensor, num_nodes: int) -> Graph:
    pairs = np.unique(np.sort(edges.numpy(), axis=0), axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    return Graph.from_edge_index(torch.from_numpy(pairs), num_nodes=num_nodes, directed=False)


def _rows() -> list[_Info]:
    lines = Path(__file__).with_name("pyg.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = []
    for name, url, *numbers, description in (line.split("\t") for line in lines):
        sizes = dict(zip(("nodes", "edges", "features", "classes"), map(int, numbers), strict=True))
        rows.append(_Info(name, url, sizes, description))
    return rows


for _info in _rows():
    register(
        _info.name,
        description=_info.description,
        kind="graph",
        task="node classification",
        target_spec={"kind": "class", "num_classes": _info.sizes["classes"]},
        license="MIT for the repository of the file; terms of the sources not stated",
        redistribute=False,
        citation=_CITATIONS[_info.layout],
        caveats=(*_LAYOUT_CAVEATS[_info.layout], *_COMMON),
        sizes=_info.sizes,
        download=None,
    )(_make_loader(_info))
