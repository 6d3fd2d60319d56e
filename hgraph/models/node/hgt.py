"""HGT: heterogeneous graph transformer (Hu et al., WWW 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn import HGTConv
from hgraph.nn.graph.by_type import TypeLinear, inputs_by_type, map_by_type, types_of
from hgraph.nn.inputs import check_inputs
from hgraph.structure import KnowledgeGraph

__all__ = ["HGT"]


class HGT(nn.Module):
    r"""A linear map per node type, `HGTConv` layers, and a linear classifier.

    Use it for node labels on graphs with several node and edge types.

    .. math:: X_0 = \mathrm{GELU}(W_\tau X + b_\tau), \qquad X_l = \mathrm{HGT}_l(X_{l-1}), \qquad Z = X_L W + b

    with :math:`\tau` the type of each node.

    Args:
        in_channels: F, features of a node, or a list of the widths F_t, one per node type.
        hidden_channels: width of the layers, a multiple of ``num_heads``.
        num_classes: C.
        num_relations: R.
        num_types: number of node types. The default is one per width, or 1 for a single width, which ignores types.
        num_heads: number of heads of each layer.
        num_layers: L.
        dropout: probability, on the input of each layer.

    Shapes:
        x [N, F] and a `KnowledgeGraph` of N nodes and R relations -> logits [N, C]. With one width per type, x is a
        list of [N_t, F_t]: row n of x[t] belongs to the n-th node of type t.

    Raises:
        ArgumentError: features of the wrong width, or a graph with a different number of relations or with more types.

    Source: Hu et al., "Heterogeneous Graph Transformer", section 3, without the relative temporal encoding.

    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "s", "c")])
    >>> HGT(4, 8, 2, num_relations=2, num_heads=2)(torch.randn(3, 4), kg).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        hidden_channels: int,
        num_classes: int,
        *,
        num_relations: int,
        num_types: int | None = None,
        num_heads: int = 8,
        num_layers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        num_types = types_of(num_types, in_channels)
        check_channels(num_classes=num_classes, num_layers=num_layers, num_types=num_types)
        super().__init__()
        self.num_relations = num_relations
        self.input = None if isinstance(in_channels, int) else TypeLinear(in_channels, hidden_channels)
        if isinstance(in_channels, int):
            check_channels(in_channels=in_channels, hidden_channels=hidden_channels)
            self.weight = nn.Parameter(torch.empty(num_types, in_channels, hidden_channels))
            self.bias = nn.Parameter(torch.empty(num_types, hidden_channels))
        self.convs = nn.ModuleList(
            HGTConv(hidden_channels, num_relations, num_types=num_types, num_heads=num_heads) for _ in range(num_layers)
        )
        self.out = nn.Linear(hidden_channels, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform per matrix; zero biases of the types."""
        if self.input is None:
            for matrix in self.weight.data:
                nn.init.xavier_uniform_(matrix)
            nn.init.zeros_(self.bias)
        for module in (self.input, *self.convs, self.out):
            if module is not None:
                module.reset_parameters()

    def forward(self, x: Tensor | Sequence[Tensor], structure: KnowledgeGraph) -> Tensor:
        """Class logits of every node."""
        if self.input is None:
            check_inputs(x, structure, KnowledgeGraph, self.weight.shape[1], self.weight)
        x = inputs_by_type(x, structure, self.input)
        if structure.num_relations != self.num_relations:
            raise ArgumentError(
                "structure", f"{self.num_relations} relations, as in the network", structure.num_relations
            )
        x = F.gelu(x if self.input is not None else map_by_type(structure, x, self.weight, self.bias))
        for conv in self.convs:
            x = conv(self.dropout(x), structure)
        return self.out(x)
