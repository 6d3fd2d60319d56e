"""`Recommender`: what every model owes that ranks items for users."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.data import Interactions
from hgraph.structure import KnowledgeGraph

__all__ = ["Recommender", "click_loss", "half_square", "xavier"]


class Recommender(nn.Module):
    r"""Base of models that make a row of each user and item and score a pair by `match`, the inner product of its rows.

    A subclass says in ``forward(structure)`` how the rows Z come about, users first, then items (what follows is not
    looked at); one that has cheaper ways to some of them says so in `rows`. One whose users hear an item each in their
    own way returns what its own `score` needs, and has a `pair_loss` of its own.
    `hgraph.train.fit_recommender` alternates `pair_loss` and, where ``has_triples``, `triple_loss`.

    Args:
        num_users: U.
        num_items: I.
    """

    has_triples = False
    reads_facts = True  # whether messages along facts reach its scores, so that paths say why

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        self.num_users, self.num_items = num_users, num_items

    @staticmethod
    def structure(data: Interactions) -> KnowledgeGraph:
        """What messages flow over: the collaborative knowledge graph of the training part."""
        return data.collaborative()

    def start(self, structure: KnowledgeGraph) -> KnowledgeGraph:
        """The structure of the first epoch; `refresh` takes it, too."""
        return structure

    def refresh(self, structure: KnowledgeGraph) -> KnowledgeGraph:
        """The structure of the epochs after it, made anew from the parameters of what `start` returned."""
        return structure

    def rows(self, structure: KnowledgeGraph, ids: Tensor) -> Tensor:
        """[B, C] the rows Z of some users and items [B], ids in Z: all that a training step looks at."""
        z: Tensor = self(structure)
        return z.index_select(0, ids)

    def match(self, user: Tensor, item: Tensor) -> Tensor:
        """[...] scores of rows [..., C] of users and items, side by side."""
        return (user * item).sum(-1)

    def score(self, z: Any, users: Tensor) -> Tensor:
        """[B, I] scores of every item for some users [B]; z is what the forward returned."""
        scores: Tensor = z.index_select(0, users) @ z[self.num_users : self.num_users + self.num_items].T
        return scores

    def pair_loss(
        self, structure: KnowledgeGraph, users: Tensor, taken: Tensor, other: Tensor, l2: float = 0.0
    ) -> Tensor:
        r"""The BPR loss of pairs that were taken against pairs that were not, with the L2 term of the rows.

        .. math:: \frac1B \sum \mathrm{softplus}(-(y_{ui} - y_{uj}))
                  + \frac{\lambda}{2B} \sum (\lVert z_u \rVert^2 + \lVert z_i \rVert^2 + \lVert z_j \rVert^2)

        Args:
            structure: what `start` or `refresh` returned.
            users: [B] ids of users, as `hgraph.train.PairSampler` draws them with the items.
            taken: [B] ids of items (below num_items), each taken by its user.
            other: [B] ids of items that were not. Ids are not looked at: that would wait for the device.
            l2: lambda.
        """
        u, i, j = self.rows(structure, torch.cat([users, self.num_users + taken, self.num_users + other])).chunk(3)
        loss = F.softplus(-(self.match(u, i) - self.match(u, j))).mean()
        return loss + l2 * half_square(u, i, j) / max(len(users), 1) if l2 else loss

    def triple_loss(self, head: Tensor, relation: Tensor, tail: Tensor, other: Tensor, l2: float = 0.0) -> Tensor:
        """The loss of facts against facts with another tail.

        Args:
            head: [B] ids of vertices of the structure that `structure` makes (for KGAT users first, then entities), as
                `hgraph.train.TripleSampler` draws them from it, inverses among them where it has any.
            relation: [B] ids of its relations.
            tail: [B] vertices that make a fact with these.
            other: [B] vertices that make none.
            l2: of the L2 term.
        """
        raise NotImplementedError(f"{type(self).__name__} learns no facts")


def click_loss(taken: Tensor, other: Tensor) -> Tensor:
    r"""Cross-entropy of scores of pairs that were taken and of pairs that were not.

    .. math:: \frac1{2B} \sum \mathrm{softplus}(-y_{ui}) + \mathrm{softplus}(y_{uj})
    """
    return (F.softplus(-taken).mean() + F.softplus(other).mean()) / 2


def half_square(*parts: Tensor) -> Tensor:
    """Half of the sum of all squares."""
    return torch.stack([part.square().sum() for part in parts]).sum() / 2


def xavier(*shape: int, together: bool = False) -> nn.Parameter:
    """A Glorot-uniform parameter.

    A stack [R, d, k] counts d and k as its fans, each matrix by itself, or with ``together`` R d and R k, as
    TensorFlow's initializer does: its matrices begin smaller by the square root of R.
    """
    weight = torch.empty(shape)
    matrices = weight[..., 0, 0].numel() if together else 1
    bound = (6.0 / (max(matrices, 1) * (shape[-2] + shape[-1]))) ** 0.5
    return nn.Parameter(nn.init.uniform_(weight, -bound, bound))
