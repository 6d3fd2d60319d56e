"""Arithmetic of runs: every row is a sorted list of disjoint half-open column ranges that do not touch.

All rows are laid out on one line: the run of columns [start, stop) in row r is [r * (S + 1) + start,
r * (S + 1) + stop). The gap of one between rows keeps runs of neighboring rows apart, so set algebra is one sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.memory import check_memory

__all__ = ["Line", "combined", "composed", "expanded", "of_rows", "united"]

# Runs per chunk while composing: limits the working memory to about 200 MB beyond the result.
_RUNS_A_CHUNK = 4_000_000


class Line(NamedTuple):
    """Runs on the line: int64 [R] starts and stops of half-open ranges, ascending."""

    first: Tensor
    last: Tensor


def combined(a: Line, b: Line, inside: Callable[[Tensor, Tensor], Tensor]) -> Line:
    """The points for which ``inside(in a, in b)`` holds; overlapping runs within a or b count as their union."""
    points = torch.cat([a.first, a.last, b.first, b.last])
    points, order = torch.sort(points)
    sizes = (len(a.first), len(a.last), len(b.first), len(b.last))
    lead = torch.tensor([1, -1, 0, 0], dtype=torch.int8, device=points.device)
    kind = torch.arange(4, device=points.device).repeat_interleave(torch.tensor(sizes, device=points.device))[order]
    holds = inside(lead[kind].cumsum(0) > 0, lead.roll(2)[kind].cumsum(0) > 0)
    final = torch.ones_like(holds)  # of several changes at one point only the last state counts
    final[:-1] = points[:-1] != points[1:]
    points, holds = points[final], holds[final]
    before = torch.zeros_like(holds)
    before[1:] = holds[:-1]
    return Line(points[holds & ~before], points[before & ~holds])


def united(runs: Line) -> Line:
    """The union of runs in any order: merges overlapping and touching runs, drops empty ones."""
    if bool((runs.first[1:] > runs.last[:-1]).all()) and bool((runs.last > runs.first).all()):
        return runs  # already united, as in most patterns
    first, order = torch.sort(runs.first)
    top = torch.cummax(runs.last[order], 0).values if len(first) else first
    opens = torch.ones(len(first), dtype=torch.bool, device=first.device)
    opens[1:] = first[1:] > top[:-1]
    closes = torch.ones_like(opens)
    closes[:-1] = opens[1:]
    joined = Line(first[opens], top[closes])
    some = joined.last > joined.first
    return joined if bool(some.all()) else united(Line(joined.first[some], joined.last[some]))


def of_rows(pointers: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The ids of all entries of the given rows, and the position of each entry's row in ``rows``."""
    return _entries(pointers[rows], pointers[rows + 1])


def expanded(start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """Every column of the runs [start, stop), one after the other, and its run id."""
    return _entries(start.long(), stop.long())


def _entries(start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    count = stop - start
    if count.is_cpu and not torch.compiler.is_compiling():
        total = int(count.sum())
        check_memory("structure", 24 * total, f"{total:,} entries listed one by one")
    position = torch.arange(len(count), device=count.device).repeat_interleave(count)
    return torch.arange(len(position), device=count.device) + (start - count.cumsum(0) + count)[position], position


def composed(row: Tensor, start: Tensor, stop: Tensor, other: Line, *, width: int) -> Line:
    r"""Two-hop runs: row r gets the union of the rows [start, stop) of ``other``.

    .. math:: U_0[i] = \text{row } i, \qquad U_{k+1}[i] = U_k[2i] \cup U_k[2i + 1]

    A run of rows is covered by at most two nodes :math:`U_k[i]` of each level of this tree, so a long run costs little
    more than a short one.

    Args:
        row: [R], the row of each run; ascending.
        start: [R], the first middle row of each run.
        stop: [R], one past the last.
        other: runs of the second step, in rows of ``width`` columns.
        width: columns of ``other`` and of the result.
    """
    stride = width + 1
    level, left, right = other, start, stop
    pieces: list[Line] = []
    while len(row):
        for odd, node in ((left % 2 == 1, left), (right % 2 == 1, right - 1)):
            own = odd & (left < right)
            pieces.append(_looked_up(row[own], node[own], level, stride))
        left, right = (left + 1) // 2, right // 2
        more = left < right
        row, left, right = row[more], left[more], right[more]
        if len(row):
            above = torch.div(level.first, 2 * stride, rounding_mode="floor") * stride
            below = torch.div(level.first, stride, rounding_mode="floor") * stride
            level = united(Line(level.first - below + above, level.last - below + above))
    if not pieces:
        return other._replace(first=row, last=row)
    return united(Line(torch.cat([p.first for p in pieces]), torch.cat([p.last for p in pieces])))


def _looked_up(row: Tensor, node: Tensor, level: Line, stride: int) -> Line:
    """The runs of rows ``node`` of a level, as rows ``row`` of the result, united in chunks."""
    ends = torch.stack([node, node + 1]) * stride
    begin, end = torch.searchsorted(level.first, ends)
    load = (end - begin).cumsum(0)
    found, at = [Line(row[:0], row[:0])], 0
    while at < len(row):
        reached = int(load[at - 1]) if at else 0
        to = max(int(torch.searchsorted(load, reached + _RUNS_A_CHUNK, right=True)), at + 1)
        entry, position = _entries(begin[at:to], end[at:to])
        move = (row[at:to] - node[at:to])[position] * stride
        found.append(united(Line(level.first[entry] + move, level.last[entry] + move)))
        at = to
    return Line(torch.cat([p.first for p in found]), torch.cat([p.last for p in found]))
