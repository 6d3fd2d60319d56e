"""APPNP: an MLP whose predictions are propagated by personalized PageRank (Gasteiger et al., ICLR 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, real, whole
from hgraph.nn.graph.smoothing import smoothed
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Graph

__all__ = ["APPNP"]


class APPNP(nn.Module):
    r"""Predict each node from its own features, then propagate the predictions over the graph.

    Use it when neighbors share labels: it reaches far with few parameters, and its MLP also works without the graph.

    .. math:: H = \mathrm{MLP}(X), \qquad Z^0 = H, \qquad
              Z^{k+1} = (1 - \alpha) \hat D^{-1/2} \hat A \hat D^{-1/2} Z^k + \alpha H

    Args:
        in_channels: F, features of a node.
        hidden_channels: features inside the MLP of two layers.
        num_classes: C.
        num_hops: K, number of steps.
        alpha: the probability of returning to the node in each step.
        dropout: probability, on the input of both linear maps.

    Shapes:
        x [N, F] and a `Graph` of N nodes -> logits [N, C].

    Raises:
        ArgumentError: alpha outside 0 .. 1.

    Source: Gasteiger, Bojchevski and Guennemann, "Predict then Propagate: Graph Neural Networks meet Personalized
    PageRank", ICLR 2019, eq. 4 and 5; the paper also drops edges in each step.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> APPNP(4, 8, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_hops: int = 10,
        alpha: float = 0.1,
        dropout: float = 0.5,
    ) -> None:
        check_channels(in_channels=in_channels, hidden_channels=hidden_channels, num_classes=num_classes)
        super().__init__()
        self.linear, self.out = nn.Linear(in_channels, hidden_channels), nn.Linear(hidden_channels, num_classes)
        self.num_hops, self.alpha = whole("num_hops", num_hops), real("alpha", alpha, "a weight, 0 .. 1", 0.0, 1.0)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, graph, Graph, self.linear.in_features, self.linear.weight)
        own = z = self.out(self.dropout(self.linear(self.dropout(x)).relu()))
        for _ in range(self.num_hops):
            z = torch.lerp(smoothed(z, graph), own, self.alpha)
        return z
