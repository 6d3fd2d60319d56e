"""`hgraph train --seeds`: the same training with several seeds, and the mean and deviation of its figures."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from hgraph.cli.common import LOG
from hgraph.cli.runs import REPORT, SEEDS_FILE, check_folder, write_json
from hgraph.errors import ArgumentError, DataError
from hgraph.report import Report, format_value
from hgraph.schema import parse

__all__ = ["Trained", "train_seeds"]

Trained = tuple[dict[str, Any], dict[str, Any], Path]  # head, figures, report


def train_seeds(
    one: Callable[[int, Path], Trained],
    folder: Path,
    first: int,
    count: int,
    settings: dict[str, Any],
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train with ``count`` seeds from ``first`` on, each in its own folder, and write and print a summary.

    After a stop, the same command continues with the seed that was not finished; a larger ``count`` adds seeds.

    Args:
        one: trains with a seed in a folder.
        folder: the folder of the summary; that of seed 3 is ``seed-3`` in it.
        first: the first seed.
        count: the number of seeds.
        settings: the options of the command, which must be the same when it continues.
        overwrite: whether to start over.
        as_json: whether to print JSON.

    Raises:
        ArgumentError: the folder has seeds with other options.
        DataError: the figures of earlier seeds cannot be read.
    """
    check_folder(folder)
    done = {} if overwrite else _finished(folder, settings)
    head: dict[str, Any] = {}
    for seed in range(first, first + count):
        if str(seed) not in done:
            found, figures, _ = one(seed, folder / f"seed-{seed}")
            done[str(seed)] = {"head": found, "figures": figures}
            write_json(folder / SEEDS_FILE, {"settings": settings, "seeds": done})
        else:
            LOG.info("seed %d is finished", seed)
        head = {name: value for name, value in done[str(seed)]["head"].items() if name != "seed"}
    seeds = list(range(first, first + count))
    rows = [done[str(seed)]["figures"] for seed in seeds]
    summary = {name: _summary([row.get(name) for row in rows]) for name in rows[0]}
    report = _report(head, seeds, rows, summary)
    from hgraph.files import write_atomically

    write_atomically(folder / REPORT, report.encode())
    if as_json:
        means, deviations = ({name: pair[i] for name, pair in summary.items()} for i in (0, 1))
        typer.echo(json.dumps(head | {"seeds": seeds, "mean": means, "std": deviations}, allow_nan=False))
        return
    width = max(map(len, summary))
    for name, pair in summary.items():
        typer.echo(f"{name.replace('_', ' ').ljust(width)}  {_shown(pair)}")
    typer.echo(f"{count} seeds from {first}; report: {folder / REPORT}")


def _finished(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    path = folder / SEEDS_FILE
    if not path.exists():
        return {}
    try:
        content = parse(path.read_bytes(), path)
        before, done = content["settings"], dict(content["seeds"])
        parts = [before, *(done[seed][name] for seed in done for name in ("head", "figures"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Pass --overwrite to start over") from error
    if not all(isinstance(part, dict) for part in parts):
        raise DataError(f"{path}: expected objects with keys. Pass --overwrite to start over")
    for name, value in json.loads(json.dumps(settings)).items():
        if before.get(name) != value:
            hint = "Use the same value, choose another --out, or pass --overwrite to start over"
            expected = f"{before.get(name)!r}, the value of the seeds in {folder}"
            raise ArgumentError(name, expected, repr(value), hint)
    return done


def _summary(values: list[float | None]) -> tuple[float | None, float | None]:
    """The mean and the sample deviation of the values that are there; the deviation is None for a single one."""
    present = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not present:
        return None, None
    return statistics.fmean(present), statistics.stdev(present) if len(present) > 1 else None


def _shown(pair: tuple[float | None, float | None]) -> str:
    """The mean and its deviation; a single value has none."""
    if pair[0] is None:
        return "-"
    return f"{pair[0]:.4f}" if pair[1] is None else f"{pair[0]:.4f} \u00b1 {pair[1]:.4f}"


def _report(
    head: dict[str, Any], seeds: list[int], rows: list[dict[str, Any]], summary: dict[str, tuple[Any, Any]]
) -> str:
    names = [f"[seed {seed}](seed-{seed}/{REPORT})" for seed in seeds]
    table = [["metric", "mean \u00b1 std", *names]]
    for name, pair in summary.items():
        table.append([name.replace("_", " "), _shown(pair), *(format_value(row.get(name)) for row in rows)])
    report = Report(f"{head['dataset']}: {head['model']} with {len(seeds)} seeds")
    report.text("Mean and sample standard deviation over the seeds, and the metrics of each seed.")
    return str(report.table(table, links=True))
