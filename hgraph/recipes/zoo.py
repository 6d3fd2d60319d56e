"""Many networks under one protocol: several splits or seeds, published configurations, published results."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hgraph import datasets
from hgraph.data import Data, Split
from hgraph.errors import ArgumentError, did_you_mean
from hgraph.files import write_atomically
from hgraph.models import registry
from hgraph.recipes.recipe import read_results
from hgraph.report import Report
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
    rows = _chosen(recipe["rows"], only)
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.jsonl"
    number, epochs = recipe["seeds"] if seeds is None else seeds, recipe["epochs"] if epochs is None else epochs
    done = {(r["model"], r["dataset"], r["seed"], r["epochs"]) for r in read_results(results, _Record)}
    for seed in range(number):  # one seed of every network first, so that an early report is complete
        for row in rows:
            if (row["model"], row["dataset"], seed, epochs) in done:
                continue
            progress(f"{row['model']}, {row['dataset']}, seed {seed}")
            data = _PREPARE[recipe["split"]](row["dataset"], seed, root).to(device)
            record = _trained(row, data, seed, epochs)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
    report = folder / "report.md"
    records = [r for r in read_results(results, _Record) if r["epochs"] == epochs]
    write_atomically(report, _report(recipe, recipe["rows"], records).encode())
    return report


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
    return {
        "model": row["model"], "dataset": row["dataset"], "seed": seed, "epochs": epochs,
        "accuracy": 100 * accuracy(logits[test], data.y[test]), "best_epoch": result.best_epoch,
        "seconds": round(time.perf_counter() - begin, 1),
    }  # fmt: skip


def _chosen(rows: list[dict[str, Any]], only: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the named data sets, of the named models, or of both."""
    sets, models = ({row[key] for row in rows} for key in ("dataset", "model"))
    for name in only:
        if name not in sets | models:
            known = sorted(sets | models)
            raise ArgumentError(
                "only", f"data sets or models of the recipe, {known}", repr(name), did_you_mean(name, known)
            )
    sets, models = ({n for n in only if n in some} or some for some in (sets, models))
    return [row for row in rows if row["dataset"] in sets and row["model"] in models]


def _report(recipe: dict[str, Any], rows: list[dict[str, Any]], records: list[dict[str, Any]]) -> str:
    report = Report(recipe["title"]).text(
        "Protocol. " + recipe["protocol"].strip(),
        "Deviations. " + recipe["deviations"].strip(),
        "Test accuracy in percent, mean +- standard deviation.",
    )
    header = "network, data set, seeds, here, published, difference / published deviation, s per seed"
    table = [header.split(", ")]
    for row in rows:
        found = [r for r in records if (r["model"], r["dataset"]) == (row["model"], row["dataset"])]
        values = [r["accuracy"] for r in found]
        if not values:
            continue
        mean, std = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
        known: list[float] = row.get("published", [])
        cells = [registry.find(row["model"]).title, row["dataset"], str(len(values)), f"{mean:.2f} +- {std:.2f}"]
        cells += [" +- ".join(f"{number:.2f}" for number in known)]
        spread = known[1] if len(known) > 1 else 0.0
        cells += [f"{(mean - known[0]) / spread:+.1f}" if spread else ""]
        cells.append(f"{statistics.mean(r['seconds'] for r in found):.0f}")
        table.append(cells)
    return str(report.table(table, align="left"))
