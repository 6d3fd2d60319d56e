"""HyperGCN: a graph network on a few edges per hyperedge (Yadati et al., NeurIPS 2019)."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

from torch import Tensor, nn

from hgraph.cache import cached_for
from hgraph.checks import check_channels
from hgraph.models.hypergraph.mediators import mediator_graph
from hgraph.nn import GCNConv
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Graph, Hypergraph

__all__ = ["HyperGCN"]


class HyperGCN(nn.Module):
    r"""`GCNConv` layers on the `mediator_graph` of the input features, with ReLU and dropout between them.

    Use it where hyperedges are large: a hyperedge of d nodes costs 2 d - 3 edges.

    .. math:: X^{(l+1)} = \mathrm{dropout}(\mathrm{ReLU}(\mathrm{GCN}_l(X^{(l)}))), \qquad Z = \mathrm{GCN}_L(X^{(L)})

    Args:
        in_channels: F, input features per node.
        hidden_channels: features per node between the layers.
        num_classes: C.
        num_layers: L.
        mediators: whether the other nodes of a hyperedge get edges, too.
        dropout: dropout probability of the features between the layers.
        seed: seed of the projection that chooses the edges.

    Shapes:
        x [N, F] and a `Hypergraph` with N nodes -> logits [N, C]. The graph is built on the first call and kept while
        the same features and hypergraph are passed.

    Source: Yadati et al., "HyperGCN: A New Method of Training Graph Convolutional Networks on Hypergraphs", NeurIPS
    2019, in its fast form; the other form builds a graph from the hidden features in every layer.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HyperGCN(5, 8, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_layers: int = 2,
        mediators: bool = True,
        dropout: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_channels(num_layers=num_layers, num_classes=num_classes)
        self.in_channels, self.mediators, self.seed = in_channels, mediators, seed
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), num_classes]
        self.convs = nn.ModuleList(GCNConv(a, b) for a, b in itertools.pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.convs[0].linear.weight)  # type: ignore[union-attr, arg-type]
        graph = self._graph(x, hypergraph)
        for conv in self.convs[:-1]:
            x = self.dropout(conv(x, graph).relu())
        return self.convs[-1](x, graph)

    def _graph(self, x: Tensor, hypergraph: Hypergraph) -> Graph:
        options: dict[str, Any] = {"mediators": self.mediators, "seed": self.seed}
        build = partial(mediator_graph, hypergraph, x.detach(), **options)
        return cached_for(hypergraph, x, ("mediators", *options.values()), build)
