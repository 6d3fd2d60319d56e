"""NFM: neural factorization machine over a user, an item and its triples (He and Chua, SIGIR 2017)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.models.recommend.base import Recommender, xavier
from hgraph.models.recommend.fm import item_features
from hgraph.ops import propagate
from hgraph.structure import KnowledgeGraph

__all__ = ["NFM"]


class NFM(Recommender):
    r"""Like `FM`, but the pairwise interactions stay a vector, which is the input of a small network.

    Use it as a nonlinear alternative to `FM`.

    .. math:: y_{ui} = \sum_{f \in F} w_f + h^T \mathrm{ReLU}\Bigl(W \sum_{f < g \in F} v_f \odot v_g + b\Bigr),
              \qquad F = \{u, i\} \cup \mathcal N_i

    The sum over pairs is :math:`v_u \odot t_i + p_i` with :math:`t_i = \sum_g v_g` and
    :math:`p_i = \sum_{g < g'} v_g \odot v_{g'}` over the features of i, so both are computed once for all users. The
    weight of the user, which is the same for all items, is omitted.

    Args:
        num_users: U.
        num_items: I.
        num_entities: number of entities, including items.
        dim: d.
        hidden_channels: width of the one hidden layer.
        dropout: of the pooled vector and of the hidden layer, in training.

    Shapes:
        the collaborative `KnowledgeGraph` -> [U + I, 2 d + 1]: [v_u, 0] and [t_i, p_i, sum of w].

    Source: He and Chua, "Neural Factorization Machines for Sparse Predictive Analytics", eq. 2 to 7, one hidden layer,
    as in KGAT's comparison.

    >>> from hgraph.data import Interactions
    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=1)
    >>> NFM(1, 1, 2, dim=4)(data.collaborative()).shape
    torch.Size([2, 9])
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_entities: int,
        *,
        dim: int = 64,
        hidden_channels: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_users, num_items)
        self.embedding = xavier(num_users + num_entities, dim)
        self.linear = nn.Parameter(torch.zeros(num_entities, 1))
        self.hidden = nn.Linear(dim, hidden_channels)
        self.out = nn.Linear(hidden_channels, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """The terms of each user and item in the pairwise sums."""
        adj = item_features(structure, self.num_users, self.num_items)
        users, entities = self.embedding.split([self.num_users, len(self.embedding) - self.num_users])
        total = propagate(adj, entities)
        pairs = (total.square() - propagate(adj, entities.square())) / 2
        nothing = torch.zeros_like(users[:, :1]).expand(-1, pairs.shape[1] + 1)
        return torch.cat([torch.cat([users, nothing], 1), torch.cat([total, pairs, propagate(adj, self.linear)], 1)])

    def match(self, user: Tensor, item: Tensor) -> Tensor:
        d = self.embedding.shape[1]
        total, pairs, linear = item.split([d, d, 1], -1)
        pooled = self.dropout(user[..., :d] * total + pairs)
        found: Tensor = self.out(self.dropout(torch.relu(self.hidden(pooled)))) + linear
        return found.squeeze(-1)

    def score(self, z: Any, users: Tensor) -> Tensor:
        d, weight = self.embedding.shape[1], self.hidden.weight
        total, pairs, linear = z[self.num_users :].split([d, d, 1], -1)
        own = F.linear(pairs, weight, self.hidden.bias)  # of the pairs without the user: shared by all users
        found = z.new_empty(
            len(users), len(total)
        )  # allocated at once: small rows between large ones fragment the heap
        for b, user in enumerate(z.index_select(0, users)[:, :d]):
            # hidden layers of items for one user at a time: more would not fit into the cache
            hidden = torch.addmm(own, total, (weight * user).T).relu()
            found[b] = (self.out(hidden) + linear).squeeze(1)
        return found
