"""Which rows train, validate and test: drawn by class, cut by time, or given by a column."""

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
    """Shares of train, validation and test that add up to 1.

    Raises:
        ArgumentError: other numbers than three of 0 .. 1 with sum 1, or no training share.
    """
    values = tuple(float(s) for s in shares)
    if len(values) != 3 or min(values) < 0 or not values[0] or not abs(sum(values) - 1) < 1e-6:
        raise ArgumentError("shares", "train, validation and test shares that add up to 1", tuple(shares))
    return values[0], values[1], values[2]


def stratified(y: Tensor, shares: Sequence[float], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draw shares of every class under a seed; rows with a negative or NaN label are in no part.

    Of a class of n rows, ``round(n * share)`` validate and test, where the share is not 0 at least one each as long
    as one is left to train. Labels that are not integers make one class.

    >>> [part.tolist() for part in stratified(torch.tensor([0, 0, 0, 1, 1, 1, -1]), (0.4, 0.3, 0.3), seed=0)]
    [[2, 5], [0, 4], [1, 3]]
    """
    _, val, test = checked_shares(shares)
    labelled = ~y.isnan() if y.is_floating_point() else y >= 0
    classes = torch.zeros(len(y), dtype=torch.long) if y.is_floating_point() else y
    generator = torch.Generator().manual_seed(seed)
    parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for label in torch.unique(classes[labelled]).tolist():
        members = (labelled & (classes == label)).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        n = len(members)
        tests = min(max(1, round(n * test)), n - 1) if test else 0
        vals = min(max(1, round(n * val)), n - 1 - tests) if val else 0
        for part, chosen in zip(parts, members.tensor_split([n - tests - vals, n - tests]), strict=True):
            part.append(chosen)
    return _joined(parts[0]), _joined(parts[1]), _joined(parts[2])


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts).sort().values if parts else torch.empty(0, dtype=torch.long)


def by_time(table: Table, column: str, labelled: Tensor, shares: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """The oldest labelled rows train, the newest test; rows of one moment are never divided.

    Raises:
        DataError: a labelled row without a time.
    """
    train, val, test = checked_shares(shares)
    time = numbers_or_dates(table, column)
    rows = np.flatnonzero(labelled.numpy())
    if len(rows) and np.isnan(time[rows]).any():
        row = int(rows[np.isnan(time[rows]).argmax()])
        raise wrong(table.where(row, column), "a number or date to divide by", "an empty cell")
    moments = np.sort(time[rows])
    # a moment belongs to the part in which its first row falls
    place = np.searchsorted(moments, time[rows], side="left") / max(len(rows), 1)
    part = (place >= train - 1e-9).astype(int) + (place >= train + val - 1e-9)
    part = np.where((part == 2) & (test == 0), 1 if val else 0, part)
    return tuple(torch.from_numpy(rows[part == i]) for i in range(3))  # type: ignore[return-value]


def given(table: Table, column: str, labelled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Parts as a column names them: train, val (valid, validation, dev) or test; an empty cell is in no part.

    Raises:
        DataError: another word; names file, line and column.
    """
    part = np.full(table.num_rows, -1)
    start = 0
    for cells in table[column]:
        words = [cell.lower() for cell in cells]
        if unknown := set(words).difference(_PARTS, ("",)):
            row = next(i for i, word in enumerate(words) if word in unknown)
            raise wrong(table.where(start + row, column), "train, val or test, or nothing", repr(cells[row]))
        part[start : start + len(cells)] = [_PARTS.get(word, -1) for word in words]
        start += len(cells)
    part[~labelled.numpy()] = -1
    return tuple(torch.from_numpy(np.flatnonzero(part == i)) for i in range(3))  # type: ignore[return-value]
