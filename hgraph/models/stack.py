"""A network that stacks one kind of layer, for any layer over a graph or hypergraph."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn import registry
from hgraph.structure import Graph, Hypergraph

__all__ = ["Stack"]


class Stack(nn.Module):
    r"""Layers of one class, with ReLU and dropout between them.

    Use it to classify nodes with a layer whose paper defines no network.

    .. math:: X^{(l+1)} = \mathrm{dropout}(\mathrm{ReLU}(\mathrm{layer}_l(X^{(l)}))), \qquad
              Z = \mathrm{layer}_L(X^{(L-1)})

    Args:
        layer: a layer class ``layer(in_channels, out_channels)`` whose forward takes (x, structure), or its name in
            `hgraph.nn`.
        in_channels: F, input features per node.
        hidden_channels: features per node between the layers.
        num_classes: C, number of classes.
        num_layers: L, number of layers, at least 1.
        dropout: dropout probability of the features between the layers.
        **options: further arguments for each layer.

    Shapes:
        x [N, F] and a structure with N nodes -> logits [N, C].

    Raises:
        ArgumentError: there is no layer of that name, or a size is not positive.

    Source: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks", eq. 9. Most papers
    that define a layer use the same network.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> Stack("HGNNPConv", 5, 8, 2, num_layers=3)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        layer: type[nn.Module] | str,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_layers: int = 2,
        dropout: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__()
        check_channels(num_layers=num_layers, num_classes=num_classes)
        kind = registry.find(layer).load() if isinstance(layer, str) else layer
        channels = [in_channels, *[hidden_channels] * (num_layers - 1), num_classes]
        for i in range(num_layers):
            self.add_module(f"conv{i + 1}", kind(channels[i], channels[i + 1], **options))
        self.num_layers = num_layers
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, structure: Graph | Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        for i in range(1, self.num_layers):
            x = self.dropout(self.get_submodule(f"conv{i}")(x, structure).relu())
        return self.get_submodule(f"conv{self.num_layers}")(x, structure)
