"""UCI Zoo and Mushroom: categorical tables; the rows with the same value of an attribute form a hyperedge."""

from __future__ import annotations

import csv

import torch

from hgraph.data import Data
from hgraph.datasets.common import Root, check_sizes, default_features, features_meta, random_split, text_of
from hgraph.datasets.registry import info, register
from hgraph.errors import DataError
from hgraph.structure import Hypergraph

__all__ = ["mushroom", "zoo"]

_LICENSE = "CC BY 4.0 (UCI); none stated by the repository of this copy"
_CAVEATS = (
    "Each value of each attribute is a hyperedge, sorted by attribute, then by value.",
    "x is the incidence matrix (0 or 1), that is, the one-hot attributes, unless features is 'degree', 'constant' or "
    "'none'.",
    "The default split is random (`seed`): 50 % of each class for training, 25 % for validation, 25 % for testing.",
)
_MUSHROOM = (
    "cap-shape", "cap-surface", "cap-color", "bruises", "odor", "gill-attachment", "gill-spacing", "gill-size",
    "gill-color", "stalk-shape", "stalk-root", "stalk-surface-above-ring", "stalk-surface-below-ring",
    "stalk-color-above-ring", "stalk-color-below-ring", "veil-type", "veil-color", "ring-number", "ring-type",
    "spore-print-color", "population", "habitat",
)  # fmt: skip
_ZOO = (
    "hair", "feathers", "eggs", "milk", "airborne", "aquatic", "predator", "toothed", "backbone", "breathes",
    "venomous", "fins", "legs", "tail", "domestic", "catsize",
)  # fmt: skip


@register(
    "uci-zoo",
    description="101 animals with 15 traits and their number of legs; those with the same value form a hyperedge.",
    kind="hypergraph",
    task="node classification",
    target_spec={"kind": "class", "num_classes": 7},
    license=_LICENSE,
    redistribute=True,
    citation="R. Forsyth: Zoo. UCI Machine Learning Repository, 1990.",
    caveats=(
        "The name 'frog' occurs twice with different traits: names are not unique.",
        "Both values of a trait are hyperedges: 30 of traits and 6 of legs.",
        "The classes have no names; they are 1 to 7 in the file and 0 to 6 here.",
        *_CAVEATS,
    ),
    sizes={"nodes": 101, "hyperedges": 36, "incidences": 1616, "features": 36, "classes": 7},
    files=["uci_zoo/zoo.data"],
)
def zoo(root: Root = None, *, seed: int = 0, features: str = "memberships") -> Data:
    """The animals of the zoo.

    Args:
        root: see `hgraph.datasets.load`.
        seed: random seed of the split.
        features: ``"memberships"``, ``"degree"``, ``"constant"`` or ``"none"``.
    """
    rows = _rows("uci_zoo", "zoo.data", 18, "animal_name", root)
    y = torch.tensor([int(row[-1]) - 1 for row in rows])
    meta = {"node_names": tuple(row[0] for row in rows), "class_names": tuple("1234567")}
    table: list[list[str | None]] = [[*row[1:-1]] for row in rows]
    return _data("uci-zoo", table, _ZOO, y, meta, seed, features)


@register(
    "uci-mushroom",
    description="8,124 mushrooms with 22 attributes; those with the same value of an attribute form a hyperedge.",
    kind="hypergraph",
    task="node classification",
    target_spec={"kind": "class", "num_classes": 2},
    license=_LICENSE,
    redistribute=True,
    citation="Mushroom. UCI Machine Learning Repository, 1987 (donor J. Schlimmer).",
    caveats=(
        "2,480 mushrooms have a missing stalk-root ('?') and no hyperedge for it; missing_as_value=True adds one.",
        "All mushrooms have the same veil-type, so one hyperedge contains all nodes.",
        *_CAVEATS,
    ),
    sizes={"nodes": 8124, "hyperedges": 116, "incidences": 176248, "features": 116, "classes": 2},
    files=["uci_mushroom/agaricus-lepiota.data"],
)
def mushroom(
    root: Root = None, *, seed: int = 0, features: str = "memberships", missing_as_value: bool = False
) -> Data:
    """Edible and poisonous mushrooms.

    Args:
        root: see `hgraph.datasets.load`.
        seed: random seed of the split.
        features: ``"memberships"``, ``"degree"``, ``"constant"`` or ``"none"``.
        missing_as_value: treat a missing value like any other value.
    """
    rows = _rows("uci_mushroom", "agaricus-lepiota.data", 23, "class", root)
    y = torch.tensor(["ep".index(row[0]) for row in rows])
    table = [[None if v == "?" and not missing_as_value else v for v in row[1:]] for row in rows]
    return _data("uci-mushroom", table, _MUSHROOM, y, {"class_names": ("edible", "poisonous")}, seed, features)


def _rows(folder: str, file: str, width: int, heading: str, root: Root) -> list[list[str]]:
    """The rows of a comma-separated table. The published files have no header line, but some copies do."""
    rows = [row for row in csv.reader(text_of(folder, file, root).splitlines()) if row]
    rows = rows[1:] if rows and rows[0][0] == heading else rows
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise DataError(f"{folder}/{file}: row {number}: expected {width} fields, got {len(row)}")
    return rows


def _data(
    name: str,
    table: list[list[str | None]],
    attributes: tuple[str, ...],
    y: torch.Tensor,
    meta: dict[str, tuple[str, ...]],
    seed: int,
    features: str,
) -> Data:
    columns = list(zip(*table, strict=True))
    keys = [(a, value) for a, column in enumerate(columns) for value in sorted({v for v in column if v is not None})]
    number = {key: i for i, key in enumerate(keys)}
    pairs = [(v, number[a, value]) for v, row in enumerate(table) for a, value in enumerate(row) if value is not None]
    node, hyperedge = torch.tensor(pairs).T
    structure = Hypergraph.from_coo(node=node, hyperedge=hyperedge, num_nodes=len(table), num_hyperedges=len(keys))
    names = tuple(f"{attributes[a]}={value}" for a, value in keys)
    x, split = default_features(structure, features), random_split(structure, y, seed=seed)
    meta_of_set = {**meta, "hyperedge_names": names, **features_meta(features)}
    data = Data(structure, x, y, {"default": split}, meta_of_set).validate()
    changed = ["hyperedges", "incidences"] * any("?" in column for column in columns)
    changed += ["features"] * (features != "memberships" or len(changed) > 0)
    check_sizes(name, [data], info(name).sizes, skip=changed)
    return data
