"""Helpers of the loaders: lists in text files, default features, random splits, checks of sizes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hgraph.data import Data, Split
from hgraph.data.derived import FEATURES_FROM, features_from
from hgraph.datasets.download import fetch_listed, listed
from hgraph.datasets.registry import info
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Graph, Hypergraph

__all__ = [
    "Root",
    "check_sizes",
    "default_features",
    "features_meta",
    "files_of",
    "labeled_data",
    "random_split",
    "read_lists",
    "sizes_of",
    "text_of",
]  # fmt: skip

Root = str | os.PathLike[str] | None

DEGREE_CAVEAT = (
    "There are no features: x is log(1 + degree), one column, computed on the whole structure (in the production "
    "setting, training computes it on the structure of the observed nodes); "
    "features='constant' uses no information from the structure, features='none' gives no columns."
)


def files_of(folder: str, *prefixes: str) -> list[str]:
    """The files in the table of a folder whose paths start with one of the prefixes, as cards list them."""
    return [f"{folder}/{path}" for path in listed(folder) if path.startswith(prefixes)]


def text_of(folder: str, path: str, root: Root) -> str:
    """The text of a file from the file table.

    Raises:
        DataError: the file cannot be downloaded or is not UTF-8.
    """
    file = fetch_listed(folder, path, root)
    try:
        return Path(file).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 ({error})") from error


def read_lists(text: str, separator: str, *, source: str) -> tuple[Tensor, Tensor]:
    r"""Parse lines of integers into numbers [E] and the line of each number [E].

    Raises:
        DataError: a field is not an integer.

    >>> [t.tolist() for t in read_lists("4,5\n\n6\n", ",", source="file")]
    [[4, 5, 6], [0, 0, 2]]
    """
    lines = text.splitlines()
    sizes = torch.tensor([line.count(separator) + 1 if line.strip() else 0 for line in lines], dtype=torch.long)
    try:
        numbers = np.array(text.replace(separator, " ").split(), dtype=np.int64)
    except ValueError as error:
        raise DataError(f"{source}: expected integers separated by {separator!r} ({error})") from error
    if len(numbers) != int(sizes.sum()):
        raise DataError(
            f"{source}: expected {int(sizes.sum())} integers by the number of separators, got {len(numbers)}"
        )
    return torch.from_numpy(numbers), torch.arange(len(lines)).repeat_interleave(sizes)


def default_features(structure: Graph | Hypergraph, kind: str) -> Tensor:
    """Features [N, F] for a structure that comes without features.

    Args:
        structure: a graph or a hypergraph.
        kind: ``"degree"``: log(1 + degree) [N, 1]; ``"constant"``: ones [N, 1]; ``"none"``: [N, 0];
            ``"memberships"`` (hypergraphs only): the dense incidence matrix [N, M].

    Raises:
        ArgumentError: an unknown kind.
    """
    choices = ["degree", "constant", "none"] + ["memberships"] * isinstance(structure, Hypergraph)
    if kind not in choices:
        raise ArgumentError("features", f"one of {choices}", repr(kind))
    if kind == "degree":
        return features_from("degree", structure)
    if kind == "memberships" and isinstance(structure, Hypergraph):
        return structure.incidence().float()
    return torch.ones(structure.num_nodes, int(kind == "constant"))


def features_meta(kind: str) -> dict[str, Any]:
    """Metadata that says from what the features of `default_features` are computed, for production splits.

    >>> features_meta("degree"), features_meta("constant")
    ({'features_from': 'degree'}, {})
    """
    return {FEATURES_FROM: kind} if kind == "degree" else {}


def random_split(
    structure: Graph | Hypergraph, y: Tensor, *, seed: int, train: float = 0.5, val: float = 0.25
) -> Split:
    """A random transductive split, stratified by class, or over all rows if they have several labels.

    Rows with a missing label (below 0) are in no part. If a class is too small to divide, training gets its rows first.

    Args:
        structure: the whole structure, which training uses too.
        y: classes [N], or booleans [N, C].
        seed: random seed.
        train: fraction of training rows.
        val: fraction of validation rows; the others are test rows.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = [(y == c).nonzero().flatten() for c in torch.unique(y[y >= 0])] if y.dim() == 1 else [torch.arange(len(y))]
    parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for members in groups:
        members = members[torch.randperm(len(members), generator=generator)]
        first, last = -(-len(members) * train // 1), -(-len(members) * (train + val) // 1)
        for part, chosen in zip(parts, members.tensor_split([int(first), int(last)]), strict=True):
            part.append(chosen)
    empty = torch.empty(0, dtype=torch.long)
    return Split(structure, *(torch.cat([empty, *part]).sort().values for part in parts))


def labeled_data(
    name: str,
    structure: Graph | Hypergraph,
    y: Tensor,
    meta: Mapping[str, Any],
    *,
    features: str,
    seed: int,
    target: Literal["node", "hyperedge"] = "node",
    skip: Sequence[str] = (),
) -> Data:
    """Build a data set that publishes labels but no features or split, and check the counts of its card.

    Args:
        name: name of the set.
        structure: the published structure.
        y: labels, as in `random_split`.
        meta: metadata for `Data`.
        features: kind of features, as in `default_features`; the card counts those of ``"degree"``.
        seed: seed of the split.
        target: what the labels belong to.
        skip: as in `check_sizes`.

    Raises:
        ArgumentError: an unknown kind of features.
        DataError: a count differs from the card.
    """
    x, splits = default_features(structure, features), {"default": random_split(structure, y, seed=seed)}
    data = Data(structure, x, y, splits, {**meta, **features_meta(features)}, target).validate()
    check_sizes(name, [data], info(name).sizes, skip=["features"] * (features != "degree") + [*skip])
    return data


def sizes_of(examples: Sequence[Data]) -> dict[str, int]:
    """Every count of loaded examples that a card may state."""
    graphs = [e.structure for e in examples if isinstance(e.structure, Graph)]
    hypers = [e.structure for e in examples if isinstance(e.structure, Hypergraph)]
    found = {"graphs": len(examples), "features": examples[0].num_features}
    found["classes"] = max(e.num_classes for e in examples)
    if graphs:
        found |= {"nodes": sum(g.num_nodes for g in graphs), "edges": sum(g.num_edges for g in graphs)}
    if hypers:
        found["nodes"] = sum(h.num_nodes for h in hypers)
        found["hyperedges"] = sum(h.num_hyperedges for h in hypers)
        found["incidences"] = sum(h.num_incidences for h in hypers)
    return found


def check_sizes(name: str, examples: Sequence[Data], sizes: Mapping[str, int], *, skip: Sequence[str] = ()) -> None:
    """Check that loaded data has the sizes on its card.

    Args:
        name: name of the set.
        examples: the loaded data.
        sizes: the counts on the card.
        skip: counts that an option of the caller changes; they are not checked.

    Raises:
        DataError: a count differs.
    """
    measured: dict[str, Any] = sizes_of(examples)
    wanted = {key: number for key, number in sizes.items() if key not in skip}
    found = {key: measured.get(key) for key in wanted}
    if found != wanted:
        raise DataError(f"{name}: expected the sizes {wanted} of its card, got {found}")
