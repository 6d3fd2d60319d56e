"""Graph isomorphism network, with and without edge features (Xu et al., ICLR 2019; Hu et al., ICLR 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, real
from hgraph.nn.graph._steps import check_edges
from hgraph.nn.inputs import check_inputs
from hgraph.nn.norms import BatchNorm
from hgraph.nn.reset import reset
from hgraph.ops import aggregate, propagate
from hgraph.structure import Graph

__all__ = ["GINConv"]


class GINConv(nn.Module):
    r"""Sum the neighbors, add the node itself, and apply an MLP.

    Use it when counts of neighbors matter, as for molecules: sums distinguish multisets that means and maxima confuse.
    With ``edge_channels`` it is GINE.

    .. math:: x'_i = \mathrm{MLP}\big((1 + \epsilon)\, x_i + \sum_j w_{ij} m_{ij}\big), \qquad
              m_{ij} = x_j \quad\text{or, with features of the edges,}\quad
              m_{ij} = \mathrm{ReLU}(x_j + W_e e_{ij} + b_e)

    Args:
        in_channels: F, features of a node.
        out_channels: F'.
        mlp: a module from F to F' channels; None is a linear map, ReLU and a linear map, with F' channels inside.
        mlp_norm: whether a batch norm follows the first linear map of that MLP, as in the published networks.
        eps: the initial value of epsilon.
        learn_eps: whether epsilon is a parameter.
        edge_channels: D, features of an edge, or None.

    Shapes:
        x [..., N, F], a `Graph` of N nodes and E edges, and ``edge_features`` [..., E, D] in the order of the edges
        (``graph.sort_edges``) -> [..., N, F'].

    Raises:
        ArgumentError: features of the wrong width, or edge features that are missing or unexpected.

    Source: Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019, eq. 4.1; Hu et al., "Strategies for
    Pre-training Graph Neural Networks", ICLR 2020, appendix A.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GINConv(4, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    >>> GINConv(4, 2, edge_channels=5)(torch.randn(3, 4), g, torch.randn(g.num_edges, 5)).shape
    torch.Size([3, 2])
    """

    eps: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        mlp: nn.Module | None = None,
        mlp_norm: bool = False,
        eps: float = 0.0,
        learn_eps: bool = False,
        edge_channels: int | None = None,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels, self.edge_channels = in_channels, out_channels, edge_channels
        if mlp is None:
            norm = [BatchNorm(out_channels)] if mlp_norm else []
            first, last = nn.Linear(in_channels, out_channels), nn.Linear(out_channels, out_channels)
            mlp = nn.Sequential(first, *norm, nn.ReLU(), last)
        self.mlp = mlp
        if edge_channels is not None:
            check_channels(edge_channels=edge_channels)
        self.edge_linear = None if edge_channels is None else nn.Linear(edge_channels, in_channels)
        self.initial_eps = real("eps", eps, "a finite number", -math.inf)
        value = torch.tensor(self.initial_eps)
        if learn_eps:
            self.eps = nn.Parameter(value)
        else:
            self.register_buffer("eps", value)

    def extra_repr(self) -> str:
        """The sizes."""
        edges = "" if self.edge_channels is None else f", edge_channels={self.edge_channels}"
        return f"{self.in_channels}, {self.out_channels}{edges}"

    def reset_parameters(self) -> None:
        """Reset every linear map, and epsilon to its initial value."""
        reset(self)
        nn.init.constant_(self.eps, self.initial_eps)

    def forward(self, x: Tensor, graph: Graph, edge_features: Tensor | None = None) -> Tensor:
        """Sum over the neighbors and apply the MLP."""
        check_inputs(x, graph, Graph, self.in_channels, next(self.mlp.parameters(), x))
        check_edges(edge_features, graph.adj, self.edge_channels)
        if edge_features is None:
            received = propagate(graph.adj, x)
        else:
            received = aggregate(graph.adj, self._message, source=x, edge=edge_features)
        return self.mlp((1 + self.eps.to(x.dtype)) * x + received)

    def _message(self, x: Tensor, edge: Tensor) -> Tensor:
        assert self.edge_linear is not None  # noqa: S101 - only called then
        return (x + self.edge_linear(edge)).relu()
