"""GCN: two-layer graph network (Kipf and Welling, ICLR 2017)."""

from __future__ import annotations

from hgraph.models.stack import Stack
from hgraph.nn import GCNConv

__all__ = ["GCN"]


class GCN(Stack):
    r"""`GCNConv` layers (two by default) with ReLU and dropout between them.

    Use it as the first baseline for node labels on a graph.

    .. math:: Z = L \, \mathrm{ReLU}(L X \Theta_1 + b_1) \, \Theta_2 + b_2,
              \qquad L = \hat D^{-1/2} \hat A \hat D^{-1/2}

    Args:
        in_channels: F, features of a node.
        hidden_channels: features of a node between the layers.
        num_classes: C.
        num_layers: L; the equation shows L = 2.
        dropout: probability, on the features between the layers.

    Shapes:
        x [N, F] and a `Graph` of N nodes -> logits [N, C].

    Source: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks", eq. 9.

    >>> import torch
    >>> from hgraph import Graph
    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GCN(4, 8, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, num_classes: int, *, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__(GCNConv, in_channels, hidden_channels, num_classes, num_layers=num_layers, dropout=dropout)
