"""H2GCN: a network for graphs where neighbors tend to have different labels (Zhu et al., NeurIPS 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.cache import cached
from hgraph.checks import check_channels
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Graph

__all__ = ["H2GCN"]


class H2GCN(nn.Module):
    r"""Aggregate the neighbors at distance one and at distance two separately in every round, and concatenate.

    Use it on graphs where neighbors often have different labels.

    .. math:: R^0 = \mathrm{ReLU}(X \Theta_0), \qquad
              R^{k} = [\bar A_1 R^{k-1} \Vert \bar A_2 R^{k-1}], \qquad
              Z = [R^0 \Vert \dots \Vert R^K] \Theta

    with :math:`\bar A_1` and :math:`\bar A_2` the symmetrically normalized graphs of nodes at distance 1 and 2, without
    self-loops. Edge weights are ignored. The second graph is computed once per graph; around nodes of high degree it
    is large.

    Args:
        in_channels: F, features of a node.
        hidden_channels: features of a node in the first round.
        num_classes: C.
        num_layers: K, number of rounds; the width doubles in each.
        dropout: probability, before the last map.

    Shapes:
        x [N, F] and a `Graph` of N nodes -> logits [N, C].

    Source: Zhu et al., "Beyond Homophily in Graph Neural Networks: Current Limitations and Effective Designs",
    NeurIPS 2020, section 3.2.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> H2GCN(4, 8, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, num_classes: int, *, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        check_channels(in_channels=in_channels, hidden_channels=hidden_channels, num_classes=num_classes)
        check_channels(num_layers=num_layers)
        super().__init__()
        self.num_layers = num_layers
        self.linear = nn.Linear(in_channels, hidden_channels, bias=False)
        self.out = nn.Linear((2 ** (num_layers + 1) - 1) * hidden_channels, num_classes, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, graph, Graph, self.linear.in_features, self.linear.weight)
        dtype = torch.promote_types(x.dtype, torch.float32)
        near, far = cached(graph, ("distance 1 and 2", dtype), lambda: _rings(graph.adj, dtype))
        rounds = [self.linear(x).relu()]
        for _ in range(self.num_layers):
            rounds.append(torch.cat([propagate(near, rounds[-1]), propagate(far, rounds[-1])], -1))
        return self.out(self.dropout(torch.cat(rounds, -1)))


def _rings(adj: Adjacency, dtype: torch.dtype) -> tuple[Adjacency, Adjacency]:
    """The normalized graphs of distance 1 and 2, without self-loops and repeats."""
    adj = adj.with_weight(None)
    each = torch.arange(adj.num_targets, device=adj.device)
    loops = Adjacency.from_coo(target=each, source=each, num_targets=len(each), num_sources=len(each))
    near = adj.reach(1) - loops
    far = adj.reach(2) - (near | loops)
    return near.normalize("sym", dtype=dtype), far.normalize("sym", dtype=dtype)
