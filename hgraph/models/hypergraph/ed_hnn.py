"""ED-HNN: equivariant hypergraph diffusion (Wang et al., ICLR 2023)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn.hypergraph.ed_hnn import EDHNNConv
from hgraph.nn.hypergraph.mlp import set_mlp
from hgraph.nn.inputs import check_inputs
from hgraph.structure import Hypergraph

__all__ = ["EDHNN"]


class EDHNN(nn.Module):
    r"""A linear map, one `EDHNNConv` applied L times, and an MLP.

    Use it to classify nodes; all L steps share their parameters.

    .. math:: X^0 = \mathrm{ReLU}(X \Theta + b), \qquad
              X^{l+1} = \mathrm{ReLU}(\mathrm{conv}(X^l, X^0)), \qquad Z = \mathrm{MLP}(X^L)

    Args:
        in_channels: F, input features per node.
        hidden_channels: features per node in all steps.
        num_classes: C.
        num_layers: L, how often the layer is applied.
        classifier_channels: features inside the classifier; None takes ``hidden_channels``.
        num_classifier_layers: linear maps of the classifier.
        dropout: dropout probability.
        norm: whether the MLPs use layer norm.
        **options: further arguments of `EDHNNConv`: ``num_mlp_layers``, ``alpha``, ``reduce``.

    Shapes:
        x [N, F] and a `Hypergraph` with N nodes -> logits [N, C].

    Source: Wang, Yang, Liu, Wang and Li, "Equivariant Hypergraph Diffusion Neural Operators", ICLR 2023.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> EDHNN(5, 8, 2, num_layers=3)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_layers: int = 1,
        classifier_channels: int | None = None,
        num_classifier_layers: int = 1,
        dropout: float = 0.5,
        norm: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        check_channels(num_classes=num_classes, num_layers=num_layers)
        self.num_layers = num_layers
        self.linear = nn.Linear(in_channels, hidden_channels)
        self.conv = EDHNNConv(hidden_channels, dropout=dropout, norm=norm, **options)
        width = hidden_channels if classifier_channels is None else classifier_channels
        self.classifier = set_mlp(
            hidden_channels,
            width,
            num_classes,
            num_classifier_layers,
            dropout=dropout,
            norm=norm,
            input_norm=False,
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Return the class logits of every node."""
        check_inputs(x, hypergraph, Hypergraph, self.linear.in_features, self.linear.weight)
        x = x0 = self.linear(self.dropout(x)).relu()
        for _ in range(self.num_layers):
            x = self.conv(self.dropout(x), hypergraph, x0).relu()
        return self.classifier(self.dropout(x))
