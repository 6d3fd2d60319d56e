"""Graph attention (Velickovic et al., ICLR 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.graph._steps import GlorotLinear, load_older, plus, with_itself
from hgraph.nn.inputs import check_inputs
from hgraph.ops import Additive, AttendResult, attend, merge
from hgraph.structure import Graph

__all__ = ["GATConv"]


class GATConv(nn.Module):
    r"""Attend over a vertex and its neighbours by an additive score.

    .. math:: s_{ij} = \mathrm{LeakyReLU}(a_t \cdot \Theta x_i + a_s \cdot \Theta x_j), \qquad
              \alpha_{ij} = \operatorname{softmax}_{j \in \mathcal N(i) \cup \{i\}} s_{ij}, \qquad
              x'_i = \sum_j \alpha_{ij} \Theta x_j + b

    Every vertex hears itself, whether or not the graph has its loop; edge weights are not read.

    Args:
        in_channels: F, features of a vertex.
        out_channels: F', features a head.
        num_heads: H independent attentions.
        concat: True concatenates the heads (H * F' channels), False averages them (F' channels).
        dropout: of the attention shares, in training.
        negative_slope: of the LeakyReLU.
        bias: whether to add b at the end.

    Shapes:
        x [..., N, F] and a `Graph` of N vertices -> [..., N, H * F'] or [..., N, F'].

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
        adj, bias, alone = with_itself(graph, x.dtype)
        value = self.linear(x)  # [..., N, H * F']
        query, key = (value @ self._scores().to(value.dtype)).chunk(2, -1)  # [..., N, H] each
        value = value.unflatten(-1, (self.num_heads, -1))
        dropout = self.dropout if self.training else 0.0
        score = Additive(slope=self.negative_slope)
        result = attend(adj, query, key, value, score=score, bias=bias, dropout=dropout)
        if alone is not None:
            result = merge(result, self._itself(query, key, value, alone))
        out = result.out.flatten(-2) if self.concat or self.num_heads == 1 else result.out.mean(-2)
        return plus(out, self.bias)

    def _scores(self) -> Tensor:
        """The attention vectors as a matrix [H * F', 2 H]: one product scores all heads, as targets and as sources."""
        each = torch.stack([self.target_score, self.source_score], -1).unsqueeze(-1)  # [H, F', 2, 1]
        heads = torch.eye(self.num_heads, dtype=each.dtype, device=each.device)
        return (each * heads[:, None, None]).view(-1, 2 * self.num_heads)

    def _itself(self, query: Tensor, key: Tensor, value: Tensor, alone: Tensor) -> AttendResult:
        """Each vertex's attention to itself alone: an edge set of its own, empty where the graph has the loop."""
        wide = torch.promote_types(query.dtype, torch.float32)  # as attend does: shares are compared across the two
        score = F.leaky_relu(query.to(wide) + key.to(wide), self.negative_slope)
        share = F.dropout(torch.ones_like(query), self.dropout, self.training)
        score = torch.where(alone.unsqueeze(-1), score, float("-inf"))
        return AttendResult(share.unsqueeze(-1) * value, score)
