"""LightGCN: propagation over interactions without weights (He et al., SIGIR 2020)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hgraph.cache import cached
from hgraph.models.recommend.base import Recommender, xavier
from hgraph.ops import propagate
from hgraph.structure import Adjacency, KnowledgeGraph

__all__ = ["LightGCN"]


class LightGCN(Recommender):
    r"""Symmetric propagation between users and items; averages all layers.

    Use it when only interactions are known.

    .. math:: X_{l+1} = D^{-1/2} A D^{-1/2} X_l, \qquad Z = \frac{1}{L + 1} \sum_{l=0}^{L} X_l

    A joins users and items with training interactions; triples are ignored.

    Args:
        num_users: U.
        num_items: I.
        dim: d.
        num_layers: L.

    Shapes:
        the collaborative `KnowledgeGraph` (relation 0 is "interacts", user to item) -> [U + I, d].

    Source: He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", eq. 3 to 8.

    >>> from hgraph.data import Interactions
    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=1)
    >>> user, item = LightGCN(1, 1, dim=4, num_layers=1)(data.collaborative())
    >>> torch.equal(user, item)  # each is the mean of both
    True
    """

    uses_triples = False

    def __init__(self, num_users: int, num_items: int, *, dim: int = 64, num_layers: int = 3) -> None:
        super().__init__(num_users, num_items)
        self.num_layers = num_layers
        self.embedding = xavier(num_users + num_items, dim)

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """The mean of all layers."""
        return torch.stack(list(self._layers(structure))).mean(0)

    def rows(self, structure: KnowledgeGraph, ids: Tensor) -> Tensor:
        """Z of some nodes: averages only these rows."""
        return torch.stack([x.index_select(0, ids) for x in self._layers(structure)]).mean(0)

    def _layers(self, structure: KnowledgeGraph) -> Iterator[Tensor]:
        dtype = torch.promote_types(self.embedding.dtype, torch.float32)
        key = ("users and items", self.num_users, self.num_items, dtype)
        adj = cached(structure, key, lambda: self._pairs(structure, dtype))
        x: Tensor = self.embedding
        yield x
        for _ in range(self.num_layers):
            x = propagate(adj, x)
            yield x

    def _pairs(self, kg: KnowledgeGraph, dtype: torch.dtype) -> Adjacency:
        """The symmetric, normalized structure of the interactions, over users and items only."""
        edges = kg.edges_of(0)
        user, item = kg.adj.target[edges].long(), kg.adj.indices[edges].long()
        size = self.num_users + self.num_items
        adj = Adjacency.from_coo(
            target=torch.cat([user, item]),
            source=torch.cat([item, user]),
            num_targets=size,
            num_sources=size,
            duplicates="keep",
        )
        return adj.normalize("sym", dtype=dtype)
