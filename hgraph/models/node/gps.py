"""GPS: a graph transformer of `GPSConv` layers (Rampasek et al., NeurIPS 2022)."""

from __future__ import annotations

from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn import GPSConv
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Graph

__all__ = ["GPS"]


class GPS(nn.Module):
    r"""A linear map, layers that mix neighbors and attention to all nodes, and a linear map.

    Use it where distant nodes matter, on graphs of up to a few thousand nodes.

    .. math:: H^0 = X \Theta_0, \qquad H^{l+1} = \mathrm{GPSConv}_l(H^l, G), \qquad Z = H^L \Theta_1

    Args:
        in_channels: F, features of a node.
        hidden_channels: D, features of a node in all layers.
        num_classes: C.
        num_layers: L.
        num_heads: attention heads, which divide D.
        dropout: probability inside the layers.

    Shapes:
        x [N, F] and a `Graph` of N nodes -> logits [N, C].

    Source: Rampasek et al., "Recipe for a General, Powerful, Scalable Graph Transformer", NeurIPS 2022, eq. 1 to 4.

    >>> import torch
    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GPS(5, 8, 2)(torch.randn(3, 5), g).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.5,
    ) -> None:
        check_channels(in_channels=in_channels, num_classes=num_classes, num_layers=num_layers)
        super().__init__()
        self.linear = nn.Linear(in_channels, hidden_channels)
        self.layers = nn.ModuleList(
            GPSConv(hidden_channels, num_heads=num_heads, dropout=dropout) for _ in range(num_layers)
        )
        self.out = nn.Linear(hidden_channels, num_classes)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, graph, Graph, self.linear.in_features, self.linear.weight)
        x = self.linear(x)
        for layer in self.layers:
            x = layer(x, graph)
        return self.out(x)
