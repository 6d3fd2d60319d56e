"""GAT: two-layer graph attention network (Velickovic et al., ICLR 2018)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.nn import GATConv
from hgraph.structure import Graph

__all__ = ["GAT"]


class GAT(nn.Module):
    r"""Two `GATConv` layers with ELU between them; the second has one head.

    Use it for node labels on a graph in which some neighbors matter more than others.

    .. math:: Z = \mathrm{GAT}_1(\mathrm{ELU}(\mathrm{GAT}_H(X)))

    Args:
        in_channels: F, features of a node.
        hidden_channels: features per head of the first layer.
        num_classes: C.
        num_heads: number of heads of the first layer.
        dropout: probability, on the features before each layer and on the attention weights.

    Shapes:
        x [N, F] and a `Graph` of N nodes -> logits [N, C].

    Source: Velickovic et al., "Graph Attention Networks", section 3.3.

    >>> import torch
    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GAT(4, 8, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, num_classes: int, *, num_heads: int = 8, dropout: float = 0.6
    ) -> None:
        super().__init__()
        self.conv1 = GATConv(in_channels, hidden_channels, num_heads=num_heads, dropout=dropout)
        self.conv2 = GATConv(num_heads * hidden_channels, num_classes, concat=False, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, structure: Graph) -> Tensor:
        """Class logits of every node."""
        x = F.elu(self.conv1(self.dropout(x), structure))
        return self.conv2(self.dropout(x), structure)
