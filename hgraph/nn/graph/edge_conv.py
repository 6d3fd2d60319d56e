"""Edge convolution over a graph of nearest neighbors (Wang et al., ACM TOG 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn.inputs import check_inputs
from hgraph.nn.reset import reset
from hgraph.ops import aggregate, propagate
from hgraph.structure import Graph

__all__ = ["EdgeConv"]


class EdgeConv(nn.Module):
    r"""Maximum over the neighbors of a function of the node and of each neighbor's difference from it.

    Use it for point clouds, over `hgraph.builders.knn_graph`.

    .. math:: x'_i = \max_{j \in \mathcal N(i)} h(x_i, x_j - x_i), \qquad
              h(x_i, x_j - x_i) = \mathrm{ReLU}(\Theta (x_j - x_i) + \Phi x_i + b)

    ReLU and maximum commute, so no message per edge is computed. With ``mlp``, h is that module applied to the
    concatenation :math:`[x_i \,\Vert\, x_j - x_i]` of every edge: in chunks of edges, or at once if it has a batch
    norm. A node without neighbors gets 0. Edge weights are ignored.

    Args:
        in_channels: F, features of a node.
        out_channels: F'.
        mlp: a module from 2 F to F' channels, or None.

    Shapes:
        x [..., N, F] and a `Graph` of N nodes -> [..., N, F'].

    Source: Wang et al., "Dynamic Graph CNN for Learning on Point Clouds", ACM Transactions on Graphics 2019, eq. 7
    and 8.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> EdgeConv(4, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, *, mlp: nn.Module | None = None) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels, self.mlp = in_channels, out_channels, mlp
        self._batch_norm = mlp is not None and any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in mlp.modules()
        )
        self.linear = nn.Linear(in_channels, out_channels, bias=False) if mlp is None else None
        self.target_linear = nn.Linear(in_channels, out_channels) if mlp is None else None

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_channels}, {self.out_channels}"

    def reset_parameters(self) -> None:
        """Reset every linear map."""
        reset(self)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Take the maximum over the neighbors."""
        check_inputs(x, graph, Graph, self.in_channels, next(self.parameters(), x))
        adj = graph.adj.with_weight(None)
        if self.linear is None or self.target_linear is None:
            return aggregate(adj, self._message, target=x, source=x, reduce="max", chunked=not self._batch_norm)
        key = self.linear(x)
        there = (adj.indptr.diff() > 0).unsqueeze(-1)
        own = self.target_linear(x) - key  # the difference: Theta x_i is subtracted from every neighbor
        return (propagate(adj, key, reduce="max") + own).relu().where(there, 0.0)

    def _message(self, target: Tensor, source: Tensor) -> Tensor:
        assert self.mlp is not None  # noqa: S101 - only called then
        return self.mlp(torch.cat([target, source - target], -1))
