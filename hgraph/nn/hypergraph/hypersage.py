"""HyperSAGE convolution (Arya, Gupta, Rudinac and Worring, 2020)."""

from __future__ import annotations

from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn.hypergraph.hgnnp import HGNNPConv
from hgraph.nn.hypergraph.power_mean import check_power, power_mean
from hgraph.nn.hypergraph.two_step import steps_of
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Hypergraph

__all__ = ["HyperSAGEConv"]


class HyperSAGEConv(nn.Module):
    r"""Generalized means over the nodes of a hyperedge and over the hyperedges of a node, added to the node.

    Use it with a large p where one node of a hyperedge should count more than the others.

    .. math:: m_v = M_p\big(\{M_p(\{x_u : u \in e\}) : e \ni v\}\big), \qquad
              x'_v = \Theta\, \frac{x_v + m_v}{\lVert x_v + m_v \rVert_2} + b, \qquad
              M_p(S) = \Big(\frac{1}{|S|} \sum_{s \in S} s^p\Big)^{1/p}

    The means are weighted by :math:`h(v, e)` in hyperedges and :math:`w_e h(v, e)` at nodes, which the paper does not
    have.

    Args:
        in_channels: F, input features per node.
        out_channels: F', output features per node.
        power: p, see `power_mean`: features must not be negative unless it is 1.
        bias: whether to add b.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, F'].

    Raises:
        ArgumentError: p = 0, or of a size above 50.

    Source: Arya, Gupta, Rudinac and Worring, "HyperSAGE: Generalizing Inductive Representation Learning on
    Hypergraphs", arXiv 2010.04558, without sampling.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HyperSAGEConv(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, *, power: float = 1.0, bias: bool = True) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        check_power(power)
        super().__init__()
        self.in_channels, self.out_channels, self.power = in_channels, out_channels, power
        self.linear = nn.Linear(in_channels, out_channels, bias=bias)

    def reset_parameters(self) -> None:
        """Reset the linear map as `torch.nn.Linear` does."""
        self.linear.reset_parameters()

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Add the two-level mean, divide by the length, and map."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear.weight)
        steps = steps_of(HGNNPConv, x, hypergraph)
        means = power_mean(steps.scatter, power_mean(steps.gather, x, self.power), self.power)
        total = x + means
        return self.linear(nn.functional.normalize(total, dim=-1))
