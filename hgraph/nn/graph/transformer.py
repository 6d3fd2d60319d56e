"""Dot-product attention over the neighbors (Shi et al., IJCAI 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, whole
from hgraph.nn.inputs import check_inputs
from hgraph.ops import attend
from hgraph.structure import Graph

__all__ = ["TransformerConv"]


class TransformerConv(nn.Module):
    r"""Attend over the neighbors as a transformer does over tokens, and add the node itself.

    Use it on graphs with enough labels to learn queries and keys.

    .. math:: \alpha_{ij} = \operatorname{softmax}_{j \in \mathcal N(i)} \frac{Q x_i \cdot K x_j}{\sqrt{F'}}, \qquad
              m_i = \sum_j \alpha_{ij} V x_j, \qquad x'_i = m_i + W x_i

    per head, each map with a bias. With ``gate``,
    :math:`x'_i = (1 - \beta_i) m_i + \beta_i W x_i` and
    :math:`\beta_i = \sigma(w \cdot [m_i, W x_i, m_i - W x_i])`. Edge weights are ignored; a node without neighbors gets
    :math:`m_i = 0`.

    Args:
        in_channels: F, features of a node.
        out_channels: F', features per head.
        num_heads: number of heads H.
        concat: True concatenates the heads (H * F' channels), False averages them (F' channels).
        gate: whether a learned gate weighs the node against its neighbors.
        dropout: of the attention weights, in training.
        bias: whether the maps have biases.

    Shapes:
        x [..., N, F] and a `Graph` of N nodes -> [..., N, H * F'] or [..., N, F'].

    Source: Shi et al., "Masked Label Prediction: Unified Message Passing Model for Semi-Supervised Classification",
    IJCAI 2021, eq. 2 to 4; the paper adds features of edges to keys and values.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> TransformerConv(4, 2, num_heads=3)(torch.randn(3, 4), g).shape
    torch.Size([3, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_heads: int = 1,
        concat: bool = True,
        gate: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels, self.num_heads = (
            in_channels,
            out_channels,
            whole("num_heads", num_heads, 1),
        )
        self.concat, self.dropout = concat, dropout
        wide = num_heads * out_channels
        self.query, self.key, self.value = (nn.Linear(in_channels, wide, bias=bias) for _ in range(3))
        width = wide if concat else out_channels
        self.skip = nn.Linear(in_channels, width, bias=bias)
        self.gate = nn.Linear(3 * width, 1, bias=False) if gate else None

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_channels}, {self.out_channels}, num_heads={self.num_heads}, concat={self.concat}"

    def reset_parameters(self) -> None:
        """Reset every linear map as `torch.nn.Linear` does."""
        for linear in (self.query, self.key, self.value, self.skip, self.gate):
            if linear is not None:
                linear.reset_parameters()

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Attend over the neighbors."""
        check_inputs(x, graph, Graph, self.in_channels, self.query.weight)
        q, k, v = (linear(x).unflatten(-1, (self.num_heads, -1)) for linear in (self.query, self.key, self.value))
        out = attend(graph.adj, q, k, v, dropout=self.dropout if self.training else 0.0).out
        out = out.flatten(-2) if self.concat else out.mean(-2)
        own = self.skip(x)
        if self.gate is None:
            return out + own
        return torch.lerp(out, own, self.gate(torch.cat([out, own, out - own], -1)).sigmoid())
