"""Names of things: numbered once, looked up by the million, and the nearest one where a name is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from itertools import repeat

import numpy as np

from hgraph.datasets.tables.cells import canonical
from hgraph.datasets.tables.table import Table, wrong

__all__ = ["find", "nearest", "number", "one_way", "unique"]


def unique(table: Table, name: str, what: str) -> dict[str, int]:
    """Id -> row of a column in which every row has an id of its own.

    Raises:
        DataError: an empty cell, or an id that stands twice.
    """
    cells = table[name].cells()
    index = dict(zip(cells, range(len(cells)), strict=True))
    if "" in index:
        raise wrong(table.where(cells.index(""), name), f"the id of a {what}", "an empty cell")
    if len(index) < len(cells):
        seen: dict[str, int] = {}
        for row, cell in enumerate(cells):
            if cell in seen:
                got = f"{cell!r}, which {table.place(seen[cell])} has too"
                hint = f"Each {what} has one row; columns= (--column) names another column of ids"
                raise wrong(table.where(row, name), f"a {what} of its own", got, hint)
            seen[cell] = row
    return index


def number(index: dict[str, int], chunks: Iterable[list[str]]) -> None:
    """Give every new text of a column the next number, in order of appearance."""
    for cells in chunks:
        for cell in dict.fromkeys(cells):
            index.setdefault(cell, len(index))


def one_way(table: Table, name: str, index: Mapping[str, int], what: str) -> None:
    """Refuse ids of which two are one number, written as 1 and as 1.0: they would be two things.

    Raises:
        DataError: there are such; pandas writes 1.0 once a column of whole numbers has a missing cell.
    """
    for text in index:
        if (key := canonical(text)) != text and key in index:
            hint = "Make the column whole numbers again, in pandas with .astype('Int64')"
            raise wrong(f"{table.source}: column {name!r}", f"one text for each {what}", f"{key!r} and {text!r}", hint)


def find(table: Table, name: str, index: Mapping[str, int], what: str, known: str) -> np.ndarray:
    """Int64 [R]: the number of each cell.

    Raises:
        DataError: a cell that is empty or unknown; names file, line and column, and suggests the nearest id.
    """
    parts = []
    row = 0
    for cells in table[name]:
        part = np.fromiter(map(index.get, cells, repeat(-1)), np.int64, len(cells))
        unknown = np.flatnonzero(part < 0)
        if len(unknown):
            cell = cells[unknown[0]]
            raise wrong(table.where(row + int(unknown[0]), name), *unknown_id(cell, index, what, known))
        parts.append(part)
        row += len(cells)
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def unknown_id(cell: str, index: Mapping[str, int], what: str, known: str) -> tuple[str, str, str]:
    """What was expected instead of a cell, what came, and what to try."""
    expected = f"the id of a {what}" + (f" of {known}" if known else "")
    near = nearest(cell, index)
    hint = f"Did you mean {near!r}?" if near is not None else f"Give it a row in {known}" if cell and known else ""
    return expected, repr(cell) if cell else "an empty cell", hint


def nearest(text: str, index: Mapping[str, int]) -> str | None:
    """The known text most like another one, or None; quick for millions, of which it compares some thousands."""
    plain = text.strip().casefold()
    if not plain:
        return None
    trimmed = plain.removesuffix(".0").lstrip("0")
    candidates: list[str] = []
    for known in index:
        other = known.strip().casefold()
        if other == plain or other.removesuffix(".0").lstrip("0") == trimmed:
            return known
        alike = len(index) <= 5000 or other[:2] == plain[:2] or other[-3:] == plain[-3:]
        if alike and abs(len(other) - len(plain)) <= 3 and len(candidates) < 5000:
            candidates.append(known)
    found = difflib.get_close_matches(text, candidates, n=1, cutoff=0.5)
    return found[0] if found else None
