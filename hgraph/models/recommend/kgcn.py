"""KGCN: knowledge graph convolution with user-specific relation weights (Wang et al., WWW 2019)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.data import Interactions
from hgraph.models.recommend.base import Recommender, click_loss, half_square, xavier
from hgraph.ops import edge_softmax, propagate, sample_neighbors
from hgraph.structure import Adjacency, KnowledgeGraph
from hgraph.structure.algebra import edges_of_rows
from hgraph.structure.relations import rebuilt

__all__ = ["KGCN"]

_AT_ONCE = 2**14  # pairs of users and items per chunk


class KGCN(Recommender):
    r"""An item aggregates the entities around it, weighted by the user's affinity to the relations between them.

    Use it when users differ in which relations of an item they care about.

    .. math:: \alpha^u_{hrt} = \operatorname{softmax}_{(r', t') \in \mathcal N_h} u \cdot e_{r'}, \qquad
              x^u_h \leftarrow \sigma\Bigl(W_l \bigl(x^u_h + \sum_{(h, r, t)} \alpha^u_{hrt}\, x^u_t\bigr) + b_l\Bigr),
              \qquad y_{ui} = u \cdot x^u_i

    with :math:`\sigma` ReLU, in the last layer tanh. Each entity uses at most K triples, sampled once.

    Args:
        num_users: U.
        num_items: I; items are the first entities.
        num_entities: number of entities, including items.
        num_relations: R of the triples with their inverses.
        dim: d.
        num_layers: L, the number of hops from an item.
        fanout: K.

    Shapes:
        the `KnowledgeGraph` of the entities, with inverses -> (users [U, d], that graph), the input of `score`.

    Source: Wang et al., "Knowledge Graph Convolutional Networks for Recommender Systems", eq. 1 to 6 (the sum
    aggregator) and 8; an entity with fewer than K triples uses each of them once.

    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")]).with_inverses()
    >>> model = KGCN(3, 1, 2, 2, dim=4)
    >>> model.score(model(model.start(kg)), torch.tensor([0, 2])).shape
    torch.Size([2, 1])
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_entities: int,
        num_relations: int,
        *,
        dim: int = 64,
        num_layers: int = 1,
        fanout: int = 8,
    ) -> None:
        super().__init__(num_users, num_items)
        self.fanout = fanout
        self.user = xavier(num_users, dim)
        self.entity = xavier(num_entities, dim)
        self.relation = xavier(num_relations, dim)
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_layers))

    @staticmethod
    def structure(data: Interactions) -> KnowledgeGraph:
        """The triples with their inverses."""
        return data.kg.with_inverses()

    def start(self, structure: KnowledgeGraph) -> KnowledgeGraph:
        """At most K triples of each entity, the same in every call and on every device."""
        generator = torch.Generator().manual_seed(0)
        every = torch.arange(structure.num_nodes, device=structure.device)
        _, edges = sample_neighbors(structure.adj, every, self.fanout, generator=generator)
        return rebuilt(structure, *structure.triples[edges].unbind(1))

    def forward(self, structure: KnowledgeGraph) -> tuple[Tensor, KnowledgeGraph]:
        """The users, and the neighborhoods of the items."""
        return self.user, structure

    def score(self, z: Any, users: Tensor) -> Tensor:
        items = torch.arange(self.num_items, device=users.device)
        chunks = users.split(max(_AT_ONCE // max(self.num_items, 1), 1))
        rows = [self._pairs(z, u.repeat_interleave(len(items)), items.repeat(len(u))) for u in chunks]
        return torch.cat(rows).view(len(users), self.num_items) if rows else self.user.new_zeros(0, self.num_items)

    def pair_loss(
        self, structure: KnowledgeGraph, users: Tensor, taken: Tensor, other: Tensor, l2: float = 0.0
    ) -> Tensor:
        r"""`click_loss`, with the L2 term of the embeddings of users and items."""
        scores = self._pairs(self(structure), users.repeat(2), torch.cat([taken, other]))
        rows = (self.user[users], self.entity[taken], self.entity[other])
        return click_loss(*scores.chunk(2)) + l2 * half_square(*rows) / max(len(users), 1)

    def _pairs(self, z: tuple[Tensor, KnowledgeGraph], users: Tensor, items: Tensor) -> Tensor:
        """[P] scores of pairs; an item's neighborhood is weighted differently for each user."""
        user, kg = z
        taste = user @ self.relation.T  # [U, R]
        nodes, owner, steps = items, users, []
        for _ in self.layers:
            position, edges = edges_of_rows(kg.adj, nodes)
            indptr = F.pad(kg.adj.indptr.diff()[nodes].long().cumsum(0), (1, 0))
            own = torch.arange(len(edges), device=edges.device)  # every edge has its own copy of the neighbor
            adj = Adjacency.trusted(indptr=indptr, indices=own, num_sources=len(edges))
            owner_of = owner[position]
            alpha = edge_softmax(adj, taste[owner_of, kg.relation[edges].long()])
            steps.append((nodes, adj, alpha))
            nodes, owner = kg.adj.indices[edges].long(), owner_of
        x = [self.entity.index_select(0, some) for some, _, _ in steps] + [self.entity.index_select(0, nodes)]
        for at, layer in enumerate(self.layers):
            act = torch.tanh if at == len(self.layers) - 1 else torch.relu
            message = [propagate(adj, x[hop + 1], weight=alpha) for hop, (_, adj, alpha) in enumerate(steps)]
            x = [act(layer(x[hop] + message[hop])) for hop in range(len(steps))]
            steps = steps[:-1]
        return (user.index_select(0, users) * x[0]).sum(-1)
