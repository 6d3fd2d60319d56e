"""Activations of hidden layers, and terms that match them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hgraph.distill.objectives.lesson import Lesson, Loss, Term
from hgraph.errors import ArgumentError
from hgraph.train import eval_mode

__all__ = ["MatchEmbedding", "MatchSimilarity", "activations", "penultimate"]


@torch.no_grad()
def activations(module: nn.Module, layer: str, *inputs: Any) -> Tensor:
    """The output of a layer inside a module, in eval mode.

    Args:
        module: any network; its mode is restored.
        layer: name of the layer in ``module.named_modules()``.
        *inputs: positional arguments of the module.

    Raises:
        ArgumentError: there is no layer with that name, or the forward pass does not call it.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> activations(net, "0", torch.ones(4, 2)).shape
    torch.Size([4, 3])
    """
    with _recording(module, layer) as outputs, eval_mode(module):
        module(*inputs)
        return _last(outputs, layer)


@torch.no_grad()
def penultimate(module: nn.Module, *inputs: Any, call: Callable[..., Any] | None = None) -> Tensor:
    """The embedding that a network classifies: what enters the last of its children with parameters, in eval mode.

    Args:
        module: any network; its mode is restored.
        *inputs: positional arguments of the network.
        call: how to call it, for instance with a structure of another library; None calls the module.

    Raises:
        ArgumentError: no child of the network has parameters.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> penultimate(net, torch.ones(4, 2)).shape
    torch.Size([4, 3])
    """
    entered: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(_recorder_of_inputs(entered)) for layer in _parts(module)]
    try:
        with eval_mode(module):
            (module if call is None else call)(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return _last(entered, "last")


def _parts(module: nn.Module) -> list[nn.Module]:
    """The children with parameters; of an only child its own."""
    children = [child for child in module.children() if any(True for _ in child.parameters())]
    if not children:
        raise ArgumentError("module", "a network of several layers", type(module).__name__)
    return _parts(children[0]) if len(children) == 1 and list(children[0].children()) else children


@dataclass(frozen=True, eq=False)
class MatchEmbedding(Term):
    r"""Mean squared distance between a hidden layer of the student and the teacher's embedding.

    .. math:: \frac{1}{N' D} \sum_v \lVert P h_v - h^{teacher}_v \rVert_2^2

    P is the identity if the widths agree, else a projection trained with the student.

    Args:
        target: the teacher's embedding [N', D] of the observed nodes, for instance from `activations`.
        layer: name of the student's layer in ``student.named_modules()``.

    >>> from hgraph.structure import Graph
    >>> from hgraph.train import TrainingView
    >>> pair = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(pair, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> student = nn.Sequential(nn.Identity())
    >>> loss = MatchEmbedding(torch.zeros(2, 2), layer="0").bind(Lesson(part, student, None, None))
    >>> loss(student(part.x))  # 2 of 4 numbers differ by 1
    tensor(0.5000)
    """

    target: Tensor = field(repr=False)
    layer: str

    def bind(self, lesson: Lesson) -> Loss:
        """The loss on the output of the layer in the forward pass of the logits."""
        outputs, target = _record_layer(lesson, self.layer, self.target)
        width = activations(lesson.student, self.layer, lesson.part.x).shape[1]
        project: nn.Module = nn.Identity()
        if width != target.shape[1]:
            project = nn.Linear(width, target.shape[1], bias=False).to(target.device)
            lesson.learned[f"match_{len(lesson.learned)}"] = project
        return lambda logits: F.mse_loss(project(_last(outputs, self.layer)), target)


@dataclass(frozen=True, eq=False)
class MatchSimilarity(Term):
    r"""Squared distance between the cosine similarities of nodes, in a layer of the student and in the teacher.

    .. math:: \frac{1}{n^2} \sum_{u, v \in B} (\cos(h_u, h_v) - \cos(h^{teacher}_u, h^{teacher}_v))^2

    B is a new random sample of ``sample`` nodes in each step, so that memory is O(sample^2).

    Args:
        target: the teacher's embedding [N', D] of the observed nodes; None takes what enters the teacher's last layer.
        layer: name of the student's layer; None takes what enters its last layer.
        sample: n, the number of sampled nodes.

    Raises:
        ArgumentError: no target, and a teacher that is not a network of several layers.

    Source: NOSMOG (Tian et al., ICLR 2023), representational similarity distillation.

    >>> from hgraph.structure import Graph
    >>> from hgraph.train import TrainingView
    >>> pair = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(pair, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> student = nn.Sequential(nn.Identity())
    >>> loss = MatchSimilarity(2 * torch.eye(2), layer="0").bind(Lesson(part, student, None, None))
    >>> loss(student(part.x)).item()  # the lengths of vectors do not matter
    0.0
    """

    target: Tensor | None = field(default=None, repr=False)
    layer: str | None = None
    sample: int = 1024

    def bind(self, lesson: Lesson) -> Loss:
        """The loss on the output of the layer in the forward pass of the logits."""
        target = self.target
        if target is None:
            if lesson.embed is None:
                hint = "Pass the network itself, or target= for MatchSimilarity"
                raise ArgumentError("teacher", "a network whose embedding can be read", "no network", hint)
            target = lesson.embed()
        outputs, target = _record_layer(lesson, self.layer, target)

        def loss(logits: Tensor) -> Tensor:
            nodes = torch.randperm(len(target), device=target.device)[: self.sample]
            student, teacher = (F.normalize(z[nodes], dim=1) for z in (_last(outputs, self.layer), target))
            return F.mse_loss(student @ student.T, teacher @ teacher.T)

        return loss


def _record_layer(lesson: Lesson, layer: str | None, target: Tensor) -> tuple[list[Tensor], Tensor]:
    x = lesson.part.x
    if target.dim() != 2 or len(target) != len(x):
        raise ArgumentError("target", f"embeddings [{len(x)}, D], one row per observed node", list(target.shape))
    outputs: list[Tensor] = []
    if layer is None:
        record = _recorder_of_inputs(outputs, lesson.recording)
        lesson.hooks.extend(part.register_forward_pre_hook(record) for part in _parts(lesson.student))
    else:
        lesson.hooks.append(_find(lesson.student, layer).register_forward_hook(_recorder(outputs, lesson.recording)))
    return outputs, target.detach().to(x)


@contextmanager
def _recording(module: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    outputs: list[Tensor] = []
    hook = _find(module, layer).register_forward_hook(_recorder(outputs))
    try:
        yield outputs
    finally:
        hook.remove()


def _recorder(outputs: list[Tensor], recording: Sequence[bool] = (True,)) -> Any:
    def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if recording[0]:
            outputs[:] = [output]

    return record


def _recorder_of_inputs(entered: list[Tensor], recording: Sequence[bool] = (True,)) -> Any:
    def record(module: nn.Module, inputs: Any) -> None:
        if recording[0]:
            entered[:] = [inputs[0]]

    return record


def _find(module: nn.Module, layer: str) -> nn.Module:
    layers = dict(module.named_modules())
    if layer not in layers:
        raise ArgumentError("layer", f"one of {[name for name in layers if name]}", repr(layer))
    return layers[layer]


def _last(outputs: list[Tensor], layer: str | None) -> Tensor:
    if not outputs:
        raise ArgumentError("layer", "a layer that the forward pass calls", repr(layer))
    return outputs[-1]
