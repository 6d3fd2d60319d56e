"""RippleNet: triples that spread from a user's items (Wang et al., CIKM 2018)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hgraph.cache import cached
from hgraph.data import Interactions
from hgraph.models.recommend.base import Recommender, click_loss, half_square, xavier
from hgraph.nn import project
from hgraph.structure import KnowledgeGraph
from hgraph.structure.algebra import edges_of_rows

__all__ = ["RippleNet"]

_AT_ONCE = 2**20  # attention weights per chunk while all items are scored: more would not fit into the cache


class Ripples(NamedTuple):
    """Triples around users: ids [U, L, M] of heads, relations and tails, and whether a user has any [U]."""

    head: Tensor
    relation: Tensor
    tail: Tensor
    some: Tensor


class RippleNet(Recommender):
    r"""Each user attends, with the item as the query, to triples around their items, then to triples further out.

    Use it when a user is best described by the entities around their items.

    .. math:: p_m = \operatorname{softmax}_m q_k \cdot R_{r_m} h_m, \qquad o_k = \sum_{m \in S^k_u} p_m t_m, \qquad
              q_1 = v_i,\; q_{k+1} = o_k, \qquad y_{ui} = v_i \cdot \sum_k o_k

    The triples of step 1 have heads among the user's training items, those of step k + 1 among the tails of step k; M
    of them are sampled for each step (those of the step before, if there are none further out).

    Args:
        num_users: U.
        num_items: I; items are the first entities.
        num_entities: number of entities, including items.
        num_relations: R of the triples.
        dim: d.
        num_hops: L.
        memory: M.
        fact_weight: weight of the plausibility term of the triples.

    Shapes:
        the collaborative `KnowledgeGraph` without inverses -> `Ripples` of all users, the input of
        `score`.

    Source: Wang et al., "RippleNet: Propagating User Preferences on the Knowledge Graph for Recommender Systems", eq. 2
    to 6 and 9. The plausibility term is that of the published code, the mean of :math:`\sigma(h^T R_r t)` over the
    sampled triples, instead of the paper's squares, which need negative triples.

    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=2, num_items=1)
    >>> model = RippleNet(2, 1, 2, 1, dim=4)
    >>> ripples = model(data.collaborative(inverses=False))
    >>> ripples.some.tolist(), model.score(ripples, torch.tensor([0, 1])).shape  # user 1 took nothing
    ([True, False], torch.Size([2, 1]))
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_entities: int,
        num_relations: int,
        *,
        dim: int = 64,
        num_hops: int = 2,
        memory: int = 32,
        fact_weight: float = 0.01,
    ) -> None:
        super().__init__(num_users, num_items)
        self.num_hops, self.memory, self.fact_weight = num_hops, memory, fact_weight
        self.entity = xavier(num_entities, dim)
        self.relation_weight = xavier(num_relations, dim, dim)

    @staticmethod
    def structure(data: Interactions) -> KnowledgeGraph:
        """Interactions and triples, without inverses."""
        return data.collaborative(inverses=False)

    def forward(self, structure: KnowledgeGraph) -> Ripples:
        """The triples around each user, the same in every call and on every device."""
        key = ("ripples", self.num_users, self.num_hops, self.memory)
        return cached(structure, key, lambda: self._ripples(structure))

    def score(self, z: Any, users: Tensor) -> Tensor:
        items = self.entity[: self.num_items]
        chunks = users.split(max(_AT_ONCE // max(self.num_items * self.memory, 1), 1))
        rows = [self._match(items, *self._keys_and_values(z, some)) for some in chunks]
        return torch.cat(rows) if rows else items.new_zeros(0, self.num_items)

    def pair_loss(
        self, structure: KnowledgeGraph, users: Tensor, taken: Tensor, other: Tensor, l2: float = 0.0
    ) -> Tensor:
        r"""`click_loss` minus the plausibility of the sampled triples, with an L2 term of the items and the tails.

        .. math:: \mathrm{click} - \frac{\lambda_f}{B L M} \sum \sigma(h^T R_r t)
                  + \frac{\lambda}{2B} \sum \bigl(\lVert v_i \rVert^2 + \lVert v_j \rVert^2
                  + \tfrac1M \sum_m \lVert t_m \rVert^2\bigr)
        """
        key, tail = self._keys_and_values(self(structure), users)
        i, j = self.entity.index_select(0, taken), self.entity.index_select(0, other)
        scores = self._match(torch.stack([i, j], 1), key, tail)
        plausible = torch.sigmoid((key * tail).sum(-1)).mean() if len(users) else key.sum()
        squares = half_square(i, j, tail * self.memory**-0.5)
        loss = click_loss(scores[:, 0], scores[:, 1]) - self.fact_weight * plausible
        return loss + l2 * squares / max(len(users), 1)

    def _keys_and_values(self, z: Ripples, users: Tensor) -> tuple[Tensor, Tensor]:
        """Keys R h and values t, each [B, L, M, d], of the triples around some users; 0 for users without triples."""
        head, relation, tail = (ids[users] for ids in z[:3])
        if not len(self.relation_weight):  # no triples, so no matrix for the padding either
            return (self.entity.new_zeros(*head.shape, self.entity.shape[1]),) * 2
        key = project(self.entity[head.flatten()], self.relation_weight, relation.flatten())
        return key.view(*head.shape, -1), self.entity[tail] * z.some[users].to(self.entity)[:, None, None, None]

    def _match(self, items: Tensor, key: Tensor, tail: Tensor) -> Tensor:
        """[B, C] scores of items [C, d] (or [B, C, d]) for users with these triples."""
        query, total = items, torch.zeros_like(items)
        for hop in range(self.num_hops):
            alpha = torch.softmax(query @ key[:, hop].mT, -1)
            query = alpha @ tail[:, hop]
            total = total + query
        return (items * total).sum(-1)

    def _ripples(self, kg: KnowledgeGraph) -> Ripples:
        u, device = self.num_users, kg.device
        generator = torch.Generator().manual_seed(0)  # on the CPU: the same triples on every device
        head, relation, tail = kg.triples.unbind(1)
        nodes, owner = tail[head < u], head[head < u]  # the users' items, user by user
        steps: list[Tensor] = []
        some = torch.zeros(u, dtype=torch.bool, device=device)
        drawn = torch.zeros(u, self.memory, dtype=torch.long, device=device)
        for _ in range(self.num_hops):
            position, edges = edges_of_rows(kg.adj, nodes)
            count = torch.bincount(owner[position], minlength=u).unsqueeze(1)
            place = (torch.rand(u, self.memory, generator=generator, dtype=torch.float64).to(device) * count).long()
            place = torch.minimum(place, (count - 1).clamp(min=0)) + count.cumsum(0) - count
            if len(edges):  # a user without triples here keeps those of the step before
                drawn = torch.where(count > 0, edges[place.clamp(max=len(edges) - 1)], drawn)
            some = some | (count[:, 0] > 0)  # only the first step determines this
            steps.append(drawn)
            owner = some.nonzero().flatten().repeat_interleave(self.memory)
            nodes = tail[drawn[some]].flatten()
        drawn = torch.stack(steps, 1)
        if not kg.num_edges:
            return Ripples(drawn, drawn, drawn, some)
        # users and their relation are not counted below; entries of users without triples are ignored
        heads, kinds, tails = (ids[drawn].sub(less).clamp(min=0) for ids, less in ((head, u), (relation, 1), (tail, u)))
        return Ripples(heads, kinds, tails, some)
