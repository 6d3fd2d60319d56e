"""Terms for reliable soft labels and for robustness of the student."""

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
    r"""Soft labels of nodes; each node is sampled with the reliability of the teacher's prediction.

    .. math:: \frac{1}{|K|} \sum_{v \in K} \mathrm{KL}(t_v \,\|\, s_v), \quad v \in K \text{ with probability } \rho_v

    with :math:`\rho_v` the `reliability` of the teacher's entropy at v under multiplicative feature noise.

    Args:
        noise: scale of that noise; 0 uses every node.

    Source: reliable knowledge distillation on graphs (Wu et al., ICML 2023), with the
    reliability of LightHGNN+ (Feng et al., ICLR 2024).

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
        """The divergence; evaluates the teacher once more, on noisy features."""
        x, target = lesson.teacher_x, lesson.logits.softmax(-1)
        rho = torch.ones(len(x), device=x.device)
        if self.noise:
            noisy = x * (1 + torch.randn_like(x)) * self.noise
            rho = reliability(entropy(lesson.logits), entropy(lesson.ask(noisy)))

        def loss(logits: Tensor) -> Tensor:
            sampled = torch.bernoulli(rho)
            return (sampled * divergence(logits.log_softmax(-1), target)).sum() / sampled.sum().clamp(min=1)

        return loss


@dataclass(frozen=True)
class NoisyFeatures(Term):
    r"""Soft labels on adversarially perturbed features of nodes.

    .. math:: \frac{1}{N'} \sum_v \mathrm{KL}(t_v \,\|\, s(x_v + \delta_v)), \qquad
              \delta = \epsilon \operatorname{sign} \nabla_x \sum_v \mathrm{KL}(t_v \,\|\, s(x_v))

    Args:
        epsilon: size of the perturbation of each feature; 0 is `SoftLabels` with another dropout mask.

    It takes two additional forward passes of the student per step. Source: NOSMOG (Tian et al., ICLR 2023), adversarial
    feature augmentation, with one step along the sign of the gradient.

    >>> from hgraph.structure import Graph
    >>> from hgraph.train import TrainingView
    >>> pair = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(pair, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> lesson = Lesson(part, torch.nn.Identity(), None, torch.zeros(2, 2))
    >>> clean, perturbed = (NoisyFeatures(epsilon).bind(lesson)(part.x) for epsilon in (0.0, 0.1))
    >>> bool(perturbed > clean)
    True
    """

    epsilon: float = 0.01

    def __post_init__(self) -> None:
        """Check the argument."""
        if not 0 <= self.epsilon < float("inf"):
            raise ArgumentError("epsilon", "a finite number, 0 or more", self.epsilon)

    def bind(self, lesson: Lesson) -> Loss:
        """The divergence at the perturbed features."""
        x, student, target = lesson.part.x, lesson.student, lesson.logits.softmax(-1)

        def divergence_at(features: Tensor) -> Tensor:
            return divergence(student(features).log_softmax(-1), target)

        def loss(logits: Tensor) -> Tensor:
            variable = x.detach().requires_grad_()
            with lesson.unrecorded():
                (gradient,) = torch.autograd.grad(divergence_at(variable).sum(), variable)
                return divergence_at(x + self.epsilon * gradient.sign()).mean()

        return loss
