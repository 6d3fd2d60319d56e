"""LEGCN: a graph convolutional network over incidences (Yang, Wang, Yao and Abdelzaher, CIKM 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.cache import cached
from hgraph.checks import check_channels
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.ops.sparse.linear import edges_to_sources, edges_to_targets, rows, spmm
from hgraph.structure import Adjacency, Hypergraph

__all__ = ["LEGCN"]


class LEGCN(nn.Module):
    r"""Two convolutions over the line expansion: its nodes are the incidences (v, e).

    Use it where a node plays different roles in its hyperedges: each incidence has its own state.

    .. math:: Y' = D^{-1} (A + 2 I)\, Y \Theta + b

    where A joins incidences of the same node or of the same hyperedge. A row of A + 2 I sums all incidences of the
    node and all of the hyperedge, so the expansion, whose edges grow with the square of the degrees, is never built.
    Incidences start with the features of their node, and a node's logits are the mean of its incidences'.

    Args:
        in_channels: F, input features per node.
        hidden_channels: features per incidence between the convolutions.
        num_classes: C.
        dropout: dropout probability between the convolutions.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> logits [..., N, C]; 0 for a node without a hyperedge. Weights
        of the hypergraph are not read: the paper has none.

    Source: Yang, Wang, Yao and Abdelzaher, "Semi-supervised Hypergraph Node Classification on Hypergraph Line
    Expansion", CIKM 2022. The paper samples large groups; here none is sampled.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> LEGCN(5, 8, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        check_channels(in_channels=in_channels, hidden_channels=hidden_channels, num_classes=num_classes)
        self.in_channels = in_channels
        self.linear1 = nn.Linear(in_channels, hidden_channels, bias=False)
        self.linear2 = nn.Linear(hidden_channels, num_classes, bias=False)
        self.bias1 = nn.Parameter(torch.zeros(hidden_channels))
        self.bias2 = nn.Parameter(torch.zeros(num_classes))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.linear1.weight)
        e2v = hypergraph.e2v.with_weight(None)
        degree, size = cached(
            hypergraph, "counts", lambda: (e2v.indptr.diff().unsqueeze(-1), hypergraph.v2e.indptr.diff().unsqueeze(-1))
        )
        total = (degree[e2v.target] + size[e2v.indices]).to(x.dtype)  # [nnz, 1], the row sums of A + 2 I
        y = self.linear1(x)
        of_hyperedges = propagate(hypergraph.v2e.with_weight(None), y)
        y = _lifted(e2v, degree.to(y.dtype) * y, of_hyperedges) / total + self.bias1
        y = self.linear2(self.dropout(y.relu()))  # [..., nnz, C]
        at = rows(e2v)
        of_nodes, of_hyperedges = (spmm(sums(at), None, y) for sums in (edges_to_targets, edges_to_sources))
        y = _lifted(e2v, of_nodes, of_hyperedges) / total + self.bias2
        return spmm(edges_to_targets(at), None, y) / degree.clamp(min=1).to(y.dtype)


def _lifted(e2v: Adjacency, of_nodes: Tensor, of_hyperedges: Tensor) -> Tensor:
    """[..., nnz, D]: for every incidence the row of its node plus the row of its hyperedge."""
    return of_nodes.index_select(-2, e2v.target) + of_hyperedges.index_select(-2, e2v.indices)
