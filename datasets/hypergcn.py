"""Co-citation and co-authorship hypergraphs, as published with HyperGCN."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hgraph.data import Data, Split
from hgraph.datasets.download import fetch_listed, listed
from hgraph.datasets.registry import register
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Hypergraph

__all__: list[str] = []

_CAVEATS = (
    "The ten published splits are named 'published-1' .. 'published-10'; they have no validation part, so it is empty.",
    "The default split is random (`seed`): 20 training and 100 validation nodes per class, the others for testing; "
    "split='published-1' makes a published one the default.",
    "Every split is transductive: training uses the whole hypergraph, including test nodes.",
    "Node order and class numbers are not those of Planetoid, and the classes have no names.",
    "Features say which words are present (1 or 0); normalize_features=True divides each row by its sum.",
)

# name: folder, description, sizes, caveats of the set
_SETS: dict[str, tuple[str, str, dict[str, int], tuple[str, ...]]] = {
    "cocitation-cora": (
        "cocitation/cora",
        "2,708 papers on machine learning; papers cited together by one paper form a hyperedge.",
        {"nodes": 2708, "hyperedges": 1579, "incidences": 4786, "features": 1433, "classes": 7},
        (
            "1,274 nodes (47 %) are in no hyperedge; they are kept and receive no messages without self-loops.",
            "96 hyperedges have the same members as another one; they are kept.",
            "The citing paper is not a member of the hyperedge.",
        ),
    ),
    "cocitation-citeseer": (
        "cocitation/citeseer",
        "3,312 papers on computer science; papers cited together by one paper form a hyperedge.",
        {"nodes": 3312, "hyperedges": 1079, "incidences": 3453, "features": 3703, "classes": 6},
        (
            "1,854 nodes (56 %) are in no hyperedge; they are kept and receive no messages without self-loops.",
            "75 hyperedges have the same members as another one; they are kept.",
            "In 22 of 1,079 hyperedges, the citing paper is a member too.",
        ),
    ),
    "coauthorship-cora": (
        "coauthorship/cora",
        "2,708 papers on machine learning; the papers of one author form a hyperedge.",
        {"nodes": 2708, "hyperedges": 1072, "incidences": 4585, "features": 1433, "classes": 7},
        (
            "320 nodes (12 %) are in no hyperedge; they are kept and receive no messages without self-loops.",
            "102 hyperedges have the same members as another one; they are kept.",
            "Features, labels and splits are those of cocitation-cora.",
        ),
    ),
}


def _make_loader(name: str, folder: str, sizes: dict[str, int]) -> Callable[..., Data]:
    def loader(
        root: str | os.PathLike[str] | None = None,
        *,
        seed: int = 0,
        split: str = "per_class",
        normalize_features: bool = True,
    ) -> Data:
        choices = ["per_class", *(f"published-{i}" for i in range(1, 11))]
        if split not in choices:
            raise ArgumentError("split", f"one of {choices}", repr(split))
        structure, keys = _structure(_read(folder, "hypergraph", root), sizes["nodes"])
        matrix = _read(folder, "features", root)
        if matrix.shape != (sizes["nodes"], sizes["features"]):  # before it is made dense
            raise DataError(
                f"{name}: expected features of shape {(sizes['nodes'], sizes['features'])}, got {matrix.shape}"
            )
        x = _features(matrix, normalize_features)
        y = torch.tensor(_read(folder, "labels", root))
        splits = {f"published-{i}": _published(structure, _read(folder, f"splits/{i}", root), i) for i in range(1, 11)}
        if split == "per_class":
            splits["default"] = Split.per_class(structure, y, num_train_per_class=20, num_val_per_class=100, seed=seed)
        else:
            splits["default"] = splits[split]
        meta = {"class_names": None, "hyperedge_names": keys, "row_sums": normalize_features}
        data = Data(structure, x, y, splits, meta).validate()
        _check_sizes(name, structure, data, sizes)
        return data

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


def _read(folder: str, file: str, root: str | os.PathLike[str] | None) -> Any:
    from hgraph.datasets.unpickle import loads

    path = fetch_listed("hypergcn", f"{folder}/{file}.pickle", root)
    return loads(path.read_bytes(), source=str(path))


def _structure(members: dict[Any, Any], num_nodes: int) -> tuple[Hypergraph, tuple[str, ...]]:
    """The hyperedges in file order, and their keys: the number of the citing paper, or the name of the author."""
    structure = Hypergraph.from_lists([sorted(m) for m in members.values()], num_nodes=num_nodes)
    return structure, tuple(map(str, members))


def _features(matrix: Any, normalize: bool) -> Tensor:
    x = torch.from_numpy(matrix.toarray()).float()
    return x / x.abs().sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny) if normalize else x


def _published(structure: Hypergraph, parts: dict[str, list[int]], number: int) -> Split:
    train, test = (torch.tensor(sorted(parts[part])) for part in ("train", "test"))
    if len(train) + len(test) != structure.num_nodes:
        raise DataError(
            f"published split {number}: expected {structure.num_nodes} nodes, got {len(train)} + {len(test)}"
        )
    return Split(structure, train, torch.empty(0, dtype=torch.long), test)


def _check_sizes(name: str, structure: Hypergraph, data: Data, sizes: dict[str, int]) -> None:
    found = {
        "nodes": structure.num_nodes,
        "hyperedges": structure.num_hyperedges,
        "incidences": structure.num_incidences,
        "features": data.num_features,
        "classes": data.num_classes,
    }
    if found != sizes:
        raise DataError(f"{name}: expected the sizes {sizes} of its card, got {found}")


for _name, (_folder, _description, _sizes, _set_caveats) in _SETS.items():
    register(
        _name,
        description=_description,
        kind="hypergraph",
        task="node classification",
        target_spec={"kind": "class", "num_classes": _sizes["classes"]},
        license="Apache-2.0",
        redistribute=True,
        citation="N. Yadati et al.: HyperGCN: A New Method For Training Graph Convolutional Networks on Hypergraphs. "
        "NeurIPS 2019.",
        caveats=(*_set_caveats, *_CAVEATS),
        sizes=_sizes,
        files=[f"hypergcn/{path}" for path in listed("hypergcn") if path.startswith(_folder + "/")],
    )(_make_loader(_name, _folder, _sizes))
