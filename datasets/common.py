"""What loaders share: lists in text files, features where none are published, drawn splits, counts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hgraph.data import Data, Split
from hgraph.datasets.download import fetch_listed, listed
from hgraph.datasets.registry import info
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Graph, Hypergraph

__all__ = [
    "Root", "check_sizes", "files_of", "labelled", "made_features", "random_split", "read_lists", "sizes_of", "text_of",
]  # fmt: skip

Root = str | os.PathLike[str] | None

DEGREE_CAVEAT = (
    "There are no features: x is log(1 + degree), one column, counted over the whole structure; "
    "features='constant' has nothing of the structure in it, features='none' gives no columns."
)


def files_of(folder: str, *prefixes: str) -> list[str]:
    """The files of a folder's table whose paths begin with one of the prefixes, as cards name them."""
    return [f"{folder}/{path}" for path in listed(folder) if path.startswith(prefixes)]


def text_of(folder: str, path: str, root: Root) -> str:
    """A listed file as text.

    Raises:
        DataError: it cannot be had, or is not UTF-8.
    """
    file = fetch_listed(folder, path, root)
    try:
        return Path(file).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 ({error})") from error


def read_lists(text: str, separator: str, *, source: str) -> tuple[Tensor, Tensor]:
    r"""Lines of integers: the numbers [E], and the line of each [E]; an empty line has none.

    Raises:
        DataError: something that is not an integer.

    >>> [t.tolist() for t in read_lists("4,5\n\n6\n", ",", source="file")]
    [[4, 5, 6], [0, 0, 2]]
    """
    lines = text.splitlines()
    sizes = torch.tensor([line.count(separator) + 1 if line.strip() else 0 for line in lines], dtype=torch.long)
    try:
        numbers = np.array(text.replace(separator, " ").split(), dtype=np.int64)
    except ValueError as error:
        raise DataError(f"{source}: integers separated by {separator!r} are needed ({error})") from error
    if len(numbers) != int(sizes.sum()):
        raise DataError(f"{source}: {len(numbers)} integers where the separators make {int(sizes.sum())}")
    return torch.from_numpy(numbers), torch.arange(len(lines)).repeat_interleave(sizes)


def made_features(structure: Graph | Hypergraph, kind: str) -> Tensor:
    """Features [N, F] of a structure that has none of its own.

    Args:
        structure: what the features are of.
        kind: ``"degree"``: log(1 + degree) [N, 1]; ``"constant"``: ones [N, 1]; ``"none"``: [N, 0];
            ``"memberships"``, of hypergraphs: the dense incidence matrix [N, M].

    Raises:
        ArgumentError: another kind.
    """
    choices = ["degree", "constant", "none"] + ["memberships"] * isinstance(structure, Hypergraph)
    if kind not in choices:
        raise ArgumentError("features", f"one of {choices}", repr(kind))
    degree = structure.degree() if isinstance(structure, Graph) else structure.node_degree()
    if kind == "degree":
        return torch.log1p(degree.float())[:, None]
    if kind == "memberships" and isinstance(structure, Hypergraph):
        return structure.incidence().float()
    return torch.ones(len(degree), int(kind == "constant"))


def random_split(
    structure: Graph | Hypergraph, y: Tensor, *, seed: int, train: float = 0.5, val: float = 0.25
) -> Split:
    """A transductive split that draws the same shares of every class, or of all rows where they have several labels.

    Labels below 0 are missing: such rows are in no part. Of a class too small to divide, training is served first.

    Args:
        structure: the whole structure, over which messages flow in training too.
        y: [.] classes, or [., C] booleans.
        seed: of the draw.
        train: the share of training rows.
        val: the share of validation rows; the others test.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = [(y == c).nonzero().flatten() for c in torch.unique(y[y >= 0])] if y.dim() == 1 else [torch.arange(len(y))]
    parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for members in groups:
        members = members[torch.randperm(len(members), generator=generator)]
        first, last = -(-len(members) * train // 1), -(-len(members) * (train + val) // 1)
        for part, chosen in zip(parts, members.tensor_split([int(first), int(last)]), strict=True):
            part.append(chosen)
    nobody = torch.empty(0, dtype=torch.long)
    return Split(structure, *(torch.cat([nobody, *part]).sort().values for part in parts))


def labelled(
    name: str,
    structure: Graph | Hypergraph,
    y: Tensor,
    meta: Mapping[str, Any],
    *,
    features: str,
    seed: int,
    target: Literal["node", "hyperedge"] = "node",
    but: Sequence[str] = (),
) -> Data:
    """What a set is that publishes labels alone: made features, a drawn split, the counts of its card.

    Args:
        name: of the set.
        structure: as published.
        y: as `random_split` takes them.
        meta: of the `Data`.
        features: as `made_features` takes them; the card counts those of ``"degree"``.
        seed: of the split.
        target: whose labels they are.
        but: as `check_sizes` takes it.

    Raises:
        ArgumentError: another kind of features.
        DataError: a count that is not the card's.
    """
    x, splits = made_features(structure, features), {"default": random_split(structure, y, seed=seed)}
    data = Data(structure, x, y, splits, meta, target).validate()
    check_sizes(name, [data], info(name).sizes, but=["features"] * (features != "degree") + [*but])
    return data


def sizes_of(examples: Sequence[Data]) -> dict[str, int]:
    """The counts of loaded examples, all the kinds that a card may state."""
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


def check_sizes(name: str, examples: Sequence[Data], sizes: Mapping[str, int], *, but: Sequence[str] = ()) -> None:
    """Refuse data that is not what its card says.

    Args:
        name: of the set.
        examples: the loaded data.
        sizes: the card's.
        but: what an option of the caller changes, so that the card does not speak of it.

    Raises:
        DataError: a count differs.
    """
    measured: dict[str, Any] = sizes_of(examples)
    wanted = {key: number for key, number in sizes.items() if key not in but}
    found = {key: measured.get(key) for key in wanted}
    if found != wanted:
        raise DataError(f"{name}: the files hold {found}, the card says {wanted}")
