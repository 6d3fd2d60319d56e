"""Graph attention (Velickovic et al., ICLR 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.graph._steps import GlorotLinear, add_bias, load_older, with_self_loops
from hgraph.nn.inputs import check_inputs
from hgraph.ops import Additive, AttendResult, attend, merge
from hgraph.structure import Graph

__all__ = ["GATConv"]


class GATConv(nn.Module):
    r"""Attend over a node and its neighbors with an additive score.

    Use it when some neighbors matter more than others.

    .. math:: s_{ij} = \mathrm{LeakyReLU}(a_t \cdot \Theta x_i + a_s \cdot \Theta x_j), \qquad
              \alpha_{ij} = \operatorname{softmax}_{j \in \mathcal N(i) \cup \{i\}} s_{ij}, \qquad
              x'_i = \sum_j \alpha_{ij} \Theta x_j + b

    Every node attends to itself, whether or not the graph has a self-loop; edge weights are ignored.

    Args:
        in_channels: F, features of a node.
        out_channels: F', features per head.
        num_heads: number of heads H.
        concat: True concatenates the heads (H * F' channels), False averages them (F' channels).
        dropout: of the attention weights, in training.
        negative_slope: negative slope of the LeakyReLU.
        bias: whether to add b at the end.

    Shapes:
        x [..., N, F] and a `Graph` of N nodes -> [..., N, H * F'] or [..., N, F'].

    Source: Velickovic et al., "Graph Attention Networks", eq. 1 to 6.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GATConv(4, 2, num_heads=3)(torch.randn(3, 4), g).shape
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
        bias: bool = True,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        if num_heads < 1:
            raise ArgumentError("num_heads", "at least 1", num_heads)
        self.num_heads, self.concat, self.dropout, self.negative_slope = num_heads, concat, dropout, negative_slope
        self.linear = GlorotLinear(in_channels, num_heads * out_channels)
        self.target_score = nn.Parameter(torch.empty(num_heads, out_channels))
        self.source_score = nn.Parameter(torch.empty(num_heads, out_channels))
        self.bias = nn.Parameter(torch.empty(num_heads * out_channels if concat else out_channels)) if bias else None
        self.register_load_state_dict_pre_hook(load_older)
        self._reset_scores()

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_channels}, {self.out_channels}, num_heads={self.num_heads}, concat={self.concat}"

    def reset_parameters(self) -> None:
        """Glorot-uniform weights and attention vectors, zero bias."""
        self.linear.reset_parameters()
        self._reset_scores()

    def _reset_scores(self) -> None:
        for parameter in (self.target_score, self.source_score):
            nn.init.xavier_uniform_(parameter)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Attend over the graph."""
        check_inputs(x, graph, Graph, self.in_channels, self.linear.weight)
        adj, bias, self_loop = with_self_loops(graph, x.dtype)
        value = self.linear(x)  # [..., N, H * F']
        query, key = (value @ self._scores().to(value.dtype)).chunk(2, -1)  # [..., N, H] each
        value = value.unflatten(-1, (self.num_heads, -1))
        dropout = self.dropout if self.training else 0.0
        score = Additive(slope=self.negative_slope)
        result = attend(adj, query, key, value, score=score, bias=bias, dropout=dropout)
        if self_loop is not None:
            result = merge(result, self._attend_self(query, key, value, self_loop))
        out = result.out.flatten(-2) if self.concat or self.num_heads == 1 else result.out.mean(-2)
        return add_bias(out, self.bias)

    def _scores(self) -> Tensor:
        """The attention vectors as a matrix [H * F', 2 H]: one product gives the scores of all heads and both roles."""
        each = torch.stack([self.target_score, self.source_score], -1).unsqueeze(-1)  # [H, F', 2, 1]
        heads = torch.eye(self.num_heads, dtype=each.dtype, device=each.device)
        return (each * heads[:, None, None]).view(-1, 2 * self.num_heads)

    def _attend_self(self, query: Tensor, key: Tensor, value: Tensor, self_loop: Tensor) -> AttendResult:
        """Attention of each node to itself only: a separate edge set, empty where the graph has the self-loop."""
        wide = torch.promote_types(query.dtype, torch.float32)  # as in attend: the two edge sets are merged
        score = F.leaky_relu(query.to(wide) + key.to(wide), self.negative_slope)
        weight = F.dropout(torch.ones_like(query), self.dropout, self.training)
        score = torch.where(self_loop.unsqueeze(-1), score, float("-inf"))
        return AttendResult(weight.unsqueeze(-1) * value, score)
