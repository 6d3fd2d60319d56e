"""Graph attention with a score that depends on the query (Brody, Alon and Yahav, ICLR 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels, whole
from hgraph.nn.graph._steps import GlorotLinear, add_bias, attend_by, check_edges, missing_loops, with_self_loops
from hgraph.nn.inputs import check_inputs
from hgraph.ops import Additive, AttendResult, aggregate, attend, merge
from hgraph.structure import Graph

__all__ = ["GATv2Conv"]


class GATv2Conv(nn.Module):
    r"""Attend over a node and its neighbors; which neighbor matters most may differ from node to node.

    Use it in place of `GATConv`, which ranks neighbors in the same order for all nodes; it takes more time.

    .. math:: s_{ij} = a \cdot \mathrm{LeakyReLU}(\Theta_t x_i + \Theta_s x_j + W_e e_{ij}), \qquad
              \alpha_{ij} = \operatorname{softmax}_{j \in \mathcal N(i) \cup \{i\}} s_{ij}, \qquad
              x'_i = \sum_j \alpha_{ij} \Theta_s x_j + b

    per head, with biases in :math:`\Theta_t` and :math:`\Theta_s`. Every node attends to itself, whether or not the
    graph has a self-loop; added self-loops have edge features 0. Edge weights are ignored.

    Args:
        in_channels: F, features of a node.
        out_channels: F', features per head.
        num_heads: number of heads H.
        concat: True concatenates the heads (H * F' channels), False averages them (F' channels).
        dropout: of the attention weights, in training.
        negative_slope: negative slope of the LeakyReLU.
        share: whether :math:`\Theta_t` and :math:`\Theta_s` are the same map.
        bias: whether the maps have biases, and b is added.
        edge_channels: D, features of an edge, or None.

    Shapes:
        x [..., N, F], a `Graph` of N nodes and E edges, and ``edge_features`` [..., E, D] in the order of the edges
        (``graph.sort_edges``) -> [..., N, H * F'] or [..., N, F'].

    Raises:
        ArgumentError: features of the wrong width, or edge features that are missing or unexpected.

    Source: Brody, Alon and Yahav, "How Attentive are Graph Attention Networks?", ICLR 2022, eq. 7.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GATv2Conv(4, 2, num_heads=3)(torch.randn(3, 4), g).shape
    torch.Size([3, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_heads: int = 1,
        concat: bool = True,
        dropout: float = 0.0,
        negative_slope: float = 0.2,
        share: bool = False,
        bias: bool = True,
        edge_channels: int | None = None,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels, self.num_heads = (
            in_channels,
            out_channels,
            whole("num_heads", num_heads, 1),
        )
        self.concat, self.dropout, self.edge_channels = concat, dropout, edge_channels
        self.negative_slope, wide = negative_slope, num_heads * out_channels
        self.linear = nn.Linear(in_channels, wide, bias=bias)
        self.target_linear = None if share else nn.Linear(in_channels, wide, bias=bias)
        if edge_channels is not None:
            check_channels(edge_channels=edge_channels)
        self.edge_linear = None if edge_channels is None else GlorotLinear(edge_channels, wide)
        self.score = nn.Parameter(torch.empty(num_heads, out_channels))
        self.bias = nn.Parameter(torch.empty(wide if concat else out_channels)) if bias else None
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes."""
        edges = "" if self.edge_channels is None else f", edge_channels={self.edge_channels}"
        return f"{self.in_channels}, {self.out_channels}, num_heads={self.num_heads}, concat={self.concat}{edges}"

    def reset_parameters(self) -> None:
        """Glorot-uniform weights and attention vectors, zero biases."""
        for linear in (self.linear, self.target_linear):
            if linear is not None:
                nn.init.xavier_uniform_(linear.weight)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)
        if self.edge_linear is not None:
            self.edge_linear.reset_parameters()
        nn.init.xavier_uniform_(self.score)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, graph: Graph, edge_features: Tensor | None = None) -> Tensor:
        """Attend over the graph."""
        check_inputs(x, graph, Graph, self.in_channels, self.linear.weight)
        check_edges(edge_features, graph.adj, self.edge_channels)
        heads = (self.num_heads, self.out_channels)
        value = self.linear(x).unflatten(-1, heads)  # [..., N, H, F']
        query = value if self.target_linear is None else self.target_linear(x).unflatten(-1, heads)
        dropout = self.dropout if self.training else 0.0
        if edge_features is None:
            adj, bias, loops = with_self_loops(graph, x.dtype)
            score = Additive(self.score.to(x.dtype), slope=self.negative_slope)
            result = attend(adj, query, value, value, score=score, bias=bias, dropout=dropout)
        else:  # added edges would need features: the loops are attended to separately
            loops = missing_loops(graph)
            scores = aggregate(
                graph.adj, self._score, target=query.flatten(-2), source=value.flatten(-2), edge=edge_features,
                reduce="none",
            )  # fmt: skip
            result = attend_by(graph.adj, scores, value, dropout=dropout)
        if loops is not None:
            result = merge(result, self._attend_self(query, value, loops))
        out = result.out.flatten(-2) if self.concat or self.num_heads == 1 else result.out.mean(-2)
        return add_bias(out, self.bias)

    def _score(self, query: Tensor, key: Tensor, edge: Tensor | None = None) -> Tensor:
        """[..., H]: scores of rows of targets and sources [..., H * F']."""
        mapped = query + key if edge is None or self.edge_linear is None else query + key + self.edge_linear(edge)
        wide = F.leaky_relu(mapped, self.negative_slope).unflatten(-1, (self.num_heads, -1))
        return (wide * self.score.to(wide.dtype)).sum(-1)

    def _attend_self(self, query: Tensor, value: Tensor, self_loop: Tensor) -> AttendResult:
        """Attention of each node to itself only: a separate edge set, empty where the graph has the self-loop."""
        dtype = torch.promote_types(query.dtype, torch.float32)  # as in attend: the two edge sets are merged
        score = self._score(query.flatten(-2), value.flatten(-2)).to(dtype)
        score = torch.where(self_loop.unsqueeze(-1), score, float("-inf"))
        weight = F.dropout(torch.ones_like(score, dtype=value.dtype), self.dropout, self.training)
        return AttendResult(weight.unsqueeze(-1) * value, score)
