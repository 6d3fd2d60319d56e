"""What the text of a column means: numbers, booleans, dates, categories, words."""

from __future__ import annotations

import datetime
import functools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from hgraph.datasets.tables.cells import canonical
from hgraph.datasets.tables.table import MEMBER, Column, Table, wrong
from hgraph.errors import ArgumentError

__all__ = ["MISSING", "Kind", "dates", "floats", "infer", "kinds_of", "numbers_or_dates", "truth"]

Kind = Literal["numeric", "boolean", "categorical", "text", "date", "ignore"]

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NaT", "null", "NULL", "None", "?")
_TRUE, _FALSE = frozenset({"true", "yes", "t", "y", "1"}), frozenset({"false", "no", "f", "n", "0"})
_PAIRS = [frozenset(pair) for pair in (("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"), ("1", "0"))]
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})?)?")
_CATEGORIES = 1000  # a column with more different values is no category


def infer(column: Column, missing: Collection[str] = MISSING) -> Kind:
    """The kind of a column, by the first rule that all its cells meet; missing ones are not asked.

    1. no cell that is not missing: ``ignore``;
    2. only true/false, yes/no, t/f, y/n or 1/0 (1.0/0.0 too), in any case: ``boolean``;
    3. only numbers, as ``float`` reads them: ``numeric`` (codes such as postal codes too: say ``categorical``);
    4. only ISO dates or times, ``2024-05-31`` or ``2024-05-31T12:00:00Z``: ``date``;
    5. at most 1000 different values, and at most 20 or half as many as cells: ``categorical``;
    6. else ``text``, as a column of sequences of words is.

    Raises:
        DataError: a column of sequences of numbers, which no feature can hold.
    """
    if column.listed:
        return _of_sequences(column)
    boolean = numeric = date = True
    distinct: set[str] = set()
    lowered: set[str] = set()
    filled = 0
    for cells in column:
        values = set(cells)
        if values.isdisjoint(missing):
            filled += len(cells)
        else:
            values.difference_update(missing)
            filled += sum(map(values.__contains__, cells))
        if boolean:
            lowered |= {canonical(v).lower() for v in values}
            boolean = any(lowered <= pair for pair in _PAIRS)
        numeric = numeric and floats(values) is not None
        date = date and dates(values) is not None
        if len(distinct) <= _CATEGORIES:
            distinct |= set(map(canonical, values))
    if not distinct:
        return "ignore"
    if boolean or numeric or date:
        return "boolean" if boolean else "numeric" if numeric else "date"
    return "categorical" if len(distinct) <= min(_CATEGORIES, max(20, filled / 2)) else "text"


def _of_sequences(column: Column) -> Kind:
    for cells in column:
        for cell in cells:
            if cell and floats(cell.split(MEMBER)) is not None:
                hint = f"Spread it over columns, or leave it out: --type {column.name}=ignore"
                raise wrong(f"column {column.name!r}", "one value a cell", f"numbers {cell.split(MEMBER)[:3]}", hint)
    return "text" if any(any(cells) for cells in column) else "ignore"


def kinds_of(
    table: Table, types: Mapping[str, str] | None, missing: Collection[str], leave_out: Collection[str] = ()
) -> dict[str, Kind]:
    """The kind of every column that becomes features: as ``types`` says, else inferred.

    Raises:
        ArgumentError: ``types`` names a column that is not there, or a kind there is not.
    """
    types = dict(types or {})
    for name, kind in types.items():
        if name not in table.columns:
            raise ArgumentError("types", f"columns of {table.source}: {list(table.columns)}", repr(name))
        if kind not in get_args(Kind):
            raise ArgumentError(f"types[{name!r}]", f"one of {list(get_args(Kind))}", repr(kind))
    wanted = [name for name in table.columns if name in types or name not in leave_out]
    return {name: types[name] if name in types else infer(table[name], missing) for name in wanted}  # type: ignore[misc]


def floats(cells: Collection[str]) -> np.ndarray | None:
    """Float64 [len] of cells that are all numbers, else None; Python's 1_000 is no number here."""
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    return None if "_" in "".join(cells) else values


def dates(cells: Collection[str]) -> np.ndarray | None:
    """Days since 1970, float64 [len], of cells that are all ISO dates or times, else None; without a zone it is UTC."""
    try:
        return np.fromiter(map(_days, cells), np.float64, len(cells))
    except ValueError:
        return None


@functools.lru_cache(maxsize=100_000)  # a million rows have few different days
def _days(cell: str) -> float:
    if not _DATE.fullmatch(cell):
        raise ValueError(cell)
    head, _, fraction = cell.removesuffix("Z").partition(".")
    digits = re.match(r"\d*", fraction).group()  # type: ignore[union-attr]
    moment = datetime.datetime.fromisoformat(head + fraction[len(digits) :])  # Python 3.10 reads few kinds of fractions
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)
    return (moment.timestamp() + (float(f"0.{digits}") if digits else 0.0)) / 86_400


def truth(cells: Collection[str]) -> np.ndarray | None:
    """Float64 [len] of 0 and 1 of cells that are all booleans, else None."""
    lowered = [canonical(cell).lower() for cell in cells]
    if not _TRUE.union(_FALSE).issuperset(lowered):
        return None
    return np.fromiter((cell in _TRUE for cell in lowered), np.float64, len(cells))


def read(table: Table, name: str, kind: str, missing: Collection[str], hint: str | None = None) -> np.ndarray:
    """Float64 [R] of a numeric, boolean or date column, NaN where a cell is missing.

    Args:
        table: that holds it.
        name: of the column.
        kind: as above.
        missing: texts that mean a missing cell.
        hint: what to try where a cell is not of the kind; None is for columns that become features.

    Raises:
        DataError: a cell that is not what the kind says; names file, line and column.
    """
    key = (name, f"{kind} but {sorted(missing)}")
    if key in table.parsed:
        return table.parsed[key]
    reader, expected = {
        "numeric": (floats, "a finite number"),
        "boolean": (truth, "true or false, yes or no, 1 or 0"),
        "date": (dates, "a date such as 2024-05-31 or 2024-05-31T12:00:00Z"),
    }[kind]
    out, start, gone = np.full(table.num_rows, np.nan), 0, frozenset(missing)
    for cells in table[name]:
        at: Sequence[int] = range(len(cells))
        if not gone.isdisjoint(cells):
            at = [i for i, cell in enumerate(cells) if cell not in gone]
        values = reader([cells[i] for i in at] if len(at) < len(cells) else cells)
        if values is None or not np.isfinite(values).all():
            bad = next(i for i in at if (v := reader([cells[i]])) is None or not math.isfinite(v[0]))
            if hint is None:
                other = f"types={{{name!r}: 'categorical'}} (--type {name}=categorical)"
                hint = f"Leave the cell empty if it is missing, or give {other}"
            raise wrong(table.where(start + bad, name), expected, repr(cells[bad]), hint)
        if len(at) == len(cells):
            out[start : start + len(cells)] = values
        else:
            out[np.asarray(at, np.int64) + start] = values
        start += len(cells)
    out.flags.writeable = False
    table.parsed[key] = out
    return out


def numbers_or_dates(table: Table, name: str, missing: Collection[str] = ("",)) -> np.ndarray:
    """Float64 [R] of a column of times: numbers as they are, dates as days since 1970; NaN where missing."""
    numeric = all(floats(set(cells).difference(missing)) is not None for cells in table[name])
    return read(table, name, "numeric" if numeric else "date", missing, hint="Times are all numbers or all ISO dates")
