"""The node classification sets of DeepHypergraph: pickles of plain data, read by `hgraph.datasets.unpickle`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hgraph.data import Data, Split
from hgraph.datasets.common import DEGREE_CAVEAT, Root, default_features, features_meta, random_split
from hgraph.datasets.download import fetch_unlisted
from hgraph.datasets.registry import register
from hgraph.errors import DataError
from hgraph.structure import Graph, Hypergraph

__all__: list[str] = []

_URL = "https://huggingface.co/datasets/iMoonLab/DHG-data/resolve/main/datasets"
_MAX_BYTES = 2**30
_CAVEATS = (
    "Counts and MD5 sums are those published by DHG, and the files are checked against them. The first download is "
    "otherwise trusted, and later ones must match it (by SHA-256 in a lock file next to each file).",
    "folder= reads files that DHG has already downloaded, for instance ~/.cache/dhg/datasets/cora.",
    "Repeated members of a hyperedge are merged, repeated hyperedges are kept. In graphs, repeated edges are merged, "
    "self-loops are kept, and each undirected edge is stored as two directed ones.",
)


@dataclass(frozen=True)
class _Info:
    """A row of the table: the sizes and MD5 sums that DHG publishes."""

    name: str
    folder: str
    kind: str
    nodes: int
    edges: int
    classes: int
    features: int
    md5: dict[str, str]

    @property
    def same_val_test(self) -> bool:
        """Whether DHG publishes the same mask for validation and test."""
        return "val_mask.pkl" in self.md5 and self.md5["val_mask.pkl"] == self.md5["test_mask.pkl"]


def _make_loader(info: _Info) -> Callable[..., Data]:
    def loader(
        root: Root = None,
        *,
        seed: int = 0,
        features: str = "degree",
        folder: str | os.PathLike[str] | None = None,
    ) -> Data:
        read = {file: _read(info, file, root, folder) for file in info.md5}
        structure = _structure(info, read["edge_list.pkl"])
        y = _vector(info, read["labels.pkl"], "labels").long()
        if len(y) and (int(y.min()) < -1 or int(y.max()) >= info.classes):
            raise DataError(f"{info.name}: expected labels in 0 .. {info.classes - 1}")
        x = _features(info, read["features.pkl"]) if info.features else default_features(structure, features)
        meta = {"class_names": None, **({} if info.features else features_meta(features))}
        if "train_mask.pkl" in read:
            masks = {part: _vector(info, read[f"{part}_mask.pkl"], part).bool() for part in ("train", "val", "test")}
            ids = {part: mask.nonzero().flatten() for part, mask in masks.items()}
            split = Split(structure, ids["train"], ids["val"][:0] if info.same_val_test else ids["val"], ids["test"])
        else:
            split = random_split(structure, y, seed=seed)
        return Data(structure, x, y, {"default": split}, meta).validate()

    loader.__doc__ = f"The data set ``{info.name}``; see its card for details."
    return loader


def _read(info: _Info, file: str, root: Root, folder: str | os.PathLike[str] | None) -> Any:
    from hgraph.datasets.unpickle import loads

    if folder is None:
        url = f"{_URL}/{info.folder}/{file}"
        path = fetch_unlisted("dhg", f"{info.folder}/{file}", url, max_bytes=_MAX_BYTES, root=root)
    else:
        path = Path(folder) / file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != info.md5[file]:
        raise DataError(f"{path}: expected the published MD5 {info.md5[file]}, got {found}")
    return loads(content, source=str(path), max_bytes=_MAX_BYTES)


def _structure(info: _Info, edges: Any) -> Graph | Hypergraph:
    if not isinstance(edges, (list, tuple)) or len(edges) != info.edges:
        got = len(edges) if isinstance(edges, (list, tuple)) else type(edges).__name__
        raise DataError(f"{info.name}: expected a list of {info.edges} edges, got {got}")
    try:
        if info.kind == "hypergraph":
            return Hypergraph.from_lists([sorted(set(map(int, e))) for e in edges], num_nodes=info.nodes)
        pairs = np.array([[int(a), int(b)] for a, b in edges], dtype=np.int64).reshape(-1, 2)
        pairs = np.unique(np.sort(pairs, axis=1), axis=0)
        return Graph.from_edge_index(torch.from_numpy(pairs.T.copy()), num_nodes=info.nodes, directed=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{info.name}: expected edges between nodes 0 .. {info.nodes - 1} ({error})") from error


def _vector(info: _Info, values: Any, what: str) -> Tensor:
    """A list or array with one number or boolean per node, as int64 [N]."""
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes, dict)):
        try:
            found = np.asarray(values)
        except ValueError:
            found = np.empty(0, dtype=object)
        if found.shape == (info.nodes,) and found.dtype.kind in "biu":
            return torch.from_numpy(found.astype(np.int64))
    raise DataError(f"{info.name}: {what}: expected one whole number per node, {info.nodes} in all")


def _features(info: _Info, matrix: Any) -> Tensor:
    """A sparse matrix, an array or a list of rows, as floats [N, F]."""
    shape = (info.nodes, info.features)
    if hasattr(matrix, "toarray"):
        if matrix.shape != shape:  # before it is made dense
            raise DataError(f"{info.name}: expected features of shape {shape}, got {matrix.shape}")
        matrix = matrix.toarray()
    try:
        found = np.asarray(matrix, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{info.name}: expected numbers as features ({error})") from error
    if found.shape != shape:
        raise DataError(f"{info.name}: expected features of shape {shape}, got {found.shape}")
    return torch.from_numpy(found)


def _rows() -> list[_Info]:
    lines = Path(__file__).with_name("dhg.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = []
    for name, folder, kind, *numbers, sums in (line.split("\t") for line in lines):
        nodes, edges, classes, features = map(int, numbers)
        md5 = dict(pair.split("=") for pair in sums.split(","))
        rows.append(_Info(name, folder, kind, nodes, edges, classes, features, md5))
    return rows


def _set_caveats(info: _Info) -> list[str]:
    caveats = []
    if info.same_val_test:
        caveats.append("DHG's validation mask equals its test mask: the default split has no validation nodes.")
    elif "train_mask.pkl" in info.md5:
        caveats.append("The default split is the one that DHG publishes.")
    else:
        caveats.append("The default split is random (`seed`): 50 % of each class for training, 25 % for validation.")
    return caveats if info.features else [*caveats, DEGREE_CAVEAT]


for _info in _rows():
    _keys = ("nodes", "hyperedges") if _info.kind == "hypergraph" else ("nodes", "listed edges")
    register(
        _info.name,
        description=f"{_info.folder} as DeepHypergraph publishes it.",
        kind=_info.kind,
        task="node classification",
        target_spec={"kind": "class", "num_classes": _info.classes},
        license="none stated",
        redistribute=False,
        citation="Y. Gao, Y. Feng, S. Ji, R. Ji: HGNN+: General Hypergraph Neural Networks. TPAMI, 2023; and "
        "the sources that DHG's documentation names.",
        caveats=(*_set_caveats(_info), *_CAVEATS),
        sizes={
            _keys[0]: _info.nodes,
            _keys[1]: _info.edges,
            "features": _info.features or 1,
            "classes": _info.classes,
        },
        download=None,
    )(_make_loader(_info))
