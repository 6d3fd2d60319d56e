"""Terms over nodes: labels, and soft labels from the teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hgraph.distill.objectives.lesson import Lesson, Loss, Term
from hgraph.errors import ArgumentError
from hgraph.train import NodeTask, task_loss

__all__ = ["Labels", "SoftLabels", "Variant", "check_variant", "divergence", "soft_label_loss"]

Variant = Literal["paper", "official"]


def check_variant(variant: str) -> None:
    """Check that the variant is ``"paper"`` or ``"official"``."""
    if variant not in ("paper", "official"):
        raise ArgumentError("variant", "'paper' or 'official'", repr(variant))


def divergence(log_s: Tensor, t: Tensor, variant: Variant = "paper") -> Tensor:
    r"""Divergence [N] of the student's probabilities from the teacher's, per row.

    .. math:: \text{paper: } \sum_c t_c (\ln t_c - \ln s_c), \qquad
              \text{official: } \sum_c e^{t_c} (t_c - \ln s_c)

    The released trainers call ``kl_div(log s, t, log_target=True)`` with probabilities t, which is the second form:
    its optimum is softmax(t), a flattened teacher. It has the same arg max, but another confidence.
    """
    return (t.exp() * (t - log_s) if variant == "official" else torch.xlogy(t, t) - t * log_s).sum(-1)


def soft_label_loss(student_logits: Tensor, teacher_probabilities: Tensor, *, temperature: float = 1.0) -> Tensor:
    r"""KL divergence of a student's class probabilities from its teacher's.

    .. math:: \frac{T^2}{N} \sum_v \mathrm{KL}(t_v \,\|\, s_v)
              = \frac{T^2}{N} \sum_v \sum_c t_{vc} (\ln t_{vc} - \ln s_{vc}), \quad s_v = \mathrm{softmax}(z_v / T)

    A class with teacher probability 0 contributes 0. The gradient in the logits z is :math:`T (s - t) / N`. The factor
    :math:`T^2` compensates for the gradients of the softmax, which scale with :math:`1 / T^2` (Hinton et al., 2015).

    Args:
        student_logits: z [N, C], N at least 1.
        teacher_probabilities: t [N, C], rows that sum to one, computed at the same temperature; gets no gradient.
        temperature: T > 0.

    Returns:
        A scalar, 0 if and only if both agree.

    Raises:
        ArgumentError: different or empty shapes, or a temperature that is not positive.

    Source: LightHGNN (Feng et al., ICLR 2024), the soft-label term of its loss, at T = 1.

    >>> z = torch.tensor([[0.0, 0.0]])
    >>> soft_label_loss(z, torch.tensor([[0.5, 0.5]])).item(), round(soft_label_loss(z, torch.eye(2)[:1]).item(), 4)
    (0.0, 0.6931)
    """
    _check_pair(student_logits, teacher_probabilities)
    _check_temperature(temperature)
    t, log_s = teacher_probabilities.detach(), (student_logits / temperature).log_softmax(-1)
    return temperature**2 * divergence(log_s, t).mean()


@dataclass(frozen=True)
class Labels(Term):
    r"""The loss of a network without a teacher: for classes, the cross-entropy on the training nodes.

    .. math:: \frac{1}{|V_L|} \sum_{v \in V_L} -\ln s_{v y_v}

    >>> from hgraph.structure import Graph
    >>> from hgraph.train import TrainingView
    >>> pair = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(pair, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> Labels().bind(Lesson(part, torch.nn.Linear(2, 2), None, None))(torch.zeros(2, 2))
    tensor(0.6931)
    """

    def bind(self, lesson: Lesson) -> Loss:
        """The loss of the task on the training nodes of the lesson."""
        return task_loss(lesson.part)[0]


@dataclass(frozen=True)
class SoftLabels(Term):
    r"""KL divergence from the teacher's probabilities on every observed node.

    For several labels per node it is the sum of the divergences of the labels, and for numbers the mean squared
    difference of the standardized outputs.

    .. math:: \frac{T^2}{N'} \sum_v \mathrm{KL}(t_v \,\|\, s_v), \quad
              t_v = \mathrm{softmax}(z^{teacher}_v / T), \; s_v = \mathrm{softmax}(z_v / T)

    Args:
        temperature: T, divides the logits of both; values above 1 give softer probabilities.
        variant: ``"official"`` computes the divergence as the released LightHGNN code does, see `divergence`.

    Source: Hinton et al., 2015; LightHGNN (Feng et al., ICLR 2024) at T = 1.

    >>> 0.5 * Labels() + 0.5 * SoftLabels(temperature=2.0)
    Sum(terms=((0.5, Labels()), (0.5, SoftLabels(temperature=2.0, variant='paper'))))
    """

    temperature: float = 1.0
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_temperature(self.temperature)
        check_variant(self.variant)

    def bind(self, lesson: Lesson) -> Loss:
        """The divergence; the teacher's probabilities are computed once.

        Raises:
            ArgumentError: the official variant, for a task other than one class per node.
        """
        task = lesson.part.task
        if task.kind != "classification":
            return self._of_task(task, lesson.logits)
        target = (lesson.logits / self.temperature).softmax(-1)

        def loss(logits: Tensor) -> Tensor:
            _check_pair(logits, target)
            log_s = (logits / self.temperature).log_softmax(-1)
            return self.temperature**2 * divergence(log_s, target, self.variant).mean()

        return loss

    def _of_task(self, task: NodeTask, teacher: Tensor) -> Loss:
        if self.variant == "official":
            raise ArgumentError("variant", f"'paper', because this is {task.title}", "'official'")

        def loss(outputs: Tensor) -> Tensor:
            _check_pair(outputs, teacher)
            return task.divergence(outputs, teacher, self.temperature)

        return loss


def _check_pair(student_logits: Tensor, teacher_probabilities: Tensor) -> None:
    if student_logits.shape != teacher_probabilities.shape or student_logits.dim() != 2 or not len(student_logits):
        expected = f"the shape {list(student_logits.shape)} of student_logits, [N, C] with N at least 1"
        raise ArgumentError("teacher_probabilities", expected, f"shape {list(teacher_probabilities.shape)}")


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ArgumentError("temperature", "a number above 0", temperature)
