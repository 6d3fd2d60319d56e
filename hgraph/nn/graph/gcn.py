"""Graph convolution (Kipf and Welling, ICLR 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hgraph.cache import CachedOperator, cached, can_cache_compiled
from hgraph.checks import check_channels
from hgraph.nn.graph._steps import GlorotLinear, add_bias, load_older, with_loops
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import Graph
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.algebra import inverse_power, lacks_loop, refuse_degrees_of

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
            return add_bias(_smoothed(self.linear(x), graph), self.bias)
        return self.from_prepared(_smoothed(x, graph))

    def prepare(self, x: Tensor, graph: Graph) -> Tensor:
        r"""The parameter-free part, :math:`\hat D^{-1/2} \hat A \hat D^{-1/2} X` [..., N, F].

        Compute it once for constant features: ``from_prepared(prepare(x, graph))`` equals ``forward(x, graph)``.
        """
        check_inputs(x, graph, Graph, self.in_channels, self.linear.weight)
        return _smoothed(x, graph)

    def from_prepared(self, prepared: Tensor) -> Tensor:
        """The convolution, from the result of `prepare`."""
        return add_bias(self.linear(prepared), self.bias)


def _smoothed(x: Tensor, graph: Graph) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    adj, loop = _operator(graph, dtype)
    out = propagate(adj, x)
    return out if loop is None else out + loop.to(x.dtype).unsqueeze(-1) * x


def _operator(graph: Graph, dtype: torch.dtype) -> tuple[Adjacency, Tensor | None]:
    """The normalized structure and the weights of its missing self-loops, cached."""
    fields = graph.adj.fields()
    if can_cache_compiled(fields):
        weight, loop = _WEIGHTS(fields, dtype)
        return graph.adj.with_weight(weight), loop
    return cached(graph, ("gcn", dtype), lambda: _normalized(*_checked(*with_loops(graph)), dtype))


def _checked(adj: Adjacency, self_loop: Tensor | None) -> tuple[Adjacency, Tensor | None]:
    """The arguments, after a check of the degrees."""
    refuse_degrees_of(adj, "target")
    return adj, self_loop


def _weights(fields: Sequence[Tensor | None], dtype: torch.dtype) -> list[Tensor]:
    adj = Adjacency(*fields)  # type: ignore[arg-type]
    normalized, loop = _normalized(adj, lacks_loop(adj), dtype)
    return [normalized.weight, loop]  # type: ignore[list-item]


_WEIGHTS = CachedOperator("gcn", _weights)


def _normalized(adj: Adjacency, self_loop: Tensor | None, dtype: torch.dtype) -> tuple[Adjacency, Tensor | None]:
    """The structure with normalized weights, and the weights [N] of its missing self-loops."""
    ones = torch.ones(adj.num_edges, dtype=dtype, device=adj.device)
    weight = ones if adj.weight is None else adj.weight.to(dtype)
    degree, missing = adj.with_weight(weight).target_degree(), None if self_loop is None else self_loop.to(dtype)
    scale = inverse_power(degree if missing is None else degree + missing, -0.5)
    adj = adj.with_weight(scale[adj.target] * weight * scale[adj.indices])
    return adj, None if missing is None else missing * scale * scale
