"""The building blocks of a student's loss: terms that are added and scaled, and the `Lesson` they are bound to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.train import TrainingView

__all__ = ["Lesson", "Loss", "Sum", "Term"]

Loss = Callable[[Tensor], Tensor]
Teach = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Lesson:
    """The context of a distillation that the terms of an objective can use.

    Args:
        part: the observed nodes: structure, features, labels.
        student: the module that is trained.
        teacher: the teacher in eval mode on the training structure, a function of features [N', F] to logits [N', C];
            None if there are only logits, or no teacher.
        teacher_logits: the teacher's logits [N', C] on the observed nodes; None without a teacher.
        embed: the teacher's embedding [N', D] of the observed nodes, what enters its last layer; None if the teacher is
            no network.
        x: the teacher's features [N', F], without the positions that a student may get; None if they are the student's.
        learned: modules that terms train with the student, such as projections; filled by `Term.bind`.
        hooks: hooks that terms register on the student; removed after training.
        recording: whether activations of the student are recorded now, see `unrecorded`.

    >>> from hgraph.structure import Graph
    >>> pair = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(pair, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> Lesson(part, nn.Linear(2, 2), teacher=None, teacher_logits=torch.zeros(2, 2)).logits.shape
    torch.Size([2, 2])
    """

    part: TrainingView
    student: nn.Module
    teacher: Teach | None
    teacher_logits: Tensor | None
    embed: Callable[[], Tensor] | None = None
    x: Tensor | None = None
    learned: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    hooks: list[RemovableHandle] = field(default_factory=list)
    recording: list[bool] = field(default_factory=lambda: [True])

    @property
    def logits(self) -> Tensor:
        """The teacher's logits.

        Raises:
            ArgumentError: there is no teacher.
        """
        if self.teacher_logits is None:
            raise ArgumentError(
                "teacher", "logits or a callable", None, "Pass a teacher; only the objective Labels() works without one"
            )
        return self.teacher_logits

    @property
    def teacher_x(self) -> Tensor:
        """The features that the teacher reads."""
        return self.part.x if self.x is None else self.x

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Further passes of the student in a term, whose activations other terms must not see."""
        self.recording[0] = False
        try:
            yield
        finally:
            self.recording[0] = True

    @torch.no_grad()
    def ask(self, x: Tensor) -> Tensor:
        """The teacher's logits [N', C] for other features of the same nodes.

        Raises:
            ArgumentError: the teacher is not a callable.
        """
        if self.teacher is None:
            hint = "Pass the network instead of its logits, since this objective evaluates it on noisy features"
            raise ArgumentError("teacher", "a callable (x, structure) -> logits", "logits", hint)
        return self.teacher(x)


class Term:
    """A term of an objective; sums such as ``0.3 * Labels() + 0.7 * (SoftLabels() + HighOrder())`` are terms too.

    >>> class Small(Term):
    ...     def bind(self, lesson):
    ...         return lambda logits: logits.square().mean()
    >>> [factor for factor, _ in (0.5 * Small() + Small()).terms]
    [0.5, 1.0]
    """

    def bind(self, lesson: Lesson) -> Loss:
        """The loss as a function of the student's logits [N', C]; called once before training."""
        raise NotImplementedError

    def __add__(self, other: Term) -> Sum:
        """The sum of both terms."""
        if not isinstance(other, Term):
            return NotImplemented
        return Sum((*self._weighted(), *other._weighted()))

    def __rmul__(self, factor: float) -> Sum:
        """The term times a nonnegative factor; a factor of 0 drops it."""
        if isinstance(factor, bool) or not isinstance(factor, (int, float)):
            raise ArgumentTypeError("factor", "a number before *", type(factor).__name__)
        if not 0 <= factor < float("inf"):
            raise ArgumentError("factor", "a finite number, 0 or more", factor)
        return Sum(tuple((factor * weight, term) for weight, term in self._weighted() if factor * weight))

    def _weighted(self) -> tuple[tuple[float, Term], ...]:
        return ((1.0, self),)


@dataclass(frozen=True)
class Sum(Term):
    """Terms with their factors, created by ``+`` and ``*``."""

    terms: tuple[tuple[float, Term], ...]

    def _weighted(self) -> tuple[tuple[float, Term], ...]:
        return self.terms

    def bind(self, lesson: Lesson) -> Loss:
        """The weighted sum of the terms' losses."""
        if not self.terms:
            raise ArgumentError("objective", "at least one term with a factor above 0", "none")
        bound = [(weight, term.bind(lesson)) for weight, term in self.terms]

        def loss(logits: Tensor) -> Tensor:
            values = [part(logits) if weight == 1 else weight * part(logits) for weight, part in bound]
            return torch.stack(values).sum() if len(values) > 1 else values[0]

        return loss
