"""AllDeepSets and AllSetTransformer layers (Chien, Pan, Peng and Milenkovic, ICLR 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.log_weight import log_weight
from hgraph.nn.hypergraph.mlp import set_mlp
from hgraph.nn.hypergraph.two_step import TwoStepLayer, weighted_e2v
from hgraph.nn.inputs import check_inputs
from hgraph.nn.reset import reset
from hgraph.ops import Additive, attend, propagate
from hgraph.structure import Adjacency, Hypergraph

__all__ = ["AllDeepSetsConv", "AllSetTransformerConv"]


class AllDeepSetsConv(TwoStepLayer):
    r"""Two deep sets: each hyperedge encodes the set of its nodes, then each node the set of its hyperedges.

    Use it where the right aggregation is not known: both steps learn one.

    .. math:: z_e = f_{V \to E}(\{x_v\}), \qquad x'_v = f_{E \to V}(\{z_e\}), \qquad
              f(S) = \mathrm{ReLU}\Big(\mathrm{MLP}\Big(\sum_{s \in S} n_s\, \mathrm{ReLU}(\mathrm{MLP}(s))\Big)\Big)

    The weights n are :math:`h(v, e)` in the first step and :math:`w_e h(v, e)` in the second.

    Args:
        in_channels: F, input features per node.
        out_channels: F', output features per node, and features per hyperedge.
        hidden_channels: features inside the MLPs; None takes F'.
        num_mlp_layers: linear maps in each of the four MLPs.
        dropout: dropout probability inside and between the steps.
        norm: whether the MLPs use layer norm.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, F'].

    Source: Chien, Pan, Peng and Milenkovic, "You are AllSet: A Multiset Function Framework for Hypergraph Neural
    Networks", ICLR 2022.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> AllDeepSetsConv(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int | None = None,
        num_mlp_layers: int = 2,
        dropout: float = 0.5,
        norm: bool = True,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        hidden = out_channels if hidden_channels is None else hidden_channels

        def mlp(channels: int) -> nn.Sequential:
            return set_mlp(channels, hidden, out_channels, num_mlp_layers, dropout=dropout, norm=norm)

        self.encode_nodes, self.decode_hyperedges = mlp(in_channels), mlp(out_channels)
        self.encode_hyperedges, self.decode_nodes = mlp(out_channels), mlp(out_channels)
        self.dropout = nn.Dropout(dropout)

    @staticmethod
    def operators(hypergraph: Hypergraph) -> tuple[Adjacency, Adjacency]:
        """Return both weighted sums."""
        return hypergraph.v2e, weighted_e2v(hypergraph)

    def reset_parameters(self) -> None:
        """Reset all MLPs."""
        reset(self)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Encode the set of nodes of each hyperedge, then the set of hyperedges of each node."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, next(self.parameters(), x))
        steps = self.steps(x, hypergraph)
        z = self.decode_hyperedges(propagate(steps.gather, self.dropout(self.encode_nodes(x).relu()))).relu()
        z = self.dropout(z)
        return self.decode_nodes(propagate(steps.scatter, self.dropout(self.encode_hyperedges(z).relu()))).relu()


class AllSetTransformerConv(nn.Module):
    r"""Two attention poolings: each hyperedge over its nodes, then each node over its hyperedges.

    Use it as `AllDeepSetsConv`, where some elements of a set matter more than others.

    .. math:: O_e = \theta + \sum_{v \in e} \mathrm{softmax}_v\big(\mathrm{LeakyReLU}(\langle \theta, K x_v \rangle)
              + \log h(v, e)\big)\, V x_v, \qquad Y = \mathrm{LN}(O), \qquad
              z = \mathrm{LN}(Y + \mathrm{ReLU}(\mathrm{MLP}(Y)))

    per head, with a learned query :math:`\theta`; back to the nodes the same with other parameters and
    :math:`\log w_e h(v, e)`.

    Args:
        in_channels: F, input features per node.
        out_channels: F', output features per node, and features per hyperedge; divisible by ``num_heads``.
        num_heads: H.
        num_mlp_layers: linear maps in each of the two MLPs.
        dropout: dropout probability of the hyperedges between the two steps.
        negative_slope: slope of the LeakyReLU.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, F'].

    Raises:
        ArgumentError: heads that do not divide F', a wrong shape, or negative weights.

    Source: Chien, Pan, Peng and Milenkovic, "You are AllSet: A Multiset Function Framework for Hypergraph Neural
    Networks", ICLR 2022, with the LeakyReLU on the scores and the ReLU after the MLP of its published code.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> AllSetTransformerConv(5, 4, num_heads=2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_heads: int = 4,
        num_mlp_layers: int = 2,
        dropout: float = 0.5,
        negative_slope: float = 0.2,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels, num_heads=num_heads)
        if out_channels % num_heads:
            raise ArgumentError("num_heads", f"a divisor of out_channels = {out_channels}", num_heads)
        super().__init__()
        self.in_channels, self.out_channels, self.num_heads = in_channels, out_channels, num_heads
        self.to_hyperedges = _Pooling(in_channels, out_channels, num_heads, num_mlp_layers, negative_slope)
        self.to_nodes = _Pooling(out_channels, out_channels, num_heads, num_mlp_layers, negative_slope)
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """Reset both poolings."""
        self.to_hyperedges.reset_parameters()
        self.to_nodes.reset_parameters()

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Pool the nodes of each hyperedge, then the hyperedges of each node."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.to_hyperedges.key.weight)
        v2e, e2v = hypergraph.v2e, hypergraph.e2v
        of_nodes = log_weight(hypergraph, x.dtype, of_hyperedges=False)
        z = self.to_hyperedges(x, v2e, None if of_nodes is None else of_nodes[e2v.perm])
        return self.to_nodes(self.dropout(z.relu()), e2v, log_weight(hypergraph, x.dtype))


class _Pooling(nn.Module):
    """Multihead attention of one learned query per head to the sources of each target."""

    def __init__(self, in_channels: int, out_channels: int, heads: int, num_mlp_layers: int, slope: float) -> None:
        super().__init__()
        self.slope, self.heads = slope, heads
        self.key = nn.Linear(in_channels, out_channels)
        self.value = nn.Linear(in_channels, out_channels)
        self.query = nn.Parameter(torch.empty(heads, out_channels // heads))
        self.norm = nn.LayerNorm(out_channels)
        self.mlp = set_mlp(out_channels, out_channels, out_channels, num_mlp_layers, dropout=0.0, norm=False)
        self.last_norm = nn.LayerNorm(out_channels)
        nn.init.xavier_uniform_(self.query)

    def reset_parameters(self) -> None:
        reset(self)
        nn.init.xavier_uniform_(self.query)

    def forward(self, x: Tensor, adj: Adjacency, bias: Tensor | None) -> Tensor:
        key, value = (t.unflatten(-1, (self.heads, -1)) for t in (self.key(x), self.value(x)))
        query = self.query.to(value.dtype)
        score = (key * query).sum(-1)  # [..., S, H]: does not depend on the target
        zeros = score.new_zeros((*score.shape[:-2], adj.num_targets, self.heads))
        out = attend(adj, zeros, score, value, score=Additive(slope=self.slope), bias=bias).out
        y = self.norm((out + query).flatten(-2))
        return self.last_norm(y + F.relu(self.mlp(y)))
