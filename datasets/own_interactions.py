"""Your own interactions and facts, from CSV files."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from hgraph.data import Dataset, Interactions
from hgraph.datasets.tables.csvfile import chunks, header, opened
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import KnowledgeGraph

__all__ = ["FACTS", "PAIRS", "from_interactions", "is_own"]

_LOG = logging.getLogger("hgraph")

PAIRS, FACTS = "interactions.csv", "triples.csv"


def is_own(place: str | os.PathLike[str]) -> bool:
    """Whether a folder holds ``interactions.csv``."""
    return (Path(place).expanduser() / PAIRS).is_file()


def from_interactions(
    interactions: str | os.PathLike[str],
    triples: str | os.PathLike[str] | None = None,
    *,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> Dataset[Interactions]:
    r"""A data set of your own: who took what, and what is known of it.

    Args:
        interactions: a CSV file with a header and the columns ``user`` and ``item``, in words; others are not read. A
            pair that repeats counts once. A folder stands for its ``interactions.csv`` and ``triples.csv``, if any.
        triples: a CSV file with the columns ``head``, ``relation`` and ``tail``; an item is known by its name.
        val: share of the pairs held out for validation, by lot.
        test: share held out for the test.
        seed: of the lot.

    Raises:
        DataError: a file that cannot be read, columns that are missing, an empty field; the message names the line.

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
    users, items = _columns(path, ("user", "item"))
    if not users:
        raise DataError(f"{path}: no interactions")
    user_ids = {name: i for i, name in enumerate(dict.fromkeys(users))}
    entities = {name: i for i, name in enumerate(dict.fromkeys(items))}
    num_items = len(entities)
    kinds: dict[str, int] = {}
    heads, relations, tails = ([], [], []) if triples is None else _columns(triples, ("head", "relation", "tail"))
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
    data = Interactions.random(
        [user_ids[u] for u in users],
        [entities[i] for i in items],
        kg,
        num_users=len(user_ids),
        num_items=num_items,
        val_fraction=val,
        test_fraction=test,
        seed=seed,
        duplicates="drop",
        user_names=user_ids,
    )
    quirks = ["Pairs are divided by lot."]
    for what, given, kept in (
        ("pairs", len(users), sum(part.num_edges for part in (data.train, data.val, data.test))),
        ("facts", len(facts), kg.num_edges),
    ):
        quirks += [f"{given - kept:,} of {given:,} {what} repeat others and count once."] if given > kept else []
    both = [name for name in user_ids if name in entities]
    if both:
        what = f"{len(both):,} names, {both[0]!r} among them, are of a user and of a thing: two vertices each"
        quirks.append(f"{what}, so that facts about them say nothing of the user.")
        _LOG.warning("%s: %s", path, quirks[-1])
    if not data.train.num_edges:
        raise ArgumentError("interactions", "enough pairs to train with", f"{len(users)}", "Smaller val and test help")
    taken = data.train.indptr.diff()
    if not ((taken > 0) & (taken < num_items)).any():
        raise DataError(f"{path}: nobody took some of the items and left others, so there is nothing to be learned")
    name = path.parent.resolve().name if path.name == PAIRS else path.stem
    return Dataset(
        name,
        [data],
        task="recommendation",
        target_spec={"kind": "item"},
        licence="your own",
        redistribute=False,
        citation="none",
        quirks=tuple(quirks),
    )


def _columns(path: str | os.PathLike[str], wanted: tuple[str, ...]) -> list[list[str]]:
    """The columns of those names; every field must say something."""
    path = Path(path).expanduser()
    columns: list[list[str]] = [[] for _ in wanted]
    with opened(path, None) as reader:
        names = [name.strip() for name in header(reader)]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise DataError(f"{path}:1: expected a column {missing[0]!r}, got {', '.join(names)}")
        at, line = [names.index(name) for name in wanted], 1
        for rows in chunks(reader, len(names)):
            for column, i in zip(columns, at, strict=True):
                column.extend(text.strip() for text in rows[i])
            for name, column in zip(wanted, columns, strict=True):
                if "" in column[line - 1 :]:
                    row = column.index("", line - 1) + 2
                    raise DataError(f"{path}: row {row}: the column {name!r} is empty")
            line = len(columns[0]) + 1
    return columns
