"""`fit_graphs` trains on batches of many small graphs or hypergraphs; `graph_outputs` predicts their labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.checks import real, whole
from hgraph.data import Data, Parts, collate
from hgraph.data.io import digest_of, fingerprint
from hgraph.data.labels import labeled
from hgraph.errors import ArgumentError
from hgraph.train.checkpoint import Checkpoint
from hgraph.train.loop import FitResult, descend, score_of, train_loop
from hgraph.train.mode import eval_mode
from hgraph.train.tasks import NodeTask, task_of

__all__ = ["fit_graphs", "graph_labels", "graph_outputs", "graphs_digest"]

_TOGETHER = 256  # examples per batch without gradients


def fit_graphs(
    model: nn.Module,
    examples: Sequence[Data],
    parts: Parts,
    *,
    task: NodeTask | None = None,
    epochs: int = 100,
    batch: int = 32,
    lr: float = 0.01,
    weight_decay: float = 0.0,
    schedule: Callable[[int, int], float] | None = None,
    eval_every: int = 1,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 50,
    log: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | None = None,
    label: str = "fit",
) -> FitResult:
    """Train a model for whole graphs or hypergraphs with Adam, then restore its best state and set it to eval mode.

    Use it for data sets with one label per graph, such as molecules: ``datasets.load("mutag")``.

    An epoch visits every labeled training example once, in a random order, in batches. Every ``eval_every`` epochs the
    validation examples are scored; without any, the last state is used. The same seed gives the same result.

    Args:
        model: a module of (x, structure, items), such as `hgraph.models.GraphClassifier`.
        examples: one `Data` per example, with ``target="graph"``, such as a `Dataset`.
        parts: the training and validation examples.
        task: how the labels are learned and scored; None derives it from the labels, see `task_of`.
        epochs: maximum number of epochs.
        batch: examples per step.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        schedule: factor of ``lr`` in each epoch, see `cosine`; None is always 1.
        eval_every: score every this many epochs, and after the last one.
        patience: stop after this many scores without a better one; None never stops early.
        checkpoint: a file to resume from and to save the state to, as in `fit`.
        save_every: epochs between two checkpoints.
        log: a JSON lines file for the history, one line per epoch.
        seed: seed of the order and of dropout.
        progress: show a progress bar on stderr; None shows it on a terminal only.
        label: name of this training in the progress bar and the log.

    Raises:
        ArgumentError: a number out of range, or no labeled training example.
        TrainingError: a loss or score is not finite.

    >>> from hgraph import Graph
    >>> from hgraph.models import Stack, GraphClassifier
    >>> pairs = [[0], [1]], [[0, 1, 2], [1, 2, 0]]
    >>> pair, triangle = (Graph.from_edge_index(e, num_nodes=3, directed=False) for e in pairs)
    >>> many = [Data(g, torch.ones(3, 1), torch.tensor(i), target="graph") for i, g in enumerate((pair, triangle))]
    >>> model, ids = GraphClassifier(Stack("GINConv", 1, 8, 2)), torch.arange(2)
    >>> len(fit_graphs(model, many, Parts(ids, ids[:0], ids[:0]), epochs=3).history)
    3
    """
    whole("epochs", epochs)
    whole("batch", batch, 1)
    whole("eval_every", eval_every, 1)
    whole("save_every", save_every, 1)
    real("lr", lr, "a finite number, 0 or more")
    real("weight_decay", weight_decay, "a finite number, 0 or more")
    if patience is not None:
        whole("patience", patience, 1)
    y = graph_labels(examples)
    task = task_of(y, parts.train) if task is None else task
    if task.class_weight is not None:
        raise ArgumentError("class_weight", "None, because the classes of a batch vary", task.class_weight)
    parts.validate(len(examples))
    known = labeled(y)
    train, val = (part[known[part]] for part in (parts.train, parts.val))
    if not len(train):
        raise ArgumentError("parts", "at least one training example with a label", "none")
    settings: dict[str, Any] = {
        "seed": seed,
        "lr": lr,
        "weight_decay": weight_decay,
        "batch": batch,
        "eval_every": eval_every,
    }
    settings |= {"schedule": None if schedule is None else [getattr(schedule, "__name__", repr(schedule)), epochs]}
    if checkpoint is not None:  # on other data or parts, the training would go on towards something else
        settings["data"] = graphs_digest(examples, parts)
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)

    def steps(epoch: int) -> float:
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = lr if schedule is None else lr * schedule(epoch, epochs)
        total = 0.0
        for ids in _batches(train[torch.randperm(len(train))], batch):
            part = collate([examples[i] for i in ids.tolist()]).to(device)
            every = torch.arange(len(ids), device=device)
            loss = task.loss(part.y, every)(model(part.x, part.structure, part.items))
            total += descend(optimizer, loss, epoch) * len(ids)
        return total / len(train)

    def score(measure: Callable[[Tensor], float], epoch: int) -> float:
        return score_of(graph_outputs(model, examples, val), measure, epoch)

    measure = task.score(y[val], torch.arange(len(val))) if len(val) else None
    return train_loop(
        model, steps, None if measure is None else partial(score, measure), Checkpoint(checkpoint, settings),
        optimizer=optimizer, devices=[device], epochs=epochs, seed=seed, label=label, eval_every=eval_every,
        patience=patience, save_every=save_every, log=log, progress=progress,
    )  # fmt: skip


def _batches(ids: Tensor, size: int) -> list[Tensor]:
    """Batches of that size; one example that is left over joins the batch before: a batch norm needs two nodes."""
    batches = list(ids.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def graphs_digest(examples: Sequence[Data], parts: Parts) -> str:
    """SHA-256 of all graphs with their features and labels, and of the parts, in hexadecimal.

    Use it to notice that data have changed since a training.

    >>> from hgraph import Graph
    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> one, none = Data(graph, torch.ones(2, 1), torch.tensor(0), target="graph"), torch.empty(0, dtype=torch.long)
    >>> graphs_digest([one], Parts(none, none, none)) == graphs_digest([one, one], Parts(none, none, none))
    False
    """
    together = collate([examples[i] for i in range(len(examples))])
    tensors = {"x": together.x, "y": together.y, "batch": together.meta["batch"]}
    return digest_of(tensors | vars(parts), fingerprint(together.structure))


def graph_labels(examples: Sequence[Data]) -> Tensor:
    """The labels of all examples, [B] or [B, C].

    Use it to count or score the labels of a data set of graphs.

    Raises:
        ArgumentError: no examples, or labels of nodes, hyperedges or edges.

    >>> from hgraph import Graph
    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> graph_labels([Data(graph, torch.ones(2, 1), torch.tensor(i), target="graph") for i in (1, 0)]).tolist()
    [1, 0]
    """
    found = [examples[i] for i in range(len(examples))]
    others = [data.target for data in found if data.target != "graph"]
    if others or not found:
        hint = 'Build each as Data(structure, x, y, target="graph"), which has one label'
        raise ArgumentError(
            "examples", "graphs with one label each", f"labels of a {others[0]}" if others else "none", hint
        )
    return torch.stack([data.y for data in found])


@torch.no_grad()
def graph_outputs(model: nn.Module, examples: Sequence[Data], ids: Tensor | None = None) -> Tensor:
    """The outputs [B, C] of a model for some examples, in batches, in eval mode.

    Use it to evaluate a model that `fit_graphs` trained.

    Args:
        model: a module of (x, structure, items).
        examples: one `Data` per example.
        ids: [B] numbers of the examples to predict; None means all.

    >>> from hgraph import Graph
    >>> from hgraph.models import Stack, GraphClassifier
    >>> graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    >>> one = Data(graph, torch.ones(2, 1), torch.tensor(0), target="graph")
    >>> graph_outputs(GraphClassifier(Stack("GCNConv", 1, 8, 2)), [one, one, one]).shape
    torch.Size([3, 2])
    """
    device = next(model.parameters()).device
    numbers = list(range(len(examples))) if ids is None else torch.as_tensor(ids).tolist()
    if not all(0 <= number < len(examples) for number in numbers):
        raise ArgumentError("ids", f"examples in 0 .. {len(examples) - 1}", f"{min(numbers)} .. {max(numbers)}")
    found = []
    with eval_mode(model):
        for first in range(0, len(numbers), _TOGETHER):
            part = collate([examples[i] for i in numbers[first : first + _TOGETHER]]).to(device)
            found.append(model(part.x, part.structure, part.items))
    if not found:
        raise ArgumentError("ids", "at least one example", "none")
    return torch.cat(found)
