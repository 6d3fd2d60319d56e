"""GraphSAGE convolution (Hamilton, Ying and Leskovec, NeurIPS 2017)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from hgraph.cache import cached
from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.inputs import check_ends, ends_of, pair_of
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Graph

__all__ = ["SAGEConv"]


class SAGEConv(nn.Module):
    r"""Aggregate the neighbors of a node and add the node itself, with a separate linear map for each of the two.

    Use it on graphs whose nodes differ from their neighbors, and between nodes of two kinds, such as users and items.

    .. math:: x'_i = \Theta_t x_i + \Theta_s \operatorname*{AGG}_{j \in \mathcal N(i)} x_j + b

    The mean and the sum are weighted by the edge weights (the mean divides by their sum); the maximum ignores them. A
    node without neighbors gets :math:`\Theta_t x_i + b`.

    Args:
        in_channels: F, features of a node, or a pair: F_s of a source and F_t of a target.
        out_channels: F'.
        reduce: AGG: ``"mean"``, ``"sum"`` or ``"max"``.
        bias: whether to add b.

    Shapes:
        x [..., N, F] and a `Graph` of N nodes -> [..., N, F'].

        With a pair: (x_source [..., S, F_s], x_target [..., T, F_t]) and an `Adjacency` T x S -> [..., T, F'].

    Raises:
        ArgumentError: features of the wrong width, or an unknown ``reduce``.

    Source: Hamilton, Ying and Leskovec, "Inductive Representation Learning on Large Graphs", NeurIPS 2017, algorithm 1,
    without sampling: its matrix of the concatenation is :math:`(\Theta_t, \Theta_s)`. The paper also normalizes the
    result to unit norm.

    >>> import torch
    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> SAGEConv(4, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    >>> bought = Adjacency.from_coo(target=[0, 0, 1], source=[0, 2, 1], num_targets=2, num_sources=3)
    >>> SAGEConv((4, 6), 2)((torch.randn(3, 4), torch.randn(2, 6)), bought).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        *,
        reduce: Literal["mean", "sum", "max"] = "mean",
        bias: bool = True,
    ) -> None:
        source, target = ends_of(in_channels)
        check_channels(in_channels=source, out_channels=out_channels)
        if reduce not in ("mean", "sum", "max"):
            raise ArgumentError("reduce", "'mean', 'sum' or 'max'", repr(reduce))
        super().__init__()
        self.in_channels: int | tuple[int, int] = (source, target) if pair_of(in_channels) else source
        self.out_channels, self.reduce = out_channels, reduce
        self.linear = nn.Linear(source, out_channels, bias=False)
        self.target_linear = nn.Linear(target, out_channels, bias=bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_channels}, {self.out_channels}, reduce={self.reduce!r}"

    def reset_parameters(self) -> None:
        """Reset both linear maps as `torch.nn.Linear` does."""
        self.linear.reset_parameters()
        self.target_linear.reset_parameters()

    def forward(self, x: Tensor | tuple[Tensor, Tensor], graph: Graph | Adjacency) -> Tensor:
        """Add the node to the aggregate of its neighbors."""
        adj, x_source, x_target = check_ends(x, graph, self.in_channels, self.linear.weight)
        if self.reduce == "max" or self.linear.in_features <= self.out_channels:
            received = self.linear(self._aggregate(adj, x_source))
        else:  # both are linear: the narrower side is aggregated
            received = self._aggregate(adj, self.linear(x_source))
        return self.target_linear(x_target) + received

    def _aggregate(self, adj: Adjacency, x: Tensor) -> Tensor:
        if self.reduce == "sum":
            return propagate(adj, x)
        if self.reduce == "max":
            return propagate(adj.with_weight(None), x, reduce="max")
        if adj.weight is None:
            return propagate(adj, x, reduce="mean")
        return propagate(cached(adj, ("row", x.dtype), lambda: adj.normalize("row", dtype=x.dtype)), x)
