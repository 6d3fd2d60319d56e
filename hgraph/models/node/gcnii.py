"""GCNII: a deep GCN with initial residuals and identity maps (Chen et al., ICML 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, real
from hgraph.nn.graph.smoothing import smoothed
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Graph

__all__ = ["GCNII"]


class GCNII(nn.Module):
    r"""Many GCN steps, each with an initial residual and a linear map close to the identity.

    Use it where more than a few layers are needed: it works with 64 layers.

    .. math:: H^0 = \mathrm{ReLU}(X \Theta + b), \qquad
              Y = (1 - \alpha) \hat D^{-1/2} \hat A \hat D^{-1/2} H^l + \alpha H^0, \qquad
              H^{l+1} = \mathrm{ReLU}\big((1 - \beta_l) Y + \beta_l Y \Theta_l\big), \qquad
              \beta_l = \log(1 + \lambda / l)

    followed by one more linear map.

    Args:
        in_channels: F, features of a node.
        hidden_channels: features of a node in all steps.
        num_classes: C.
        num_layers: L, number of steps.
        alpha: weight of the initial features :math:`H^0` in each step.
        lam: lambda; the smaller, the closer the maps are to the identity.
        dropout: probability, before each step and both linear maps.

    Shapes:
        x [N, F] and a `Graph` of N nodes -> logits [N, C].

    Raises:
        ArgumentError: alpha outside 0 .. 1, or a negative lambda.

    Source: Chen, Wei, Huang, Ding and Li, "Simple and Deep Graph Convolutional Networks", ICML 2020, eq. 5. It was
    published with weight decay 0.01 on the maps between steps and 5e-4 on the outer two.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GCNII(4, 8, 2, num_layers=16)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_layers: int = 8,
        alpha: float = 0.1,
        lam: float = 0.5,
        dropout: float = 0.6,
    ) -> None:
        check_channels(in_channels=in_channels, hidden_channels=hidden_channels, num_classes=num_classes)
        check_channels(num_layers=num_layers)
        super().__init__()
        self.alpha = real("alpha", alpha, "a weight, 0 .. 1", 0.0, 1.0)
        self.lam = real("lam", lam, "a finite number, 0 or more")
        self.linear = nn.Linear(in_channels, hidden_channels)
        self.maps = nn.ModuleList(nn.Linear(hidden_channels, hidden_channels, bias=False) for _ in range(num_layers))
        self.out = nn.Linear(hidden_channels, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, graph, Graph, self.linear.in_features, self.linear.weight)
        x = x0 = self.linear(self.dropout(x)).relu()
        for layer, linear in enumerate(self.maps, 1):
            y = torch.lerp(smoothed(self.dropout(x), graph), x0, self.alpha)
            beta = math.log1p(self.lam / layer)
            x = torch.lerp(y, linear(y), beta).relu()
        return self.out(self.dropout(x))
