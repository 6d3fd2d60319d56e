"""Graph convolution (Kipf and Welling, ICLR 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn.graph._steps import GlorotLinear, add_bias, load_older
from hgraph.nn.graph.smoothing import smoothed
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Graph

__all__ = ["GCNConv"]


class GCNConv(nn.Module):
    r"""Average over a node and its neighbors, symmetrically normalized.

    Use it as the first baseline on a graph whose neighbors tend to share labels.

    .. math:: X' = \hat D^{-1/2} \hat A \hat D^{-1/2} X \Theta + b, \qquad \hat A = A + I

    with :math:`\hat D` the weighted in-degrees of :math:`\hat A`. Existing self-loops keep their weight,
    missing ones get weight 1. Negative degrees and weights that cancel raise an error when a graph is first
    used on a CPU; for weights that require gradients, and on other devices, the root is of :math:`|d|`.

    Args:
        in_channels: F, features of a node.
        out_channels: F'.
        bias: whether to add b after the propagation.

    Shapes:
        x [..., N, F] and a `Graph` of N nodes -> [..., N, F'].

    Source: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks", eq. 2 and 8.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GCNConv(4, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.linear = GlorotLinear(in_channels, out_channels)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_load_state_dict_pre_hook(load_older)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_channels}, {self.out_channels}"

    def reset_parameters(self) -> None:
        """Glorot-uniform weight, zero bias."""
        self.linear.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Convolve node features over the graph."""
        check_inputs(x, graph, Graph, self.in_channels, self.linear.weight)
        if self.out_channels < self.in_channels:  # propagate the narrower side; the result is the same
            return add_bias(smoothed(self.linear(x), graph), self.bias)
        return self.from_prepared(smoothed(x, graph))

    def prepare(self, x: Tensor, graph: Graph) -> Tensor:
        r"""The parameter-free part, :math:`\hat D^{-1/2} \hat A \hat D^{-1/2} X` [..., N, F].

        Compute it once for constant features: ``from_prepared(prepare(x, graph))`` equals ``forward(x, graph)``.
        """
        check_inputs(x, graph, Graph, self.in_channels, self.linear.weight)
        return smoothed(x, graph)

    def from_prepared(self, prepared: Tensor) -> Tensor:
        """The convolution, from the result of `prepare`."""
        return add_bias(self.linear(prepared), self.bias)
