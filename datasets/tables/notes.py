"""What users should know about a data set made from tables: questions, warnings and caveats."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from hgraph.datasets.tables import incidence, quantities
from hgraph.datasets.tables.encoder import Encoder
from hgraph.datasets.tables.table import Table, wrong
from hgraph.structure import Graph

__all__ = ["caveats_of", "check_classes", "read_as_categories", "read_as_missing"]

# a label with so many classes, and on average fewer rows per class, is probably a number or an id
_MANY_CLASSES, _FEW_ROWS = 50, 5


def check_classes(table: Table, label: str, names: Sequence[str], rows: int, numbers: np.ndarray | None) -> None:
    """Check that a label without a task is not rather a number or an id.

    Raises:
        DataError: there are many classes, with few rows each.
    """
    if len(names) < _MANY_CLASSES or rows >= _FEW_ROWS * len(names):
        return
    got = f"{len(names):,} classes in {rows:,} rows, such as {names[0]!r} and {names[1]!r}"
    hint = "Pass task='classification' (--task classification) if these are classes"
    if numbers is not None:
        hint = f"Pass task='regression' (--task regression) to predict numbers. {hint}"
    raise wrong(f"{table.source}: column {label!r}", "a label with several rows per class", got, hint)


def read_as_missing(
    table: Table, labels: Sequence[str], used: Mapping[str, str], missing: Collection[str]
) -> list[str]:
    """Notes on texts that are read as missing, but could be a class or a category."""
    found = []
    texts = frozenset(missing) - {""}
    for name in [*labels] + [n for n, kind in used.items() if kind == "categorical"]:
        counts: dict[str, int] = {}
        for cells in table[name]:
            if not texts.isdisjoint(cells):
                for cell in cells:
                    if cell in texts:
                        counts[cell] = counts.get(cell, 0) + 1
        if counts:
            listed = ", ".join(f"{count:,} {text!r}" for text, count in counts.items())
            what = "class" if name in labels else "category"
            found.append(f"Column {name!r}: {listed} read as missing, not as a {what}. Pass --missing '' to keep them.")
    return found


def read_as_categories(
    table: Table, used: Mapping[str, str], types: Mapping[str, str], missing: Collection[str]
) -> list[str]:
    """Notes on columns of numbers with text, such as "12 p.", that are inferred as categories or text."""
    found = []
    for name in (n for n, kind in used.items() if kind in ("categorical", "text") and n not in types):
        cells = dict.fromkeys(cell for chunk in table[name] for cell in chunk if cell not in missing)
        if cells and quantities.with_text(cells):
            example = next(iter(cells))
            what = f"Column {name!r} is read as {used[name]}, although its cells are numbers with text: {example!r}"
            found.append(f"{what}. Remove the text to use the numbers, or pass --type {name}={used[name]}.")
    return found


def caveats_of(made: incidence.Made, encoder: Encoder, kinds_used: Mapping[str, str], split: str) -> tuple[str, ...]:
    """Caveats of the set, one sentence each."""
    structure = made.structure
    adjacency = structure.adj if isinstance(structure, Graph) else structure.e2v
    num_isolated = int((adjacency.indptr.diff() == 0).sum())
    notes = ["Features are encoded with statistics of the training nodes only."]
    if not encoder.feature_names:
        notes = ["There are no features: x is the identity or, for many nodes, the degree."]
    if num_isolated:
        notes.append(f"{num_isolated:,} nodes have no incoming edges; they are kept.")
    marked = [c for c in encoder.codings if c.kind == "numeric" and c.words]
    notes += [f"Column {c.name!r} is read as numbers with the unit {c.words[0]!r}." for c in marked]
    notes += [f"Column {n!r} is empty and is left out." for n, k in kinds_used.items() if k == "ignore"]
    empty = [c.name for c in encoder.codings if not c.features()]
    notes += [
        f"Column {n!r} gives no feature: no category or word occurs often enough in training rows." for n in empty
    ]
    if made.unused:
        notes.append(f"Unused columns of the hyperedges or edges: {', '.join(made.unused)}.")
    notes.append(f"The default split is {split}.")
    return tuple(notes)
