"""`GraphClassifier`: a node network followed by a readout, for one output per graph or hypergraph of a batch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hgraph.data.items import items_of
from hgraph.nn.readout import Readout
from hgraph.nn.reset import reset
from hgraph.structure import Adjacency, Graph, Hypergraph

__all__ = ["GraphClassifier"]


class GraphClassifier(nn.Module):
    r"""Classify whole graphs or hypergraphs: a readout reduces the network's outputs over the nodes of each example.

    Use it with any network of (x, structure). The network of the GIN paper is a `Stack` of `GINConv` with
    ``jump="cat"`` and the sum.

    .. math:: z_b = \operatorname{reduce}_{i \in b} f(X, G)_i

    Args:
        network: f, a module that returns one output per class for each node, [N, C].
        readout: ``"sum"``, ``"mean"``, ``"max"``, or a module of (x, items) such as `hgraph.nn.readout.Set2Set`.

    Shapes:
        x [N, F], a structure with N nodes, and items, an `Adjacency` of B examples by N nodes (None is one example of
        all nodes) -> [B, C].

    Source: Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019, section 4.2.

    >>> from hgraph.models import Stack
    >>> graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> GraphClassifier(Stack("GINConv", 5, 8, 2, jump="cat"))(torch.randn(3, 5), graph).shape
    torch.Size([1, 2])
    """

    def __init__(self, network: nn.Module, readout: Literal["sum", "mean", "max"] | nn.Module = "sum") -> None:
        super().__init__()
        self.network = network
        self.readout = readout if isinstance(readout, nn.Module) else Readout(readout)

    def reset_parameters(self) -> None:
        """Reset the network and the readout."""
        reset(self)

    def forward(self, x: Tensor, structure: Graph | Hypergraph, items: Adjacency | None = None) -> Tensor:
        """Return the logits of every example."""
        if items is None:
            items = items_of(torch.zeros(structure.num_nodes, dtype=torch.long, device=structure.device), 1)
        out: Tensor = self.readout(self.network(x, structure), items)
        return out
