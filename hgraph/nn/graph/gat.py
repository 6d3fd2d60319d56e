"""Graph attention (Velickovic et al., ICLR 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.graph._steps import (
    GlorotLinear,
    add_bias,
    attend_by,
    check_edges,
    load_older,
    missing_loops,
    with_self_loops,
)
from hgraph.nn.inputs import check_ends, ends_of, pair_of
from hgraph.ops import Additive, AttendResult, aggregate, attend, merge
from hgraph.ops.sparse.linear import upcast
from hgraph.structure import Adjacency, Graph

__all__ = ["GATConv"]


class GATConv(nn.Module):
    r"""Attend over a node and its neighbors with an additive score.

    Use it when some neighbors matter more than others, and with ``edge_channels`` when edge features tell which ones.

    .. math:: s_{ij} = \mathrm{LeakyReLU}(a_t \cdot \Theta x_i + a_s \cdot \Theta x_j + a_e \cdot W_e e_{ij}), \qquad
              \alpha_{ij} = \operatorname{softmax}_{j \in \mathcal N(i) \cup \{i\}} s_{ij}, \qquad
              x'_i = \sum_j \alpha_{ij} \Theta x_j + b

    per head, without the last term of the score if edges have no features. Every node attends to itself, whether or not
    the graph has a self-loop; added self-loops have edge features 0. Edge weights are ignored. The features of an edge
    enter only its scores: :math:`W_e^\top a_e` is computed first, so an edge stores H numbers.

    Between nodes of two kinds, ``in_channels=(F_s, F_t)``, sources and targets have separate maps
    (:math:`a_t \cdot \Theta_t x_i`), and no node attends to itself.

    Args:
        in_channels: F, features of a node, or a pair: of a source and of a target.
        out_channels: F', features per head.
        num_heads: number of heads H.
        concat: True concatenates the heads (H * F' channels), False averages them (F' channels).
        dropout: of the attention weights, in training.
        negative_slope: negative slope of the LeakyReLU.
        bias: whether to add b at the end.
        edge_channels: D, features of an edge, or None.

    Shapes:
        x [..., N, F], a `Graph` of N nodes and E edges, and ``edge_features`` [E, D] or [..., E, D] in the order of
        the edges (``graph.sort_edges``) -> [..., N, H * F'] or [..., N, F'].

        With a pair: (x_source [..., S, F_s], x_target [..., T, F_t]) and an `Adjacency` T x S -> [..., T, H * F'] or
        [..., T, F'].

    Raises:
        ArgumentError: features of the wrong width, or edge features that are missing or unexpected.

    Source: Velickovic et al., "Graph Attention Networks", eq. 1 to 6. The term of the edges: Lv et al., "Are we really
    making much progress? Revisiting, benchmarking and refining heterogeneous graph neural networks", KDD 2021: the
    attention of Simple-HGN, with features of the edge in place of an embedding of its type.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GATConv(4, 2, num_heads=3)(torch.randn(3, 4), g).shape
    torch.Size([3, 6])
    >>> GATConv(4, 2, edge_channels=5)(torch.randn(3, 4), g, torch.randn(g.num_edges, 5)).shape
    torch.Size([3, 2])
    >>> bought = Adjacency.from_coo(target=[0, 0, 1], source=[0, 2, 1], num_targets=2, num_sources=3)
    >>> GATConv((4, 6), 2)((torch.randn(3, 4), torch.randn(2, 6)), bought).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        *,
        num_heads: int = 1,
        concat: bool = True,
        dropout: float = 0.0,
        negative_slope: float = 0.2,
        bias: bool = True,
        edge_channels: int | None = None,
    ) -> None:
        pair = pair_of(in_channels)
        width = ends_of(in_channels)[0]
        check_channels(in_channels=width, out_channels=out_channels)
        if edge_channels is not None:
            check_channels(edge_channels=edge_channels)
        super().__init__()
        self.in_channels: int | tuple[int, int] = pair or width
        self.out_channels, self.edge_channels = out_channels, edge_channels
        if num_heads < 1:
            raise ArgumentError("num_heads", "at least 1", num_heads)
        self.num_heads, self.concat, self.dropout, self.negative_slope = num_heads, concat, dropout, negative_slope
        self.linear = GlorotLinear(width, num_heads * out_channels)
        self.target_linear = GlorotLinear(pair[1], num_heads * out_channels) if pair else None
        self.edge_linear = None if edge_channels is None else GlorotLinear(edge_channels, num_heads * out_channels)
        self.target_score = nn.Parameter(torch.empty(num_heads, out_channels))
        self.source_score = nn.Parameter(torch.empty(num_heads, out_channels))
        self.edge_score = None if edge_channels is None else nn.Parameter(torch.empty(num_heads, out_channels))
        self.bias = nn.Parameter(torch.empty(num_heads * out_channels if concat else out_channels)) if bias else None
        self.register_load_state_dict_pre_hook(load_older)
        self._reset_scores()

    def extra_repr(self) -> str:
        """The sizes."""
        edges = "" if self.edge_channels is None else f", edge_channels={self.edge_channels}"
        return f"{self.in_channels}, {self.out_channels}, num_heads={self.num_heads}, concat={self.concat}{edges}"

    def reset_parameters(self) -> None:
        """Glorot-uniform weights and attention vectors, zero bias."""
        for linear in (self.linear, self.target_linear, self.edge_linear):
            if linear is not None:
                linear.reset_parameters()
        self._reset_scores()

    def _reset_scores(self) -> None:
        for parameter in (self.target_score, self.source_score, self.edge_score):
            if parameter is not None:
                nn.init.xavier_uniform_(parameter)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, x: Tensor | tuple[Tensor, Tensor], graph: Graph | Adjacency, edge_features: Tensor | None = None
    ) -> Tensor:
        """Attend over the graph."""
        loops: Tensor | None = None
        bias: Tensor | None = None
        adj, x_source, x_target = check_ends(x, graph, self.in_channels, self.linear.weight)
        value = self.linear(x_source)  # [..., S, H * F']
        query, key = self._scores_of(value)  # [..., N, H] each
        if self.target_linear is not None:
            query = self._scores_of(self.target_linear(x_target))[0]
        elif isinstance(graph, Graph):
            if self.edge_linear is None:
                adj, bias, loops = with_self_loops(graph, x_source.dtype)
            else:  # added edges would need features: the loops are attended to separately
                loops = missing_loops(graph)
        value = value.unflatten(-1, (self.num_heads, -1))
        result = self._attend(adj, query, key, value, self._of_edges(adj, edge_features), bias)
        if loops is not None:
            result = merge(result, self._attend_self(query, key, value, loops))
        out = result.out.flatten(-2) if self.concat or self.num_heads == 1 else result.out.mean(-2)
        return add_bias(out, self.bias)

    def _attend(
        self, adj: Adjacency, query: Tensor, key: Tensor, value: Tensor, edges: Tensor | None, bias: Tensor | None
    ) -> AttendResult:
        dropout = self.dropout if self.training else 0.0
        if edges is None:
            additive = Additive(slope=self.negative_slope)
            return attend(adj, query, key, value, score=additive, bias=bias, dropout=dropout)
        score = lambda q, k, e: F.leaky_relu(q + k + e, self.negative_slope)  # noqa: E731
        query, key, edges = upcast(query), upcast(key), upcast(edges)
        scores = aggregate(adj, score, target=query, source=key, edge=edges, reduce="none")
        return attend_by(adj, scores, value, dropout=dropout)

    def _of_edges(self, adj: Adjacency, edge_features: Tensor | None) -> Tensor | None:
        """The term of the edges in their scores, [..., E, H]."""
        check_edges(edge_features, adj, self.edge_channels)
        if edge_features is None or self.edge_linear is None or self.edge_score is None:
            return None
        weight = self.edge_linear.weight.unflatten(0, (self.num_heads, -1))  # [H, F', D]
        vector = (weight * self.edge_score.unsqueeze(-1)).sum(1)  # [H, D]: W_e^T a_e, before any edge is read
        return F.linear(edge_features, vector.to(edge_features.dtype))

    def _scores_of(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of mapped rows [..., N, H * F'] as targets and as sources, [..., N, H] each."""
        target, source = (value @ self._scores().to(value.dtype)).chunk(2, -1)
        return target, source

    def _scores(self) -> Tensor:
        """The attention vectors as a matrix [H * F', 2 H]: one product gives the scores of all heads and both roles."""
        each = torch.stack([self.target_score, self.source_score], -1).unsqueeze(-1)  # [H, F', 2, 1]
        heads = torch.eye(self.num_heads, dtype=each.dtype, device=each.device)
        return (each * heads[:, None, None]).view(-1, 2 * self.num_heads)

    def _attend_self(self, query: Tensor, key: Tensor, value: Tensor, self_loop: Tensor) -> AttendResult:
        """Attention of each node to itself only: a separate edge set, empty where the graph has the self-loop."""
        score = F.leaky_relu(upcast(query) + upcast(key), self.negative_slope)  # as in attend: both results are merged
        weight = F.dropout(torch.ones_like(query), self.dropout, self.training)
        score = torch.where(self_loop.unsqueeze(-1), score, float("-inf"))
        return AttendResult(weight.unsqueeze(-1) * value, score)
