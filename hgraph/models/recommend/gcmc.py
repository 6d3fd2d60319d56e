"""GC-MC: graph convolutional matrix completion (van den Berg et al., 2017), over the collaborative graph."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.models.recommend.base import Recommender, xavier
from hgraph.nn import RGCNConv
from hgraph.structure import KnowledgeGraph

__all__ = ["GCMC"]


class GCMC(Recommender):
    r"""One convolution with a matrix per edge type, a dense layer, and a bilinear score of pairs.

    Use it as a baseline with one convolution over users, items and entities.

    .. math:: h_i = \mathrm{ReLU}\Bigl(\sum_r \sum_{(i, r, j)} \frac{1}{\sqrt{|\mathcal N_i| |\mathcal N_j|}} W_r e_j
              \Bigr), \qquad z_i = \mathrm{ReLU}(W h_i), \qquad y_{ui} = z_u^T Q z_i

    Args:
        num_users: U.
        num_items: I; items are the first entities.
        num_entities: number of entities, including items.
        num_relations: R of the collaborative graph.
        dim: d, of all layers.

    Shapes:
        the collaborative `KnowledgeGraph` -> [U + I, d], of users :math:`Q^T z_u`.

    Source: van den Berg et al., "Graph Convolutional Matrix Completion", eq. 1 to 3 and 10, with sums over edge types
    and symmetric normalization. As in KGAT's comparison the edge types are the relations, not rating levels, so there
    is one bilinear form, and pairs are trained with the ranking loss.

    >>> from hgraph.data import Interactions
    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=1)
    >>> model = GCMC(1, 1, 2, 4, dim=4)
    >>> model(model.start(data.collaborative())).shape
    torch.Size([2, 4])
    """

    def __init__(self, num_users: int, num_items: int, num_entities: int, num_relations: int, *, dim: int = 64) -> None:
        super().__init__(num_users, num_items)
        self.embedding = xavier(num_users + num_entities, dim)
        self.conv = RGCNConv(dim, dim, num_relations, root=False, bias=False)
        self.dense = xavier(dim, dim)
        self.form = xavier(dim, dim)

    def start(self, structure: KnowledgeGraph) -> KnowledgeGraph:
        dtype = torch.promote_types(self.embedding.dtype, torch.float32)
        weight = structure.adj.with_weight(None).normalize("sym", dtype=dtype).weight
        return structure.with_weight(None if weight is None else weight.to(self.embedding))

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """The rows whose inner products are the scores."""
        z = torch.relu(torch.relu(self.conv(self.embedding, structure)) @ self.dense)
        users, items, _ = z.split([self.num_users, self.num_items, len(z) - self.num_users - self.num_items])
        return torch.cat([users @ self.form, items])
