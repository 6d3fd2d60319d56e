"""Splits rows into training, validation and test: at random by class, by time, or by a column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hgraph.datasets.tables.kinds import numbers_or_dates
from hgraph.datasets.tables.table import Table, wrong
from hgraph.errors import ArgumentError

__all__ = ["by_time", "checked_shares", "given", "stratified"]

_PARTS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "testing": 2}


def checked_shares(shares: Sequence[float]) -> tuple[float, float, float]:
    """Check fractions of training, validation and test rows, which must add up to 1.

    Raises:
        ArgumentError: not three numbers in 0 .. 1 with sum 1, or no training rows.
    """
    values = tuple(float(s) for s in shares)
    if len(values) != 3 or min(values) < 0 or not values[0] or not abs(sum(values) - 1) < 1e-6:
        raise ArgumentError("shares", "fractions of training, validation and test rows that add up to 1", tuple(shares))
    return values[0], values[1], values[2]


def stratified(y: Tensor, shares: Sequence[float], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Sample fractions of each class with a seed; rows with a negative or NaN label are in no part.

    A class of n rows has ``round(n * fraction)`` rows for validation and for testing; at least one each if the
    fraction is not 0 and a training row is left. Labels that are not integers form one class.

    >>> [part.tolist() for part in stratified(torch.tensor([0, 0, 0, 1, 1, 1, -1]), (0.4, 0.3, 0.3), seed=0)]
    [[2, 5], [0, 4], [1, 3]]
    """
    _, val, test = checked_shares(shares)
    labeled = ~y.isnan() if y.is_floating_point() else y >= 0
    classes = torch.zeros(len(y), dtype=torch.long) if y.is_floating_point() else y
    generator = torch.Generator().manual_seed(seed)
    parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for label in torch.unique(classes[labeled]).tolist():
        members = (labeled & (classes == label)).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        n = len(members)
        tests = min(max(1, round(n * test)), n - 1) if test else 0
        vals = min(max(1, round(n * val)), n - 1 - tests) if val else 0
        for part, chosen in zip(parts, members.tensor_split([n - tests - vals, n - tests]), strict=True):
            part.append(chosen)
    return _joined(parts[0]), _joined(parts[1]), _joined(parts[2])


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts).sort().values if parts else torch.empty(0, dtype=torch.long)


def by_time(table: Table, column: str, labeled: Tensor, shares: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Use the oldest labeled rows for training and the newest for testing; rows of equal time stay together.

    Raises:
        DataError: a labeled row has no time.
    """
    train, val, test = checked_shares(shares)
    time = numbers_or_dates(table, column)
    rows = np.flatnonzero(labeled.numpy())
    if len(rows) and np.isnan(time[rows]).any():
        row = int(rows[np.isnan(time[rows]).argmax()])
        raise wrong(table.where(row, column), "a number or date", "an empty cell")
    moments = np.sort(time[rows])
    # rows of equal time belong to the part of the first of them
    place = np.searchsorted(moments, time[rows], side="left") / max(len(rows), 1)
    part = (place >= train - 1e-9).astype(int) + (place >= train + val - 1e-9)
    part = np.where((part == 2) & (test == 0), 1 if val else 0, part)
    return tuple(torch.from_numpy(rows[part == i]) for i in range(3))  # type: ignore[return-value]


def given(table: Table, column: str, labeled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Read the parts from a column: train, val (valid, validation, dev) or test; an empty cell is in no part.

    Raises:
        DataError: an unknown part; the message gives file, line and column.
    """
    part = np.full(table.num_rows, -1)
    start = 0
    for cells in table[column]:
        words = [cell.lower() for cell in cells]
        if unknown := set(words).difference(_PARTS, ("",)):
            row = next(i for i, word in enumerate(words) if word in unknown)
            raise wrong(table.where(start + row, column), "train, val, test or an empty cell", repr(cells[row]))
        part[start : start + len(cells)] = [_PARTS.get(word, -1) for word in words]
        start += len(cells)
    part[~labeled.numpy()] = -1
    return tuple(torch.from_numpy(np.flatnonzero(part == i)) for i in range(3))  # type: ignore[return-value]
