"""GCN: two-layer graph network (Kipf and Welling, ICLR 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from hgraph.nn import GCNConv
from hgraph.structure import Graph

__all__ = ["GCN"]


class GCN(nn.Module):
    """Two `GCNConv` layers with ReLU and dropout between them.

    Args:
        in_channels: F, features of a vertex.
        hidden_channels: width of the hidden layer.
        num_classes: C.
        dropout: probability, on the hidden layer.

    Shapes:
        x [N, F] and a `Graph` of N vertices -> logits [N, C].

    Source: Kipf and Welling, eq. 9.
    """

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = GCNConv(in_channels, hidden_channels)
        self.conv2 = GCNConv(hidden_channels, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, structure: Graph) -> Tensor:
        """Class logits of every vertex."""
        return self.conv2(self.dropout(self.conv1(x, structure).relu()), structure)
