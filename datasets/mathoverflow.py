"""MathOverflow: the questions answered by one user form a hyperedge; the tags of a question are its labels."""

from __future__ import annotations

import torch

from hgraph.data import Data
from hgraph.datasets.common import (
    DEGREE_CAVEAT,
    Root,
    files_of,
    labeled_data,
    read_lists,
    text_of,
)
from hgraph.datasets.registry import register
from hgraph.structure import Hypergraph

__all__ = ["mathoverflow"]


@register(
    "mathoverflow-answers",
    description="73,851 questions of MathOverflow; those answered by one user form a hyperedge; predict their tags.",
    kind="hypergraph",
    task="node classification",
    target_spec={"kind": "multilabel", "num_classes": 1456},
    license="MIT",
    redistribute=True,
    citation="N. Veldt, A. Benson, J. Kleinberg: Minimizing Localized Ratio Cut Objectives in Hypergraphs. KDD 2020.",
    caveats=(
        "A node has several labels, 2.685 on average: y is [N, 1456] booleans (108 MB).",
        "15 of the 1,456 labels do not occur.",
        "One hyperedge has 1,784 nodes: a clique expansion turns it into 1.6 million pairs.",
        "One hyperedge has the same members as another one; it is kept.",
        DEGREE_CAVEAT,
        "The default split is random (`seed`): 50 % of all nodes for training, 25 % for validation, 25 % for testing.",
    ),
    sizes={"nodes": 73851, "hyperedges": 5446, "incidences": 131714, "features": 1, "classes": 1456},
    files=files_of("mathoverflow_answers", ""),
)
def mathoverflow(root: Root = None, *, seed: int = 0, features: str = "degree") -> Data:
    """The questions of MathOverflow.

    Args:
        root: see `hgraph.datasets.load`.
        seed: random seed of the split.
        features: ``"degree"``, ``"constant"`` or ``"none"``.
    """
    texts = {
        part: text_of("mathoverflow_answers", f"{part}-mathoverflow-answers.txt", root)
        for part in ("hyperedges", "node-labels", "label-names")
    }
    names = tuple(texts["label-names"].splitlines())
    labels, owner = read_lists(texts["node-labels"], ",", source="node-labels")
    node, hyperedge = read_lists(texts["hyperedges"], ",", source="hyperedges")
    num_nodes, num_hyperedges = len(texts["node-labels"].splitlines()), len(texts["hyperedges"].splitlines())
    structure = Hypergraph.from_coo(
        node=node - 1, hyperedge=hyperedge, num_nodes=num_nodes, num_hyperedges=num_hyperedges
    )
    y = torch.zeros(num_nodes, len(names), dtype=torch.bool)
    y[owner, labels - 1] = True
    return labeled_data("mathoverflow-answers", structure, y, {"class_names": names}, features=features, seed=seed)
