"""GPS: a local layer in parallel with attention to all nodes (Rampasek et al., NeurIPS 2022)."""

from __future__ import annotations

from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.attention import SelfAttention
from hgraph.nn.graph.gin import GINConv
from hgraph.nn.inputs import check_inputs
from hgraph.nn.reset import reset
from hgraph.structure import Graph

__all__ = ["GPSConv"]


class GPSConv(nn.Module):
    r"""Sum a layer over the graph and attention to all nodes, then apply an MLP.

    Use it where distant nodes matter, on graphs of up to a few thousand nodes: attention costs :math:`N^2`. Nodes have
    no position: add encodings to their features.

    .. math:: X_M = \mathrm{norm}(X + \mathrm{conv}(X, G)), \qquad
              X_T = \mathrm{norm}(X + \mathrm{attention}(X)), \qquad
              Y = X_M + X_T, \qquad X' = \mathrm{norm}(Y + \mathrm{MLP}(Y))

    Args:
        in_channels: D, features of a node.
        out_channels: None or D; the layer does not change the width.
        conv: the local layer, a module of (x, graph) with D channels; None uses a `GINConv`.
        num_heads: attention heads, which divide D.
        dropout: dropout probability after the local layer, after attention, and inside and after the MLP.

    Shapes:
        x [..., N, D] and a `Graph` of N nodes -> [..., N, D].

    Raises:
        ArgumentError: ``out_channels`` is neither None nor D.

    Source: Rampasek et al., "Recipe for a General, Powerful, Scalable Graph Transformer", NeurIPS 2022, eq. 1 to 4,
    with layer norm in place of batch norm.

    >>> import torch
    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GPSConv(4)(torch.randn(3, 4), g).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        conv: nn.Module | None = None,
        num_heads: int = 1,
        dropout: float = 0.0,
    ) -> None:
        check_channels(in_channels=in_channels)
        if out_channels not in (None, in_channels):
            raise ArgumentError("out_channels", f"{in_channels}, like in_channels", out_channels)
        super().__init__()
        self.in_channels = self.out_channels = in_channels
        self.conv = GINConv(in_channels, in_channels) if conv is None else conv
        self.attention = SelfAttention(in_channels, num_heads)
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, 2 * in_channels), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(2 * in_channels, in_channels), nn.Dropout(dropout),
        )  # fmt: skip
        self.norms = nn.ModuleList(nn.LayerNorm(in_channels) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.in_channels}"

    def reset_parameters(self) -> None:
        """Reset every part."""
        reset(self)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Mix local and global messages."""
        check_inputs(x, graph, Graph, self.in_channels, self.norms[0].weight)  # type: ignore[arg-type]
        local = self.norms[0](x + self.dropout(self.conv(x, graph)))
        tokens = x if x.dim() > 2 else x.unsqueeze(0)
        attended = self.attention(tokens).view_as(x)
        both = local + self.norms[1](x + self.dropout(attended))
        return self.norms[2](both + self.mlp(both))
