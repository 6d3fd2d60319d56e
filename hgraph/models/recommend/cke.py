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
    r"""Matrix factorisation where an item is its own vector plus the one that TransR learns of its facts.

    .. math:: y_{ui} = e_u \cdot (e_i + \epsilon_i)

    Texts and pictures, the other parts of the paper, are left out, as KGAT's comparison does. Like its code,
    `triple_loss` compares projected entities and relations scaled to length one.

    Args:
        num_users: U.
        num_items: I; items are the first entities.
        num_entities: entities, items among them.
        num_relations: R of the facts.
        dim: d.
        relation_dim: k, of the space in which facts are compared.

    Shapes:
        the `KnowledgeGraph` of the entities, whose facts `triple_loss` learns, -> [U + I, d].

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
        """The facts alone."""
        return data.kg

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """The vectors of users, and those of items with what is known of them."""
        users, items = self.embedding.split([self.num_users, self.num_items])
        return torch.cat([users, items + self.entity[: self.num_items]])

    def triple_loss(self, head: Tensor, relation: Tensor, tail: Tensor, other: Tensor, l2: float = 0.0) -> Tensor:
        """`transr_loss` of the facts alone, of vectors of length one."""
        weights = self.entity, self.relation, self.relation_weight
        return transr_loss(*weights, head, relation, tail, other, l2=l2, normalize=True)
