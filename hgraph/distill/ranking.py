"""Which of two partners fits better: soft labels for links, recommendations and hyperedges."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from hgraph.distill.lesson import Lesson, Loss, Term
from hgraph.errors import ArgumentError, ArgumentTypeError

__all__ = ["PairwiseRanking"]


@dataclass(frozen=True, eq=False)
class PairwiseRanking(Term):
    r"""The student orders two partners of a vertex as the teacher does.

    .. math:: \frac{1}{P} \sum_{(a, i, j)} \mathrm{BCE}\big(\sigma(s_{ai} - s_{aj}),
              \sigma((t_{ai} - t_{aj}) / T)\big), \qquad s_{uv} = \langle z_u, z_v \rangle

    z are the outputs of the student, and of the teacher, taken as embeddings. A vertex may stand for a user, an item
    or the summary of a hyperedge.

    Args:
        triples: [P, 3] ids (a, i, j) of observed vertices.
        temperature: T; towards 0 the teacher says no more than which of the two it prefers.

    Raises:
        ArgumentError: another shape, ids out of range, no triple, a temperature that is not positive.
    """

    triples: Tensor = field(repr=False)
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.triples.dtype not in (torch.int32, torch.int64):
            raise ArgumentTypeError("triples", "integer ids", self.triples.dtype)
        if self.triples.dim() != 2 or self.triples.shape[1] != 3 or not len(self.triples):
            raise ArgumentError("triples", "shape [P, 3], P at least 1", f"shape {list(self.triples.shape)}")
        if not self.temperature > 0:
            raise ArgumentError("temperature", "a number above 0", self.temperature)

    def bind(self, lesson: Lesson) -> Loss:
        """The loss, with the teacher's preferences computed once."""
        count = len(lesson.part.x)
        if int(self.triples.min()) < 0 or int(self.triples.max()) >= count:
            raise ArgumentError("triples", f"ids in 0 .. {count - 1}", int(self.triples.max()))
        triples = self.triples.to(lesson.part.x.device)
        wanted = (_margin(lesson.logits, triples) / self.temperature).sigmoid()
        return lambda logits: F.binary_cross_entropy_with_logits(_margin(logits, triples), wanted)


def _margin(z: Tensor, triples: Tensor) -> Tensor:
    anchor, first, second = (z[ids] for ids in triples.unbind(1))
    return (anchor * (first - second)).sum(-1)
