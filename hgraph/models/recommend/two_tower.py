"""Two-tower MLP recommender without message passing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.cache import cached
from hgraph.models.recommend.base import Recommender, xavier
from hgraph.ops import propagate
from hgraph.structure import Adjacency, KnowledgeGraph

__all__ = ["TwoTower"]


class TwoTower(Recommender):
    r"""One MLP embeds a user from its id, another an item from its id and its attributes.

    Use it to serve recommendations fast: items can be embedded once, and scoring is an inner product.

    .. math:: z_u = \mathrm{MLP}_U(e_u), \qquad
              z_i = \mathrm{MLP}_I([e_i \Vert \tfrac{1}{|\mathcal A_i|} \sum_{a \in \mathcal A_i} \epsilon_a])

    The attributes of an item are the tails of its triples, from a separate table: there are no messages between users
    and items. It is the student of `hgraph.distill.distill_recommender`; item embeddings are computed once, and then a
    request needs one table row, an MLP and a product.

    Args:
        num_users: U.
        num_items: I; items are the first entities.
        num_entities: number of entities, including items.
        dim: d, of each table.
        hidden_channels: width of each MLP's hidden layer.
        out_channels: D, of the rows.

    Shapes:
        the collaborative `KnowledgeGraph`, of which only the triples of items are used, -> [U + I, D].

    Source: Covington et al., "Deep Neural Networks for YouTube Recommendations" (RecSys 2016), section 3, reduced to
    ids and attributes.

    >>> from hgraph.data import Interactions
    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=1)
    >>> TwoTower(1, 1, 2, out_channels=4)(data.collaborative()).shape
    torch.Size([2, 4])
    """

    uses_triples = False  # uses attributes of items, but no messages

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_entities: int,
        *,
        dim: int = 32,
        hidden_channels: int = 64,
        out_channels: int = 64,
    ) -> None:
        super().__init__(num_users, num_items)
        self.user, self.item = xavier(num_users, dim), xavier(num_items, dim)
        self.attribute = xavier(num_entities, dim)
        self.user_tower = _tower(dim, hidden_channels, out_channels)
        self.item_tower = _tower(2 * dim, hidden_channels, out_channels)

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """The rows of all users and items."""
        adj = cached(structure, ("attributes", self.num_users, self.num_items), lambda: self._attributes(structure))
        known = propagate(adj, self.attribute, reduce="mean")
        return torch.cat([self.user_tower(self.user), self.item_tower(torch.cat([self.item, known], 1))])

    def users(self, ids: Tensor) -> Tensor:
        """The rows [B, D] of users [B]; needs no structure."""
        return self.user_tower(self.user[ids])

    def _attributes(self, kg: KnowledgeGraph) -> Adjacency:
        """[I x entities] the tails of each item's triples, without users."""
        u = self.num_users
        head, tail = kg.adj.target.long() - u, kg.adj.indices.long() - u
        own = (head >= 0) & (head < self.num_items) & (tail >= 0)
        pairs = torch.stack([head[own], tail[own]]).unique(dim=1)
        return Adjacency.from_coo(
            target=pairs[0], source=pairs[1], num_targets=self.num_items, num_sources=len(self.attribute)
        )


def _tower(width: int, hidden: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out_channels))
