"""What the text of a column means: numbers, booleans, dates, categories, words."""

from __future__ import annotations

import datetime
import functools
import itertools
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from hgraph.datasets.tables import quantities
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


def infer(column: Column, missing: Collection[str] = MISSING, decimal: str | None = None) -> Kind:
    """The kind of a column, by the first rule that all its cells meet; missing ones are not asked.

    1. no cell that is not missing: ``ignore``;
    2. only true/false, yes/no, t/f, y/n or 1/0 (1.0/0.0 too), in any case: ``boolean``;
    3. only numbers, as ``float`` reads them: ``numeric`` (codes such as postal codes too: say ``categorical``);
       Numbers with one sign or unit around them all, ``12%``, ``$12``, ``3.5 kg``, ``1 234``, are numbers too, and
       with ``decimal=","`` so is ``1,5``;
    4. only ISO dates or times, ``2024-05-31`` or ``2024-05-31T12:00:00Z``: ``date``;
    5. at most 1000 different values, and at most 20 or half as many as cells: ``categorical``;
    6. else ``text``, as a column of sequences of words is.

    Raises:
        DataError: a column of sequences of numbers, which no feature can hold; a column with two readings: 1,234 with a
            decimal comma or point, 01/02/2024, numbers of several units.
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
    if numeric and decimal == "," and not boolean and any("." in value for value in distinct):
        numeric = False  # 1.234 is 1234 here, and 1.5 nothing
    if not (boolean or numeric or date) and _is_quantity(column, missing, decimal):
        return "numeric"
    if boolean or numeric or date:
        return "boolean" if boolean else "numeric" if numeric else "date"
    return "categorical" if len(distinct) <= min(_CATEGORIES, max(20, filled / 2)) else "text"


def _is_quantity(column: Column, missing: Collection[str], decimal: str | None) -> bool:
    """Whether all cells are numbers with the same sign or unit.

    Raises:
        DataError: they have two readings; the message shows both.
    """
    gone, where = frozenset(missing), f"column {column.name!r}"
    cells = [cell for cell in dict.fromkeys(itertools.chain.from_iterable(column)) if cell not in gone]
    other = f"or keep the text with --type {column.name}=categorical"
    if all(map(quantities.DATES.fullmatch, cells)):
        got = f"{cells[0]!r}, day or month first"
        raise wrong(where, "dates with one reading, as 2024-05-31", got, f"Write them so, {other}")
    marks = quantities.mark_of(cells)
    if marks is None:
        return False
    found = quantities.readings(cells) if decimal is None else {}
    if found:
        comma = next(cell for cell in cells if "," in cell)
        got = f"{comma!r}: " + " or ".join(f"{v:.12g} with --decimal {sign}" for sign, v in found.items())
        raise wrong(where, "numbers with one reading", got, f"Give decimal= (--decimal), {other}")
    if len(marks) > 1 and marks <= quantities.UNITS | {""}:
        got = ", ".join(sorted(map(repr, marks)))
        raise wrong(where, "numbers of one unit", f"units {got}", f"Convert them to one, {other}")
    return len(marks) == 1 and quantities.as_numbers(cells, next(iter(marks)), decimal) is not None


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
    return {name: types[name] if name in types else infer(table[name], missing, table.decimal) for name in wanted}  # type: ignore[misc]


def floats(cells: Collection[str]) -> np.ndarray | None:
    """Float64 [len] of cells that are all numbers, else None; Python's 1_000 is no number here."""
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    return None if "_" in "".join(cells) else values


def _quantities(cells: Collection[str], mark: str, decimal: str | None) -> np.ndarray | None:
    """Numbers with a mark, or as ``float`` reads them where neither a mark nor another decimal sign is expected."""
    plain = floats(cells) if not mark and decimal != "," else None
    return quantities.as_numbers(cells, mark, decimal) if plain is None else plain


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


def read(
    table: Table, name: str, kind: str, missing: Collection[str], hint: str | None = None, mark: str = ""
) -> np.ndarray:
    """Float64 [R] of a numeric, boolean or date column, NaN where a cell is missing.

    Args:
        table: that holds it.
        name: of the column.
        kind: as above.
        missing: texts that mean a missing cell.
        hint: what to try where a cell is not of the kind; None is for columns that become features.
        mark: what stands around every number, as ``"%"``.

    Raises:
        DataError: a cell that is not what the kind says; names file, line and column.
    """
    key = (name, f"{kind} {mark} {table.decimal} but {sorted(missing)}")
    if key in table.parsed:
        return table.parsed[key]
    readers: dict[str, tuple[Callable[[Collection[str]], np.ndarray | None], str]] = {
        "numeric": (
            functools.partial(_quantities, mark=mark, decimal=table.decimal),
            "a finite number" + (f" with {mark!r}" if mark else ""),
        ),
        "boolean": (truth, "true or false, yes or no, 1 or 0"),
        "date": (dates, "a date such as 2024-05-31 or 2024-05-31T12:00:00Z"),
    }
    reader, expected = readers[kind]
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
