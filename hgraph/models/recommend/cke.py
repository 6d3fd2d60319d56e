"""CKE: collaborative knowledge base embedding (Zhang et al., KDD 2016), its structural part."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.data import Interactions
from hgraph.models.recommend.base import Recommender, xavier
from hgraph.nn import transr_loss
from hgraph.structure import KnowledgeGraph

__all__ = ["CKE"]


class CKE(Recommender):
    r"""Matrix factorization where an item is its own vector plus its TransR vector from the triples.

    Use it when items have triples and a model without message passing is preferred.

    .. math:: y_{ui} = e_u \cdot (e_i + \epsilon_i)

    Texts and images, the other parts of the paper, are omitted, as in KGAT's comparison. As in its code,
    `triple_loss` compares projected entities and relations scaled to length one.

    Args:
        num_users: U.
        num_items: I; items are the first entities.
        num_entities: number of entities, including items.
        num_relations: R of the triples.
        dim: d.
        relation_dim: k, dimension of the relation space.

    Shapes:
        the `KnowledgeGraph` of the entities, whose triples `triple_loss` trains, -> [U + I, d].

    Source: Zhang et al., "Collaborative Knowledge Base Embedding for Recommender Systems", eq. 2, 3 and 11.

    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> CKE(2, 1, 2, 1, dim=4)(kg).shape
    torch.Size([3, 4])
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
    ) -> None:
        super().__init__(num_users, num_items)
        self.embedding = xavier(num_users + num_items, dim)
        self.entity = xavier(num_entities, dim)
        self.relation = xavier(num_relations, relation_dim)
        self.relation_weight = xavier(num_relations, dim, relation_dim, together=True)  # as published

    @staticmethod
    def structure(data: Interactions) -> KnowledgeGraph:
        """The knowledge graph without interactions."""
        return data.kg

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """The vectors of users, and those of items plus their TransR vectors."""
        users, items = self.embedding.split([self.num_users, self.num_items])
        return torch.cat([users, items + self.entity[: self.num_items]])

    def triple_loss(self, head: Tensor, relation: Tensor, tail: Tensor, other: Tensor, l2: float = 0.0) -> Tensor:
        """`transr_loss` of the triples, with vectors of length one."""
        weights = self.entity, self.relation, self.relation_weight
        return transr_loss(*weights, head, relation, tail, other, l2=l2, normalize=True)
