"""Interactions and triples from CSV files."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from hgraph.data import Dataset, Interactions
from hgraph.data.leaks import revealed_pairs
from hgraph.data.split import in_time
from hgraph.datasets.pairs import Reading, columns_of, last_of_users, latest, pairs_of
from hgraph.datasets.tables.text_rows import is_typed
from hgraph.errors import ArgumentError, DataError, did_you_mean
from hgraph.files import valid_path
from hgraph.structure import Adjacency, KnowledgeGraph

__all__ = ["PAIRS", "TRIPLES", "coverage_of", "from_interactions", "is_own"]

_LOG = logging.getLogger("hgraph")

PAIRS, TRIPLES = "interactions.csv", "triples.csv"
_ROLES = ("user", "item", "rating", "timestamp", "head", "relation", "tail")
_RECBOLE = {"user": "user_id", "item": "item_id"}  # role -> column in the atomic files
_RECBOLE_TRIPLES = {"head": "head_id", "relation": "relation_id", "tail": "tail_id"}
_SPLITS = {
    "random": "The pairs are split at random.",
    "time": "The most recent pairs are held out.",
    "last": "The last pair of each user is for testing, the one before for validation.",
}


def is_own(place: str | os.PathLike[str]) -> bool:
    """Whether a folder holds ``interactions.csv``, or one ``.inter`` file of RecBole."""
    folder = valid_path(place, "name")
    return (folder / PAIRS).is_file() or len(list(folder.glob("*.inter"))) == 1


def from_interactions(
    interactions: str | os.PathLike[str],
    triples: str | os.PathLike[str] | None = None,
    *,
    min_rating: float | None = None,
    split: Literal["random", "time", "last"] = "random",
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    decimal: Literal[".", ","] | None = None,
) -> Dataset[Interactions]:
    r"""Build a data set for recommendation from CSV files of interactions and, optionally, triples.

    Args:
        interactions: a CSV file with a header and the columns ``user`` and ``item`` (names). Repeated pairs are
            merged. A warning is logged for an unused column ``rating`` (stars, score) or ``timestamp`` (time, date).
            A folder stands for its ``interactions.csv`` and, if it exists, ``triples.csv``. RecBole's atomic files
            are read too: ``name.inter`` (``user_id:token``, ``item_id:token``, ...), or the folder that holds it, with
            ``name.kg`` and ``name.link``.
        triples: a CSV file with the columns ``head``, ``relation`` and ``tail``; items are matched by name. For a
            ``.kg`` file, the ``.link`` file next to it states which entities are items; any other entity is not an
            item, and is called ``entity 7`` if an item is called ``7``.
        min_rating: pairs with a lower rating are in no part, and are not recommended (``excluded``); for repeated
            pairs, the last rating counts.
        split: ``"random"``; ``"time"`` holds out the most recent pairs; ``"last"`` ignores ``val`` and ``test`` and
            holds out the last pair of each user for testing and the one before for validation (a user with two
            pairs has no validation pair, a user with one pair has only that training pair).
        val: fraction of pairs for validation.
        test: fraction of pairs for testing.
        seed: of the random split.
        columns: role -> column for columns with other names, such as ``{"user": "customer"}``; roles are user, item,
            rating, timestamp, and head, relation, tail of the triples.
        delimiter: the character between fields; None detects it.
        decimal: the decimal separator of ratings; None means a period.

    Raises:
        ArgumentError: an unknown role or decimal separator, or no training pair.
        DataError: a file cannot be read, a column is missing, or a field is empty (the message gives the line); or
            no triple contains an item.

    Items are numbered first, in order of appearance, then the other entities.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "interactions.csv").write_text("user,item\nAnn,Dune\nAnn,Ubik\nBob,Dune\n")
    ...     _ = Path(folder, "triples.csv").write_text("head,relation,tail\nDune,by,Herbert\n")
    ...     from_interactions(folder, val=0, test=0)[0]
    Interactions(2 users, 2 items; train 3, val 0, test 0; KnowledgeGraph(3 nodes, 1 triples, 1 relations, cpu))
    """
    path = valid_path(interactions, "interactions")
    if path.is_dir():
        path, beside = _files_of(path)
        triples = beside if triples is None else triples
    if split not in ("random", "time", "last"):
        raise ArgumentError("split", "'random', 'time' or 'last'", repr(split))
    for role in columns or {}:
        if role not in _ROLES:
            raise ArgumentError("columns", f"roles among {', '.join(_ROLES)}", repr(role), did_you_mean(role, _ROLES))
    if decimal not in (None, ".", ","):
        raise ArgumentError("decimal", "'.', ',' or None", repr(decimal))
    given = {role: column for role, column in _RECBOLE.items() if is_typed(path)} | dict(columns or {})
    reading = Reading(given, delimiter, decimal)
    pairs, notes = pairs_of(path, min_rating=min_rating, timed=split != "random", reading=reading)
    user_ids = {name: i for i, name in enumerate(dict.fromkeys(pairs.users))}
    entities = {name: i for i, name in enumerate(dict.fromkeys(pairs.items))}
    num_items = len(entities)
    triple_ids, kg = _graph(triples, entities, reading)
    sizes: dict[str, Any] = {"num_users": len(user_ids), "num_items": num_items, "user_names": user_ids}
    numbered = torch.tensor([[user_ids[u] for u in pairs.users], [entities[i] for i in pairs.items]])
    if split == "random":
        data = Interactions.random(
            numbered[0], numbered[1], kg, val_fraction=val, test_fraction=test, seed=seed, duplicates="drop", **sizes
        )
    else:
        once, when = latest(numbered, pairs.times)
        parts = in_time(when, val, test) if split == "time" else last_of_users(once[0], when)
        train_part, val_part, test_part = (once[:, part] for part in parts)
        data = Interactions.from_pairs(train_part, val_part, test_part, kg, **sizes)
    low = [(user_ids[u], entities[i]) for u, i in pairs.low if u in user_ids and entities.get(i, num_items) < num_items]
    if low:
        users, items = torch.tensor(low).T
        excluded = Adjacency.from_coo(target=users, source=items, num_targets=len(user_ids), num_sources=num_items)
        data = dataclasses.replace(data, excluded=excluded)
    caveats = [*notes, _SPLITS[split]]
    for what, listed, unique in (
        ("pairs", len(pairs.users), sum(part.num_edges for part in (data.train, data.val, data.test))),
        ("triples", len(triple_ids), kg.num_edges),
    ):
        caveats += (
            [f"{listed - unique:,} of {listed:,} {what} repeat others and are merged."] if listed > unique else []
        )
    if triples is not None:
        caveats.append(_coverage(Path(triples), triple_ids, num_items, list(entities)))
    caveats += _warn(path, [*coverage_of(data), *revealed_pairs(data)])
    both = [name for name in user_ids if name in entities]
    if both:
        what = f"{len(both):,} names, such as {both[0]!r}, belong to a user and to an entity, which are different nodes"
        caveats.append(f"{what}: triples with these names do not describe the user.")
        _LOG.warning("%s: %s", path, caveats[-1])
    if not data.train.num_edges:
        hint = "Reduce val and test"
        raise ArgumentError("interactions", "at least one training pair", f"{numbered.shape[1]}", hint)
    taken = data.train.indptr.diff()
    if not ((taken > 0) & (taken < num_items)).any():
        raise DataError(f"{path}: every user has either all items or none, so there is nothing to learn")
    name = path.parent.resolve().name if path.name == PAIRS else path.stem  # x.inter is the data set x
    return Dataset(
        name,
        [data],
        task="recommendation",
        target_spec={"kind": "item"},
        license="not stated",
        redistribute=False,
        citation="none",
        caveats=tuple(caveats),
    )


def _graph(
    triples: str | os.PathLike[str] | None, entities: dict[str, int], reading: Reading
) -> tuple[list[tuple[int, int, int]], KnowledgeGraph]:
    """The triples of a file as ids, and their graph; entities that are not items get the next ids."""
    kinds: dict[str, int] = {}
    heads, relations, tails = _columns_of_triples(triples, reading, entities)
    triple_ids = [
        (entities.setdefault(h, len(entities)), kinds.setdefault(r, len(kinds)), entities.setdefault(t, len(entities)))
        for h, r, t in zip(heads, relations, tails, strict=True)
    ]
    kg = KnowledgeGraph.from_triples(
        head=[f[0] for f in triple_ids],
        relation=[f[1] for f in triple_ids],
        tail=[f[2] for f in triple_ids],
        num_nodes=len(entities),
        num_relations=len(kinds),
        node_names=entities,
        relation_names=kinds,
        duplicates="drop",
    )
    return triple_ids, kg


def _files_of(folder: Path) -> tuple[Path, Path | None]:
    """The file of interactions in a folder, and that of triples or None."""
    pairs, triples = folder / PAIRS, folder / TRIPLES
    if not pairs.is_file() and (found := sorted(folder.glob("*.inter"))):
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise ArgumentError("interactions", "a folder with one .inter file", names, "Pass one of them")
        pairs, triples = found[0], found[0].with_suffix(".kg")
    return pairs, triples if triples.is_file() else None


def _columns_of_triples(
    triples: str | os.PathLike[str] | None, reading: Reading, items: Mapping[str, int]
) -> list[list[str]]:
    """Heads, relations and tails; entities that are linked to an item have its name."""
    if triples is None:
        return [[], [], []]
    path = valid_path(triples)
    if is_typed(path):
        reading = dataclasses.replace(reading, columns=_RECBOLE_TRIPLES | dict(reading.columns))
    heads, relations, tails = columns_of(path, ("head", "relation", "tail"), reading)
    link = path.with_suffix(".link")
    if is_typed(path) and link.is_file():
        names = _names_of_entities(link, {*heads, *tails}, items)
        heads, tails = ([names[e] for e in column] for column in (heads, tails))
    return [heads, relations, tails]


def _names_of_entities(link: Path, entities: set[str], items: Mapping[str, int]) -> dict[str, str]:
    """Entity -> its item, else its own token, unless an item has the same token: ids of both often count from 1."""
    linked: dict[str, str] = {}
    for item, entity in zip(*columns_of(link, ("item_id", "entity_id"), Reading()), strict=True):
        if linked.setdefault(entity, item) != item:
            got = f"{entity!r} with {linked[entity]!r} and {item!r}"
            raise DataError(f"{link}: expected one item per entity, got {got}. Keep one of the two lines")
    found = {entity: linked[entity] for entity in entities if linked.get(entity) in items}
    for entity in entities - found.keys():
        name = entity
        while name in items or (name != entity and name in entities):
            name = f"entity {name}"
        found[entity] = name
    return found


def coverage_of(data: Interactions) -> list[str]:
    """Which held-out pairs have users or items without training pairs, one sentence each."""
    found = []
    users = data.train.indptr.diff() == 0
    items = data.train.source_degree() == 0
    for name, part in (("validation", data.val), ("test", data.test)):
        cold = users & (part.indptr.diff() > 0)
        if bool(cold.any()):
            what = f"{int(cold.sum()):,} of {int((part.indptr.diff() > 0).sum()):,} users with {name} pairs"
            found.append(f"{what} have no training pair: they are ranked with untrained embeddings.")
        lost = int(items[part.indices.long()].sum())
        if lost:
            found.append(f"{lost:,} of {part.num_edges:,} {name} pairs have items without training pairs.")
    return found


def _coverage(path: Path, triples: list[tuple[int, int, int]], num_items: int, names: list[str]) -> str:
    """How many items occur in a triple.

    Raises:
        DataError: no item occurs in a triple, so the two files use different names.
    """
    covered = {e for h, _, t in triples for e in (h, t) if e < num_items}
    if triples and not covered:
        got = f"{len(triples):,} triples without items, such as one of {names[triples[0][0]]!r}"
        hint = "Use the same item names in both files"
        raise DataError(f"{path}: expected triples with items such as {names[0]!r}, got {got}. {hint}")
    return f"{len(covered):,} of {num_items:,} items occur in a triple."


def _warn(path: Path, notes: list[str]) -> list[str]:
    for note in notes:
        _LOG.warning("%s: %s", path, note)
    return notes
