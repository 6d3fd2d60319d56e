"""What training may see of a `Data` under a split."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hgraph.data import Data, Split
from hgraph.data.labels import labeled
from hgraph.errors import ArgumentError
from hgraph.structure import Graph, Hypergraph
from hgraph.train.metrics import accuracy

__all__ = ["Observed", "observed", "of_data", "supervised"]


@dataclass(frozen=True, eq=False)
class Observed:
    """The observed nodes of a split, numbered as its training structure numbers them.

    Args:
        structure: the training structure, on N' nodes.
        x: [N', F] features of these nodes.
        y: [N'] their labels.
        train: ids in 0 .. N'-1 of the training nodes that have a label.
        val: ids in 0 .. N'-1 of the validation nodes that have one.

    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = Observed(graph, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> part.y[part.val]
    tensor([1])
    """

    structure: Graph | Hypergraph
    x: Tensor
    y: Tensor
    train: Tensor
    val: Tensor


def observed(data: Data, split: str = "default") -> Observed:
    """Cut a `Data` down to what training may see: everything when transductive, else the observed nodes.

    Nodes without a label are in neither part, whatever the split says; messages flow over them all the same.

    Args:
        data: features, labels and splits.
        split: the name of one of its splits.

    Raises:
        ArgumentError: there is no split of that name.

    >>> from hgraph.data import Split

    >>> from hgraph.structure import Hypergraph
    >>> hg, ids = Hypergraph.from_lists([[0, 1], [1, 2]], num_nodes=3), torch.arange(3)
    >>> split = Split(hg.subhypergraph(ids[1:]), train=ids[1:2], val=ids[2:], test=ids[:1], observed=ids[1:])
    >>> part = observed(Data(hg, torch.eye(3), ids, {"default": split}))
    >>> part.y.tolist(), part.train.tolist(), part.val.tolist()
    ([1, 2], [0], [1])
    """
    parts = data.split(split)
    there = labeled(data.y)
    train, val = (part[there[part]] for part in (parts.train, parts.val))
    if parts.observed is None:
        return Observed(parts.structure, data.x, data.y, train, val)
    seen = parts.observed
    position = torch.full((data.num_nodes,), -1, device=seen.device)
    position[seen] = torch.arange(len(seen), device=seen.device)
    return Observed(parts.structure, data.x[seen], data.y[seen], position[train], position[val])


def supervised(part: Observed) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], float] | None]:
    """The mean cross-entropy on the training nodes, and the accuracy on the validation nodes (None if none).

    Both are functions of logits [N', C], as `fit` takes them; nodes without a label count in neither.

    Raises:
        ArgumentError: by the loss, no training node with a label, or labels that are no class numbers.

    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> part = Observed(graph, torch.eye(2), torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]))
    >>> loss, validate = supervised(part)
    >>> round(loss(torch.zeros(2, 2)).item(), 4), validate(torch.eye(2))  # log 2; node 1 is right
    (0.6931, 1.0)
    """
    train, val = (ids[labeled(part.y)[ids]] for ids in (part.train, part.val))
    validate = None
    if len(val):

        def validate(logits: Tensor) -> float:
            return accuracy(logits[val], part.y[val])

    def loss(logits: Tensor) -> Tensor:
        if not len(train):  # here, as a student may learn from its teacher alone
            raise ArgumentError("part", "at least one training node with a label", f"{len(part.train)} without one")
        if part.y.dim() == 1 and part.y.is_floating_point():
            hint = "y.nan_to_num(-1).long(), if these are classes"
            raise ArgumentError("y", "class numbers", part.y.dtype, hint)
        return F.cross_entropy(logits[train], part.y[train])

    return loss, validate


def of_data(
    model: nn.Module,
    data: Data,
    split: str,
    loss: Callable[[Any], Tensor] | None,
    validate: Callable[[Any], float] | None,
) -> tuple[tuple[Any, ...], Callable[[Any], Tensor], Callable[[Any], float] | None]:
    """A model's arguments, the loss and the score of a `Data`, as `fit` takes them."""
    if not isinstance(data.splits.get(split), Split):
        hint = "Data.from_masks(structure, x, y, train_mask=...) and Split.per_class(structure, y) make splits of nodes"
        raise ArgumentError("split", f"a split of nodes, one of {sorted(data.splits)}", repr(split), hint)
    part = observed(data, split)
    own_loss, own_validate = supervised(part)
    inputs: tuple[Any, ...] = (part.x, part.structure) if _reads_structure(model) else (part.x,)
    return inputs, own_loss if loss is None else loss, own_validate if validate is None else validate


def _reads_structure(model: nn.Module) -> bool:
    """Whether forward has a second argument that it needs."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    return sum(p.kind in kinds and p.default is p.empty for p in parameters) > 1
