"""Graph classification on the published ten folds (Xu et al., ICLR 2019)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from hgraph import datasets
from hgraph.data import Data, Parts
from hgraph.errors import ArgumentError
from hgraph.models import GraphClassifier, registry
from hgraph.recipes.rows import run_rows
from hgraph.train import build_model, fit_graphs

__all__ = ["halved", "run", "with_degrees"]


@dataclass(frozen=True)
class _Record:
    """The keys of a line of ``results.jsonl``."""

    model: str
    dataset: str
    seed: int
    epochs: int
    curve: tuple[float, ...]
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
    """Train the missing folds; returns the path of ``report.md``. A seed is a fold.

    Args:
        recipe: the content of the TOML file.
        folder: appends one line per fold to ``results.jsonl``; writes ``report.md`` at the end.
        only: names of data sets or of models; none runs all.
        seeds: folds 1 .. seeds; None takes all ten.
        epochs: number of epochs of every training; None takes the recipe's.
        device: device for training.
        root: folder of data files.
        progress: called with a message before each training.

    Raises:
        ArgumentError: a name in ``only`` that the recipe does not have.
    """
    if seeds is not None and seeds > recipe["seeds"]:
        raise ArgumentError("seeds", f"at most {recipe['seeds']}, the number of folds", seeds)
    loaded: dict[str, tuple[list[Data], dict[str, Parts]]] = {}

    def train(row: dict[str, Any], seed: int, epochs: int) -> dict[str, Any]:
        name = row["dataset"]
        if name not in loaded:
            found = datasets.load(name, root=root)
            examples = list(found)
            loaded[name] = with_degrees(examples) if row.get("degrees") else examples, found.splits
        examples, splits = loaded[name]
        return _trained(row, examples, splits[f"fold-{seed + 1}"], seed, epochs, device)

    options: dict[str, Any] = {"only": only, "seeds": seeds, "epochs": epochs, "progress": progress}
    return run_rows(recipe, folder, _Record, train, values=at_best_epoch, **options)


def at_best_epoch(records: list[dict[str, Any]]) -> list[float]:
    """The accuracies of the folds after the epoch whose mean over the folds is the highest."""
    means = [statistics.mean(column) for column in zip(*(r["curve"] for r in records), strict=True)]
    best = means.index(max(means))
    return [r["curve"][best] for r in records]


def with_degrees(examples: list[Data]) -> list[Data]:
    """The examples with one-hot degrees as features of their nodes."""
    degrees = [data.structure.adj.indptr.diff().long() for data in examples]  # type: ignore[union-attr]
    values = torch.unique(torch.cat(degrees))
    return [
        replace(data, x=F.one_hot(torch.searchsorted(values, degree), len(values)).float())
        for data, degree in zip(examples, degrees, strict=True)
    ]


def halved(epoch: int, epochs: int) -> float:
    """The factor of the learning rate: half as much every 50 epochs."""
    return 0.5 ** ((epoch - 1) // 50)


def _trained(
    row: dict[str, Any], examples: list[Data], fold: Parts, seed: int, epochs: int, device: torch.device | str
) -> dict[str, Any]:
    begin = time.perf_counter()
    network = build_model(registry.find(row["model"]), examples[0], seed=seed, **row["options"])
    model = GraphClassifier(network, row["readout"]).to(device)
    # as published, the test part of a fold is scored after each epoch, and the epoch is chosen for all folds together
    parts = Parts(fold.train, fold.test, fold.train[:0])
    result = fit_graphs(
        model, examples, parts, epochs=epochs, batch=row["batch"], lr=row["lr"], schedule=halved, seed=seed,
        progress=False, label=row["model"],
    )  # fmt: skip
    curve = [round(100 * record["validation"], 4) for record in result.history]
    return {"curve": curve, "seconds": round(time.perf_counter() - begin, 1)}
