"""UniGCNII: a deep network with initial residuals and identity maps (Huang and Yang, IJCAI 2021)."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn import UniGCNConv
from hgraph.nn.hypergraph.two_step import steps_of
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import Hypergraph

__all__ = ["UniGCNII"]


class UniGCNII(nn.Module):
    r"""Many UniGCN steps, each with an initial residual and a linear map close to the identity.

    Use it where more than a few layers are needed: it works with 32 or 64 layers.

    .. math:: X^0 = \mathrm{ReLU}(X \Theta), \qquad Y = (1 - \alpha)\, P X^l + \alpha X^0, \qquad
              X^{l+1} = \mathrm{ReLU}\big((1 - \beta_l)\, Y + \beta_l Y \Theta_l\big), \qquad
              \beta_l = \log(1 + \lambda / l)

    with P the two weighted sums of `UniGCNConv`, followed by one more linear map.

    Args:
        in_channels: F, input features per node.
        hidden_channels: features per node in all steps.
        num_classes: C.
        num_layers: L, number of steps.
        alpha: weight of the initial features :math:`X^0` in each step.
        lam: lambda; the smaller, the closer the maps are to the identity, and 0 leaves them out.
        dropout: dropout probability before each step and both linear maps.
        norm: whether to divide rows by their length after each P; without gradient through the length.

    Shapes:
        x [N, F] and a `Hypergraph` with N nodes -> logits [N, C].

    Raises:
        ArgumentError: alpha outside 0 .. 1, or a negative lambda.

    Source: Huang and Yang, "UniGNN: a Unified Framework for Graph and Hypergraph Neural Networks", IJCAI 2021.
    It was published with weight decay 0.01 on the maps between steps and 5e-4 on the outer two.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> UniGCNII(5, 8, 2, num_layers=4)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_layers: int = 2,
        alpha: float = 0.1,
        lam: float = 0.5,
        dropout: float = 0.2,
        norm: bool = True,
    ) -> None:
        super().__init__()
        check_channels(num_layers=num_layers, num_classes=num_classes)
        if not 0 <= alpha <= 1:
            raise ArgumentError("alpha", "a weight from 0 to 1", alpha)
        if not 0 <= lam < math.inf:
            raise ArgumentError("lam", "a finite number, 0 or more", lam)
        self.alpha, self.lam, self.norm = alpha, lam, norm
        self.linear = nn.Linear(in_channels, hidden_channels)
        self.maps = nn.ModuleList(nn.Linear(hidden_channels, hidden_channels, bias=False) for _ in range(num_layers))
        self.out = nn.Linear(hidden_channels, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, hypergraph, Hypergraph, self.linear.in_features, self.linear.weight)
        x = x0 = self.linear(self.dropout(x)).relu()
        steps = steps_of(UniGCNConv, x, hypergraph)
        for layer, linear in enumerate(self.maps, 1):
            y = propagate(steps.scatter, propagate(steps.gather, self.dropout(x)))
            if self.norm:
                y = y / y.detach().norm(dim=-1, keepdim=True).clamp(min=1e-12)
            y = (1 - self.alpha) * y + self.alpha * x0
            beta = math.log1p(self.lam / layer)
            x = F.relu((1 - beta) * y + beta * linear(y) if beta else y)
        return self.out(self.dropout(x))
