"""BPR-MF: matrix factorization with the Bayesian personalized ranking loss (Rendle et al., UAI 2009)."""

from __future__ import annotations

from torch import Tensor

from hgraph.models.recommend.base import Recommender, xavier
from hgraph.structure import KnowledgeGraph

__all__ = ["BPRMF"]


class BPRMF(Recommender):
    r"""A vector for each user and item; the loss is `pair_loss`.

    Use it as the first baseline of a recommender, and to initialize `KGAT`.

    .. math:: y_{ui} = e_u \cdot e_i

    Args:
        num_users: U.
        num_items: I.
        dim: d.

    Shapes:
        any structure, which is ignored, -> [U + I, d].

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", sections 4.3.1 and 5.

    >>> import torch
    >>> kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    >>> model = BPRMF(2, 1, dim=4)
    >>> model.score(model(kg), torch.tensor([0, 1])).shape  # the structure is ignored
    torch.Size([2, 1])
    """

    uses_triples = False

    def __init__(self, num_users: int, num_items: int, *, dim: int = 64) -> None:
        super().__init__(num_users, num_items)
        self.embedding = xavier(num_users + num_items, dim)

    def forward(self, structure: KnowledgeGraph) -> Tensor:
        """The vectors."""
        return self.embedding
