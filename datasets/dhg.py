"""The node classification sets that DeepHypergraph publishes: pickles of plain data, read by our own unpickler."""

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
from hgraph.datasets.common import DEGREE_CAVEAT, Root, made_features, random_split
from hgraph.datasets.download import fetch_unlisted
from hgraph.datasets.registry import register
from hgraph.errors import DataError
from hgraph.structure import Graph, Hypergraph

__all__: list[str] = []

_URL = "https://huggingface.co/datasets/iMoonLab/DHG-data/resolve/main/datasets"
_MAX_BYTES = 2**30
_CAVEATS = (
    "Counts are those of DHG's cards; the files are checked against them, and against DHG's MD5. The first download is "
    "trusted beyond that, and later ones must equal it (lock files with SHA-256 beside the files).",
    "folder= reads files that DHG has fetched already, for instance ~/.cache/dhg/datasets/cora.",
    "A member that is listed twice in a hyperedge counts once, repeated hyperedges are kept; of a graph repeated edges "
    "are merged, loops are kept, and each undirected edge is two directed ones.",
)


@dataclass(frozen=True)
class _Facts:
    """A row of the table: what DHG's cards say."""

    name: str
    folder: str
    kind: str
    nodes: int
    edges: int
    classes: int
    features: int
    md5: dict[str, str]

    @property
    def same_parts(self) -> bool:
        """Whether DHG publishes one and the same mask for validation and test."""
        return "val_mask.pkl" in self.md5 and self.md5["val_mask.pkl"] == self.md5["test_mask.pkl"]


def _make_loader(facts: _Facts) -> Callable[..., Data]:
    def loader(
        root: Root = None,
        *,
        seed: int = 0,
        features: str = "degree",
        folder: str | os.PathLike[str] | None = None,
    ) -> Data:
        read = {file: _read(facts, file, root, folder) for file in facts.md5}
        structure = _structure(facts, read["edge_list.pkl"])
        y = _vector(facts, read["labels.pkl"], "labels").long()
        if len(y) and (int(y.min()) < -1 or int(y.max()) >= facts.classes):
            raise DataError(f"{facts.name}: labels must lie in 0 .. {facts.classes - 1}")
        x = _features(facts, read["features.pkl"]) if facts.features else made_features(structure, features)
        if "train_mask.pkl" in read:
            masks = {part: _vector(facts, read[f"{part}_mask.pkl"], part).bool() for part in ("train", "val", "test")}
            ids = {part: mask.nonzero().flatten() for part, mask in masks.items()}
            split = Split(structure, ids["train"], ids["val"][:0] if facts.same_parts else ids["val"], ids["test"])
        else:
            split = random_split(structure, y, seed=seed)
        return Data(structure, x, y, {"default": split}, {"class_names": None}).validate()

    loader.__doc__ = f"The data set ``{facts.name}``; see its card."
    return loader


def _read(facts: _Facts, file: str, root: Root, folder: str | os.PathLike[str] | None) -> Any:
    from hgraph.datasets.unpickle import loads

    if folder is None:
        url = f"{_URL}/{facts.folder}/{file}"
        path = fetch_unlisted("dhg", f"{facts.folder}/{file}", url, max_bytes=_MAX_BYTES, root=root)
    else:
        path = Path(folder) / file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != facts.md5[file]:
        raise DataError(f"{path}: MD5 is {found}, DHG says {facts.md5[file]}: not the published file")
    return loads(content, source=str(path), max_bytes=_MAX_BYTES)


def _structure(facts: _Facts, edges: Any) -> Graph | Hypergraph:
    if not isinstance(edges, (list, tuple)) or len(edges) != facts.edges:
        got = len(edges) if isinstance(edges, (list, tuple)) else type(edges).__name__
        raise DataError(f"{facts.name}: a list of {facts.edges} edges is needed, got {got}")
    try:
        if facts.kind == "hypergraph":
            return Hypergraph.from_lists([sorted(set(map(int, e))) for e in edges], num_nodes=facts.nodes)
        pairs = np.array([[int(a), int(b)] for a, b in edges], dtype=np.int64).reshape(-1, 2)
        pairs = np.unique(np.sort(pairs, axis=1), axis=0)
        return Graph.from_edge_index(torch.from_numpy(pairs.T.copy()), num_nodes=facts.nodes, directed=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{facts.name}: edges of nodes 0 .. {facts.nodes - 1} are needed ({error})") from error


def _vector(facts: _Facts, values: Any, what: str) -> Tensor:
    """A list or array with one number or boolean a node."""
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes, dict)):
        try:
            found = np.asarray(values)
        except ValueError:
            found = np.empty(0, dtype=object)
        if found.shape == (facts.nodes,) and found.dtype.kind in "biu":
            return torch.from_numpy(found.astype(np.int64))
    raise DataError(f"{facts.name}: {what}: one whole number for each of {facts.nodes} nodes is needed")


def _features(facts: _Facts, matrix: Any) -> Tensor:
    """A sparse matrix, an array, or a list of rows, as [N, F] floats."""
    shape = (facts.nodes, facts.features)
    if hasattr(matrix, "toarray"):
        if matrix.shape != shape:  # before it is made dense
            raise DataError(f"{facts.name}: features {shape} are needed, not {matrix.shape}")
        matrix = matrix.toarray()
    try:
        found = np.asarray(matrix, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{facts.name}: features are not numbers ({error})") from error
    if found.shape != shape:
        raise DataError(f"{facts.name}: features {shape} are needed, not {found.shape}")
    return torch.from_numpy(found)


def _rows() -> list[_Facts]:
    lines = Path(__file__).with_name("dhg.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = []
    for name, folder, kind, *numbers, sums in (line.split("\t") for line in lines):
        nodes, edges, classes, features = map(int, numbers)
        md5 = dict(pair.split("=") for pair in sums.split(","))
        rows.append(_Facts(name, folder, kind, nodes, edges, classes, features, md5))
    return rows


def _own_caveats(facts: _Facts) -> list[str]:
    caveats = []
    if facts.same_parts:
        caveats.append(
            "DHG's validation mask is its test mask: the default split has DHG's test part and no validation."
        )
    elif "train_mask.pkl" in facts.md5:
        caveats.append("The default split is DHG's own.")
    else:
        caveats.append("The default split is drawn under `seed`: half of every class trains, a quarter validates.")
    return caveats if facts.features else [*caveats, DEGREE_CAVEAT]


for _facts in _rows():
    _things = ("nodes", "hyperedges") if _facts.kind == "hypergraph" else ("nodes", "listed edges")
    register(
        _facts.name,
        description=f"{_facts.folder} as DeepHypergraph publishes it.",
        kind=_facts.kind,
        task="node classification",
        target_spec={"kind": "class", "num_classes": _facts.classes},
        license="none stated",
        redistribute=False,
        citation="Y. Gao, Y. Feng, S. Ji, R. Ji: HGNN+: General Hypergraph Neural Networks. TPAMI, 2023; and "
        "the sources that DHG's documentation names.",
        caveats=(*_own_caveats(_facts), *_CAVEATS),
        sizes={
            _things[0]: _facts.nodes,
            _things[1]: _facts.edges,
            "features": _facts.features or 1,
            "classes": _facts.classes,
        },
        download=None,
    )(_make_loader(_facts))
