"""RGCN: two-layer relational graph convolutional network (Schlichtkrull et al., ESWC 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from hgraph.nn import RGCNConv
from hgraph.structure import KnowledgeGraph

__all__ = ["RGCN"]


class RGCN(nn.Module):
    r"""Two `RGCNConv` layers with ReLU between them.

    Use it for node labels on graphs with several edge types.

    .. math:: Z = \mathrm{RGCN}_2(\mathrm{ReLU}(\mathrm{RGCN}_1(X)))

    Args:
        in_channels: F, features of a node. If nodes have none, use a learned embedding.
        hidden_channels: width of the first layer.
        num_classes: C.
        num_relations: R; the paper's graphs contain inverse triples (`KnowledgeGraph.with_inverses`).
        num_bases: number of basis matrices shared by the relations, or None for one matrix per relation.
        dropout: probability, on the features before each layer.

    Shapes:
        x [N, F] and a `KnowledgeGraph` of N nodes and R relations -> logits [N, C].

    Source: Schlichtkrull et al., "Modeling Relational Data with Graph Convolutional Networks", section 3. The paper
    uses no dropout for node classification.

    >>> import torch
    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "s", "c")])
    >>> RGCN(4, 8, 2, num_relations=2)(torch.randn(3, 4), kg).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_classes: int,
        *,
        num_relations: int,
        num_bases: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = RGCNConv(in_channels, hidden_channels, num_relations, num_bases=num_bases)
        self.conv2 = RGCNConv(hidden_channels, num_classes, num_relations, num_bases=num_bases)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, structure: KnowledgeGraph) -> Tensor:
        """Class logits of every node."""
        x = self.conv1(self.dropout(x), structure).relu()
        return self.conv2(self.dropout(x), structure)
