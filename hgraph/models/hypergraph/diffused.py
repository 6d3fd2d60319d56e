"""TF-HNN and HyperND: an MLP on features that were diffused over a hypergraph."""

from __future__ import annotations

from torch import Tensor, nn

from hgraph.models.hypergraph.diffusion import diffuse, diffuse_nonlinear
from hgraph.nn.hypergraph.mlp import set_mlp
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Hypergraph

__all__ = ["TFHNN", "HyperND"]


class TFHNN(nn.Module):
    r"""An MLP on features smoothed over the hypergraph once: no message passing while it trains.

    Use it for large hypergraphs: only the first epoch touches the structure.

    .. math:: Z = \mathrm{MLP}(\mathrm{diffuse}(X, L, \alpha))

    Args:
        in_channels: F, input features per node.
        hidden_channels: features inside the MLP.
        num_classes: C.
        num_steps: L, steps of the diffusion.
        alpha: weight of the node's own features in each step; 1 leaves the structure out.
        num_mlp_layers: linear maps of the MLP.
        dropout: dropout probability.
        norm: whether the MLP uses layer norm.

    Shapes:
        x [N, F] and a `Hypergraph` with N nodes -> logits [N, C].

    Source: Tang, Liu, Jiang, Chen and Dong, "Training-Free Message Passing for Learning on Hypergraphs", ICLR 2025.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> TFHNN(5, 8, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_steps: int = 2,
        alpha: float = 0.1,
        num_mlp_layers: int = 2,
        dropout: float = 0.5,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.num_steps, self.alpha = in_channels, num_steps, alpha
        self.mlp = set_mlp(
            in_channels, hidden_channels, num_classes, num_mlp_layers, dropout=dropout, norm=norm, input_norm=False
        )

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.mlp[0].weight)  # type: ignore[arg-type]
        return self.mlp(diffuse(x, hypergraph, self.num_steps, self.alpha))


class HyperND(nn.Module):
    r"""An MLP on features diffused by generalized means over hyperedges.

    Use it where one node of a hyperedge should speak louder than the mean: the power sets how much.

    .. math:: Z = \mathrm{MLP}(\mathrm{diffuse\_nonlinear}(X, p, \alpha))

    Args:
        in_channels: F, input features per node.
        hidden_channels: features inside the MLP.
        num_classes: C.
        power: p of the means; features must not be negative unless it is 1.
        num_steps: steps of the diffusion.
        alpha: weight of the node's own features; 1 leaves the structure out.
        num_mlp_layers: linear maps of the MLP.
        dropout: dropout probability.
        norm: whether the MLP uses layer norm.

    Shapes:
        x [N, F] and a `Hypergraph` with N nodes -> logits [N, C].

    Source: Prokopchik, Benson and Tudisco, "Nonlinear Feature Diffusion on Hypergraphs", ICML 2022. The paper also
    diffuses the training labels; here features alone.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HyperND(5, 8, 2, power=2)(torch.rand(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        power: float = 1.0,
        num_steps: int = 30,
        alpha: float = 0.5,
        num_mlp_layers: int = 2,
        dropout: float = 0.5,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.power, self.num_steps, self.alpha = in_channels, power, num_steps, alpha
        self.mlp = set_mlp(
            in_channels, hidden_channels, num_classes, num_mlp_layers, dropout=dropout, norm=norm, input_norm=False
        )

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.mlp[0].weight)  # type: ignore[arg-type]
        z = diffuse_nonlinear(x, hypergraph, power=self.power, num_steps=self.num_steps, alpha=self.alpha)
        return self.mlp(z)
