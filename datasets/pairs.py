"""Pairs of user and item from a CSV file, with ratings and times if they are used."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hgraph.datasets.tables import kinds
from hgraph.datasets.tables.text_rows import chunks, header, opened
from hgraph.errors import DataError
from hgraph.files import valid_path

__all__ = ["Pairs", "Reading", "columns_of", "last_of_users", "latest", "pairs_of"]

_LOG = logging.getLogger("hgraph")
_RATINGS, _TIMES = ("rating", "ratings", "stars", "score"), ("timestamp", "time", "date", "datetime")


@dataclass(frozen=True)
class Reading:
    """How CSV files are read.

    Args:
        columns: role (user, item, rating, timestamp, head, relation, tail) -> column, for other names.
        delimiter: the character between fields; None detects it.
        decimal: the decimal separator of ratings; None means a period.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    decimal: str | None = None


@dataclass(frozen=True)
class Pairs:
    """Rows of a file, in file order; ``times`` [K] are row numbers if no times are used.

    ``low`` has the distinct pairs whose last rating is too low.
    """

    users: list[str]
    items: list[str]
    times: Tensor
    low: list[tuple[str, str]] = field(default_factory=list)


def pairs_of(
    path: Path, *, min_rating: float | None, timed: bool, reading: Reading | None = None
) -> tuple[Pairs, list[str]]:
    """The pairs of a file whose last rating is at least ``min_rating``, and notes on its other columns.

    Raises:
        DataError: not exactly one column of ratings or times if one is needed; an invalid cell; no pair left.
    """
    reading = reading or Reading()
    with opened(path, reading.delimiter) as reader:
        names = [name.strip() for name in header(reader)]
    rating, time = (
        [reading.columns[role]] if role in reading.columns else [n for n in names if n.lower() in wanted]
        for role, wanted in (("rating", _RATINGS), ("timestamp", _TIMES))
    )
    used = [_needed(path, names, rating, "rating", "min_rating (--min-rating)")] if min_rating is not None else []
    used += [_needed(path, names, time, "timestamp", "split (--split), which needs times")] if timed else []
    users, items, *more = columns_of(path, ("user", "item", *used), reading)
    if not users:
        raise DataError(f"{path}: no interactions")
    notes = []
    if rating and min_rating is None:
        what = f"Column {rating[0]!r} is not used: pairs count whatever their rating"
        notes.append(f"{what}. Set a threshold with --min-rating.")
    if time and not timed:
        notes.append(
            f"Column {time[0]!r} is not used: training pairs may be later than held-out pairs. Split by time with "
            "--split time or last."
        )
    for note in notes:
        _LOG.warning("%s: %s", path, note)
    times = _numbers(path, used[-1], more[-1], reading.decimal) if timed else np.arange(len(users), dtype=np.float64)
    selected = np.ones(len(users), bool)
    if min_rating is not None:
        ratings = _numbers(path, used[0], more[0], reading.decimal)
        last: dict[tuple[str, str], int] = {}
        for row in np.argsort(times, kind="stable").tolist():
            last[users[row], items[row]] = row
        selected = np.array([ratings[last[pair]] >= min_rating for pair in zip(users, items, strict=True)])
        unique = (len({n for n, k in zip(column, selected, strict=True) if k}) for column in (users, items))
        counts = [int(selected.sum()), *unique]
        whole = [len(users), len(set(users)), len(set(items))]
        kinds_of = zip(counts, whole, ("pairs", "users", "items"), strict=True)
        what = ", ".join(f"{a:,} of {b:,} {n}" for a, b, n in kinds_of)
        notes.append(f"Ratings of at least {min_rating:g}: {what}.")
        _LOG.info("%s: %s", path, notes[-1])
        if not counts[0]:
            raise DataError(f"{path}: expected ratings of at least {min_rating:g}, the highest is {ratings.max():g}")
    chosen = np.flatnonzero(selected).tolist()
    low = dict.fromkeys((users[i], items[i]) for i in np.flatnonzero(~selected).tolist())
    kept = torch.from_numpy(times[selected])
    return Pairs([users[i] for i in chosen], [items[i] for i in chosen], kept, list(low)), notes


def latest(pairs: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """The unique pairs of [2, K] with their latest times, in the order of the latest rows."""
    _, number = pairs.unique(dim=1, return_inverse=True)
    last: dict[int, int] = {}
    for row in times.argsort(stable=True).tolist():  # for equal times, the later row counts as later
        last[int(number[row])] = row
    rows = torch.tensor(sorted(last.values()), dtype=torch.long)
    return pairs[:, rows], times[rows]


def last_of_users(user: Tensor, times: Tensor) -> list[Tensor]:
    """Training, validation and test pairs: the last pair of each user is for testing, the one before for validation.

    A user with two pairs has no validation pair, a user with one pair only a training pair. For equal times, the later
    row counts as later.
    """
    order = times.argsort(stable=True)
    order = order[user[order].argsort(stable=True)]
    owner = user[order]
    ends = torch.ones(len(owner), dtype=torch.bool)
    ends[:-1] = owner[1:] != owner[:-1]
    count = torch.bincount(owner)[owner]
    place = torch.arange(len(owner))
    last = torch.where(ends, place, len(owner)).flip(0).cummin(0).values.flip(0)
    remaining = last - place  # how many pairs of the user follow
    part = torch.zeros_like(remaining)
    part[(remaining == 0) & (count >= 2)] = 2
    part[(remaining == 1) & (count >= 3)] = 1
    return [order[part == p].sort().values for p in range(3)]


def columns_of(path: str | os.PathLike[str], wanted: Sequence[str], reading: Reading | None = None) -> list[list[str]]:
    """The columns of the given names; no field may be empty."""
    path, reading = valid_path(path), reading or Reading()
    roles = {column: role for role, column in reading.columns.items()}
    wanted = [reading.columns.get(name, name) for name in wanted]
    columns: list[list[str]] = [[] for _ in wanted]
    with opened(path, reading.delimiter) as reader:
        names = [name.strip() for name in header(reader)]
        missing = [name for name in wanted if name not in names]
        if missing:
            what = "a column" if len(missing) == 1 else "columns"
            flags = " ".join(f"--column {roles.get(name, name)}=NAME" for name in missing)
            hint = f"Name them with columns= ({flags})" if len(missing) > 1 else f"Name it with columns= ({flags})"
            listed = " and ".join(map(repr, missing))
            raise DataError(f"{path}:1: expected {what} {listed}, got {', '.join(names)}. {hint}")
        at, line = [names.index(name) for name in wanted], 1
        for rows in chunks(reader, len(names)):
            for column, i in zip(columns, at, strict=True):
                column.extend(text.strip() for text in rows[i])
            for name, column in zip(wanted, columns, strict=True):
                if "" in column[line - 1 :]:
                    row = column.index("", line - 1) + 2
                    raise DataError(f"{path}: row {row}: expected a value in column {name!r}, got an empty field")
            line = len(columns[0]) + 1
    return columns


def _needed(path: Path, names: list[str], found: list[str], what: str, option: str) -> str:
    if len(found) != 1 or found[0] not in names:
        got = f"columns {names}" if len(found) < 2 else " and ".join(map(repr, found))
        hint = f"Name it with columns= (--column {what}=NAME), or leave out {option}"
        raise DataError(f"{path}: expected one column {(found or [what])[0]!r}, got {got}. {hint}")
    return found[0]


def _numbers(path: Path, name: str, cells: list[str], decimal: str | None) -> np.ndarray:
    """A column of finite numbers, or of ISO dates as days."""
    if decimal == ",":
        cells = [cell.replace(".", "").replace(",", ".") if cell.count(",") == 1 else cell for cell in cells]
    values = kinds.floats(cells)
    values = kinds.dates(cells) if values is None else values
    if values is None or not np.isfinite(values).all():

        def is_number(cell: str) -> bool:
            found = [v for v in (kinds.floats([cell]), kinds.dates([cell])) if v is not None]
            return any(np.isfinite(v).all() for v in found)

        bad = next(i for i, cell in enumerate(cells) if not is_number(cell))
        raise DataError(f"{path}: row {bad + 2}: column {name!r}: expected a number or an ISO date, got {cells[bad]!r}")
    return values
