"""SheafHyperGNN: diffusion by learned sheaves (Duta et al., NeurIPS 2023)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hgraph.checks import check_channels
from hgraph.nn import SheafHypergraphConv
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Hypergraph

__all__ = ["SheafHyperGNN"]


class SheafHyperGNN(nn.Module):
    r"""A linear map into d stalk rows per node, `SheafHypergraphConv` layers with ELU and dropout, and a linear map.

    Use it to classify nodes where neighbors in a hyperedge often have other classes.

    .. math:: X^{(0)} = X \Theta + b, \qquad
              X^{(l+1)} = \mathrm{dropout}(\mathrm{ELU}(\mathrm{conv}_l(X^{(l)}))), \qquad Z = X^{(L)} \Theta'

    without the ELU after the last layer.

    Args:
        in_channels: F, input features per node.
        hidden_channels: features per node and stalk row.
        num_classes: C.
        num_layers: L.
        stalk_dim: d.
        dropout: dropout probability.

    Shapes:
        x [N, F] and a `Hypergraph` with N nodes -> logits [N, C].

    Source: Duta, Cassara, Silvestri and Lio, "Sheaf Hypergraph Networks", NeurIPS 2023.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> SheafHyperGNN(5, 8, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_layers: int = 2,
        stalk_dim: int = 2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_channels(num_layers=num_layers, num_classes=num_classes)
        self.linear = nn.Linear(in_channels, stalk_dim * hidden_channels)
        self.convs = nn.ModuleList(
            SheafHypergraphConv(hidden_channels, hidden_channels, stalk_dim=stalk_dim) for _ in range(num_layers)
        )
        self.out = nn.Linear(stalk_dim * hidden_channels, num_classes, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, hypergraph, Hypergraph, self.linear.in_features, self.linear.weight)
        x = self.dropout(self.linear(x))
        for conv in self.convs[:-1]:
            x = self.dropout(F.elu(conv(x, hypergraph)))
        return self.out(self.convs[-1](x, hypergraph))
