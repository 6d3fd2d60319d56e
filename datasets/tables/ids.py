"""Numbers ids, looks them up in bulk, and suggests the most similar id for an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from itertools import repeat

import numpy as np

from hgraph.datasets.tables.cells import canonical
from hgraph.datasets.tables.table import Table, wrong

__all__ = ["check_spelling", "find", "nearest", "number", "unique"]


def unique(table: Table, name: str, what: str) -> dict[str, int]:
    """Map of id to row, for a column of unique ids.

    Raises:
        DataError: an empty cell or a repeated id.
    """
    cells = table[name].cells()
    index = dict(zip(cells, range(len(cells)), strict=True))
    if "" in index:
        raise wrong(table.where(cells.index(""), name), f"the id of a {what}", "an empty cell")
    if len(index) < len(cells):
        seen: dict[str, int] = {}
        for row, cell in enumerate(cells):
            if cell in seen:
                got = f"{cell!r}, which is also in {table.place(seen[cell])}"
                hint = f"Give each {what} one row, or choose another id column with columns= (--column)"
                raise wrong(table.where(row, name), f"a unique {what}", got, hint)
            seen[cell] = row
    return index


def number(index: dict[str, int], chunks: Iterable[list[str]]) -> None:
    """Number the distinct texts of a column in order of appearance."""
    for cells in chunks:
        for cell in dict.fromkeys(cells):
            index.setdefault(cell, len(index))


def check_spelling(table: Table, name: str, index: Mapping[str, int], what: str) -> None:
    """Refuse ids that are the same number written in two ways, as 1 and 1.0, which would become two nodes.

    Raises:
        DataError: there are such ids; pandas writes 1.0 if a column of whole numbers has a missing cell.
    """
    for text in index:
        if (key := canonical(text)) != text and key in index:
            hint = "Convert the column to whole numbers, in pandas with .astype('Int64')"
            raise wrong(
                f"{table.source}: column {name!r}", f"one spelling of each {what}", f"{key!r} and {text!r}", hint
            )


def find(table: Table, name: str, index: Mapping[str, int], what: str, known: str) -> np.ndarray:
    """The number of each cell, as int64 [R].

    Raises:
        DataError: an empty or unknown cell; the message gives file, line and column, and the most similar id.
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
    """The expected value, the given value and the hint for an unknown id."""
    expected = f"the id of a {what}" + (f" of {known}" if known else "")
    near = nearest(cell, index)
    add = f"dd a row for it to {known}, with empty cells for missing values" if cell and known else ""
    hint = f"A{add}" if add else ""
    if near is not None:
        hint = f"Did you mean {near!r}?" + (f" If not, a{add}" if add else "")
    return expected, repr(cell) if cell else "an empty cell", hint


def nearest(text: str, index: Mapping[str, int]) -> str | None:
    """The most similar known name, or None; compares at most a few thousand candidates."""
    plain = text.strip().casefold()
    if not plain:
        return None
    trimmed = plain.removesuffix(".0").lstrip("0")
    candidates: list[str] = []
    for known in index:
        other = known.strip().casefold()
        if other == plain or other.removesuffix(".0").lstrip("0") == trimmed:
            return known
        similar = len(index) <= 5000 or other[:2] == plain[:2] or other[-3:] == plain[-3:]
        if similar and abs(len(other) - len(plain)) <= 3 and len(candidates) < 5000:
            candidates.append(known)
    found = difflib.get_close_matches(text, candidates, n=1, cutoff=0.5)
    return found[0] if found else None
