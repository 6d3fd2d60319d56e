"""AllDeepSets and AllSetTransformer: networks of multiset functions (Chien et al., ICLR 2022)."""

from __future__ import annotations

import itertools
from typing import Any

from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn.hypergraph.all_set import AllDeepSetsConv, AllSetTransformerConv
from hgraph.nn.hypergraph.mlp import set_mlp
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Hypergraph

__all__ = ["AllDeepSets", "AllSetTransformer"]


class _AllSet(nn.Module):
    """Layers with ReLU and dropout after each, then an MLP that classifies."""

    layer: type[nn.Module]

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_layers: int = 1,
        classifier_channels: int | None = None,
        num_classifier_layers: int = 1,
        input_dropout: float = 0.2,
        dropout: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__()
        check_channels(in_channels=in_channels, hidden_channels=hidden_channels, num_classes=num_classes)
        self.in_channels = in_channels
        widths = [in_channels, *[hidden_channels] * num_layers]
        self.convs = nn.ModuleList(self.layer(a, b, dropout=dropout, **options) for a, b in itertools.pairwise(widths))
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)
        width = hidden_channels if classifier_channels is None else classifier_channels
        self.classifier = set_mlp(
            widths[-1], width, num_classes, num_classifier_layers, dropout=dropout, norm=True, input_norm=False
        )

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, next(self.parameters()))
        x = self.input_dropout(x)
        for conv in self.convs:
            x = self.dropout(conv(x, hypergraph).relu())
        return self.classifier(x)


class AllDeepSets(_AllSet):
    r"""`AllDeepSetsConv` layers with ReLU and dropout after each, then an MLP.

    Use it to classify nodes where the right aggregation over hyperedges is not known.

    .. math:: X^{(l+1)} = \mathrm{dropout}(\mathrm{ReLU}(\mathrm{conv}_l(X^{(l)}))), \qquad Z = \mathrm{MLP}(X^{(L)})

    Args:
        in_channels: F, input features per node.
        hidden_channels: features per node and hyperedge.
        num_classes: C.
        num_layers: L, number of layers; 0 leaves the classifier alone.
        classifier_channels: features inside the classifier; None takes ``hidden_channels``.
        num_classifier_layers: linear maps of the classifier.
        input_dropout: dropout probability of the input.
        dropout: dropout probability elsewhere.
        **options: further arguments of `AllDeepSetsConv`.

    Shapes:
        x [N, F] and a `Hypergraph` with N nodes -> logits [N, C].

    Source: Chien, Pan, Peng and Milenkovic, "You are AllSet", ICLR 2022.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> AllDeepSets(5, 8, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    layer = AllDeepSetsConv


class AllSetTransformer(_AllSet):
    r"""`AllSetTransformerConv` layers with ReLU and dropout after each, then an MLP.

    Use it to classify nodes where some nodes of a hyperedge matter more than others.

    .. math:: X^{(l+1)} = \mathrm{dropout}(\mathrm{ReLU}(\mathrm{conv}_l(X^{(l)}))), \qquad Z = \mathrm{MLP}(X^{(L)})

    Args:
        in_channels: F, input features per node.
        hidden_channels: features per node and hyperedge; divisible by ``num_heads``.
        num_classes: C.
        num_layers: L, number of layers; 0 leaves the classifier alone.
        classifier_channels: features inside the classifier; None takes ``hidden_channels``.
        num_classifier_layers: linear maps of the classifier.
        input_dropout: dropout probability of the input.
        dropout: dropout probability elsewhere.
        **options: further arguments of `AllSetTransformerConv`, such as ``num_heads``.

    Shapes:
        x [N, F] and a `Hypergraph` with N nodes -> logits [N, C].

    Source: Chien, Pan, Peng and Milenkovic, "You are AllSet", ICLR 2022.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> AllSetTransformer(5, 8, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    layer = AllSetTransformerConv
