"""Gated graph convolution (Bresson and Laurent, 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, real
from hgraph.nn.graph._steps import check_edges
from hgraph.nn.inputs import check_inputs
from hgraph.nn.reset import reset
from hgraph.ops import aggregate
from hgraph.structure import Graph

__all__ = ["GatedGCNConv"]


class GatedGCNConv(nn.Module):
    r"""Weigh each channel of each neighbor by a gate that depends on both ends.

    Use it as a strong local layer, as inside `GPSConv`.

    .. math:: \eta_{ij} = \sigma(A x_i + B x_j + C e_{ij}), \qquad
              x'_i = U x_i + \frac{\sum_j \eta_{ij} \odot V x_j}{\sum_j \eta_{ij} + \epsilon}

    each map with a bias; without ``normalize``, the numerator alone. Edge weights are ignored.

    Args:
        in_channels: F, features of a node.
        out_channels: F'.
        edge_channels: D, features of an edge; None omits the term with C.
        normalize: whether to divide by the sum of the gates.
        eps: epsilon.

    Shapes:
        x [..., N, F], a `Graph` of N nodes and E edges, and ``edge_features`` [..., E, D] in the order of the edges
        (``graph.sort_edges``) -> [..., N, F'].

    Raises:
        ArgumentError: features of the wrong width, or edge features that are missing or unexpected.

    Source: Bresson and Laurent, "Residual Gated Graph ConvNets", 2017, eq. 10 and 11; the normalized form: Dwivedi et
    al., "Benchmarking Graph Neural Networks", JMLR 2023, without its norm and residual.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GatedGCNConv(4, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        edge_channels: int | None = None,
        normalize: bool = True,
        eps: float = 1e-6,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        if edge_channels is not None:
            check_channels(edge_channels=edge_channels)
        super().__init__()
        self.in_channels, self.out_channels, self.edge_channels = in_channels, out_channels, edge_channels
        self.normalize, self.eps = normalize, real("eps", eps, "a finite number, 0 or more")
        self.linear, self.value, self.target_gate, self.source_gate = (
            nn.Linear(in_channels, out_channels) for _ in range(4)
        )
        self.edge_gate = None if edge_channels is None else nn.Linear(edge_channels, out_channels)

    def extra_repr(self) -> str:
        """The sizes."""
        edges = "" if self.edge_channels is None else f", edge_channels={self.edge_channels}"
        return f"{self.in_channels}, {self.out_channels}{edges}"

    def reset_parameters(self) -> None:
        """Reset every linear map as `torch.nn.Linear` does."""
        reset(self)

    def forward(self, x: Tensor, graph: Graph, edge_features: Tensor | None = None) -> Tensor:
        """Sum over the gated neighbors."""
        check_inputs(x, graph, Graph, self.in_channels, self.linear.weight)
        adj = graph.adj.with_weight(None)
        check_edges(edge_features, adj, self.edge_channels)
        source = torch.cat([self.source_gate(x), self.value(x)], -1)
        sent = aggregate(adj, self._message, target=self.target_gate(x), source=source, edge=edge_features)
        if not self.normalize:
            return self.linear(x) + sent
        total, gates = sent.chunk(2, -1)
        return self.linear(x) + total / (gates + self.eps)

    def _message(self, target: Tensor, source: Tensor, edge: Tensor | None = None) -> Tensor:
        key, value = source.chunk(2, -1)
        score = target + key if edge is None or self.edge_gate is None else target + key + self.edge_gate(edge)
        gate = score.sigmoid()
        return torch.cat([gate * value, gate], -1) if self.normalize else gate * value
