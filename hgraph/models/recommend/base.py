"""`Recommender`: base class of models that rank items for users."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.data import Interactions
from hgraph.structure import KnowledgeGraph

__all__ = ["Recommender", "click_loss", "half_square", "xavier"]


class Recommender(nn.Module):
    r"""Base of models that embed users and items and score a pair with `match`, the inner product of both rows.

    A subclass computes the rows Z in ``forward(structure)``, users first, then items (further rows are ignored); it may
    override `rows` to compute some of them faster. A model whose item embeddings depend on the
    user returns the input of its own `score`, and overrides `pair_loss`.
    `hgraph.train.fit_recommender` alternates `pair_loss` and, if ``has_triples``, `triple_loss`.

    Args:
        num_users: U.
        num_items: I.
    """

    has_triples = False
    uses_triples = True  # whether scores use triples as messages, so that paths explain them

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        self.num_users, self.num_items = num_users, num_items

    @staticmethod
    def structure(data: Interactions) -> KnowledgeGraph:
        """The structure for message passing: the collaborative knowledge graph of the training part."""
        return data.collaborative()

    def start(self, structure: KnowledgeGraph) -> KnowledgeGraph:
        """The structure of the first epoch, which is also the argument of `refresh`."""
        return structure

    def refresh(self, structure: KnowledgeGraph) -> KnowledgeGraph:
        """The structure of later epochs, recomputed from the parameters and the result of `start`."""
        return structure

    def rows(self, structure: KnowledgeGraph, ids: Tensor) -> Tensor:
        """[B, C] the rows Z of some users and items [B], ids in Z: all that a training step needs."""
        z: Tensor = self(structure)
        return z.index_select(0, ids)

    def match(self, user: Tensor, item: Tensor) -> Tensor:
        """[...] scores of corresponding rows [..., C] of users and items."""
        return (user * item).sum(-1)

    def score(self, z: Any, users: Tensor) -> Tensor:
        """[B, I] scores of every item for some users [B]; z is the result of the forward."""
        scores: Tensor = z.index_select(0, users) @ z[self.num_users : self.num_users + self.num_items].T
        return scores

    def pair_loss(
        self, structure: KnowledgeGraph, users: Tensor, taken: Tensor, other: Tensor, l2: float = 0.0
    ) -> Tensor:
        r"""BPR loss of positive pairs against negative pairs, with an L2 term of the rows.

        .. math:: \frac1B \sum \mathrm{softplus}(-(y_{ui} - y_{uj}))
                  + \frac{\lambda}{2B} \sum (\lVert z_u \rVert^2 + \lVert z_i \rVert^2 + \lVert z_j \rVert^2)

        Args:
            structure: the result of `start` or `refresh`.
            users: [B] user ids, drawn with the items by `hgraph.train.PairSampler`.
            taken: [B] item ids (below num_items), one positive item per user.
            other: [B] ids of negative items. Ids are not checked: that would synchronize.
            l2: lambda.
        """
        u, i, j = self.rows(structure, torch.cat([users, self.num_users + taken, self.num_users + other])).chunk(3)
        loss = F.softplus(-(self.match(u, i) - self.match(u, j))).mean()
        return loss + l2 * half_square(u, i, j) / max(len(users), 1) if l2 else loss

    def triple_loss(self, head: Tensor, relation: Tensor, tail: Tensor, other: Tensor, l2: float = 0.0) -> Tensor:
        """The loss of triples against triples with another tail.

        Args:
            head: [B] node ids of the graph returned by `structure` (for KGAT users first, then entities), drawn from it
                by `hgraph.train.TripleSampler`, including inverses if it has any.
            relation: [B] ids of its relations.
            tail: [B] tails of true triples.
            other: [B] tails of negative triples.
            l2: weight of the L2 term.
        """
        raise NotImplementedError(f"{type(self).__name__} has no triple loss")


def click_loss(taken: Tensor, other: Tensor) -> Tensor:
    r"""Binary cross-entropy of the scores of positive and negative pairs.

    .. math:: \frac1{2B} \sum \mathrm{softplus}(-y_{ui}) + \mathrm{softplus}(y_{uj})
    """
    return (F.softplus(-taken).mean() + F.softplus(other).mean()) / 2


def half_square(*parts: Tensor) -> Tensor:
    """Half of the sum of squares."""
    return torch.stack([part.square().sum() for part in parts]).sum() / 2


def xavier(*shape: int, together: bool = False) -> nn.Parameter:
    """A Glorot-uniform parameter.

    A stack [R, d, k] uses d and k as fans for each matrix, or with ``together`` R d and R k, as
    TensorFlow's initializer does: its initial matrices are smaller by the square root of R.
    """
    weight = torch.empty(shape)
    matrices = weight[..., 0, 0].numel() if together else 1
    bound = (6.0 / (max(matrices, 1) * (shape[-2] + shape[-1]))) ** 0.5
    return nn.Parameter(nn.init.uniform_(weight, -bound, bound))
