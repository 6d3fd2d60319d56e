"""Many networks under one protocol: several splits or seeds, published configurations, published results."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hgraph import datasets
from hgraph.data import Data, Split
from hgraph.errors import ArgumentError
from hgraph.models import registry
from hgraph.recipes.rows import run_rows
from hgraph.structure import Graph, Hypergraph
from hgraph.train import accuracy, build_model, classification_loss, eval_mode, fit, training_view

__all__ = ["halves", "public", "run"]


@dataclass(frozen=True)
class _Record:
    """The keys of a line of ``results.jsonl``."""

    model: str
    dataset: str
    seed: int
    epochs: int
    accuracy: float
    seconds: float


def run(
    recipe: dict[str, Any],
    folder: Path,
    *,
    only: Sequence[str] = (),
    seeds: int | None = None,
    epochs: int | None = None,
    device: torch.device | str = "cpu",
    root: Path | None = None,
    progress: Callable[[str], None] = print,
) -> Path:
    """Train the missing networks of the recipe; returns the path of ``report.md``.

    Args:
        recipe: the content of the TOML file.
        folder: appends one line per trained network to ``results.jsonl``; writes ``report.md`` at the end.
        only: names of data sets or of models; none runs all.
        seeds: seeds 0 .. seeds-1 of weights and, if it is random, of the split; None takes the recipe's number.
        epochs: number of epochs of every training; None takes the recipe's.
        device: device for training.
        root: folder of data files.
        progress: called with a message before each training.

    Raises:
        ArgumentError: a name in ``only`` that the recipe does not have.
    """
    prepare = _PREPARE[recipe["split"]]

    def train(row: dict[str, Any], seed: int, epochs: int) -> dict[str, Any]:
        return _trained(row, prepare(row["dataset"], seed, root).to(device), seed, epochs)

    options: dict[str, Any] = {"only": only, "seeds": seeds, "epochs": epochs, "progress": progress}
    return run_rows(recipe, folder, _Record, train, **options)


def halves(name: str, seed: int, root: Path | None = None) -> Data:
    """A hypergraph with binary features, a singleton for each isolated node, and half of its nodes for training."""
    data = datasets.load(name, root=root)[0]
    if not isinstance(data.structure, Hypergraph):
        raise ArgumentError("dataset", "a hypergraph", repr(name))
    structure, n = data.structure.with_singletons(), data.num_nodes
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    train, val, test = order.tensor_split([n // 2, n // 2 + n // 4])
    split = Split(structure, train.sort().values, val.sort().values, test.sort().values)
    x = (data.x != 0).to(data.x.dtype) if data.meta.get("row_sums") else data.x
    return dataclasses.replace(data, structure=structure, x=x, splits={"default": split})


def public(name: str, seed: int, root: Path | None = None) -> Data:
    """A graph with the split that came with it."""
    data = datasets.load(name, root=root)[0]
    if not isinstance(data.structure, Graph):
        raise ArgumentError("dataset", "a graph", repr(name))
    return data


_PREPARE = {"halves": halves, "public": public}


def _trained(row: dict[str, Any], data: Data, seed: int, epochs: int) -> dict[str, Any]:
    """Train one network; the record of its result."""
    begin = time.perf_counter()
    options: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in row["options"].items()}
    model = build_model(registry.find(row["model"]), data, seed=seed, **options).to(data.x.device)
    part = training_view(data)
    loss, validate = classification_loss(part)
    result = fit(
        model, (part.x, part.structure), loss, validate=validate, epochs=epochs, lr=row["lr"],
        weight_decay=row["weight_decay"], seed=seed, progress=False, label=row["model"],
    )  # fmt: skip
    with torch.no_grad(), eval_mode(model):
        logits = model(part.x, part.structure)
    test = data.split().test
    found = {"accuracy": 100 * accuracy(logits[test], data.y[test]), "best_epoch": result.best_epoch}
    return found | {"seconds": round(time.perf_counter() - begin, 1)}
