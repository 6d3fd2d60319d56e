"""Terms that choose what to trust, and terms that make the student steady."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hgraph.distill.objectives.high_order import entropy, reliability
from hgraph.distill.objectives.lesson import Lesson, Loss, Term
from hgraph.distill.objectives.soft_labels import divergence
from hgraph.errors import ArgumentError

__all__ = ["NoisyFeatures", "ReliableLabels"]


@dataclass(frozen=True)
class ReliableLabels(Term):
    r"""Soft labels of nodes; each counts in a step with the reliability of the teacher's word on it.

    .. math:: \frac{1}{|K|} \sum_{v \in K} \mathrm{KL}(t_v \,\|\, s_v), \quad v \in K \text{ with probability } \rho_v

    with :math:`\rho_v` the `reliability` of the teacher's entropy at v under multiplicative feature noise.

    Args:
        noise: scale of that noise; 0 keeps every node.

    Source: reliable knowledge distillation on graphs (Wu et al., ICML 2023), in the form of card 04, eq. 5.

    >>> from hgraph.structure import Graph
    >>> from hgraph.train import TrainingView
    >>> pair = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(pair, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> loss = ReliableLabels(noise=0).bind(Lesson(part, torch.nn.Identity(), None, torch.eye(2)))
    >>> loss(torch.eye(2)).item(), loss(torch.zeros(2, 2)).item() > 0
    (0.0, True)
    """

    noise: float = 1.0

    def __post_init__(self) -> None:
        """Check the argument."""
        if not 0 <= self.noise < float("inf"):
            raise ArgumentError("noise", "a finite number, 0 or more", self.noise)

    def bind(self, lesson: Lesson) -> Loss:
        """The divergence; the teacher is asked once more, with noise."""
        x, target = lesson.part.x, lesson.logits.softmax(-1)
        rho = torch.ones(len(x), device=x.device)
        if self.noise:
            noisy = x * (1 + torch.randn_like(x)) * self.noise
            rho = reliability(entropy(lesson.logits), entropy(lesson.ask(noisy)))

        def loss(logits: Tensor) -> Tensor:
            kept = torch.bernoulli(rho)
            return (kept * divergence(logits.log_softmax(-1), target)).sum() / kept.sum().clamp(min=1)

        return loss


@dataclass(frozen=True)
class NoisyFeatures(Term):
    r"""The teacher's word on a node, learned also from features moved against the student.

    .. math:: \frac{1}{N'} \sum_v \mathrm{KL}(t_v \,\|\, s(x_v + \delta_v)), \qquad
              \delta = \epsilon \operatorname{sign} \nabla_x \sum_v \mathrm{KL}(t_v \,\|\, s(x_v))

    Args:
        epsilon: how far a feature is moved, in its own unit; 0 is `SoftLabels` with another dropout mask.

    Costs two further passes of the student a step. Source: NOSMOG (Tian et al., ICLR 2023), adversarial feature
    augmentation, with one step of the sign of the gradient.

    >>> from hgraph.structure import Graph
    >>> from hgraph.train import TrainingView
    >>> pair = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(pair, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> lesson = Lesson(part, torch.nn.Identity(), None, torch.zeros(2, 2))
    >>> still, moved = (NoisyFeatures(epsilon).bind(lesson)(part.x) for epsilon in (0.0, 0.1))
    >>> bool(moved > still)
    True
    """

    epsilon: float = 0.01

    def __post_init__(self) -> None:
        """Check the argument."""
        if not 0 <= self.epsilon < float("inf"):
            raise ArgumentError("epsilon", "a finite number, 0 or more", self.epsilon)

    def bind(self, lesson: Lesson) -> Loss:
        """The divergence at the moved features."""
        x, student, target = lesson.part.x, lesson.student, lesson.logits.softmax(-1)

        def told(features: Tensor) -> Tensor:
            return divergence(student(features).log_softmax(-1), target)

        def loss(logits: Tensor) -> Tensor:
            free = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(told(free).sum(), free)
            return told(x + self.epsilon * slope.sign()).mean()

        return loss
