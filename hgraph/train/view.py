"""The part of a `Data` that training uses under a split."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.data import Data, Split
from hgraph.data.labels import labeled
from hgraph.errors import ArgumentError
from hgraph.structure import Graph, Hypergraph
from hgraph.train.tasks import Classification, NodeTask, task_of

__all__ = ["TrainingView", "classification_loss", "of_data", "task_loss", "training_view"]


@dataclass(frozen=True, eq=False)
class TrainingView:
    """The observed nodes of a split, with the ids of its training structure.

    Args:
        structure: the training structure, on N' nodes.
        x: [N', F] features of these nodes.
        y: [N'] their labels.
        train: ids in 0 .. N'-1 of the labeled training nodes.
        val: ids in 0 .. N'-1 of the labeled validation nodes.
        task: how these labels are learned and scored; None derives it from ``y``.

    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(graph, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> part.y[part.val]
    tensor([1])
    """

    structure: Graph | Hypergraph
    x: Tensor
    y: Tensor
    train: Tensor
    val: Tensor
    task: NodeTask = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        """Find the task of the labels."""
        if self.task is None:
            object.__setattr__(self, "task", task_of(self.y, self.train))


def training_view(data: Data, split: str = "default", *, task: NodeTask | None = None) -> TrainingView:
    """Restrict a `Data` to the nodes of training: all for a transductive split, else the observed nodes.

    Use it when a network is trained in your own loop, so that no unseen node is used.

    Unlabeled nodes are in neither ``train`` nor ``val``, but messages still flow over them.

    Args:
        data: features, labels and splits.
        split: the name of one of its splits.
        task: how the labels are learned and scored; None derives it from the labels, see `task_of`.

    Raises:
        ArgumentError: there is no split with this name.

    >>> from hgraph.data import Split
    >>> from hgraph.structure import Hypergraph
    >>> hg, ids = Hypergraph.from_lists([[0, 1], [1, 2]], num_nodes=3), torch.arange(3)
    >>> split = Split(hg.subhypergraph(ids[1:]), train=ids[1:2], val=ids[2:], test=ids[:1], observed=ids[1:])
    >>> part = training_view(Data(hg, torch.eye(3), ids, {"default": split}))
    >>> part.y.tolist(), part.train.tolist(), part.val.tolist()
    ([1, 2], [0], [1])
    """
    parts = data.split(split)
    known = labeled(data.y)
    train, val = (part[known[part]] for part in (parts.train, parts.val))
    if parts.observed is None:
        return TrainingView(parts.structure, data.x, data.y, train, val, task)  # type: ignore[arg-type]
    seen = parts.observed
    position = torch.full((data.num_nodes,), -1, device=seen.device)
    position[seen] = torch.arange(len(seen), device=seen.device)
    x = data.x[seen] if parts.x is None else parts.x
    return TrainingView(parts.structure, x, data.y[seen], position[train], position[val], task)  # type: ignore[arg-type]


def classification_loss(part: TrainingView) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], float] | None]:
    """The mean cross-entropy on the training nodes, and the accuracy on the validation nodes (None without any).

    Use it when `fit` is called with a `TrainingView` instead of a `Data`.

    Both are functions of logits [N', C] for `fit`; unlabeled nodes are ignored.

    Raises:
        ArgumentError: raised by the loss if no training node is labeled, or if labels are not class numbers.

    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(graph, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> loss, validate = classification_loss(part)
    >>> round(loss(torch.zeros(2, 2)).item(), 4), validate(torch.eye(2))  # log 2; node 1 is right
    (0.6931, 1.0)
    """
    task = Classification()
    return task.loss(part.y, part.train), task.score(part.y, part.val)


def task_loss(part: TrainingView) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], float] | None]:
    """The loss of the training nodes and the score of the validation nodes (None without any), by the task of the part.

    Use it when `fit` is called with a `TrainingView` whose labels may be classes, several labels, or numbers.

    Both are functions of the outputs [N', C] of a network; unlabeled nodes are ignored.

    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = TrainingView(graph, torch.eye(2), torch.tensor([3.0, 5.0]), torch.tensor([0]), torch.tensor([1]))
    >>> loss, validate = task_loss(part)
    >>> loss(torch.zeros(2, 1)).item(), validate(torch.zeros(2, 1))  # predicts the training mean 3
    (0.0, -2.0)
    """
    return part.task.loss(part.y, part.train), part.task.score(part.y, part.val)


def of_data(
    model: nn.Module,
    data: Data,
    split: str,
    loss: Callable[[Any], Tensor] | None,
    validate: Callable[[Any], float] | None,
) -> tuple[tuple[Any, ...], Callable[[Any], Tensor], Callable[[Any], float] | None]:
    """The arguments of the model, the loss and the score for `fit` on a `Data`."""
    if not isinstance(data.splits.get(split), Split):
        hint = "Data.from_masks(structure, x, y, train_mask=...) and Split.per_class(structure, y) make splits of nodes"
        raise ArgumentError("split", f"a split of nodes, one of {sorted(data.splits)}", repr(split), hint)
    part = training_view(data, split)
    default_loss, default_validate = task_loss(part)
    inputs: tuple[Any, ...] = (part.x, part.structure) if _reads_structure(model) else (part.x,)
    return inputs, default_loss if loss is None else loss, default_validate if validate is None else validate


def _reads_structure(model: nn.Module) -> bool:
    """Whether forward has a second required argument."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    return sum(p.kind in kinds and p.default is p.empty for p in parameters) > 1
