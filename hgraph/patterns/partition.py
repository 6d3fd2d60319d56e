"""`Partition`: splits the receptive field of each token into single tokens and summarized regions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hgraph import patterns
from hgraph.errors import ArgumentError
from hgraph.structure.hypergraph import Hypergraph
from hgraph.structure.token_graph import TokenGraph

__all__ = ["Layout", "Partition", "Regions"]


class Layout(NamedTuple):
    """The layout of regions, which lets a layer compute all summaries at once.

    Attributes:
        kind: ``"segments"``: ``size`` consecutive tokens each. ``"tree"``: for t = 1, 2, .. the even ones of the blocks
            of 2^t tokens that have a token after them. ``"line"``: for each cell of a grid with ``size`` columns the
            cells of its line along ``axis`` up to it. ``"others"``: for each cell the other cells of its row.
            ``"own"``: regions are not summarized but queried with the query of one token, one region per token.
            ``"edges"``: anything else.
        size: tokens per segment, or columns of the grid.
        axis: of a line: 0 runs down a column, 1 along a row.
        reverse: count from the last token instead (tree), or use the cells from each cell on (line).
    """

    kind: Literal["segments", "tree", "line", "others", "own", "edges"]
    size: int = 0
    axis: int = 0
    reverse: bool = False


@dataclass(frozen=True, eq=False)
class Regions:
    """M regions of N tokens (hyperedges), and the tokens that attend to each region.

    Args:
        members: M x N, the tokens of each region.
        attended: N x M, the regions that each token attends to.
        layout: how the regions are arranged.

    >>> regions = Regions(members=patterns.full(1, 3), attended=patterns.full(3, 1))
    >>> regions.num_regions, regions.sizes.tolist(), regions.hypergraph().to_lists()
    (1, [3], [[0, 1, 2]])
    """

    members: TokenGraph
    attended: TokenGraph
    layout: Layout = Layout("edges")  # noqa: RUF009 - a tuple

    @property
    def num_regions(self) -> int:
        """M."""
        return self.members.num_targets

    @property
    def sizes(self) -> Tensor:
        """[M] or, if examples differ, [B, M]: the number of tokens in each region."""
        size = self.members.degree()[:, 0]
        return size[0] if len(size) == 1 else size

    def hypergraph(self) -> Hypergraph:
        """The regions as hyperedges over the tokens."""
        members = self.members.adjacency()
        lists = torch.split(members.indices.long(), members.indptr.diff().tolist())
        return Hypergraph.from_lists([m.tolist() for m in lists], num_nodes=self.members.num_sources)

    def masked(self, mask: Tensor) -> Regions:
        """Restrict regions and targets to the tokens marked in a mask [B, N]; empty regions lose their edges."""
        members = _masked(self.members, mask.new_ones(len(mask), self.num_regions), mask)
        return Regions(members, _masked(self.attended, mask, members.degree()[:, 0] > 0), self.layout)

    def to(self, device: torch.device | str) -> Regions:
        """The same regions on another device."""
        return dataclasses.replace(self, members=self.members.to(device), attended=self.attended.to(device))


@dataclass(frozen=True, eq=False)
class Partition:
    r"""For each token, disjoint sets that make up its support: single tokens, and regions.

    .. math:: \Omega_i = \Omega_i^0 \;\dot\cup\; \Omega_i^1 \;\dot\cup\; \dots \;\dot\cup\; \Omega_i^{n_i}

    There are direct edges to the tokens of :math:`\Omega_i^0`, and one edge to each region; so
    :math:`\sum_i (|\Omega_i^0| + n_i)` edges cover a support of :math:`\sum_i |\Omega_i|` pairs. Build one with
    `hgraph.patterns.partitions`.

    Args:
        direct: graphs of tokens, N x N, with no edge in common.
        regions: families of regions and the tokens that attend to them.

    >>> from hgraph import patterns
    >>> from hgraph.patterns import partitions
    >>> fixed = partitions.fixed(4096, 64)
    >>> fixed.num_edges, fixed.num_pairs == patterns.causal(4096).num_edges
    (262144, True)
    >>> fixed.validate(patterns.causal(4096))          # raises if a pair is missing or counted twice
    """

    direct: tuple[TokenGraph, ...]
    regions: tuple[Regions, ...] = ()

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.direct[0].num_targets

    @property
    def num_edges(self) -> int:
        """Direct edges and edges to regions: the total size of the softmax rows."""
        return sum(g.num_edges for g in self.direct) + sum(r.attended.num_edges for r in self.regions)

    @property
    def num_members(self) -> int:
        """Edges from tokens to regions: the cost of the summaries."""
        return sum(r.members.num_edges for r in self.regions)

    @property
    def num_pairs(self) -> int:
        """Pairs of tokens covered by direct edges and regions, counted with multiplicity."""
        total = sum(g.num_edges for g in self.direct)
        for regions in self.regions:
            attended, size = regions.attended, regions.members.degree().flatten(0, 1)
            size = size if attended.order is None else size[:, attended.order]
            ends = torch.nn.functional.pad(size.cumsum(1), (1, 0))  # [B, M + 1]
            example = attended.row().div(max(attended.num_targets, 1), rounding_mode="floor")
            total += int((ends[example, attended.stop.long()] - ends[example, attended.start.long()]).sum())
        return total

    def support(self) -> TokenGraph:
        """All pairs of tokens that are covered, directly or through a region."""
        graph = self.direct[0]
        for other in self.direct[1:]:
            graph = graph | other
        for regions in self.regions:
            graph = graph | (regions.attended @ regions.members)
        return graph

    def validate(self, support: TokenGraph) -> None:
        """Prove that each pair of a support is covered exactly once.

        Raises:
            ArgumentError: a pair that is missing, not in the support, or covered twice.
        """
        covered = self.support()
        missing, more = support - covered, covered - support
        expected = "every pair of the support exactly once"
        for graph, fault in ((missing, "not covered"), (more, "covered but not in the support")):
            if graph.num_edges:
                adj = graph.adjacency()
                pair = f"({int(adj.target[0])}, {int(adj.indices[0])})"
                raise ArgumentError("partition", expected, f"the pair {pair}, which is {fault}")
        if self.num_pairs != support.num_edges:
            raise ArgumentError("partition", f"{support.num_edges} pairs, each once", f"{self.num_pairs}")

    def masked(self, mask: Tensor) -> Partition:
        """One partition per example, restricted to the tokens marked in a boolean mask [B, N].

        >>> from hgraph.patterns import partitions
        >>> some = partitions.fixed(6, 2).masked(torch.tensor([[True, True, True, False, False, False]]))
        >>> some.support().equal(patterns.causal(6) & patterns.padded(6, [3]))
        True
        """
        direct = tuple(_masked(g, mask, mask) for g in self.direct)
        return Partition(direct, tuple(r.masked(mask) for r in self.regions))

    def to(self, device: torch.device | str) -> Partition:
        """The same partition on another device."""
        return Partition(tuple(g.to(device) for g in self.direct), tuple(r.to(device) for r in self.regions))

    def __repr__(self) -> str:
        """Sizes, not tensors."""
        count = sum(r.num_regions for r in self.regions)
        direct = sum(g.num_edges for g in self.direct)
        return (
            f"Partition({self.num_tokens} tokens, {direct} direct edges, {self.num_edges - direct} to {count} regions)"
        )


def _masked(graph: TokenGraph, targets: Tensor, sources: Tensor) -> TokenGraph:
    """The edges between marked targets [B, T] and marked sources [B, S], in the order of the graph."""
    order = graph.order
    if order is not None:
        targets, sources = targets[:, order], sources[:, order]
    plain = dataclasses.replace(graph, order=None)
    return dataclasses.replace(plain & patterns.present(targets, sources), order=order)
