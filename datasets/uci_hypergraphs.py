"""Hypergraphs of UCI tables and of 20 Newsgroups, as published with HyperCutMatch (MATLAB 7.3 files)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hgraph.data import Data
from hgraph.datasets.common import Root, check_sizes, default_features, features_meta, random_split
from hgraph.datasets.download import fetch_listed
from hgraph.datasets.registry import register
from hgraph.errors import DataError, MissingPackageError
from hgraph.structure import Hypergraph

__all__: list[str] = []

_CAVEATS = (
    "There are few and huge hyperedges: a clique expansion is almost dense.",
    "There are no features: x is the incidence matrix (0 or 1), unless features is 'degree', 'constant' or 'none'.",
    "The default split is random (`seed`): 50 % of each class for training, 25 % for validation, 25 % for testing.",
    "The files are HDF5; install hgraph[io] (h5py) to read them.",
)

# name: file, description, class names (None: not in the file), sizes, caveats of the set
_SETS: dict[str, tuple[str, str, tuple[str, ...] | None, dict[str, int], tuple[str, ...]]] = {
    "newsgroups": (
        "Newsgroups",
        "16,242 newsgroup postings; the postings that contain one of 100 words form a hyperedge (20newsW100).",
        None,
        {"nodes": 16242, "hyperedges": 100, "incidences": 65451, "features": 100, "classes": 4},
        (),
    ),
    "mushrooms": (
        "Mushrooms",
        "8,124 mushrooms; those with the same value of an attribute form a hyperedge.",
        ("edible", "poisonous"),
        {"nodes": 8124, "hyperedges": 112, "incidences": 170604, "features": 112, "classes": 2},
        (
            "One hyperedge contains all nodes.",
            "112 hyperedges from 21 attributes; other collections convert the table differently (see uci-mushroom).",
            "The file has no class names; they follow from the class sizes of the UCI table, 4,208 and 3,916.",
        ),
    ),
    "covertype45": (
        "Covertype45",
        "12,240 patches of forest of cover types 4 and 5; those with the same value of an attribute form a hyperedge.",
        ("type 4", "type 5"),
        {"nodes": 12240, "hyperedges": 128, "incidences": 146880, "features": 128, "classes": 2},
        ("Cover types 6 and 7 of the same collection are not available.",),
    ),
    "zoo": (
        "Zoo",
        "100 animals; those that share a trait form a hyperedge.",
        None,
        {"nodes": 100, "hyperedges": 15, "incidences": 654, "features": 15, "classes": 7},
        (
            "The UCI table has one more frog (see uci-zoo).",
            "Classes are 1 to 7 in the file and 0 to 6 here.",
        ),
    ),
    "cities": (
        "Cities",
        "46 cities and 55 sets of them.",
        (),
        {"nodes": 46, "hyperedges": 55, "incidences": 1342, "features": 55, "classes": 0},
        ("There are no labels: y is -1 (missing) for every node, and there is no split.",),
    ),
}


def _make_loader(name: str, file: str, classes: tuple[str, ...] | None, sizes: dict[str, int]) -> Callable[..., Data]:
    def loader(root: Root = None, *, seed: int = 0, features: str = "memberships") -> Data:
        incidence, labels, meta = _read(file, root)
        edge, node, shape = incidence
        if shape != (sizes["hyperedges"], sizes["nodes"]):
            raise DataError(
                f"{name}: expected {sizes['hyperedges']} hyperedges and {sizes['nodes']} nodes, got {shape}"
            )
        structure = Hypergraph.from_coo(node=node, hyperedge=edge, num_nodes=shape[1], num_hyperedges=shape[0])
        splits, y = {}, torch.full((shape[1],), -1)
        if labels is not None:
            values, y = torch.unique(labels, return_inverse=True)  # 1-based, or 4 and 5
            meta["class_names"] = meta.get("class_names") or classes or tuple(str(int(v)) for v in values)
            splits["default"] = random_split(structure, y, seed=seed)
        meta |= features_meta(features)
        data = Data(structure, default_features(structure, features), y, splits, meta).validate()
        check_sizes(name, [data], sizes, skip=["features"] * (features != "memberships"))
        return data

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


def _read(file: str, root: Root) -> tuple[tuple[torch.Tensor, torch.Tensor, tuple[int, int]], Any, dict[str, Any]]:
    """The incidences (hyperedge, node, shape), the labels or None, and the names of one file.

    The matrix is stored in CSC format; its rows are hyperedges and its columns are nodes.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingPackageError("h5py", "io", "reading MATLAB 7.3 files") from error
    path = fetch_listed("uci_hypergraphs", f"{file}_H.mat", root)
    with h5py.File(path, "r") as content:
        matrix = content["H"]
        ends = torch.from_numpy(matrix["jc"][()].astype("int64"))
        edge = torch.from_numpy(matrix["ir"][()].astype("int64"))
        node = torch.arange(len(ends) - 1).repeat_interleave(ends.diff())
        shape = (int(matrix.attrs["MATLAB_sparse"]), len(ends) - 1)
        labels = (
            torch.from_numpy(content["NodeLabels"][()].astype("int64")).flatten() if "NodeLabels" in content else None
        )
        names = {"class_names": "LabelNames", "hyperedge_names": "EdgeNames", "node_names": "NodeNames"}
        meta = {key: _texts(content, cell) for key, cell in names.items() if cell in content}
    return (edge, node, shape), labels, {key: value for key, value in meta.items() if value}


def _texts(content: Any, name: str) -> tuple[str, ...] | None:
    """Read a cell array (references to arrays of UTF-16 codes); None if it is missing, stored as a single number."""
    cell = content[name]
    if cell.dtype != object:
        return None
    arrays = [content[reference][()].flatten() for reference in cell[()].flatten()]
    return tuple(codes.astype("<u2").tobytes().decode("utf-16-le") for codes in arrays)


for _name, (_file, _description, _classes, _sizes, _set_caveats) in _SETS.items():
    register(
        _name,
        description=_description,
        kind="hypergraph",
        task="node classification",
        target_spec={"kind": "class", "num_classes": _sizes["classes"]},
        license="MIT",
        redistribute=True,
        citation="N. Veldt: Cut-matching games for generalized hypergraph ratio cuts. WWW 2023; tables of the UCI "
        "Machine Learning Repository; 20 Newsgroups after D. Zhou, J. Huang, B. Schoelkopf: Learning with Hypergraphs. "
        "NIPS 2006.",
        caveats=(*_set_caveats, *_CAVEATS),
        sizes=_sizes,
        files=[f"uci_hypergraphs/{_file}_H.mat"],
    )(_make_loader(_name, _file, _classes, _sizes))
