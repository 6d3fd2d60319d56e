"""CFKG: one translation space for users, items and entities (Ai et al., Algorithms 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph.models.recommend.base import Recommender, half_square, xavier
from hgraph.nn.distances import squared_distances
from hgraph.structure import KnowledgeGraph

__all__ = ["CFKG"]


class CFKG(Recommender):
    r"""TransE over the collaborative graph, where interactions are triples too.

    Use it as a baseline that treats recommendation as completion of triples.

    .. math:: y_{ui} = -\lVert e_u + e_{r_0} - e_i \rVert_2^2, \qquad
              L = \frac1B \sum \mathrm{softplus}(g(h, r, t) - g(h, r, t')), \quad
              g(h, r, t) = \lVert e_h + e_r - e_t \rVert_2^2

    The forward returns the rows :math:`e_u + e_{r_0}` of users and :math:`e_i` of items.

    Args:
        num_users: U.
        num_items: I; items are the first entities.
        num_entities: number of entities, including items.
        num_relations: R of the collaborative graph.
        dim: d.

    Shapes:
        the collaborative `KnowledgeGraph` -> [U + I, d].

    Source: Ai et al., "Learning Heterogeneous Knowledge Base Embeddings for Explainable Recommendation", section 4;
    the loss is KGAT's, and pairs are trained with the ranking loss as well.

    >>> from hgraph.data import Interactions
    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=1)
    >>> CFKG(1, 1, 2, 4, dim=4)(data.collaborative()).shape
    torch.Size([2, 4])
    """

    has_triples = True

    def __init__(self, num_users: int, num_items: int, num_entities: int, num_relations: int, *, dim: int = 64) -> None:
        super().__init__(num_users, num_items)
        self.embedding = xavier(num_users + num_entities, dim)
        self.relation = xavier(num_relations, dim)

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """The translated vectors of users, and the vectors of items."""
        users, items = self.embedding[: self.num_users + self.num_items].split([self.num_users, self.num_items])
        return torch.cat([users + self.relation[0], items])

    def match(self, user: Tensor, item: Tensor) -> Tensor:
        """Negative squared distances [...] of corresponding rows [..., d] of users and items."""
        return -(user - item).square().sum(-1)

    def score(self, z: Tensor, users: Tensor) -> Tensor:
        """[B, I] negative squared distances of some users [B] and every item."""
        items = z[self.num_users : self.num_users + self.num_items]
        return -squared_distances(z.index_select(0, users), items)

    def triple_loss(self, head: Tensor, relation: Tensor, tail: Tensor, other: Tensor, l2: float = 0.0) -> Tensor:
        h, t, o = (self.embedding.index_select(0, ids) for ids in (head, tail, other))
        r = self.relation.index_select(0, relation)
        near, far = ((h + r - end).square().sum(-1) for end in (t, o))
        loss = F.softplus(near - far).mean()
        return loss + l2 * half_square(h, r, t, o) / max(len(head), 1) if l2 else loss
