"""Hidden layers: looked at, and matched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hgraph.distill.objectives.lesson import Lesson, Loss, Term
from hgraph.errors import ArgumentError
from hgraph.train import eval_mode

__all__ = ["MatchEmbedding", "MatchSimilarity", "activations"]


@torch.no_grad()
def activations(module: nn.Module, layer: str, *inputs: Any) -> Tensor:
    """What a layer inside a module gives out, in eval mode.

    Args:
        module: any network; its mode is given back.
        layer: the layer's name in ``module.named_modules()``.
        *inputs: the module's positional arguments.

    Raises:
        ArgumentError: no layer of that name, or one that the call did not reach.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> activations(net, "0", torch.ones(4, 2)).shape
    torch.Size([4, 3])
    """
    with _listening(module, layer) as heard, eval_mode(module):
        module(*inputs)
        return _last(heard, layer)


@dataclass(frozen=True, eq=False)
class MatchEmbedding(Term):
    r"""Mean squared distance between a hidden layer of the student and the teacher's embedding.

    .. math:: \frac{1}{N' D} \sum_v \lVert P h_v - h^{teacher}_v \rVert_2^2

    P is learned with the student where the widths differ, the identity where they agree.

    Args:
        target: the teacher's embedding [N', D] of the observed nodes; `activations` takes it from a layer.
        layer: the name of the student's layer in ``student.named_modules()``.

    >>> from hgraph.structure import Graph
    >>> from hgraph.train import TrainingView
    >>> pair = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(pair, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> student = nn.Sequential(nn.Identity())
    >>> loss = MatchEmbedding(torch.zeros(2, 2), layer="0").bind(Lesson(part, student, None, None))
    >>> loss(student(part.x))  # 2 of 4 numbers are off by 1
    tensor(0.5000)
    """

    target: Tensor = field(repr=False)
    layer: str

    def bind(self, lesson: Lesson) -> Loss:
        """The distance, of what the layer gave out in the forward pass that made the logits."""
        heard, target = _hear(lesson, self.layer, self.target)
        width = activations(lesson.student, self.layer, lesson.part.x).shape[1]
        project: nn.Module = nn.Identity()
        if width != target.shape[1]:
            project = nn.Linear(width, target.shape[1], bias=False).to(target.device)
            lesson.learned[f"match_{len(lesson.learned)}"] = project
        return lambda logits: F.mse_loss(project(_last(heard, self.layer)), target)


@dataclass(frozen=True, eq=False)
class MatchSimilarity(Term):
    r"""Squared distance between the cosine similarities of nodes, in a layer of the student and in the teacher.

    .. math:: \frac{1}{n^2} \sum_{u, v \in B} (\cos(h_u, h_v) - \cos(h^{teacher}_u, h^{teacher}_v))^2

    B are ``sample`` nodes drawn anew in every step, so that memory stays O(sample^2).

    Args:
        target: the teacher's embedding [N', D] of the observed nodes.
        layer: the name of the student's layer.
        sample: n.

    Source: NOSMOG (Tian et al., ICLR 2023), representational similarity distillation.

    >>> from hgraph.structure import Graph
    >>> from hgraph.train import TrainingView
    >>> pair = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(pair, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> student = nn.Sequential(nn.Identity())
    >>> loss = MatchSimilarity(2 * torch.eye(2), layer="0").bind(Lesson(part, student, None, None))
    >>> loss(student(part.x)).item()  # lengths do not matter
    0.0
    """

    target: Tensor = field(repr=False)
    layer: str
    sample: int = 1024

    def bind(self, lesson: Lesson) -> Loss:
        """The distance, of what the layer gave out in the forward pass that made the logits."""
        heard, target = _hear(lesson, self.layer, self.target)

        def loss(logits: Tensor) -> Tensor:
            drawn = torch.randperm(len(target), device=target.device)[: self.sample]
            own, other = (F.normalize(z[drawn], dim=1) for z in (_last(heard, self.layer), target))
            return F.mse_loss(own @ own.T, other @ other.T)

        return loss


def _hear(lesson: Lesson, layer: str, target: Tensor) -> tuple[list[Tensor], Tensor]:
    x = lesson.part.x
    if target.dim() != 2 or len(target) != len(x):
        raise ArgumentError("target", f"embeddings [{len(x)}, D], one row an observed node", list(target.shape))
    heard: list[Tensor] = []
    lesson.hooks.append(_find(lesson.student, layer).register_forward_hook(_keeper(heard)))
    return heard, target.detach().to(x)


@contextmanager
def _listening(module: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    heard: list[Tensor] = []
    hook = _find(module, layer).register_forward_hook(_keeper(heard))
    try:
        yield heard
    finally:
        hook.remove()


def _keeper(heard: list[Tensor]) -> Any:
    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        heard[:] = [output]

    return keep


def _find(module: nn.Module, layer: str) -> nn.Module:
    layers = dict(module.named_modules())
    if layer not in layers:
        raise ArgumentError("layer", f"one of {[name for name in layers if name]}", repr(layer))
    return layers[layer]


def _last(heard: list[Tensor], layer: str) -> Tensor:
    if not heard:
        raise ArgumentError("layer", "a layer that the forward pass calls", repr(layer))
    return heard[-1]
