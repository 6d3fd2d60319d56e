"""Your own interactions and facts, from CSV files."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Literal

import torch

from hgraph.data import Dataset, Interactions
from hgraph.data.split import in_time
from hgraph.datasets.pairs import columns_of, last_of_users, latest, pairs_of
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import KnowledgeGraph

__all__ = ["FACTS", "PAIRS", "coverage_of", "from_interactions", "is_own"]

_LOG = logging.getLogger("hgraph")

PAIRS, FACTS = "interactions.csv", "triples.csv"
_SPLITS = {
    "random": "Pairs are divided by lot.",
    "time": "The latest pairs are held out.",
    "last": "The last pair of each user is the test, the one before validates.",
}


def is_own(place: str | os.PathLike[str]) -> bool:
    """Whether a folder holds ``interactions.csv``."""
    return (Path(place).expanduser() / PAIRS).is_file()


def from_interactions(
    interactions: str | os.PathLike[str],
    triples: str | os.PathLike[str] | None = None,
    *,
    min_rating: float | None = None,
    split: Literal["random", "time", "last"] = "random",
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> Dataset[Interactions]:
    r"""A data set of your own: who took what, and what is known of it.

    Args:
        interactions: a CSV file with a header and the columns ``user`` and ``item``, in words. A pair that repeats
            counts once. A column ``rating`` (stars, score) or ``timestamp`` (time, date) that is not used is said. A
            folder stands for its ``interactions.csv`` and ``triples.csv``, if any.
        triples: a CSV file with the columns ``head``, ``relation`` and ``tail``; an item is known by its name.
        min_rating: pairs rated below it are left out; of a pair that repeats the last rating counts.
        split: ``"random"``; ``"time"`` holds out the latest pairs; ``"last"`` takes no shares: it holds out the last
            pair of each user for the test and the one before for validation (of two pairs one, of a single one none).
        val: share of the pairs held out for validation.
        test: share held out for the test.
        seed: of the random split.

    Raises:
        DataError: a file that cannot be read, columns that are missing, an empty field; the message names the line. Or
            facts of which none is about an item.

    Items are numbered in order of appearance, then the other entities.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "interactions.csv").write_text("user,item\nAnn,Dune\nAnn,Ubik\nBob,Dune\n")
    ...     _ = Path(folder, "triples.csv").write_text("head,relation,tail\nDune,by,Herbert\n")
    ...     from_interactions(folder, val=0, test=0)[0]
    Interactions(2 users, 2 items; train 3, val 0, test 0; KnowledgeGraph(3 nodes, 1 triples, 1 relations, cpu))
    """
    path = Path(interactions).expanduser()
    if path.is_dir():
        triples = path / FACTS if triples is None and (path / FACTS).is_file() else triples
        path = path / PAIRS
    if split not in ("random", "time", "last"):
        raise ArgumentError("split", "'random', 'time' or 'last'", repr(split))
    pairs, notes = pairs_of(path, min_rating=min_rating, timed=split != "random")
    user_ids = {name: i for i, name in enumerate(dict.fromkeys(pairs.users))}
    entities = {name: i for i, name in enumerate(dict.fromkeys(pairs.items))}
    num_items = len(entities)
    facts, kg = _graph(triples, entities)
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
    caveats = [*notes, _SPLITS[split]]
    for what, given, kept in (
        ("pairs", len(pairs.users), sum(part.num_edges for part in (data.train, data.val, data.test))),
        ("facts", len(facts), kg.num_edges),
    ):
        caveats += [f"{given - kept:,} of {given:,} {what} repeat others and count once."] if given > kept else []
    if triples is not None:
        caveats.append(_coverage(Path(triples), facts, num_items, list(entities)))
    caveats += _say(path, coverage_of(data))
    both = [name for name in user_ids if name in entities]
    if both:
        what = f"{len(both):,} names, {both[0]!r} among them, are of a user and of a thing: two nodes each"
        caveats.append(f"{what}, so that facts about them say nothing of the user.")
        _LOG.warning("%s: %s", path, caveats[-1])
    if not data.train.num_edges:
        hint = "Smaller val and test help"
        raise ArgumentError("interactions", "enough pairs to train with", f"{numbered.shape[1]}", hint)
    taken = data.train.indptr.diff()
    if not ((taken > 0) & (taken < num_items)).any():
        raise DataError(f"{path}: nobody took some of the items and left others, so there is nothing to be learned")
    name = path.parent.resolve().name if path.name == PAIRS else path.stem
    return Dataset(
        name,
        [data],
        task="recommendation",
        target_spec={"kind": "item"},
        license="your own",
        redistribute=False,
        citation="none",
        caveats=tuple(caveats),
    )


def _graph(
    triples: str | os.PathLike[str] | None, entities: dict[str, int]
) -> tuple[list[tuple[int, int, int]], KnowledgeGraph]:
    """The facts of a file in numbers, and their graph; entities that are no items get the next numbers."""
    kinds: dict[str, int] = {}
    heads, relations, tails = ([], [], []) if triples is None else columns_of(triples, ("head", "relation", "tail"))
    facts = [
        (entities.setdefault(h, len(entities)), kinds.setdefault(r, len(kinds)), entities.setdefault(t, len(entities)))
        for h, r, t in zip(heads, relations, tails, strict=True)
    ]
    kg = KnowledgeGraph.from_triples(
        head=[f[0] for f in facts],
        relation=[f[1] for f in facts],
        tail=[f[2] for f in facts],
        num_nodes=len(entities),
        num_relations=len(kinds),
        node_names=entities,
        relation_names=kinds,
        duplicates="drop",
    )
    return facts, kg


def coverage_of(data: Interactions) -> list[str]:
    """What held-out pairs ask of users and items that training never saw, one sentence each."""
    found = []
    users = data.train.indptr.diff() == 0
    items = data.train.source_degree() == 0
    for name, part in (("validation", data.val), ("test", data.test)):
        cold = users & (part.indptr.diff() > 0)
        if bool(cold.any()):
            what = f"{int(cold.sum()):,} of {int((part.indptr.diff() > 0).sum()):,} users with {name} pairs"
            found.append(f"{what} have no training pair: nothing is learned of them, and they are ranked all the same.")
        lost = int(items[part.indices.long()].sum())
        if lost:
            found.append(f"{lost:,} of {part.num_edges:,} {name} pairs are of items that no training pair has.")
    return found


def _coverage(path: Path, facts: list[tuple[int, int, int]], num_items: int, names: list[str]) -> str:
    """How many items the facts tell something of.

    Raises:
        DataError: of none, so that the two files name their things differently.
    """
    told = {e for h, _, t in facts for e in (h, t) if e < num_items}
    if facts and not told:
        got = f"{len(facts):,} facts of others, such as {names[facts[0][0]]!r}"
        hint = "Name items alike in both files"
        raise DataError(f"{path}: expected facts about items, such as {names[0]!r}, got {got}. {hint}")
    return f"{len(told):,} of {num_items:,} items are in a fact."


def _say(path: Path, notes: list[str]) -> list[str]:
    for note in notes:
        _LOG.warning("%s: %s", path, note)
    return notes
