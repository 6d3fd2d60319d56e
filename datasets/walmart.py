"""Walmart: the products in a shopping basket form a hyperedge; predict departments of products or types of trips."""

from __future__ import annotations

import re

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
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Hypergraph

__all__ = ["products", "trips"]

_LICENSE = "none stated; the terms of the Kaggle competition 'Walmart Recruiting: Trip Type Classification' apply"
_CITATION = (
    "I. Amburg, N. Veldt, A. Benson: Clustering in graphs and hypergraphs with categorical edge labels. WWW 2020."
)


@register(
    "walmart-products",
    description="89,060 products of Walmart; those bought together in one of 69,906 baskets form a hyperedge.",
    kind="hypergraph",
    task="node classification",
    target_spec={"kind": "class", "num_classes": 68},
    license=_LICENSE,
    redistribute=False,
    citation=_CITATION,
    caveats=(
        "200 products are in no basket; they are kept.",
        "Baskets with the same products are separate purchases (65,979 of 69,906 are distinct); they are kept.",
        "labels='department' gives the ten departments of walmart-trips at Cornell and an eleventh class 'Discard'.",
        "meta has the day of the week (1 is Monday) and the trip type of each basket.",
        DEGREE_CAVEAT,
        "The default split is random (`seed`): 50 % of each class for training, 25 % for validation, 25 % for testing.",
    ),
    sizes={"nodes": 89060, "hyperedges": 69906, "incidences": 460630, "features": 1, "classes": 68},
    files=files_of("walmart_products", ""),
)
def products(root: Root = None, *, seed: int = 0, features: str = "degree", labels: str = "category") -> Data:
    """Products as nodes, and baskets as hyperedges.

    Args:
        root: see `hgraph.datasets.load`.
        seed: random seed of the split.
        features: ``"degree"``, ``"constant"`` or ``"none"``.
        labels: ``"category"`` (68) or ``"department"`` (11).
    """
    if labels not in ("category", "department"):
        raise ArgumentError("labels", "'category' or 'department'", repr(labels))
    nodes, _ = read_lists(_body("walmart-nodes.tsv", root), "\t", source="walmart-nodes.tsv")
    ids, category = nodes.view(-1, 2).T
    if not torch.equal(ids, torch.arange(1, len(ids) + 1)):
        raise DataError("walmart-nodes.tsv: expected products numbered 1, 2, ...")
    baskets = [line.split("\t") for line in _body("walmart-hyperedges.tsv", root).splitlines()]
    node, hyperedge = read_lists("\n".join(b[0] for b in baskets), ",", source="walmart-hyperedges.tsv")
    structure = Hypergraph.from_coo(node=node - 1, hyperedge=hyperedge, num_nodes=len(ids), num_hyperedges=len(baskets))
    lines = text_of("walmart_products", "node_cats.txt", root).splitlines()
    y, names = category - 1, tuple(line.split(": ", 1)[1].strip() for line in lines)
    if labels == "department":
        y, names = _departments(y, text_of("walmart_products", "Ten_departments.txt", root))
    meta = {
        "class_names": names,
        "hyperedge_day": torch.tensor([int(b[1]) for b in baskets]),
        "hyperedge_trip_type": torch.tensor([int(b[2]) for b in baskets]),
    }
    skip = ["classes"] * (labels != "category")
    return labeled_data("walmart-products", structure, y, meta, features=features, seed=seed, skip=skip)


def _body(file: str, root: Root) -> str:
    return text_of("walmart_products", file, root).split("\n", 1)[1]


def _departments(category: torch.Tensor, text: str) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Classes by department; each line has the name of a department and its categories, numbered from 1."""
    names: list[str] = []
    of = torch.full((int(category.max()) + 1,), -1)
    for line in filter(None, text.splitlines()):
        name, _, members = line.partition(":")
        of[torch.tensor([int(m) - 1 for m in re.findall(r"\d+", members)])] = len(names)
        names.append(name)
    return of[category], tuple(names)


@register(
    "walmart-trips",
    description="65,898 shopping baskets of Walmart over 88,837 products; predict the type of each trip.",
    kind="hypergraph",
    task="hyperedge classification",
    target_spec={"kind": "class", "num_classes": 44},
    license=_LICENSE,
    redistribute=False,
    citation=_CITATION,
    caveats=(
        "Labels belong to hyperedges: the products of all baskets are known, the types of some are not.",
        "Classes are the type numbers in the file, sorted, with 999 (Walmart's 'other') last; class_names has them.",
        "The largest class has 9,824 baskets and the smallest has one.",
        "Product ids in the file have gaps; nodes are numbered in the order of ids, and node_names has the ids.",
        DEGREE_CAVEAT,
        "The default split is random (`seed`): 50 % of each class for training, 25 % for validation, 25 % for testing.",
    ),
    sizes={"nodes": 88837, "hyperedges": 65898, "incidences": 452208, "features": 1, "classes": 44},
    files=files_of("walmart_trips", ""),
)
def trips(root: Root = None, *, seed: int = 0, features: str = "degree") -> Data:
    """Baskets as hyperedges, labeled with the type of the shopping trip.

    Args:
        root: see `hgraph.datasets.load`.
        seed: random seed of the split.
        features: ``"degree"``, ``"constant"`` or ``"none"``.
    """
    baskets = [line.split(" ") for line in text_of("walmart_trips", "colored-walmart.txt", root).splitlines()]
    product, hyperedge = read_lists("\n".join(b[0] for b in baskets), ",", source="colored-walmart.txt")
    ids, node = torch.unique(product, return_inverse=True)
    types, y = torch.unique(torch.tensor([int(b[1]) for b in baskets]), return_inverse=True)
    structure = Hypergraph.from_coo(node=node, hyperedge=hyperedge, num_nodes=len(ids), num_hyperedges=len(baskets))
    meta = {
        "class_names": tuple(str(c) for c in types.tolist()),
        "node_names": tuple(str(i) for i in ids.tolist()),
    }
    return labeled_data("walmart-trips", structure, y, meta, features=features, seed=seed, target="hyperedge")
