"""`TokenGraph`: which tokens each token attends to, as runs of consecutive tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hgraph.cache import cached
from hgraph.checks import Checks, whole
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import coo, intervals, token_algebra
from hgraph.structure._tiling import num_visited, tiled
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.block_adjacency import BlockAdjacency
from hgraph.structure.token_runs import TokenRuns

__all__ = ["TokenGraph"]


@dataclass(frozen=True, eq=False)
class TokenGraph(TokenRuns):
    r"""The sources that each of T targets attends to; one graph for all heads and examples, or one for each.

    Use it to describe which tokens attend to which: full, causal, windowed or any other attention pattern.

    An attention pattern is an edge set. Row t is stored as runs of consecutive sources, because patterns consist
    of them: a window over a million tokens is a million runs, and so is full attention. Set algebra
    (``a | b``, ``a & b``, ``a - b``), composition (``a @ b``) and receptive fields (:meth:`reach`) are exact and work
    on the runs. Build one with `hgraph.patterns`.

    Args:
        indptr: [B * H * T + 1] int64, where each row's runs begin; rows are ordered by example, head and target.
        start: [R], the first source of each run.
        stop: [R], one past the last.
        extent: [B, H, T, S, 0], an empty tensor that stores the sizes in its shape; B = 1 means all examples, H = 1 all
            heads.
        order: [N] or None. Runs are over positions, and position p is token ``order[p]``: tokens along a Hilbert curve,
            or columns of a grid, become neighbors. None is the order of the tokens; square graphs only.

    >>> from hgraph import patterns
    >>> g = patterns.sliding_window(6, 2, causal=True) | patterns.sinks(6, 1)
    >>> g.adjacency().dense().int().tolist()[4]
    [1, 0, 0, 1, 1, 0]
    >>> g.num_edges, g.reach(2).num_edges
    (15, 18)
    """

    # ------------------------------------------------------------------ construction

    @classmethod
    def from_runs(
        cls,
        *,
        row: Any,
        start: Any,
        stop: Any,
        num_targets: int,
        num_sources: int,
        order: Any = None,
        batch: int = 1,
        num_heads: int = 1,
    ) -> TokenGraph:
        """Check and sort runs given in any order; merges overlapping runs, drops empty ones.

        Args:
            row: [R] integers in 0 .. batch * heads * num_targets - 1: ``(b * heads + h) * num_targets + t``.
            start: [R] integers, the first source of each run.
            stop: [R] integers, one past the last.
            num_targets: T.
            num_sources: S.
            order: [N], every token once, or None.
            batch: B, or 1 where all examples share one graph.
            num_heads: H, or 1 where all heads share one graph.

        Raises:
            ArgumentError: sizes, rows or sources out of range, or an order that is not a permutation.
            ArgumentTypeError: indices that are not integers.
        """
        sizes = {"num_targets": num_targets, "num_sources": num_sources, "batch": batch, "num_heads": num_heads}
        for name, size in sizes.items():
            coo.check_size(name, size)
        row, start, stop = (coo.as_indices(n, v) for n, v in (("row", row), ("start", start), ("stop", stop)))
        if not len(row) == len(start) == len(stop):
            raise ArgumentError("row, start, stop", "one length", f"{len(row)}, {len(start)} and {len(stop)}")
        checks = Checks()
        checks.in_range("row", row, batch * num_heads * num_targets, "rows")
        checks.in_range("start", start, num_sources + 1, "sources")
        checks.in_range("stop", stop, num_sources + 1, "sources")
        checks.read()
        if order is not None:
            order = token_algebra.checked_order(order, num_targets, num_sources)
        keep = stop > start
        base = row[keep] * (num_sources + 1)
        line = intervals.united(intervals.Line(base + start[keep], base + stop[keep]))
        extent = torch.empty(batch, num_heads, num_targets, num_sources, 0, device=row.device)
        return cls.from_line(line, extent, order)

    @classmethod
    def trusted(
        cls,
        *,
        indptr: Tensor,
        start: Tensor,
        stop: Tensor,
        num_targets: int,
        num_sources: int,
        batch: int = 1,
        num_heads: int = 1,
    ) -> TokenGraph:
        """Build from runs sorted by row, without checks and without a host sync.

        For graphs built inside a forward. Within a row the runs must ascend, be disjoint and not empty; anything else
        is undefined behavior. Attention over a token graph counts its tiles; if a content-based selection is used only
        once, build tiles directly: `BlockAdjacency.trusted`.

        Args:
            indptr: int64 [batch * heads * num_targets + 1], where each row's runs begin.
            start: integers [R], the first source of each run.
            stop: integers [R], one past the last.
            num_targets: T.
            num_sources: S.
            batch: B.
            num_heads: H.

        >>> indptr, start, stop = torch.tensor([0, 1, 3]), torch.tensor([0, 0, 2]), torch.tensor([1, 1, 4])
        >>> TokenGraph.trusted(indptr=indptr, start=start, stop=stop, num_targets=2, num_sources=4).degree().tolist()
        [[[1, 3]]]
        """
        dtype = coo.index_dtype(num_sources)
        extent = torch.empty(batch, num_heads, num_targets, num_sources, 0, device=indptr.device)
        return cls(indptr, start.to(dtype), stop.to(dtype), extent)

    @classmethod
    def from_adjacency(cls, adj: Adjacency) -> TokenGraph:
        """The edges of an `Adjacency`, without weights; parallel edges are merged.

        >>> TokenGraph.from_adjacency(Adjacency.eye(3)).num_edges
        3
        """
        if not isinstance(adj, Adjacency):
            raise ArgumentTypeError("adj", "an Adjacency", type(adj).__name__, "For a Graph, pass its .adj")
        return cls.from_runs(
            row=adj.target,
            start=adj.indices,
            stop=adj.indices.long() + 1,
            num_targets=adj.num_targets,
            num_sources=adj.num_sources,
        )

    @classmethod
    def per_head(cls, graphs: Sequence[TokenGraph]) -> TokenGraph:
        """One graph for each head, of equal shape."""
        return token_algebra.stacked(graphs, axis=1)

    @classmethod
    def per_example(cls, graphs: Sequence[TokenGraph]) -> TokenGraph:
        """One graph for each example of a batch, of equal shape."""
        return token_algebra.stacked(graphs, axis=0)

    # ------------------------------------------------------------------ properties

    @property
    def is_causal(self) -> bool:
        """Whether no token attends to a later one; with more sources than targets, the targets are the last tokens."""
        return cached(self, "is_causal", lambda: token_algebra.is_causal(self))

    def degree(self) -> Tensor:
        """[B, H, T]: how many sources each target attends to."""
        ends = torch.zeros(self.num_runs + 1, dtype=torch.long, device=self.device)
        torch.cumsum(self.stop.long() - self.start, 0, out=ends[1:])
        degree = ends[self.indptr].diff().view(self.shape[:3])
        return degree if self.order is None else torch.empty_like(degree).index_copy(2, self.order, degree)

    # ------------------------------------------------------------------ set algebra

    def __or__(self, other: TokenGraph) -> TokenGraph:
        """Union of the edges."""
        return token_algebra.combined(self, other, torch.logical_or)

    def __and__(self, other: TokenGraph) -> TokenGraph:
        """Intersection of the edges."""
        return token_algebra.combined(self, other, torch.logical_and)

    def __sub__(self, other: TokenGraph) -> TokenGraph:
        """Edges of the first graph that are not in the second."""
        return token_algebra.combined(self, other, lambda a, b: a & ~b)

    def __matmul__(self, other: TokenGraph) -> TokenGraph:
        """Two-hop graph: t attends to s if ``self`` links t to some token that ``other`` links to s.

        As layers, ``other`` comes first, then ``self``.
        """
        return token_algebra.composed(self, other)

    def reach(self, num_layers: int) -> TokenGraph:
        """The receptive field of ``num_layers`` layers, including the token itself (residual connections).

        >>> from hgraph import patterns
        >>> patterns.sliding_window(9, 3, causal=True).reach(2).degree().flatten().tolist()
        [1, 2, 3, 4, 5, 5, 5, 5, 5]
        """
        return token_algebra.reach(self, num_layers)

    def first_hop(self, target: int | None = None) -> Tensor:
        """The number of layers until a source reaches a target: 0 for the target itself, -1 for never.

        Args:
            target: one target, or None for all.

        Returns:
            [N] for one target, [N, N] for all (row t is target t). The graph must be shared by all heads and examples.
        """
        return token_algebra.first_hop(self, target)

    # ------------------------------------------------------------------ parts and other forms

    def select(self, rows: Any) -> TokenGraph:
        """The graph of the given targets [T'] in that order, over the same sources; a decode step, for example."""
        return token_algebra.select(self, rows)

    def crop(self, num_sources: int) -> TokenGraph:
        """The graph over the first sources; drops edges to the others."""
        return token_algebra.crop(self, num_sources)

    def natural(self) -> TokenGraph:
        """The same edges with runs in the natural token order; converting costs O(edges)."""
        return token_algebra.natural(self)

    def adjacency(self, *, example: int = 0, head: int = 0) -> Adjacency:
        """The exact edges of one head and example as an `Adjacency`: for tests and small cases."""
        graph = self.of(example=example, head=head)
        column, run = intervals.expanded(graph.start, graph.stop)
        target, source = graph.row()[run], column
        if self.order is not None:
            target, source = self.order[target], self.order[source]
        return Adjacency.from_coo(
            target=target, source=source, num_targets=self.num_targets, num_sources=self.num_sources
        )

    def tiles(self, block_size: int = 128) -> BlockAdjacency:
        """The graph as tiles of ``block_size`` x ``block_size`` positions in its order, cached per block size.

        >>> from hgraph import patterns
        >>> graph = patterns.dilated(6, 2, 2)
        >>> graph.tiles(2).adjacency().dense().equal(graph.adjacency().dense())
        True
        """
        whole("block_size", block_size, 1)
        own = (self.indptr, self.start, self.stop, self.extent)
        return cached(
            self, ("tiles", block_size), lambda: dataclasses.replace(tiled(*own, block_size), order=self.order)
        )

    def num_tiles(self, block_size: int) -> int:
        """How many tiles of that size the graph visits, over all heads and examples, without building them."""
        whole("block_size", block_size, 1)
        own = (self.row(), self.start.long(), self.stop.long(), self.extent)
        return cached(self, ("num_tiles", block_size), lambda: num_visited(*own, block_size))

    def equal(self, other: TokenGraph) -> bool:
        """Whether both have the same sizes and the same edges."""
        if not isinstance(other, TokenGraph) or self.shape != other.shape:
            return False
        a, b = self.natural(), other.to(self.device).natural()
        return all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("indptr", "start", "stop"))

    def draw(self, ax: Any = None, *, kind: str = "matrix", **options: Any) -> Any:
        """Draw the graph and return the matplotlib axes.

        Args:
            ax: axes to draw into, or None for new ones.
            kind: ``"matrix"``, rows are targets; ``"graph"``, tokens on a line with one arc per edge; ``"layers"``, the
                receptive field of one target, layer by layer.
            **options: ``head``, ``example``, ``title``; ``bins`` for the matrix, otherwise ``target`` and ``layers``.
        """
        from hgraph.draw import tokens as draw_tokens

        return draw_tokens.draw_tokens(self, ax, kind=kind, **options)

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        each = (
            f"{self.batch} examples" if self.batch > 1 else "",
            f"{self.num_heads} heads" if self.num_heads > 1 else "",
        )
        parts = [f"{self.num_targets} x {self.num_sources}", *filter(None, each), f"{self.num_edges} edges"]
        return f"TokenGraph({', '.join(parts)}, {self.device})"


torch.export.register_dataclass(TokenGraph, serialized_type_name="hgraph.structure.TokenGraph")
torch.serialization.add_safe_globals([TokenGraph])
