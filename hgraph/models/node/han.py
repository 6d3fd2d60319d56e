"""HAN: heterogeneous graph attention network (Wang et al., WWW 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hgraph.cache import cached
from hgraph.checks import check_channels
from hgraph.nn import HANConv
from hgraph.structure import Graph, Hypergraph, KnowledgeGraph

__all__ = ["HAN"]


class HAN(nn.Module):
    r"""Attention along each meta-path and over the meta-paths, `HANConv`, and a linear classifier.

    Use it for labels of nodes that are connected by several meta-paths.

    .. math:: Z = \mathrm{HAN}_H(X; G_1, \ldots, G_P)\, W + b

    Args:
        in_channels: F, features of a node, or a list of the widths F_t, one per node type.
        hidden_channels: features per head.
        num_classes: C.
        num_paths: P, meta-paths.
        num_heads: number of heads of each meta-path.
        semantic_channels: width of the attention over the meta-paths.
        dropout: probability, on the features and on the attention weights.

    Shapes:
        x [N, F] and P `Graph`s of N nodes, one per meta-path -> logits [N, C]. With one width per type, x is a
        list of [N_t, F_t], and ``node_type`` [N] is the type of each node, as in `HANConv`. Of a `KnowledgeGraph`, each
        of the P relations is followed by its inverse: heads with a common tail are neighbors, and a node is its own.

    Source: Wang et al., "Heterogeneous Graph Attention Network", sections 4 and 5.3 (8 heads of 8, dropout 0.6).

    >>> import torch
    >>> from hgraph.structure import KnowledgeGraph
    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "s", "c")])
    >>> HAN(4, 8, 2, num_paths=2)(torch.randn(3, 4), [kg.view("r"), kg.view("s")]).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        hidden_channels: int,
        num_classes: int,
        *,
        num_paths: int,
        num_heads: int = 8,
        semantic_channels: int = 128,
        dropout: float = 0.6,
    ) -> None:
        check_channels(num_classes=num_classes)
        super().__init__()
        self.conv = HANConv(
            in_channels,
            hidden_channels,
            num_paths,
            num_heads=num_heads,
            semantic_channels=semantic_channels,
            dropout=dropout,
        )
        self.out = nn.Linear(num_heads * hidden_channels, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor | Sequence[Tensor], structure: Sequence[Graph] | KnowledgeGraph, node_type: Tensor | None = None
    ) -> Tensor:
        """Class logits of every node."""
        if isinstance(structure, KnowledgeGraph):
            structure = _paths(structure)
        x = self.dropout(x) if isinstance(x, Tensor) else [self.dropout(rows) for rows in x]
        return self.out(self.conv(x, structure, node_type))


def _paths(kg: KnowledgeGraph) -> list[Graph]:
    """One graph per relation, which connects heads with a common tail, such as papers with a common author."""
    return cached(kg, "paths", lambda: [_path(kg, relation) for relation in range(kg.num_relations)])


def _path(kg: KnowledgeGraph, relation: int) -> Graph:
    edges = kg.edges_of(relation)
    tails = Hypergraph.from_coo(
        node=kg.adj.target[edges],
        hyperedge=kg.adj.indices[edges],
        num_nodes=kg.num_nodes,
        num_hyperedges=kg.num_nodes,
        duplicates="sum",
    )
    return Graph(tails.clique().adj.with_weight(None)).add_self_loops()
