"""KGAT: knowledge graph attention network (Wang et al., KDD 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError
from hgraph.models.recommend.base import Recommender, xavier
from hgraph.nn import KGATConv, kg_attention, relation_laplacian, transr_loss
from hgraph.structure import KnowledgeGraph

__all__ = ["KGAT"]


class KGAT(Recommender):
    r"""Propagation over the collaborative knowledge graph, weighted by attention from TransR embeddings.

    Use it when items have triples and recommendations should come with paths as reasons.

    .. math:: X_{l+1} = \mathrm{dropout}(\mathrm{KGATConv}(X_l; \alpha)), \qquad
              Z = [X_0 \Vert \bar X_1 \Vert \dots \Vert \bar X_L], \qquad y_{ui} = z_u \cdot z_i

    where rows of :math:`\bar X_l` are scaled to length one for Z, but not as input of the next layer. The weights
    :math:`\alpha` belong to the structure and have no gradient: `refresh` recomputes them after each epoch.
    `triple_loss` trains the same embeddings on triples.

    Args:
        num_users: U.
        num_items: I; items are the first entities.
        num_entities: number of entities, including items; N = U + num_entities.
        num_relations: R of the collaborative graph, including inverses: 2 (relations of the triples + 1).
        dim: d.
        relation_dim: k, dimension of the relation space.
        layer_channels: the width of each layer; an empty list gives matrix factorization.
        aggr: as in `KGATConv`.
        dropout: of each layer's output, in training.
        attention: ``"refresh"`` uses attention weights from the second epoch on, as in the paper; ``"laplacian"``
            uses `relation_laplacian` throughout (both start with it). The published code computes attention that never
            reaches its network, so the published logs correspond to ``"laplacian"``.

    Shapes:
        a `KnowledgeGraph` of N nodes and R relations -> Z [N, d + sum(layers)]; users first, then entities.

    Source: Wang et al., "KGAT: Knowledge Graph Attention Network for Recommendation", eq. 1 to 13.

    >>> from hgraph.data import Interactions
    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=1)
    >>> model = KGAT(1, 1, 2, 4, dim=8, relation_dim=4, layer_channels=(6,))
    >>> model(model.start(data.collaborative())).shape
    torch.Size([3, 14])
    """

    has_triples = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_entities: int,
        num_relations: int,
        *,
        dim: int = 64,
        relation_dim: int = 64,
        layer_channels: Sequence[int] = (64, 32, 16),
        aggr: Literal["bi", "gcn", "sage"] = "bi",
        dropout: float = 0.1,
        attention: Literal["refresh", "laplacian"] = "refresh",
    ) -> None:
        if attention not in ("refresh", "laplacian"):
            raise ArgumentError("attention", "'refresh' or 'laplacian'", repr(attention))
        if num_items > num_entities:
            raise ArgumentError("num_items", f"at most the {num_entities} entities", num_items)
        super().__init__(num_users, num_items)
        self.attention, widths = attention, [dim, *layer_channels]
        self.embedding = xavier(num_users + num_entities, dim)
        self.relation = xavier(num_relations, relation_dim)
        self.relation_weight = xavier(num_relations, dim, relation_dim, together=True)  # as published
        self.convs = nn.ModuleList(KGATConv(a, b, aggr=aggr) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """Z of every node."""
        return _readout(*self._layers(structure))

    def rows(self, structure: KnowledgeGraph, ids: Tensor) -> Tensor:
        """Z of some nodes: normalizes and concatenates only these rows."""
        return _readout(*(x.index_select(0, ids) for x in self._layers(structure)))

    def _layers(self, structure: KnowledgeGraph) -> Iterator[Tensor]:
        x: Tensor = self.embedding
        yield x
        for conv in self.convs:
            x = self.dropout(conv(x, structure))
            yield x

    @torch.no_grad()
    def take_factors(self, factors: Tensor) -> None:
        """Initialize from the vectors of users and items of a trained `BPRMF`, as in the published runs.

        Args:
            factors: [U + I, d]; other entities are unchanged.

        Raises:
            ArgumentError: ``factors`` is not of that shape.
        """
        rows, d = self.num_users + self.num_items, self.embedding.shape[1]
        if tuple(factors.shape) != (rows, d):
            raise ArgumentError("factors", f"shape [{rows}, {d}]", f"shape {list(factors.shape)}")
        self.embedding[:rows] = factors

    def start(self, structure: KnowledgeGraph) -> KnowledgeGraph:
        return structure.with_weight(relation_laplacian(structure, dtype=self.embedding.dtype).to(self.embedding))

    @torch.no_grad()
    def refresh(self, structure: KnowledgeGraph) -> KnowledgeGraph:
        if self.attention == "laplacian":
            return structure
        return structure.with_weight(kg_attention(self.embedding, self.relation, self.relation_weight, structure))

    def triple_loss(self, head: Tensor, relation: Tensor, tail: Tensor, other: Tensor, l2: float = 0.0) -> Tensor:
        """`transr_loss` of triples of the collaborative graph."""
        weights = self.embedding, self.relation, self.relation_weight
        return transr_loss(*weights, head, relation, tail, other, l2=l2)


def _readout(first: Tensor, *layers: Tensor) -> Tensor:
    """The first input unchanged, then the rows of each layer normalized to length one."""
    return torch.cat([first, *(x * x.square().sum(-1, keepdim=True).clamp(min=1e-12).rsqrt() for x in layers)], -1)
