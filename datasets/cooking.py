"""Recipes as hyperedges of ingredients or as nodes; the task is to predict their cuisine."""

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

__all__ = ["cooking", "recipes"]

_FOLDER = "cat_edge_cooking"
_LICENSE = "none stated; the terms of the Kaggle competition 'What's Cooking?' apply"
_CITATION = (
    "I. Amburg, N. Veldt, A. Benson: Clustering in graphs and hypergraphs with categorical edge labels. WWW 2020."
)
_CAVEATS = (
    "The file lists 428,275 pairs of recipe and ingredient; 26 of them, in five recipes, repeat others and are merged.",
    "39,243 of the 39,774 recipes are distinct as sets, and 22 have a single ingredient; all are kept.",
    "Cuisines range from 467 recipes (brazilian) to 7,838 (italian).",
    DEGREE_CAVEAT,
    "The default split is random (`seed`): 50 % of each cuisine for training, 25 % for validation, 25 % for testing.",
)


@register(
    "cooking",
    description="39,774 recipes as hyperedges over 6,714 ingredients; predict the cuisine of each recipe.",
    kind="hypergraph",
    task="hyperedge classification",
    target_spec={"kind": "class", "num_classes": 20},
    license=_LICENSE,
    redistribute=False,
    citation=_CITATION,
    caveats=(
        "Labels belong to hyperedges: the ingredients of all recipes are known, the cuisines of some are not. "
        "In cooking-recipes, the recipes are nodes.",
        *_CAVEATS,
    ),
    sizes={"nodes": 6714, "hyperedges": 39774, "incidences": 428249, "features": 1, "classes": 20},
    files=files_of(_FOLDER, ""),
)
def cooking(root: Root = None, *, seed: int = 0, features: str = "degree") -> Data:
    """Recipes as hyperedges.

    Args:
        root: see `hgraph.datasets.load`.
        seed: random seed of the split.
        features: ``"degree"``, ``"constant"`` or ``"none"``.
    """
    structure, y, cuisines, ingredients = _read(root)
    meta = {"class_names": cuisines, "node_names": ingredients}
    return labeled_data("cooking", structure, y, meta, features=features, seed=seed, target="hyperedge")


@register(
    "cooking-recipes",
    description="39,774 recipes as nodes; the recipes that share one of 6,714 ingredients form a hyperedge.",
    kind="hypergraph",
    task="node classification",
    target_spec={"kind": "class", "num_classes": 20},
    license=_LICENSE,
    redistribute=False,
    citation=_CITATION,
    caveats=(
        "The dual of 'cooking': the same kind of task as DeepHypergraph's Cooking200, which is a smaller set.",
        *_CAVEATS,
    ),
    sizes={"nodes": 39774, "hyperedges": 6714, "incidences": 428249, "features": 1, "classes": 20},
    files=files_of(_FOLDER, ""),
)
def recipes(root: Root = None, *, seed: int = 0, features: str = "degree") -> Data:
    """Recipes as nodes.

    Args:
        root: see `hgraph.datasets.load`.
        seed: random seed of the split.
        features: ``"degree"``, ``"constant"`` or ``"none"``.
    """
    over_ingredients, y, cuisines, ingredients = _read(root)
    structure = over_ingredients.dual()
    meta = {"class_names": cuisines, "hyperedge_names": ingredients}
    return labeled_data("cooking-recipes", structure, y, meta, features=features, seed=seed)


def _read(root: Root) -> tuple[Hypergraph, torch.Tensor, tuple[str, ...], tuple[str, ...]]:
    """The hypergraph over ingredients, the cuisines of its hyperedges, and the names of cuisines and ingredients."""
    ingredients = tuple(text_of(_FOLDER, "node-labels.txt", root).splitlines())
    cuisines = tuple(text_of(_FOLDER, "hyperedge-label-identities.txt", root).split())
    y = torch.tensor([int(line) - 1 for line in text_of(_FOLDER, "hyperedge-labels.txt", root).split()])
    node, hyperedge = read_lists(text_of(_FOLDER, "hyperedges.txt", root), "\t", source="hyperedges.txt")
    once = torch.unique(hyperedge * len(ingredients) + node - 1)  # each pair as one number
    structure = Hypergraph.from_coo(
        node=once % len(ingredients),
        hyperedge=once // len(ingredients),
        num_nodes=len(ingredients),
        num_hyperedges=len(y),
    )
    return structure, y, cuisines, ingredients
