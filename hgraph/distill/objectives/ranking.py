"""Pairwise ranking of candidates: soft labels for links, recommendations and hyperedges."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from hgraph.distill.objectives.lesson import Lesson, Loss, Term
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops import propagate
from hgraph.structure import Hypergraph

__all__ = ["PairwiseRanking", "candidate_scores"]


def candidate_scores(z: Tensor, candidates: Tensor | Hypergraph) -> Tensor:
    r"""Scores [K] of candidates: the mean inner product of the embeddings of their nodes.

    .. math:: s_e = \frac{1}{d_e (d_e - 1)} \sum_{u \ne v \in e} \langle z_u, z_v \rangle

    For a link, a hyperedge of two nodes, this is :math:`\langle z_u, z_v \rangle`.

    Args:
        z: [N, D] embeddings.
        candidates: links [K, 2], such as pairs of user and item, or a hypergraph of K hyperedges; hyperedges of fewer
            than two members have score 0.

    >>> z = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
    >>> candidate_scores(z, torch.tensor([[0, 1], [1, 2]])).tolist()
    [1.0, 3.0]
    >>> candidate_scores(z, Hypergraph.from_lists([[0, 1, 2], [2]], num_nodes=3)).tolist()
    [1.3333333730697632, 0.0]
    """
    if isinstance(candidates, Tensor):
        return (z[candidates[:, 0]] * z[candidates[:, 1]]).sum(-1)
    members = candidates.v2e.with_weight(None)
    z_sum, square_sum = propagate(members, z), propagate(members, z.square().sum(-1, keepdim=True))
    size = members.target_degree().to(z)
    return (z_sum.square().sum(-1) - square_sum.squeeze(-1)) / (size * (size - 1)).clamp(min=1)


@dataclass(frozen=True, eq=False)
class PairwiseRanking(Term):
    r"""A ranking loss: the student learns the teacher's order of pairs of candidates.

    .. math:: \frac{1}{P} \sum_{(i, j)} \mathrm{BCE}\big(\sigma(s_i - s_j), \sigma((t_i - t_j) / T)\big)

    s and t are the `candidate_scores` of student and teacher, whose outputs are used as embeddings. Candidates are
    links (for recommendation, of one user to two items) or hyperedges (an existing one and another one).

    Args:
        candidates: links [K, 2] of observed nodes, or a hypergraph over them.
        pairs: indices (i, j) of candidates [P, 2].
        temperature: T; for small values only the order of the teacher's scores counts.

    Pass ``validate`` to `distill`, since embeddings have no accuracy.

    Raises:
        ArgumentError: wrong shapes, ids out of range, no pairs, or a temperature that is not positive.

    >>> from hgraph.structure import Graph
    >>> from hgraph.train import TrainingView
    >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # a user, a similar item, and another item
    >>> part = TrainingView(Graph.from_edge_index([[0], [1]], num_nodes=3, directed=False), z, *[torch.arange(3)] * 3)
    >>> term = PairwiseRanking(torch.tensor([[0, 1], [0, 2]]), torch.tensor([[0, 1]]))
    >>> loss = term.bind(Lesson(part, torch.nn.Identity(), None, z))
    >>> bool(loss(z) < loss(z[[0, 2, 1]]))  # the reversed order has a higher loss
    True
    """

    candidates: Tensor | Hypergraph = field(repr=False)
    pairs: Tensor = field(repr=False)
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        links = self.candidates if isinstance(self.candidates, Tensor) else None
        for name, ids in (("candidates", links), ("pairs", self.pairs)):
            if ids is None:
                continue
            if ids.dtype not in (torch.int32, torch.int64):
                raise ArgumentTypeError(name, "integer ids", ids.dtype)
            if ids.dim() != 2 or ids.shape[1] != 2 or not len(ids):
                raise ArgumentError(name, "shape [K, 2], K at least 1", f"shape {list(ids.shape)}")
        count = self.candidates.num_hyperedges if isinstance(self.candidates, Hypergraph) else len(self.candidates)
        _check_ids("pairs", self.pairs, count)
        if not self.temperature > 0:
            raise ArgumentError("temperature", "a number above 0", self.temperature)

    def bind(self, lesson: Lesson) -> Loss:
        """The loss, with the teacher's preferences computed once."""
        count = len(lesson.part.x)
        if isinstance(self.candidates, Tensor):
            _check_ids("candidates", self.candidates, count)
        elif self.candidates.num_nodes != count:
            raise ArgumentError("candidates", f"hyperedges of {count} nodes", self.candidates)
        candidates, pairs = self.candidates.to(lesson.part.x.device), self.pairs.to(lesson.part.x.device)

        def margin(z: Tensor) -> Tensor:
            first, second = candidate_scores(z, candidates)[pairs].unbind(1)
            return first - second

        target = (margin(lesson.logits) / self.temperature).sigmoid()
        return lambda logits: F.binary_cross_entropy_with_logits(margin(logits), target)


def _check_ids(name: str, ids: Tensor, count: int) -> None:
    if int(ids.min()) < 0 or int(ids.max()) >= count:
        raise ArgumentError(name, f"numbers in 0 .. {count - 1}", f"{int(ids.min())} .. {int(ids.max())}")
