"""Data sets that need no download: they come with scikit-learn and networkx."""

from __future__ import annotations

import os
from typing import Any

import torch

from hgraph.builders import knn_hypergraph
from hgraph.data import Data, Split
from hgraph.data.derived import STRUCTURE_FROM
from hgraph.datasets.registry import register
from hgraph.structure import Graph, Hypergraph

__all__ = ["davis", "digits", "karate", "lesmis"]

Root = str | os.PathLike[str] | None
_NETWORKX = "none stated by the authors; comes with networkx (BSD-3-Clause)"
_ONE_HOT = "There are no features: x is the identity, one column per node, so a model learns nothing about new nodes."


@register(
    "digits",
    description="1,797 handwritten digits of 8 x 8 pixels; each digit and its nearest neighbors form a hyperedge.",
    kind="hypergraph",
    task="node classification",
    target_spec={"kind": "class", "num_classes": 10},
    license="CC BY 4.0 (UCI); comes with scikit-learn (BSD-3-Clause)",
    redistribute=True,
    citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. UCI ML Repository, 1998.",
    caveats=(
        "These are the test digits of the UCI set; its training digits are not part of scikit-learn.",
        "The hypergraph is built from the pixels of all digits, including test digits, but without labels. In the "
        "production setting, training uses a hypergraph built from the observed digits only.",
        "Hyperedge i has digit i and its k nearest neighbors, so no node is isolated.",
        "Pixels are scaled from 0..16 to 0..1.",
        "The default split is random per class (`seed`): 20 training, 30 validation, the others test nodes.",
    ),
    sizes={"nodes": 1797, "hyperedges": 1797, "incidences": 19767, "features": 64, "classes": 10},
)
def digits(root: Root = None, *, k: int = 10, seed: int = 0) -> Data:
    """Scikit-learn's digits as a k-nearest-neighbor hypergraph.

    Args:
        root: not used.
        k: number of neighbors in a hyperedge, without the digit itself.
        seed: random seed of the split.

    >>> digits(k=3).structure
    Hypergraph(1797 nodes, 1797 hyperedges, 7188 incidences, cpu)
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.data).float() / 16
    y = torch.from_numpy(bunch.target).long()
    structure = knn_hypergraph(x, k)
    meta = {
        STRUCTURE_FROM: {"builder": "knn_hypergraph", "k": k},
        "node_names": tuple(f"digit {i}" for i in range(len(x))),
        "class_names": tuple(str(c) for c in bunch.target_names),
        "feature_names": tuple(bunch.feature_names),
    }
    return _data(
        structure, x, y, Split.per_class(structure, y, num_train_per_class=20, num_val_per_class=30, seed=seed), meta
    )


@register(
    "davis",
    description="18 women of the American South and the 14 social events that they attended in the 1930s.",
    kind="hypergraph",
    task="node classification",
    target_spec={"kind": "class", "num_classes": 2},
    license=_NETWORKX,
    redistribute=True,
    citation="A. Davis, B. B. Gardner, M. R. Gardner: Deep South. University of Chicago Press, 1941.",
    caveats=(
        "Women are nodes, events are hyperedges.",
        "networkx has no labels. The classes are the first nine and the last nine women, roughly the two groups on "
        "which most analyses agree (see L. C. Freeman, 2003): an interpretation of the data, not an observation.",
        _ONE_HOT,
        "The default split is random per class (`seed`): 2 training, 2 validation, the others test nodes.",
    ),
    sizes={"nodes": 18, "hyperedges": 14, "incidences": 89, "features": 18, "classes": 2},
)
def davis(root: Root = None, *, seed: int = 0) -> Data:
    """Davis's Southern women: who attended which event.

    Args:
        root: not used.
        seed: random seed of the split.

    >>> davis().meta["node_names"][0]
    'Evelyn Jefferson'
    """
    import networkx as nx

    graph = nx.davis_southern_women_graph()
    women, events = graph.graph["top"], graph.graph["bottom"]
    number = {name: i for i, name in enumerate(women)}
    structure = Hypergraph.from_lists([[number[w] for w in graph[e]] for e in events], num_nodes=len(women))
    y = torch.arange(len(women)) // 9
    meta = {
        "node_names": tuple(women),
        "hyperedge_names": tuple(events),
        "class_names": ("first group", "second group"),
    }
    split = Split.per_class(structure, y, num_train_per_class=2, num_val_per_class=2, seed=seed)
    return _data(structure, torch.eye(len(women)), y, split, meta)


@register(
    "karate",
    description="34 members of a karate club and their contacts outside it, before the club split in two.",
    kind="graph",
    task="node classification",
    target_spec={"kind": "class", "num_classes": 2},
    license=_NETWORKX,
    redistribute=True,
    citation="W. W. Zachary: An Information Flow Model for Conflict and Fission in Small Groups. "
    "Journal of Anthropological Research 33, 1977.",
    caveats=(
        "The class is the club that each member joined afterwards, 17 members in each club; member 9 had sided with "
        "the other faction.",
        "Unweighted by default; weighted=True gives networkx's weights, the number of contexts in which two met.",
        "The 78 undirected edges are stored as 156 directed ones.",
        _ONE_HOT,
        "The default split is random per class (`seed`): 2 training, 4 validation, the others test nodes.",
    ),
    sizes={"nodes": 34, "edges": 156, "features": 34, "classes": 2},
)
def karate(root: Root = None, *, weighted: bool = False, seed: int = 0) -> Data:
    """Zachary's karate club.

    Args:
        root: not used.
        weighted: whether edge weights are the number of contexts in which two members met.
        seed: random seed of the split.

    >>> karate().structure
    Graph(34 nodes, 156 edges, cpu)
    """
    import networkx as nx

    graph = nx.karate_club_graph()
    clubs = ("Mr. Hi", "Officer")
    y = torch.tensor([clubs.index(graph.nodes[v]["club"]) for v in graph])
    structure, names = _graph(graph, weighted)
    meta = {"node_names": tuple(f"member {v + 1}" for v in names), "class_names": clubs}
    split = Split.per_class(structure, y, num_train_per_class=2, num_val_per_class=4, seed=seed)
    return _data(structure, torch.eye(len(y)), y, split, meta)


@register(
    "lesmis",
    description="77 characters of Les Miserables, joined where they appear in the same chapter.",
    kind="graph",
    task="node classification",
    target_spec={"kind": "class", "num_classes": 5},
    license=_NETWORKX,
    redistribute=True,
    citation="D. E. Knuth: The Stanford GraphBase. ACM Press, 1993.",
    caveats=(
        "There are no labels. The classes are the communities that networkx's greedy modularity finds in the weighted "
        "graph, largest first. They depend only on the structure: use them for demonstrations, not comparisons.",
        "The edge weight is the number of chapters in which both characters appear; weighted=False omits weights.",
        "The 254 undirected edges are stored as 508 directed ones.",
        _ONE_HOT,
        "The default split is random per class (`seed`): 2 training, 2 validation, the others test nodes.",
    ),
    sizes={"nodes": 77, "edges": 508, "features": 77, "classes": 5},
)
def lesmis(root: Root = None, *, weighted: bool = True, seed: int = 0) -> Data:
    """The characters of Les Miserables.

    Args:
        root: not used.
        weighted: whether edge weights are the number of common chapters.
        seed: random seed of the split.

    >>> data = lesmis()
    >>> data.structure, data.meta["node_names"][0]
    (Graph(77 nodes, 508 edges, weighted, cpu), 'Napoleon')
    """
    import networkx as nx

    graph = nx.les_miserables_graph()
    structure, names = _graph(graph, weighted)
    communities = nx.community.greedy_modularity_communities(graph, weight="weight")
    community = {name: i for i, members in enumerate(communities) for name in members}
    y = torch.tensor([community[name] for name in names])
    meta = {"node_names": tuple(names), "class_names": tuple(f"community {i}" for i in range(len(communities)))}
    split = Split.per_class(structure, y, num_train_per_class=2, num_val_per_class=2, seed=seed)
    return _data(structure, torch.eye(len(y)), y, split, meta)


def _graph(graph: Any, weighted: bool) -> tuple[Graph, list[Any]]:
    """A networkx graph and its node names, in networkx's order."""
    names = list(graph)
    number = {name: i for i, name in enumerate(names)}
    edges = torch.tensor([(number[u], number[v]) for u, v in graph.edges]).T
    weight = torch.tensor([float(w) for _, _, w in graph.edges.data("weight")]) if weighted else None
    return Graph.from_edge_index(edges, num_nodes=len(names), directed=False, weight=weight), names


def _data(structure: Graph | Hypergraph, x: torch.Tensor, y: torch.Tensor, split: Split, meta: dict[str, Any]) -> Data:
    return Data(structure, x, y, {"default": split}, meta).validate()
