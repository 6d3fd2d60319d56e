"""UniGIN and UniSAGE convolutions (Huang and Yang, IJCAI 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.hgnnp import HGNNPConv
from hgraph.nn.hypergraph.two_step import TwoStepLayer, steps_of, weighted_e2v
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Hypergraph

__all__ = ["UniGINConv", "UniSAGEConv"]


class UniGINConv(TwoStepLayer):
    r"""Average the nodes of each hyperedge, sum the hyperedges of each node, and add the node itself.

    Use it where the number of hyperedges of a node carries information.

    .. math:: x'_v = (1 + \epsilon)\, \Theta x_v + \sum_e w_e h(v, e) \sum_u \frac{h(u, e)}{d_e} \Theta x_u

    with :math:`d_e = \sum_v h(v, e)`. The paper has no weights w and h; with all equal to 1 the two agree.

    Args:
        in_channels: F, input features per node.
        out_channels: F', output features per node.
        eps: the initial value of epsilon.
        learn_eps: whether epsilon is a parameter.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, F'].

    Source: Huang and Yang, "UniGNN: a Unified Framework for Graph and Hypergraph Neural Networks", IJCAI 2021,
    section 3.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> UniGINConv(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    eps: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, eps: float = 0.0, learn_eps: bool = True) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels, self.initial_eps = in_channels, out_channels, eps
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        if learn_eps:
            self.eps = nn.Parameter(torch.tensor(float(eps)))
        else:
            self.register_buffer("eps", torch.tensor(float(eps)))

    @staticmethod
    def operators(hypergraph: Hypergraph) -> tuple[Adjacency, Adjacency]:
        """Return the averaging step, and the sum over hyperedges with both weights."""
        return hypergraph.v2e.normalize("row"), weighted_e2v(hypergraph)

    def reset_parameters(self) -> None:
        """Reset the linear map as `torch.nn.Linear` does, and epsilon to its initial value."""
        self.linear.reset_parameters()
        nn.init.constant_(self.eps, self.initial_eps)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Add the weighted node to the sum over its hyperedges."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear.weight)
        steps, y = self.steps(x, hypergraph), self.linear(x)
        return (1 + self.eps.to(y.dtype)) * y + propagate(steps.scatter, propagate(steps.gather, y))


class UniSAGEConv(nn.Module):
    r"""Average the nodes of each hyperedge, sum or average the hyperedges of each node, and add the node itself.

    Use it as the counterpart of GraphSAGE for hypergraphs.

    .. math:: x'_v = \Theta x_v + \operatorname*{AGG}_{e \ni v} \sum_u \frac{h(u, e)}{d_e} \Theta x_u

    with :math:`d_e = \sum_v h(v, e)`. The sum weights hyperedges by :math:`w_e h(v, e)`, the mean divides by the sum of
    these weights. The paper has no weights; with all equal to 1 the two agree.

    Args:
        in_channels: F, input features per node.
        out_channels: F', output features per node.
        reduce: ``"sum"`` or ``"mean"`` over the hyperedges of a node.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, F'].

    Raises:
        ArgumentError: an unknown ``reduce``.

    Source: Huang and Yang, "UniGNN: a Unified Framework for Graph and Hypergraph Neural Networks", IJCAI 2021,
    section 3.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> UniSAGEConv(5, 2, reduce="mean")(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, *, reduce: Literal["sum", "mean"] = "sum") -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        if reduce not in ("sum", "mean"):
            raise ArgumentError("reduce", "'sum' or 'mean'", repr(reduce))
        super().__init__()
        self.in_channels, self.out_channels, self.reduce = in_channels, out_channels, reduce
        self.linear = nn.Linear(in_channels, out_channels, bias=False)

    def reset_parameters(self) -> None:
        """Reset the linear map as `torch.nn.Linear` does."""
        self.linear.reset_parameters()

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Add the node to the sum or mean over its hyperedges."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear.weight)
        steps, y = steps_of(UniGINConv if self.reduce == "sum" else HGNNPConv, x, hypergraph), self.linear(x)
        return y + propagate(steps.scatter, propagate(steps.gather, y))
