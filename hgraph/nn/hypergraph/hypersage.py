"""HyperSAGE convolution (Arya, Gupta, Rudinac and Worring, 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.hgnnp import HGNNPConv
from hgraph.nn.hypergraph.two_step import steps_of
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Hypergraph

__all__ = ["HyperSAGEConv"]

_FLOOR = 1e-7  # of features under a power


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
        power: p, not 0; for other powers than 1 features below 1e-7 count as 1e-7.
        bias: whether to add b.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, F'].

    Raises:
        ArgumentError: p = 0.

    Source: Arya, Gupta, Rudinac and Worring, "HyperSAGE: Generalizing Inductive Representation Learning on
    Hypergraphs", arXiv 2010.04558, without sampling.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HyperSAGEConv(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, *, power: float = 1.0, bias: bool = True) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        if power == 0:
            raise ArgumentError("power", "a number other than 0", power)
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
        total = x + self._mean(steps.scatter, self._mean(steps.gather, x))
        return self.linear(nn.functional.normalize(total, dim=-1))

    def _mean(self, adj: Adjacency, x: Tensor) -> Tensor:
        if self.power == 1:
            return propagate(adj, x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32)).clamp(min=_FLOOR)
        mean = propagate(adj, wide**self.power)
        empty = mean == 0
        return torch.where(empty, 0.0, torch.where(empty, 1.0, mean) ** (1 / self.power)).to(x.dtype)
