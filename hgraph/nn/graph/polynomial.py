"""Convolutions that are polynomials of the normalized graph: SGC, TAGCN and ChebNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, real, whole
from hgraph.nn.graph.smoothing import neighbor_sum, smoothed
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Graph

__all__ = ["ChebConv", "SGConv", "TAGConv"]


class SGConv(nn.Module):
    r"""Smooth the features K times, then apply one linear map.

    Use it as a fast linear baseline: `prepare` computes the smoothed features once for the whole training.

    .. math:: X' = (\hat D^{-1/2} \hat A \hat D^{-1/2})^K X \Theta + b, \qquad \hat A = A + I

    Args:
        in_channels: F, features of a node.
        out_channels: F'.
        num_hops: K.
        bias: whether to add b.

    Shapes:
        x [..., N, F] and a `Graph` of N nodes -> [..., N, F'].

    Source: Wu et al., "Simplifying Graph Convolutional Networks", ICML 2019, eq. 8.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> SGConv(4, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, *, num_hops: int = 2, bias: bool = True) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels, self.num_hops = in_channels, out_channels, whole("num_hops", num_hops)
        self.linear = nn.Linear(in_channels, out_channels, bias=bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_channels}, {self.out_channels}, num_hops={self.num_hops}"

    def reset_parameters(self) -> None:
        """Reset the linear map as `torch.nn.Linear` does."""
        self.linear.reset_parameters()

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Smooth the features and map them."""
        return self.from_prepared(self.prepare(x, graph))

    def prepare(self, x: Tensor, graph: Graph) -> Tensor:
        """The smoothed features [..., N, F], which no parameter changes."""
        check_inputs(x, graph, Graph, self.in_channels, self.linear.weight)
        for _ in range(self.num_hops):
            x = smoothed(x, graph)
        return x

    def from_prepared(self, prepared: Tensor) -> Tensor:
        """The convolution, from the result of `prepare`."""
        return self.linear(prepared)


class _Polynomial(nn.Module):
    """A sum of K + 1 linear maps, each of another polynomial of the graph; one matrix holds all of them."""

    def __init__(self, in_channels: int, out_channels: int, num_hops: int, bias: bool) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels, self.num_hops = in_channels, out_channels, num_hops
        self.linear = nn.Linear((num_hops + 1) * in_channels, out_channels, bias=bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_channels}, {self.out_channels}, num_hops={self.num_hops}"

    def reset_parameters(self) -> None:
        """Reset the linear map as `torch.nn.Linear` does."""
        self.linear.reset_parameters()

    def terms(self, x: Tensor, graph: Graph) -> list[Tensor]:
        """The K + 1 terms [..., N, F]."""
        raise NotImplementedError

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Map the concatenated terms."""
        check_inputs(x, graph, Graph, self.in_channels, self.linear.weight)
        return self.linear(torch.cat(self.terms(x, graph), -1))


class TAGConv(_Polynomial):
    r"""Add linear maps of the neighborhoods at 0 to K hops.

    Use it when the distance to a neighbor matters and the network has few layers.

    .. math:: X' = \sum_{k=0}^{K} (D^{-1/2} A D^{-1/2})^k X \Theta_k + b

    Args:
        in_channels: F, features of a node.
        out_channels: F'.
        num_hops: K.
        bias: whether to add b.

    Shapes:
        x [..., N, F] and a `Graph` of N nodes -> [..., N, F'].

    Source: Du et al., "Topology Adaptive Graph Convolutional Networks", 2017, section 3.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> TAGConv(4, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, *, num_hops: int = 3, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, whole("num_hops", num_hops), bias)

    def terms(self, x: Tensor, graph: Graph) -> list[Tensor]:
        """The features after 0 to K steps."""
        found = [x]
        for _ in range(self.num_hops):
            found.append(neighbor_sum(found[-1], graph))
        return found


class ChebConv(_Polynomial):
    r"""A learned filter of the graph's spectrum, as a sum of Chebyshev polynomials of the Laplacian.

    Use it when a filter other than smoothing is needed, such as differences between neighbors.

    .. math:: X' = \sum_{k=0}^{K} T_k(\tilde L) X \Theta_k + b, \qquad
              \tilde L = \tfrac{2}{\lambda} (I - D^{-1/2} A D^{-1/2}) - I, \qquad
              T_k(z) = 2 z\, T_{k-1}(z) - T_{k-2}(z)

    Args:
        in_channels: F, features of a node.
        out_channels: F'.
        num_hops: K, the degree of the polynomial; PyG counts the K + 1 terms.
        largest: lambda, the largest eigenvalue of the Laplacian; 2 is an upper bound for every graph with positive
            weights.
        bias: whether to add b.

    Shapes:
        x [..., N, F] and a `Graph` of N nodes -> [..., N, F'].

    Source: Defferrard, Bresson and Vandergheynst, "Convolutional Neural Networks on Graphs with Fast Localized
    Spectral Filtering", NeurIPS 2016, eq. 4.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> ChebConv(4, 2, num_hops=2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, num_hops: int = 2, largest: float = 2.0, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, whole("num_hops", num_hops), bias)
        self.largest = real("largest", largest, "a number above 0", low=1e-300)

    def terms(self, x: Tensor, graph: Graph) -> list[Tensor]:
        """The polynomials of degree 0 to K."""
        found = [x]
        for k in range(self.num_hops):
            step = self._shifted(found[-1], graph)
            found.append(step if k == 0 else 2 * step - found[-2])
        return found

    def _shifted(self, x: Tensor, graph: Graph) -> Tensor:
        sums = neighbor_sum(x, graph)
        return -sums if self.largest == 2 else 2 / self.largest * (x - sums) - x
