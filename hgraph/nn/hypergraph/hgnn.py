"""Hypergraph neural network (Feng et al., AAAI 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn.hypergraph._steps import Steps, second_step, steps_of, two_steps, weights_of
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Hypergraph
from hgraph.structure.algebra import inverse_power

__all__ = ["HGNNConv"]


class HGNNConv(nn.Module):
    r"""Smooth vertex features over hyperedges, symmetrically normalised.

    .. math:: X' = D_v^{-1/2} H W D_e^{-1} H^\top D_v^{-1/2} (X \Theta + b)

    with :math:`d_v = \sum_e w_e h(v, e)` and :math:`d_e = \sum_v h(v, e)`. A vertex in no hyperedge gets 0
    (`Hypergraph.with_singletons` gives each a hyperedge of its own). The N x N product is never formed.

    Args:
        in_channels: F, features of a vertex.
        out_channels: F'.
        bias: whether to add b, before the smoothing.

    Shapes:
        x [..., N, F] and a `Hypergraph` of N vertices -> [..., N, F'].

    Source: Feng et al., "Hypergraph Neural Networks", eq. 10 and 11, with the linear map (and its bias) first, as in
    Feng et al., "LightHGNN", ICLR 2024 (card 04, eq. 1).

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HGNNConv(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.linear = nn.Linear(in_channels, out_channels, bias=bias)

    def reset_parameters(self) -> None:
        """As `torch.nn.Linear`."""
        self.linear.reset_parameters()

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Smooth over the hypergraph."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear.weight)
        return two_steps(_steps(x, hypergraph), self.linear, x)

    def prepare(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        r"""What no parameter changes, :math:`D_e^{-1} H^\top D_v^{-1/2} X` [..., M, F].

        Features that stay need it once: ``from_prepared(prepare(x, hypergraph), hypergraph)`` is the layer itself.
        """
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear.weight)
        return propagate(_steps(x, hypergraph).gather, x)

    def from_prepared(self, prepared: Tensor, hypergraph: Hypergraph) -> Tensor:
        """The convolution of the features behind ``prepared``."""
        return second_step(_steps(prepared, hypergraph), self.linear, prepared)


def _steps(x: Tensor, hypergraph: Hypergraph) -> Steps:
    """Both steps in the precision of x, remembered."""
    return steps_of(hypergraph, torch.promote_types(x.dtype, torch.float32), "hgnn", _operators, _WEIGHTS)


def _operators(hg: Hypergraph) -> tuple[Adjacency, Adjacency]:
    r""":math:`D_e^{-1} H^\top D_v^{-1/2}` and :math:`D_v^{-1/2} H W`, all factors folded into the edge weights."""
    root = inverse_power(hg.node_degree(), -0.5)
    v2e, e2v = hg.v2e.normalize("row"), hg.e2v
    assert v2e.weight is not None  # noqa: S101 - normalize sets it
    assert e2v.weight is not None  # noqa: S101 - with_weights sets it
    weight = root[e2v.target] * e2v.weight
    if hg.hyperedge_weight is not None:
        weight = weight * hg.hyperedge_weight[e2v.indices]
    return v2e.with_weight(v2e.weight * root[v2e.indices]), e2v.with_weight(weight)


_WEIGHTS = weights_of("hgnn", _operators)
