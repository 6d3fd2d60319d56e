"""HGNN: two-layer hypergraph network (Feng et al., AAAI 2019)."""

from __future__ import annotations

from torch import Tensor, nn

from hgraph.nn import HGNNConv
from hgraph.structure import Hypergraph

__all__ = ["HGNN"]


class HGNN(nn.Module):
    r"""Two `HGNNConv` layers with ReLU and dropout between them.

    .. math:: Z = L \, (\mathrm{ReLU}(L (X \Theta_1 + b_1)) \, \Theta_2 + b_2),
              \qquad L = D_v^{-1/2} H W D_e^{-1} H^\top D_v^{-1/2}

    Args:
        in_channels: F, features of a vertex.
        hidden_channels: width of the hidden layer.
        num_classes: C.
        dropout: probability, on the hidden layer.

    Shapes:
        x [N, F] and a `Hypergraph` of N vertices -> logits [N, C].

    Source: Feng et al., "Hypergraph Neural Networks"; sizes as in card 04, eq. 1.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HGNN(5, 8, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = HGNNConv(in_channels, hidden_channels)
        self.conv2 = HGNNConv(hidden_channels, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, structure: Hypergraph) -> Tensor:
        """Class logits of every vertex."""
        return self.conv2(self.dropout(self.conv1(x, structure).relu()), structure)
