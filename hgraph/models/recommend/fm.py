"""FM: factorization machine over the user, the item, and the entities linked to the item (Rendle, ICDM 2010)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.cache import cached
from hgraph.models.recommend.base import Recommender, xavier
from hgraph.ops import propagate
from hgraph.structure import Adjacency, KnowledgeGraph

__all__ = ["FM", "item_features"]


class FM(Recommender):
    r"""Pairwise interactions of feature vectors; features are the user, the item and the tails of the item's triples.

    Use it when items have attributes, as a baseline without message passing.

    .. math:: y_{ui} = \sum_{f \in F} w_f + \sum_{f < g \in F} v_f \cdot v_g, \qquad F = \{u, i\} \cup \mathcal N_i

    Terms that are the same for all items of a user are omitted, because they do not change the ranking. The rest is
    an inner product of :math:`[v_u, 1]` and :math:`[\sum_g v_g,\; \sum_g w_g + \sum_{g < g'} v_g \cdot v_{g'}]`, where
    g runs over i and its neighbors, each counted once.

    Args:
        num_users: U.
        num_items: I.
        num_entities: number of entities, including items.
        dim: d.

    Shapes:
        the collaborative `KnowledgeGraph` -> [U + I, d + 1].

    Source: Rendle, "Factorization Machines", eq. 1; the features are those of KGAT's comparison (section 4.2.2).

    >>> from hgraph.data import Interactions
    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=1)
    >>> FM(1, 1, 2, dim=4)(data.collaborative()).shape
    torch.Size([2, 5])
    """

    def __init__(self, num_users: int, num_items: int, num_entities: int, *, dim: int = 64) -> None:
        super().__init__(num_users, num_items)
        self.embedding = xavier(num_users + num_entities, dim)
        self.linear = nn.Parameter(torch.zeros(num_entities, 1))

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """The two vectors of each user and item."""
        adj = item_features(structure, self.num_users, self.num_items)
        users, entities = self.embedding.split([self.num_users, len(self.embedding) - self.num_users])
        total = propagate(adj, entities)
        squares = propagate(adj, entities.square())
        pairs = (total.square() - squares).sum(-1, keepdim=True) / 2 + propagate(adj, self.linear)
        return torch.cat([torch.cat([users, torch.ones_like(users[:, :1])], 1), torch.cat([total, pairs], 1)])


def item_features(kg: KnowledgeGraph, num_users: int, num_items: int) -> Adjacency:
    """[I x entities] each item and the tails of its triples in the collaborative graph, without users."""
    return cached(kg, ("features", num_users, num_items), lambda: _item_features(kg, num_users, num_items))


def _item_features(kg: KnowledgeGraph, u: int, count: int) -> Adjacency:
    head, tail = kg.adj.target.long() - u, kg.adj.indices.long() - u
    own = (head >= 0) & (head < count) & (tail >= 0)
    items = torch.arange(count, device=kg.device)
    pairs = torch.stack([torch.cat([head[own], items]), torch.cat([tail[own], items])]).unique(dim=1)
    return Adjacency.from_coo(target=pairs[0], source=pairs[1], num_targets=count, num_sources=kg.num_nodes - u)
