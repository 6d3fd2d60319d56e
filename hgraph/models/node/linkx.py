"""LINKX: an MLP of the rows of the adjacency matrix and of the features (Lim et al., NeurIPS 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.mlp import set_mlp
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import Graph

__all__ = ["LINKX"]


class LINKX(nn.Module):
    r"""Combine an MLP of a node's adjacency row (one learned vector per neighbor) with an MLP of its features.

    Use it on graphs where neighbors often have different labels. Its vectors belong to the nodes of one graph, so it
    cannot predict on other graphs.

    .. math:: h_A = \mathrm{MLP}_A(A), \qquad h_X = \mathrm{MLP}_X(X), \qquad
              Z = \mathrm{MLP}_f\big(\mathrm{ReLU}(W [h_A \Vert h_X] + h_A + h_X)\big)

    The first map of :math:`\mathrm{MLP}_A` is a sparse sum of vectors.

    Args:
        in_channels: F, features of a node.
        hidden_channels: D.
        num_classes: C.
        num_nodes: N, the number of nodes of the graph.
        num_layers: linear maps of the last MLP.
        dropout: probability, inside the last MLP.

    Shapes:
        x [N, F] and a `Graph` of N nodes -> logits [N, C].

    Raises:
        ArgumentError: the graph does not have ``num_nodes`` nodes.

    Source: Lim et al., "Large Scale Learning on Non-Homophilous Graphs: New Benchmarks and Strong Simple Methods",
    NeurIPS 2021, eq. 3 and 4, with one linear map in the first two MLPs.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> LINKX(4, 8, 2, num_nodes=3)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_nodes: int,
        num_layers: int = 2,
        dropout: float = 0.5,
    ) -> None:
        check_channels(in_channels=in_channels, hidden_channels=hidden_channels, num_classes=num_classes)
        check_channels(num_nodes=num_nodes, num_layers=num_layers)
        super().__init__()
        self.neighbors = nn.Parameter(torch.empty(num_nodes, hidden_channels))
        nn.init.kaiming_uniform_(self.neighbors.T, a=5**0.5)  # a linear map of the N columns of A
        self.neighbor_bias = nn.Parameter(torch.zeros(hidden_channels))
        self.linear = nn.Linear(in_channels, hidden_channels)
        self.mixed = nn.Linear(2 * hidden_channels, hidden_channels)
        self.out = set_mlp(hidden_channels, hidden_channels, num_classes, num_layers, dropout=dropout, norm=False)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, graph, Graph, self.linear.in_features, self.linear.weight)
        if graph.num_nodes != len(self.neighbors):
            raise ArgumentError("graph", f"num_nodes={len(self.neighbors)} nodes", f"{graph.num_nodes} nodes")
        h_a = propagate(graph.adj, self.neighbors.to(x.dtype)) + self.neighbor_bias.to(x.dtype)
        h_x = self.linear(x)
        h_a = h_a.expand_as(h_x)  # a batch shares the graph
        return self.out((self.mixed(torch.cat([h_a, h_x], -1)) + h_a + h_x).relu())
