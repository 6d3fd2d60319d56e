"""UniGAT convolution (Huang and Yang, IJCAI 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn.hypergraph.hgnnp import HGNNPConv
from hgraph.nn.hypergraph.log_weight import log_weight
from hgraph.nn.hypergraph.two_step import steps_of
from hgraph.nn.inputs import check_inputs
from hgraph.ops import Additive, attend, propagate
from hgraph.structure import Hypergraph

__all__ = ["UniGATConv"]


class UniGATConv(nn.Module):
    r"""Average the nodes of each hyperedge, then attend from each node to its hyperedges.

    Use it as the counterpart of `GATConv` for hypergraphs.

    .. math:: h_e = \sum_u \frac{h(u, e)}{d_e} \Theta x_u, \qquad
              \alpha_{ve} = \mathrm{softmax}_{e \ni v}\big(\mathrm{LeakyReLU}(a_1^\top \Theta x_v + a_2^\top h_e)
              + \log w_e h(v, e)\big), \qquad x'_v = \sum_e \alpha_{ve} h_e

    per head, with :math:`d_e = \sum_v h(v, e)`. A node without a hyperedge gets 0. The paper has no weights w and h;
    with all of them equal to 1 the two agree.

    Args:
        in_channels: F, input features per node.
        out_channels: F', output features per head.
        num_heads: H.
        concat: whether to concatenate the heads, else their mean is returned.
        negative_slope: slope of the LeakyReLU.
        dropout: dropout probability of the attention weights.
        skip: whether to add :math:`\Theta x_v` to the result.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, H * F'], or [..., N, F'] without ``concat``.

    Raises:
        ArgumentError: fewer than one head, a wrong shape, or negative weights.

    Source: Huang and Yang, "UniGNN: a Unified Framework for Graph and Hypergraph Neural Networks", IJCAI 2021,
    section 3. Its published code leaves the term of the node out of the score.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> UniGATConv(5, 2, num_heads=3)(torch.randn(4, 5), hg).shape
    torch.Size([4, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        skip: bool = False,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels, num_heads=num_heads)
        super().__init__()
        self.in_channels, self.out_channels, self.num_heads = in_channels, out_channels, num_heads
        self.concat, self.negative_slope, self.dropout, self.skip = concat, negative_slope, dropout, skip
        self.linear = nn.Linear(in_channels, num_heads * out_channels, bias=False)
        self.node_score = nn.Parameter(torch.empty(num_heads, out_channels))
        self.hyperedge_score = nn.Parameter(torch.empty(num_heads, out_channels))
        self._reset_scores()

    def reset_parameters(self) -> None:
        """Reset the linear map as `torch.nn.Linear` does; Glorot-uniform attention vectors."""
        self.linear.reset_parameters()
        self._reset_scores()

    def _reset_scores(self) -> None:
        nn.init.xavier_uniform_(self.node_score)
        nn.init.xavier_uniform_(self.hyperedge_score)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Average to the hyperedges, then attend to them."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear.weight)
        y = self.linear(x)
        gathered = propagate(steps_of(HGNNPConv, x, hypergraph).gather, y)
        nodes, value = (t.unflatten(-1, (self.num_heads, -1)) for t in (y, gathered))  # [..., N or M, H, F']
        query = (nodes * self.node_score.to(y.dtype)).sum(-1)
        key = (value * self.hyperedge_score.to(y.dtype)).sum(-1)
        score, bias = Additive(slope=self.negative_slope), log_weight(hypergraph, y.dtype)
        dropout = self.dropout if self.training else 0.0
        out = attend(hypergraph.e2v, query, key, value, score=score, bias=bias, dropout=dropout).out
        out = out + nodes if self.skip else out
        return out.flatten(-2) if self.concat else out.mean(-2)
