"""Partitions of the cells of a grid, row by row: cells outside a cell's own row and column form regions.

The last row may be shorter than the others. Each region is identified by one of its cells, so there are as many
regions as tokens: those of a column up to (or from) each cell, those of a row up to (or from) each cell.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.patterns._make import graph_of
from hgraph.patterns.partition import Layout, Partition, Regions
from hgraph.structure.token_graph import TokenGraph

__all__ = ["horizontal", "row_major", "vertical"]


class _Grid(NamedTuple):
    """Cells in row order (tokens) and in column order (places)."""

    n: int
    columns: int
    token: Tensor  # [n]
    begin: Tensor  # [n], start of each token's row
    end: Tensor  # [n], one past the end of the row
    order: Tensor  # [n], the token at each place
    row: Tensor  # [n], of the token at each place
    column: Tensor  # [n], of the token at each place
    first: Tensor  # [columns], where each column begins
    height: Tensor  # [columns]

    def down(self, row: Tensor, start: Tensor, stop: Tensor) -> TokenGraph:
        """A graph whose runs go down columns."""
        return graph_of(row, start, stop, self.n, self.n, self.order)

    def along(self, row: Tensor, start: Tensor, stop: Tensor) -> TokenGraph:
        """A graph whose runs go along rows."""
        return graph_of(row, start, stop, self.n, self.n)


def _grid(n: int, columns: int) -> _Grid:
    token, m = torch.arange(whole("n", n)), whole("columns", columns, 1)
    rows = -(-n // m)
    begin = token - token % m
    order = torch.arange(rows * m).view(rows, m).T.flatten()
    order = order[order < n]
    line = torch.arange(m)
    height = (n - line + m - 1).div(m, rounding_mode="floor").clamp(min=0)
    row, column = order.div(m, rounding_mode="floor"), order % m
    return _Grid(
        n, m, token, begin, (begin + m).clamp(max=n), order, row, column, height.cumsum(0) - height, height
    )  # fmt: skip


def _cross(grid: _Grid, causal: bool) -> tuple[TokenGraph, TokenGraph]:
    """Each cell's row including the cell, and its column without it."""
    stop = grid.token + 1 if causal else grid.end
    return grid.along(grid.token, grid.begin, stop), _rest_of_column(grid, 0, causal)


def _rest_of_column(grid: _Grid, shift: int, causal: bool, *, last: bool = False) -> TokenGraph:
    """Cells of the column ``shift`` to the right, in other rows than the cell's (in earlier ones if causal).

    With ``last``, the last cell of a last row too short to have that column replaces it: it represents the whole row
    in `row_major`, and all cells left of the target in `horizontal`.
    """
    place, other = torch.arange(grid.n), grid.column + shift
    inside = (other >= 0) & (other < grid.columns)
    place, other, own_row = place[inside], other[inside], grid.row[inside]
    begin, end = grid.first[other], grid.first[other] + grid.height[other]
    row, start, stop = [place], [begin], [torch.minimum(begin + own_row, end)]
    if not causal:
        row, start, stop = [*row, place], [*start, begin + own_row + 1], [*stop, end]
        width = grid.n % grid.columns
        if last and width:
            far = place[(other >= width) & (own_row < grid.n // grid.columns)]
            at = (grid.first[width - 1] + grid.height[width - 1] - 1).expand(len(far))
            row, start, stop = [*row, far], [*start, at], [*stop, at + 1]
    return grid.down(torch.cat(row), torch.cat(start), torch.cat(stop))


def vertical(num_tokens: int, columns: int, *, causal: bool = True) -> Partition:
    """A cell's row and column directly; for each other column, the parts above and below the row as regions.

    Args:
        num_tokens: number of grid cells, row by row; the last row may be shorter.
        columns: number of columns of the grid.
        causal: whether cells attend only to themselves and earlier cells: earlier in the row, above in the columns.

    >>> from hgraph import patterns
    >>> vertical(7, 3).support().equal(patterns.causal(7))
    True
    """
    grid = _grid(num_tokens, columns)
    place, first = torch.arange(num_tokens), grid.first[grid.column]
    families = []
    for below in (False,) if causal else (False, True):
        if below:
            members = grid.down(place, place, first + grid.height[grid.column])
            begin = grid.end
        else:
            members = grid.down(place, first, place + 1)
            begin = grid.begin - columns
        end, same_column = (begin + columns).clamp(max=num_tokens), begin + grid.token - grid.begin
        exists = (begin >= 0) & (begin < num_tokens)
        row, start = grid.token[exists].repeat(2), torch.cat([begin[exists], (same_column + 1)[exists]])
        stop = torch.cat([torch.minimum(same_column, end)[exists], end[exists]])
        families.append(Regions(members, grid.along(row, start, stop), Layout("line", columns, 0, below)))
    return Partition(_cross(grid, causal), _used(families))


def horizontal(num_tokens: int, columns: int, *, causal: bool = True, split: bool = False) -> Partition:
    """A cell's row and column directly; the rest of each other row as one region, or as a left and a right region.

    Args:
        num_tokens: number of grid cells, row by row; the last row may be shorter.
        columns: number of columns of the grid.
        causal: whether cells attend only to themselves and earlier cells; then one region per row, otherwise two.
        split: use two regions per row in the causal case too.
    """
    grid = _grid(num_tokens, columns)
    token = grid.token
    if causal and not split:
        start, stop = torch.cat([grid.begin, token + 1]), torch.cat([token, grid.end])
        members = grid.along(token.repeat(2), start, stop)
        attended = _rest_of_column(grid, 0, True) if columns > 1 else grid.along(token[:0], token[:0], token[:0])
        families = [Regions(members, attended, Layout("others", columns))]
    else:
        left = Regions(
            grid.along(token, grid.begin, token + 1),
            _rest_of_column(grid, -1, causal, last=True),
            Layout("line", columns, 1),
        )
        right = Regions(
            grid.along(token, token, grid.end), _rest_of_column(grid, 1, causal), Layout("line", columns, 1, True)
        )
        families = [left, right]
    return Partition(_cross(grid, causal), _used(families))


def row_major(num_tokens: int, columns: int, *, causal: bool = True, twice: bool = False) -> Partition:
    """A cell's row directly; every other row as a region, queried with its cell in the target's column.

    Args:
        num_tokens: number of grid cells, row by row; if the last row is too short, its last cell is used.
        columns: number of columns of the grid.
        causal: whether cells attend only to themselves and earlier cells.
        twice: without ``causal``, whether a token also attends to its own row as a region, as some published code does.
            Then the result is not a partition.
    """
    grid = _grid(num_tokens, columns)
    stop = grid.token + 1 if causal else grid.end
    members, attended = grid.along(grid.token, grid.begin, grid.end), _rest_of_column(grid, 0, causal, last=True)
    if twice and not causal:
        place = torch.arange(num_tokens)
        attended = attended | grid.down(place, place, place + 1)
    direct = grid.along(grid.token, grid.begin, stop)
    return Partition((direct,), _used([Regions(members, attended, Layout("own", columns))]))


def _used(families: list[Regions]) -> tuple[Regions, ...]:
    """The families that at least one token attends to."""
    return tuple(f for f in families if f.attended.num_runs)
