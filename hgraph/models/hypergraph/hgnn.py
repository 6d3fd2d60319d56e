"""HGNN: two-layer hypergraph network (Feng et al., AAAI 2019)."""

from __future__ import annotations

from hgraph.models.stack import Stack
from hgraph.nn import HGNNConv

__all__ = ["HGNN"]


class HGNN(Stack):
    r"""`HGNNConv` layers (two by default) with ReLU and dropout between them.

    Use it as the first baseline for node labels on a hypergraph.

    .. math:: Z = L \, (\mathrm{ReLU}(L (X \Theta_1 + b_1)) \, \Theta_2 + b_2),
              \qquad L = D_v^{-1/2} H W D_e^{-1} H^\top D_v^{-1/2}

    Args:
        in_channels: F, features of a node.
        hidden_channels: features of a node between the layers.
        num_classes: C.
        num_layers: L; the equation shows L = 2.
        dropout: probability, on the features between the layers.

    Shapes:
        x [N, F] and a `Hypergraph` of N nodes -> logits [N, C].

    Source: Feng et al., "Hypergraph Neural Networks".

    >>> import torch
    >>> from hgraph import Hypergraph
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HGNN(5, 8, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, num_classes: int, *, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__(HGNNConv, in_channels, hidden_channels, num_classes, num_layers=num_layers, dropout=dropout)
