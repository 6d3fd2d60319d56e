"""`run_rows`: trains networks on data sets with several seeds each, and compares them with published results."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hgraph.errors import ArgumentError, did_you_mean
from hgraph.files import write_atomically
from hgraph.models import registry
from hgraph.recipes.recipe import read_results
from hgraph.report import Report

__all__ = ["run_rows"]

Record = dict[str, Any]


def run_rows(
    recipe: dict[str, Any],
    folder: Path,
    kind: type[Any],
    train: Callable[[dict[str, Any], int, int], Record],
    *,
    values: Callable[[list[Record]], list[float]] | None = None,
    only: Sequence[str] = (),
    seeds: int | None = None,
    epochs: int | None = None,
    progress: Callable[[str], None] = print,
) -> Path:
    """Train the missing networks of a recipe; returns the path of ``report.md``.

    Args:
        recipe: the content of the TOML file.
        folder: appends one line per trained network to ``results.jsonl``; writes ``report.md`` at the end.
        kind: a dataclass with the keys of a line and their types.
        train: a function of (row, seed, epochs) that trains a network and returns its part of the line.
        values: the accuracies of the seeds of a row, from their lines; None takes ``accuracy`` of each.
        only: names of data sets or of models; none runs all.
        seeds: seeds 0 .. seeds-1; None takes the recipe's number.
        epochs: number of epochs of every training; None takes the recipe's.
        progress: called with a message before each training.

    Raises:
        ArgumentError: a name in ``only`` that the recipe does not have.
    """
    rows = _chosen(recipe["rows"], only)
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.jsonl"
    number, epochs = recipe["seeds"] if seeds is None else seeds, recipe["epochs"] if epochs is None else epochs
    done = {(r["model"], r["dataset"], r["seed"], r["epochs"]) for r in read_results(results, kind)}
    for seed in range(number):  # one seed of every network first, so that an early report is complete
        for row in rows:
            if (row["model"], row["dataset"], seed, epochs) in done:
                continue
            progress(f"{row['model']}, {row['dataset']}, seed {seed}")
            record = {"model": row["model"], "dataset": row["dataset"], "seed": seed, "epochs": epochs}
            record |= train(row, seed, epochs)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
    report = folder / "report.md"
    records = [r for r in read_results(results, kind) if r["epochs"] == epochs]
    write_atomically(report, _report(recipe, records, _accuracies if values is None else values).encode())
    return report


def _accuracies(records: list[Record]) -> list[float]:
    return [record["accuracy"] for record in records]


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


def _report(recipe: dict[str, Any], records: list[Record], values: Callable[[list[Record]], list[float]]) -> str:
    report = Report(recipe["title"]).text(
        "Protocol. " + recipe["protocol"].strip(),
        "Deviations. " + recipe["deviations"].strip(),
        "Test accuracy in percent, mean +- standard deviation.",
    )
    header = "network, data set, seeds, here, published, difference / published deviation, s per seed"
    table = [header.split(", ")]
    for row in recipe["rows"]:
        found = [r for r in records if (r["model"], r["dataset"]) == (row["model"], row["dataset"])]
        if not found:
            continue
        some = values(found)
        mean, std = statistics.mean(some), statistics.stdev(some) if len(some) > 1 else 0.0
        known: list[float] = row.get("published", [])
        cells = [registry.find(row["model"]).title, row["dataset"], str(len(some)), f"{mean:.2f} +- {std:.2f}"]
        cells += [" +- ".join(f"{number:.2f}" for number in known)]
        spread = known[1] if len(known) > 1 else 0.0
        cells += [f"{(mean - known[0]) / spread:+.1f}" if spread else ""]
        cells.append(f"{statistics.mean(r['seconds'] for r in found):.0f}")
        table.append(cells)
    return str(report.table(table, align="left"))
