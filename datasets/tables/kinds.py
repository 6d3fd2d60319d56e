"""Infers the kind of a column (numbers, booleans, dates, categories, words) and parses it."""

from __future__ import annotations

import datetime
import functools
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

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
_CATEGORIES = 1000  # a column with more distinct values is not categorical


def infer(column: Column, missing: Collection[str] = MISSING, decimal: str | None = None) -> Kind:
    """The kind of a column, by the first rule that all its cells satisfy; missing cells are ignored.

    1. all cells are missing: ``ignore``;
    2. only true/false, yes/no, t/f, y/n or 1/0 (1.0/0.0 too), in any case: ``boolean``;
    3. only numbers, as ``float`` reads them: ``numeric`` (also codes such as postal codes: choose ``categorical``).
       Numbers that all have the same sign or unit, ``12%``, ``$12``, ``3.5 kg``, ``1 234``, are numbers too, and
       with ``decimal=","`` so is ``1,5``;
    4. only ISO dates or times, ``2024-05-31`` or ``2024-05-31T12:00:00Z``: ``date``;
    5. at most 1000 distinct values, and at most 20 or half the number of cells: ``categorical``;
    6. otherwise ``text``, also for a column of sequences of words.

    Raises:
        DataError: a column of sequences of numbers, which cannot become a feature; an ambiguous column: 1,234 with a
            decimal comma or point, 01/02/2024, or numbers of several units.
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
        numeric = False  # with a decimal comma, 1.234 means 1234, and 1.5 is not a number
    if not (boolean or numeric or date) and _is_quantity(column, missing, decimal):
        return "numeric"
    if boolean or numeric or date:
        return "boolean" if boolean else "numeric" if numeric else "date"
    return "categorical" if len(distinct) <= min(_CATEGORIES, max(20, filled / 2)) else "text"


def _is_quantity(column: Column, missing: Collection[str], decimal: str | None) -> bool:
    """Whether all cells are numbers with the same sign or unit.

    Raises:
        DataError: they are ambiguous; the message shows both readings.
    """
    missing_texts, where = frozenset(missing), f"column {column.name!r}"
    cells = [cell for cell in dict.fromkeys(itertools.chain.from_iterable(column)) if cell not in missing_texts]
    other = f"or use the text as categories with --type {column.name}=categorical"
    if all(map(quantities.DATES.fullmatch, cells)):
        got = f"{cells[0]!r}, with day or month first"
        raise wrong(where, "unambiguous dates such as 2024-05-31", got, f"Write dates like this, {other}")
    marks = quantities.mark_of(cells)
    if marks is None:
        return False
    found = quantities.readings(cells) if decimal is None else {}
    if found:
        comma = next(cell for cell in cells if "," in cell)
        got = f"{comma!r}: " + " or ".join(f"{v:.12g} with --decimal '{sign}'" for sign, v in found.items())
        raise wrong(where, "unambiguous numbers", got, f"Pass decimal= (--decimal), {other}")
    if len(marks) > 1 and marks <= quantities.UNITS | {""}:
        got = ", ".join(sorted(map(repr, marks)))
        raise wrong(where, "numbers with one unit", f"the units {got}", f"Convert them to one unit, {other}")
    return len(marks) == 1 and quantities.as_numbers(cells, next(iter(marks)), decimal) is not None


def _of_sequences(column: Column) -> Kind:
    for cells in column:
        for cell in cells:
            if cell and floats(cell.split(MEMBER)) is not None:
                hint = f"Split it into several columns, or skip it with --type {column.name}=ignore"
                raise wrong(
                    f"column {column.name!r}", "one value per cell", f"the numbers {cell.split(MEMBER)[:3]}", hint
                )
    return "text" if any(any(cells) for cells in column) else "ignore"


def kinds_of(
    table: Table,
    types: Mapping[str, str] | None,
    missing: Collection[str],
    leave_out: Collection[str] = (),
    rows: np.ndarray | None = None,
) -> dict[str, Kind]:
    """The kind of each column that becomes features: from ``types``, otherwise inferred.

    Args:
        table: the table.
        types: column -> kind.
        missing: texts that mean a missing cell.
        leave_out: columns that are not features.
        rows: [R] bool, the rows whose cells are read; None means all.

    Raises:
        ArgumentError: ``types`` has an unknown column or an unknown kind.
    """
    types = dict(types or {})
    for name, kind in types.items():
        if name not in table.columns:
            raise ArgumentError("types", f"columns of {table.source}: {list(table.columns)}", repr(name))
        if kind not in get_args(Kind):
            raise ArgumentError(f"types[{name!r}]", f"one of {list(get_args(Kind))}", repr(kind))

    def inferred(name: str) -> Kind:
        column: Any = table[name] if rows is None else _Rows(table[name], rows)
        return infer(column, missing, table.decimal)

    wanted = [name for name in table.columns if name in types or name not in leave_out]
    return {name: types[name] if name in types else inferred(name) for name in wanted}  # type: ignore[misc]


class _Rows:
    """Some rows of a column."""

    def __init__(self, column: Column, rows: np.ndarray) -> None:
        self.name, self.listed = column.name, column.listed
        self._column, self._rows = column, rows

    def __iter__(self) -> Iterator[list[str]]:
        start = 0
        for cells in self._column:
            yield list(itertools.compress(cells, self._rows[start : start + len(cells)].tolist()))
            start += len(cells)


def floats(cells: Collection[str]) -> np.ndarray | None:
    """Cells as float64 [len] if all are numbers, else None; 1_000 is not accepted."""
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    return None if "_" in "".join(cells) else values


def _quantities(cells: Collection[str], mark: str, decimal: str | None) -> np.ndarray | None:
    """Numbers with a unit, or as ``float`` reads them if they have neither a unit nor a decimal comma."""
    plain = floats(cells) if not mark and decimal != "," else None
    return quantities.as_numbers(cells, mark, decimal) if plain is None else plain


def dates(cells: Collection[str]) -> np.ndarray | None:
    """Days since 1970 as float64 [len] if all cells are ISO dates or times, else None; the default time zone is UTC."""
    try:
        return np.fromiter(map(_days, cells), np.float64, len(cells))
    except ValueError:
        return None


@functools.lru_cache(maxsize=100_000)  # many rows have few distinct days
def _days(cell: str) -> float:
    if not _DATE.fullmatch(cell):
        raise ValueError(cell)
    head, _, fraction = cell.removesuffix("Z").partition(".")
    digits = re.match(r"\d*", fraction).group()  # type: ignore[union-attr]
    moment = datetime.datetime.fromisoformat(
        head + fraction[len(digits) :]
    )  # Python 3.10 accepts few lengths of fractions
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)
    return (moment.timestamp() + (float(f"0.{digits}") if digits else 0.0)) / 86_400


def truth(cells: Collection[str]) -> np.ndarray | None:
    """0 and 1 as float64 [len] if all cells are booleans, else None."""
    lowered = [canonical(cell).lower() for cell in cells]
    if not _TRUE.union(_FALSE).issuperset(lowered):
        return None
    return np.fromiter((cell in _TRUE for cell in lowered), np.float64, len(cells))


def read(
    table: Table, name: str, kind: str, missing: Collection[str], hint: str | None = None, mark: str = ""
) -> np.ndarray:
    """A numeric, boolean or date column as float64 [R], NaN for missing cells.

    Args:
        table: the table.
        name: name of the column.
        kind: ``"numeric"``, ``"boolean"`` or ``"date"``.
        missing: texts that mean a missing cell.
        hint: the hint of errors; None is the hint for columns that become features.
        mark: the unit of every number, such as ``"%"``.

    Raises:
        DataError: a cell does not fit the kind; the message gives file, line and column.
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
    out, start, missing_texts = np.full(table.num_rows, np.nan), 0, frozenset(missing)
    for cells in table[name]:
        at: Sequence[int] = range(len(cells))
        if not missing_texts.isdisjoint(cells):
            at = [i for i, cell in enumerate(cells) if cell not in missing_texts]
        values = reader([cells[i] for i in at] if len(at) < len(cells) else cells)
        if values is None or not np.isfinite(values).all():
            bad = next(i for i in at if (v := reader([cells[i]])) is None or not math.isfinite(v[0]))
            if hint is None:
                fitting = "numeric" if kind == "boolean" and floats([cells[bad]]) is not None else "categorical"
                other = f"types={{{name!r}: '{fitting}'}} (--type {name}={fitting})"
                hint = f"Leave the cell empty if it is missing, or pass {other}"
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
    """A column of times as float64 [R]: numbers unchanged, dates as days since 1970, NaN for missing cells."""
    numeric = all(floats(set(cells).difference(missing)) is not None for cells in table[name])
    return read(
        table, name, "numeric" if numeric else "date", missing, hint="Use either numbers or ISO dates for all times"
    )
