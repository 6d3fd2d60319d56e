"""HGNN+ convolution (Gao et al., TPAMI 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn.hypergraph._steps import Steps, second_step, steps_of, two_steps, weights_of
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Hypergraph

__all__ = ["HGNNPConv"]


class HGNNPConv(nn.Module):
    r"""Average members into hyperedges, then hyperedges into vertices.

    .. math:: X' = D_v^{-1} H W D_e^{-1} H^\top (X \Theta + b)

    with :math:`d_v = \sum_e w_e h(v, e)` and :math:`d_e = \sum_v h(v, e)`. A vertex in no hyperedge gets 0.

    Args:
        in_channels: F, features of a vertex.
        out_channels: F'.
        bias: whether to add b, before the averaging (so it arrives unchanged at every vertex of a hyperedge).

    Shapes:
        x [..., N, F] and a `Hypergraph` of N vertices -> [..., N, F'].

    Source: Gao et al., "HGNN+: General Hypergraph Neural Networks", eq. 9 to 11 (card 04, "Other teachers").

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HGNNPConv(5, 2)(torch.randn(4, 5), hg).shape
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
        """Average over the hypergraph."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear.weight)
        return two_steps(_steps(x, hypergraph), self.linear, x)

    def prepare(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        r"""What no parameter changes, :math:`D_e^{-1} H^\top X` [..., M, F].

        Features that stay need it once: ``from_prepared(prepare(x, hypergraph), hypergraph)`` is the layer itself.
        """
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear.weight)
        return propagate(_steps(x, hypergraph).gather, x)

    def from_prepared(self, prepared: Tensor, hypergraph: Hypergraph) -> Tensor:
        """The convolution of the features behind ``prepared``."""
        return second_step(_steps(prepared, hypergraph), self.linear, prepared)


def _steps(x: Tensor, hypergraph: Hypergraph) -> Steps:
    """Both steps in the precision of x, remembered."""
    return steps_of(hypergraph, torch.promote_types(x.dtype, torch.float32), "hgnnp", _operators, _WEIGHTS)


def _operators(hg: Hypergraph) -> tuple[Adjacency, Adjacency]:
    r""":math:`D_e^{-1} H^\top` and :math:`D_v^{-1} H W`, all factors folded into the edge weights."""
    e2v = hg.e2v
    if hg.hyperedge_weight is not None:
        assert e2v.weight is not None  # noqa: S101 - with_weights sets it
        e2v = e2v.with_weight(hg.hyperedge_weight[e2v.indices] * e2v.weight)
    return hg.v2e.normalize("row"), e2v.normalize("row")


_WEIGHTS = weights_of("hgnnp", _operators)
