"""GCN: two-layer graph network (Kipf and Welling, ICLR 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from hgraph.nn import GCNConv
from hgraph.structure import Graph

__all__ = ["GCN"]


class GCN(nn.Module):
    r"""Two `GCNConv` layers with ReLU and dropout between them.

    .. math:: Z = L \, \mathrm{ReLU}(L X \Theta_1 + b_1) \, \Theta_2 + b_2,
              \qquad L = \hat D^{-1/2} \hat A \hat D^{-1/2}

    Args:
        in_channels: F, features of a vertex.
        hidden_channels: width of the hidden layer.
        num_classes: C.
        dropout: probability, on the hidden layer.

    Shapes:
        x [N, F] and a `Graph` of N vertices -> logits [N, C].

    Source: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks", eq. 9.

    >>> import torch
    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GCN(4, 8, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = GCNConv(in_channels, hidden_channels)
        self.conv2 = GCNConv(hidden_channels, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, structure: Graph) -> Tensor:
        """Class logits of every vertex."""
        hidden = self.conv1(x, structure).relu_()  # in place, which hooks that keep it would see
        return self.conv2(self.dropout(hidden), structure)
