"""Labeled graphs published with ProNE: human proteins, words of Wikipedia, and web pages of four universities."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hgraph.data import Data
from hgraph.datasets.common import DEGREE_CAVEAT, Root, labeled_data, read_lists, text_of
from hgraph.datasets.registry import register
from hgraph.errors import DataError
from hgraph.structure import Graph

__all__: list[str] = []

_CAVEATS = (
    "Edges are undirected and count twice, self-loops count once; self_loops=False drops self-loops.",
    "Labels have no names; they are numbered by the lines of the file.",
    DEGREE_CAVEAT,
    "The default split is random (`seed`): 50 % for training, 25 % for validation, 25 % for testing.",
)
_MULTI = "A node may have several labels: y is [N, C] booleans."
_WEB = "The links were directed; links in both directions are merged into one undirected edge. "
# name: file, description, whether nodes have several labels, sizes, caveats of the set
_SETS: dict[str, tuple[str, str, bool, dict[str, int], tuple[str, ...]]] = {
    "ppi": (
        "PPI",
        "3,890 human proteins, connected if they interact, with 50 labels (gene sets).",
        True,
        {"nodes": 3890, "edges": 76584, "features": 1, "classes": 50},
        (_MULTI, "894 proteins interact with themselves; these self-loops are kept."),
    ),
    "wikipedia": (
        "wikipedia",
        "4,777 words of Wikipedia, connected if they occur together, with 40 labels (parts of speech).",
        True,
        {"nodes": 4777, "edges": 184812, "features": 1, "classes": 40},
        (_MULTI, "222 self-loops are kept."),
    ),
    "cornell": (
        "cornell",
        "195 web pages of Cornell's computer science department and the links between them.",
        False,
        {"nodes": 195, "edges": 569, "features": 1, "classes": 5},
        (
            _WEB + "3 self-loops are kept.",
            "This is not the Cornell data set of Geom-GCN, which has 183 pages with features.",
        ),
    ),
    "texas": (
        "texas",
        "187 web pages of the computer science department in Texas and the links between them.",
        False,
        {"nodes": 187, "edges": 578, "features": 1, "classes": 5},
        (_WEB + "18 self-loops are kept.",),
    ),
    "wisconsin": (
        "wisconsin",
        "265 web pages of Wisconsin's computer science department and the links between them.",
        False,
        {"nodes": 265, "edges": 938, "features": 1, "classes": 5},
        (_WEB + "20 self-loops are kept.",),
    ),
    "washington": (
        "washington",
        "230 web pages of Washington's computer science department and the links between them.",
        False,
        {"nodes": 230, "edges": 783, "features": 1, "classes": 5},
        (_WEB + "51 self-loops are kept.",),
    ),
}


def _make_loader(name: str, file: str, multi: bool, sizes: dict[str, int]) -> Callable[..., Data]:
    def loader(root: Root = None, *, seed: int = 0, features: str = "degree", self_loops: bool = True) -> Data:
        node, label = read_lists(text_of("ppi_prone", f"{file}.cmty", root), "\t", source=f"{file}.cmty")
        y_all = torch.zeros(sizes["nodes"], sizes["classes"], dtype=torch.bool)
        y_all[node, label] = True
        count = y_all.sum(1)
        if not bool((count > 0).all()) or (not multi and not bool((count == 1).all())):
            raise DataError(f"{name}: expected {'at least ' * multi}one label per node")
        y = y_all if multi else y_all.int().argmax(1)
        structure = _graph(text_of("ppi_prone", f"{file}.ungraph", root), sizes["nodes"], self_loops)
        skip = ["edges"] * (not self_loops)
        return labeled_data(name, structure, y, {"class_names": None}, features=features, seed=seed, skip=skip)

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


def _graph(text: str, num_nodes: int, self_loops: bool) -> Graph:
    """Parse lines of two nodes, separated by a tab or a space; repeated edges, in either direction, are merged."""
    pairs = read_lists(text.replace(" ", "\t"), "\t", source="ungraph")[0].view(-1, 2)
    pairs = torch.unique(pairs.sort(1).values, dim=0)
    if not self_loops:
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return Graph.from_edge_index(pairs.T, num_nodes=num_nodes, directed=False)


for _name, (_file, _description, _multi, _sizes, _set_caveats) in _SETS.items():
    register(
        _name,
        description=_description,
        kind="graph",
        task="node classification",
        target_spec={"kind": "multilabel" if _multi else "class", "num_classes": _sizes["classes"]},
        license="MIT",
        redistribute=True,
        citation="J. Zhang et al.: ProNE: Fast and Scalable Network Representation Learning. IJCAI 2019 (files); "
        "A. Grover, J. Leskovec: node2vec. KDD 2016 (PPI from BioGRID, Wikipedia); M. Craven et al., 1998 (WebKB).",
        caveats=(*_set_caveats, *_CAVEATS),
        sizes=_sizes,
        files=[f"ppi_prone/{_file}.cmty", f"ppi_prone/{_file}.ungraph"],
    )(_make_loader(_name, _file, _multi, _sizes))
