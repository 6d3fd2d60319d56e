"""FM: factorisation machine over the user, the item, and what is known of the item (Rendle, ICDM 2010)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.models.recommender import Recommender, half_square, xavier
from hgraph.ops import propagate
from hgraph.structure import Adjacency, KnowledgeGraph, derived

__all__ = ["FM", "item_features"]


class FM(Recommender):
    r"""All pairs of features interact through their vectors; features are the user, the item and its facts' tails.

    .. math:: y_{ui} = \sum_{f \in F} w_f + \sum_{f < g \in F} v_f \cdot v_g, \qquad F = \{u, i\} \cup \mathcal N_i

    The part that is the same for all items of a user is left out, as it does not change the ranking. What remains is
    an inner product: of :math:`[v_u, 1]` and :math:`[\sum_g v_g,\; \sum_g w_g + \sum_{g < g'} v_g \cdot v_{g'}]`, g
    over i and its neighbours, each counted once. The L2 term counts the parameters that a pair reads,
    :math:`\lVert v_u \rVert^2 + \sum_g \lVert v_g \rVert^2 + w_g^2`, not these vectors: the square of a sum of many
    features would hold them all near zero.

    Args:
        num_users: U.
        num_items: I.
        num_entities: entities, items among them.
        embed_dim: d.

    Shapes:
        the collaborative `KnowledgeGraph` -> [U + I, d + 2]: [v_u, 1, 0] and [sum of v, the rest, squares].

    Source: Rendle, "Factorization Machines", eq. 1; the features are those of KGAT's comparison (section 4.2.2).
    """

    def __init__(self, num_users: int, num_items: int, num_entities: int, *, embed_dim: int = 64) -> None:
        super().__init__(num_users, num_items)
        self.embedding = xavier(num_users + num_entities, embed_dim)
        self.linear = nn.Parameter(torch.zeros(num_entities, 1))

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """The two vectors of each user and item, and what the L2 term counts of the item."""
        users, total, squares, linear, counted = self.read(structure)
        pairs = (total.square() - squares).sum(-1, keepdim=True) / 2 + linear
        one = torch.ones_like(users[:, :1])
        return torch.cat([torch.cat([users, one, 0 * one], 1), torch.cat([total, pairs, counted], 1)])

    def read(self, structure: KnowledgeGraph) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Users' vectors; over the features of each item the sums of v, of its squares, of w, of all their squares."""
        adj = item_features(structure, self.num_users, self.num_items)
        users, entities = self.embedding.split([self.num_users, len(self.embedding) - self.num_users])
        total, squares = propagate(adj, entities), propagate(adj, entities.square())
        linear, more = propagate(adj, torch.cat([self.linear, self.linear.square()], 1)).split(1, 1)
        return users, total, squares, linear, squares.sum(-1, keepdim=True) + more

    def half_squares(self, user: Tensor, item: Tensor) -> Tensor:
        """Half of the squares of the parameters that pairs read; users' ones stay out of it, having no gradient."""
        return half_square(user[:, : self.embedding.shape[1]]) + item[:, -1].sum() / 2


def item_features(kg: KnowledgeGraph, num_users: int, num_items: int) -> Adjacency:
    """[I x entities] each item and the tails of its facts in the collaborative graph; facts with users are none."""
    return derived(kg, ("features", num_users, num_items), lambda: _item_features(kg, num_users, num_items))


def _item_features(kg: KnowledgeGraph, u: int, count: int) -> Adjacency:
    head, tail = kg.adj.target.long() - u, kg.adj.indices.long() - u
    own = (head >= 0) & (head < count) & (tail >= 0)
    items = torch.arange(count, device=kg.device)
    pairs = torch.stack([torch.cat([head[own], items]), torch.cat([tail[own], items])]).unique(dim=1)
    return Adjacency.from_coo(target=pairs[0], source=pairs[1], num_targets=count, num_sources=kg.num_nodes - u)
