"""`TokenRuns`: the runs of a `TokenGraph`, and its sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.structure import coo, intervals
from hgraph.structure.base import Structure
from hgraph.structure.validate import check_integers, check_permutation, check_pointers, require

__all__ = ["TokenRuns"]

R = TypeVar("R", bound="TokenRuns")


@dataclass(frozen=True, eq=False)
class TokenRuns(Structure):
    """The fields of a `TokenGraph`, without its algebra, which is implemented as functions over this class."""

    indptr: Tensor
    start: Tensor
    stop: Tensor
    extent: Tensor
    order: Tensor | None = None

    # ------------------------------------------------------------------ construction

    @classmethod
    def from_line(cls: type[R], line: intervals.Line, extent: Tensor, order: Tensor | None) -> R:
        """Build from sorted, disjoint runs on the line."""
        b, h, t, s, _ = extent.shape
        row = torch.div(line.first, s + 1, rounding_mode="floor")
        indptr = torch.zeros(b * h * t + 1, dtype=torch.long, device=row.device)
        torch.cumsum(torch.bincount(row, minlength=b * h * t), 0, out=indptr[1:])
        dtype = coo.index_dtype(s)
        base = row * (s + 1)
        return cls(indptr, (line.first - base).to(dtype), (line.last - base).to(dtype), extent, order)

    # ------------------------------------------------------------------ sizes

    @property
    def batch(self) -> int:
        """B; 1 if all examples share one graph."""
        return self.extent.shape[0]

    @property
    def num_heads(self) -> int:
        """H; 1 if all heads share one graph."""
        return self.extent.shape[1]

    @property
    def num_targets(self) -> int:
        """T."""
        return self.extent.shape[2]

    @property
    def num_sources(self) -> int:
        """S."""
        return self.extent.shape[3]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, T, S)."""
        return self.batch, self.num_heads, self.num_targets, self.num_sources

    @property
    def num_runs(self) -> int:
        """R, the number of runs over all heads and examples."""
        return self.start.shape[0]

    @property
    def num_edges(self) -> int:
        """The number of edges, over all heads and examples."""
        return int((self.stop.long() - self.start).sum())

    @property
    def density(self) -> float:
        """The fraction of all pairs (target, source) that are edges: 1 for full attention, about a half for causal."""
        pairs = self.extent.shape[:4].numel()
        return self.num_edges / pairs if pairs else 0.0

    @property
    def is_square(self) -> bool:
        """Whether targets and sources are the same tokens by number."""
        return self.num_targets == self.num_sources

    # ------------------------------------------------------------------ parts

    def of(self: R, *, example: int = 0, head: int = 0) -> R:
        """The graph of one head and one example."""
        for name, at, size in (("example", example, self.batch), ("head", head, self.num_heads)):
            whole(name, at, most=None if size == 1 else size - 1)
        group = (example if self.batch > 1 else 0) * self.num_heads + (head if self.num_heads > 1 else 0)
        rows = self.indptr[group * self.num_targets : (group + 1) * self.num_targets + 1]
        a, b = int(rows[0]), int(rows[-1])
        return type(self)(rows - a, self.start[a:b], self.stop[a:b], self.extent[:1, :1], self.order)

    def row(self) -> Tensor:
        """[R]: the row of each run."""
        rows = torch.arange(len(self.indptr) - 1, device=self.device)
        return rows.repeat_interleave(self.indptr.diff(), output_size=self.num_runs)

    def line(self) -> intervals.Line:
        """The runs on a line: row * (S + 1) + source."""
        base = self.row() * (self.num_sources + 1)
        return intervals.Line(base + self.start, base + self.stop)

    def check_fields(self) -> None:
        """Check that pointers are valid and each run is within the sources.

        Raises:
            DataError: the fields are inconsistent.
        """
        extent, rows = self.extent, len(self.indptr) - 1
        require(extent.dim() == 5 and extent.shape[4] == 0, "extent is not of shape [B, H, T, S, 0]")
        for name in ("indptr", "start", "stop"):
            check_integers(name, getattr(self, name))
        require(rows == math.prod(extent.shape[:3]), "indptr must have one row per target and head")
        require(len(self.start) == len(self.stop), "start and stop have different lengths")
        check_pointers("indptr", self.indptr, len(self.start))
        inside = (self.start >= 0) & (self.start <= self.stop) & (self.stop <= extent.shape[3])
        require(inside.all(), "a run is out of range")
        if self.order is not None:
            require(self.order.shape == (extent.shape[2],) and extent.shape[2] == extent.shape[3], "order is not [N]")
            check_permutation("order", self.order)
