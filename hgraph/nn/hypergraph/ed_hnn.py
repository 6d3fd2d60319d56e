"""ED-HNN convolution (Wang, Yang, Liu, Wang and Li, ICLR 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.all_set import AllDeepSetsConv
from hgraph.nn.hypergraph.hgnnp import HGNNPConv
from hgraph.nn.hypergraph.mlp import set_mlp
from hgraph.nn.hypergraph.two_step import steps_of
from hgraph.nn.inputs import check_inputs
from hgraph.nn.reset import reset
from hgraph.ops import aggregate, propagate
from hgraph.structure import Hypergraph

__all__ = ["EDHNNConv"]


class EDHNNConv(nn.Module):
    r"""Equivariant diffusion: what a hyperedge sends to a node depends on the node too.

    Use it where one message per hyperedge is not enough. The layer keeps the width, so that one layer can be applied
    several times.

    .. math:: m_e = \operatorname*{AGG}_{v \in e} \mathrm{MLP}_1(x_v), \qquad
              m_v = \operatorname*{AGG}_{e \ni v} \mathrm{MLP}_2([x_v \,|\, m_e]), \qquad
              x'_v = \mathrm{MLP}_3\big((1 - \alpha)\, m_v + \alpha\, x^0_v\big)

    The mean is weighted by :math:`h(v, e)` at hyperedges and :math:`w_e h(v, e)` at nodes, the sum likewise.

    Args:
        channels: F, features per node.
        num_mlp_layers: linear maps in the three MLPs. With 0 layers, MLP_1 and MLP_3 are the identity and MLP_2 returns
            :math:`m_e`.
        hidden_channels: features inside the MLPs; None takes F.
        alpha: weight of the initial features x0 in each application.
        reduce: ``"mean"`` or ``"sum"``.
        dropout: dropout probability inside the MLPs.
        norm: whether the MLPs use layer norm.

    Shapes:
        x [..., N, F], a `Hypergraph` with N nodes, and x0 [..., N, F] (None takes x) -> [..., N, F]. Messages of
        incidences are computed in chunks, and again in the backward pass, where they need more memory than the features
        and more than 4 MB; compiled code computes all at once.

    Raises:
        ArgumentError: an unknown ``reduce``, alpha outside 0 .. 1, or not three numbers of layers.

    Source: Wang, Yang, Liu, Wang and Li, "Equivariant Hypergraph Diffusion Neural Operators", ICLR 2023, section 3.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> EDHNNConv(5)(torch.randn(4, 5), hg).shape
    torch.Size([4, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        num_mlp_layers: tuple[int, int, int] = (2, 2, 2),
        hidden_channels: int | None = None,
        alpha: float = 0.5,
        reduce: Literal["mean", "sum"] = "mean",
        dropout: float = 0.5,
        norm: bool = True,
    ) -> None:
        check_channels(channels=channels)
        if reduce not in ("mean", "sum"):
            raise ArgumentError("reduce", "'mean' or 'sum'", repr(reduce))
        if not 0 <= alpha <= 1:
            raise ArgumentError("alpha", "a weight from 0 to 1", alpha)
        if len(num_mlp_layers) != 3:
            raise ArgumentError("num_mlp_layers", "three numbers of layers", list(num_mlp_layers))
        super().__init__()
        self.channels, self.alpha, self.reduce = channels, alpha, reduce
        first, second, third = num_mlp_layers
        hidden = channels if hidden_channels is None else hidden_channels

        def mlp(width: int, layers: int) -> nn.Sequential:
            return set_mlp(width, hidden, channels, layers, dropout=dropout, norm=norm)

        self.node_mlp = mlp(channels, first)
        self.incidence_mlp = mlp(2 * channels, second) if second else None
        self.update_mlp = mlp(channels, third)

    def reset_parameters(self) -> None:
        """Reset all MLPs."""
        reset(self)

    def forward(self, x: Tensor, hypergraph: Hypergraph, x0: Tensor | None = None) -> Tensor:
        """Diffuse once over the hyperedges."""
        check_inputs(x, hypergraph, Hypergraph, self.channels, next(self.parameters(), x))
        if x0 is not None and x0.shape != x.shape:
            raise ArgumentError("x0", f"shape {list(x.shape)}, like x", f"shape {list(x0.shape)}")
        steps = steps_of(HGNNPConv if self.reduce == "mean" else AllDeepSetsConv, x, hypergraph)
        z = propagate(steps.gather, self.node_mlp(x))
        if self.incidence_mlp is None:
            received = propagate(steps.scatter, z)
        else:
            received = aggregate(steps.scatter, self._message, target=x, source=z)
        return self.update_mlp((1 - self.alpha) * received + self.alpha * (x if x0 is None else x0))

    def _message(self, x: Tensor, z: Tensor) -> Tensor:
        assert self.incidence_mlp is not None  # noqa: S101 - only called then
        return self.incidence_mlp(torch.cat([x, z], -1))
