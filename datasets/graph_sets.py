"""Data sets of many small graphs with one class each: those published with DGCNN, and ENZYMES of TU Dortmund."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hgraph.data import Data, Dataset
from hgraph.data.split import Parts
from hgraph.datasets.common import Root, check_sizes, default_features, files_of, random_split, read_lists, text_of
from hgraph.datasets.registry import dataset, register
from hgraph.errors import DataError
from hgraph.structure import Graph

__all__ = ["enzymes"]

_TAGS = "x is the one-hot tag of each node (an atom or a kind of structure), in the order of the tags."
_DEGREE = "There are no node attributes: x is log(1 + degree), one column, unless features is 'constant' or 'none'."
_FOLDS = "The ten published folds are named 'fold-1' .. 'fold-10'; they have no validation part, so it is empty."
_DEFAULT = (
    "The default split is random (`seed`): 80 % of each class for training, 10 % for validation, 10 % for testing."
)

# name: folder, description, sizes over all graphs, caveats of the set
_SETS: dict[str, tuple[str, str, dict[str, int], tuple[str, ...]]] = {
    "mutag": (
        "MUTAG",
        "188 compounds; predict whether they are mutagenic.",
        {"graphs": 188, "nodes": 3371, "edges": 7442, "features": 7, "classes": 2},
        (_TAGS, "Eight graphs are in no test part of the folds.", "Labels are 0 and 2 in the file and 0 and 1 here."),
    ),
    "proteins": (
        "PROTEINS",
        "1,113 proteins; predict whether they are enzymes.",
        {"graphs": 1113, "nodes": 43471, "edges": 162088, "features": 3, "classes": 2},
        (_TAGS, "Three graphs are in no test part of the folds."),
    ),
    "ptc": (
        "PTC",
        "344 compounds; predict whether they cause cancer in rats.",
        {"graphs": 344, "nodes": 8792, "edges": 17862, "features": 19, "classes": 2},
        (
            _TAGS,
            "Four graphs are in no test part of the folds.",
            "There are more nodes per graph (25.56) than in TU's PTC_MR (14.29, without hydrogens).",
        ),
    ),
    "nci1": (
        "NCI1",
        "4,110 compounds; predict whether they are active against lung cancer cells.",
        {"graphs": 4110, "nodes": 122747, "edges": 265506, "features": 37, "classes": 2},
        (_TAGS,),
    ),
    "imdb-binary": (
        "IMDBBINARY",
        "1,000 networks of actors who appeared together in action or romance films.",
        {"graphs": 1000, "nodes": 19773, "edges": 193062, "features": 1, "classes": 2},
        (_DEGREE,),
    ),
    "imdb-multi": (
        "IMDBMULTI",
        "1,500 networks of actors who appeared together in comedies, romances or science fiction films.",
        {"graphs": 1500, "nodes": 19502, "edges": 197806, "features": 1, "classes": 3},
        (_DEGREE,),
    ),
}


def _make_loader(name: str, folder: str, sizes: dict[str, int]) -> Callable[..., Dataset[Data]]:
    tagged = "imdb" not in name

    def loader(root: Root = None, *, seed: int = 0, features: str = "tags" if tagged else "degree") -> Dataset[Data]:
        labels, tags, graphs = _read(text_of("graphs_dgcnn", f"{folder}/{folder}.txt", root), folder)
        values, y = torch.unique(torch.tensor(labels), return_inverse=True)
        kinds, tag = torch.unique(torch.cat(tags), return_inverse=True)
        meta = {"class_names": tuple(str(v) for v in values.tolist()), "tags": tuple(kinds.tolist())}
        items = []
        for graph, label, own_tag in zip(graphs, y, tag.split([len(t) for t in tags]), strict=True):
            if features == "tags" and tagged:
                x = torch.nn.functional.one_hot(own_tag, len(kinds)).float()
            else:
                x = default_features(graph, features)
            items.append(Data(graph, x, label, meta=meta, target="graph"))
        check_sizes(name, items, sizes, skip=["features"] * (features != ("tags" if tagged else "degree")))
        return dataset(name, items, {"default": _random_parts(graphs[0], y, seed), **_folds(folder, root)})

    loader.__doc__ = f"The data set ``{name}``; see its card for details."
    return loader


def _read(text: str, name: str) -> tuple[list[int], list[Tensor], list[Graph]]:
    """The label, the tags and the graph of each block."""
    lines = iter(text.splitlines())
    labels, tags, graphs = [], [], []
    try:
        for _ in range(int(next(lines))):
            count, label = map(int, next(lines).split())
            rows = [[int(n) for n in next(lines).split()] for _ in range(count)]
            if any(len(row) != 2 + row[1] for row in rows):
                raise DataError(f"{name}: expected as many neighbors of each node as its line declares")
            labels.append(label)
            tags.append(torch.tensor([row[0] for row in rows]))
            graphs.append(_graph(rows, name))
    except (ValueError, StopIteration, IndexError) as error:
        raise DataError(f"{name}: not a file of graphs in the format of DGCNN ({error!r})") from error
    if next(lines, None) is not None:
        raise DataError(f"{name}: unexpected lines after the last graph")
    return labels, tags, graphs


def _graph(rows: list[list[int]], name: str) -> Graph:
    target = [v for v, row in enumerate(rows) for _ in row[2:]]
    edges = torch.tensor([[u for row in rows for u in row[2:]], target], dtype=torch.long)
    graph = Graph.from_edge_index(edges, num_nodes=len(rows), directed=True)
    if graph.directed:
        raise DataError(f"{name}: expected every edge in both directions")
    return graph


def _folds(folder: str, root: Root) -> dict[str, Parts]:
    def ids(part: str, number: int) -> Tensor:
        text = text_of("graphs_dgcnn", f"{folder}/10fold_idx/{part}_idx-{number}.txt", root)
        return torch.tensor([int(line) for line in text.split()])

    empty = torch.empty(0, dtype=torch.long)
    return {f"fold-{i}": Parts(ids("train", i), empty, ids("test", i)) for i in range(1, 11)}


def _random_parts(some: Graph, y: Tensor, seed: int) -> Parts:
    split = random_split(some, y, seed=seed, train=0.8, val=0.1)
    return Parts(split.train, split.val, split.test)


for _name, (_folder, _description, _sizes, _set_caveats) in _SETS.items():
    register(
        _name,
        description=_description,
        kind="graph",
        task="graph classification",
        target_spec={"kind": "class", "num_classes": _sizes["classes"]},
        license="MIT",
        redistribute=True,
        citation="M. Zhang, Z. Cui, M. Neumann, Y. Chen: An End-to-End Deep Learning Architecture for Graph "
        "Classification. AAAI 2018 (files); C. Morris et al.: TUDataset, 2020; P. Yanardag, S. Vishwanathan: Deep "
        "Graph Kernels. KDD 2015 (IMDB).",
        caveats=(*_set_caveats, _FOLDS, _DEFAULT),
        sizes=_sizes,
        files=files_of("graphs_dgcnn", _folder + "/"),
    )(_make_loader(_name, _folder, _sizes))


@register(
    "enzymes",
    description="600 enzymes as graphs of secondary structure elements; predict which of six reactions they catalyze.",
    kind="graph",
    task="graph classification",
    target_spec={"kind": "class", "num_classes": 6},
    license="MIT",
    redistribute=True,
    citation="K. Borgwardt et al.: Protein function prediction via graph kernels, 2005; I. Schomburg et al.: BRENDA, "
    "2004; C. Morris et al.: TUDataset, 2020.",
    caveats=(
        "x is the 18 published attributes of each node, then the one-hot encoding of its label (helix, sheet, turn).",
        "106 nodes have no neighbors; they are kept.",
        "Graphs are sorted by class, beginning with class 6: shuffle before you split by position.",
        "Labels are 1 to 6 in the file and 0 to 5 here.",
        _DEFAULT,
    ),
    sizes={"graphs": 600, "nodes": 19580, "edges": 74564, "features": 21, "classes": 6},
    files=files_of("tu_enzymes", ""),
)
def enzymes(root: Root = None, *, seed: int = 0) -> Dataset[Data]:
    """Enzymes and the kind of reaction that they catalyze.

    Args:
        root: see `hgraph.datasets.load`.
        seed: random seed of the split.
    """
    text = {
        part: text_of("tu_enzymes", f"ENZYMES_{part}.txt", root)
        for part in ("A", "graph_indicator", "graph_labels", "node_labels", "node_attributes")
    }
    of = torch.tensor([int(g) - 1 for g in text["graph_indicator"].split()])
    y = torch.tensor([int(label) - 1 for label in text["graph_labels"].split()])
    kind = torch.tensor([int(label) - 1 for label in text["node_labels"].split()])
    attributes = np.array(text["node_attributes"].replace(",", " ").split(), dtype=np.float32).reshape(len(of), -1)
    x = torch.cat([torch.from_numpy(attributes), torch.nn.functional.one_hot(kind).float()], 1)
    edges = read_lists(text["A"].replace(" ", ""), ",", source="ENZYMES_A.txt")[0].view(-1, 2) - 1
    if bool((of.diff() < 0).any()) or not torch.equal(of[edges[:, 0]], of[edges[:, 1]]):
        raise DataError("enzymes: expected nodes sorted by graph, and edges within a graph")
    items = [_slice(*part, x=x) for part in _slices(of, edges, y)]
    check_sizes("enzymes", items, {"graphs": 600, "nodes": 19580, "edges": 74564, "features": 21, "classes": 6})
    return dataset("enzymes", items, {"default": _random_parts(items[0].structure, y, seed)})  # type: ignore[arg-type]


def _slices(of: Tensor, edges: Tensor, y: Tensor) -> Iterator[tuple[Any, ...]]:
    """The first node, number of nodes, edges and class of each graph."""
    counts = of.bincount(minlength=len(y))
    first = counts.cumsum(0) - counts
    owner = of[edges[:, 0]]
    edges = edges[owner.argsort(stable=True)]
    parts = edges.split(owner.bincount(minlength=len(y)).tolist())
    return zip(first.tolist(), counts.tolist(), parts, y, strict=True)


def _slice(first: int, count: int, edges: Tensor, label: Tensor, *, x: Tensor) -> Data:
    graph = Graph.from_edge_index((edges - first).T, num_nodes=count, directed=True)
    meta = {"class_names": tuple("123456")}
    return Data(graph, x[first : first + count], label, meta=meta, target="graph")
