"""Run suites in this process; `hgraph bench` starts it with threads and allocator already set."""

from __future__ import annotations

import argparse
import importlib
import os
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from hgraph.benchmarks import harness, picture, records
from hgraph.ops.dispatch.backend import current_backend

SUITES = {
    "ops": "verbs along edges: sum, mean, max, softmax, attention",
    "models": "whole networks: training epochs and inference",
    "attention": "token attention: windows of 4k and 16k tokens",
    "soft": "soft hyperedges vs. full attention, 256 to 65,536 tokens; YOLOv13-N on an image",
    "landmark": "landmark attention, training and retrieval, 1k to 64k tokens, vs. dense attention",
    "combiner": "Combiner vs. full attention, 1k to 64k tokens: time, memory and how they grow",
    "routing": "routing attention vs. full attention, 1k to 64k tokens: time, memory and how they grow",
    "chains": "recurrences along a chain, 1k to 64k tokens, vs. a loop over tokens and dense attention",
    "memory": "peak memory of one call, in a separate process",
    "locality": "the effect of renumbering and bfloat16 features",
    "growth": "time and memory over 1,000 times as many edges",
    "compiled": "torch.compile of whole networks compared with eager (minutes of compiling)",
}


def parser() -> argparse.ArgumentParser:
    """The arguments passed on by `hgraph bench`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="+", choices=list(SUITES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="")
    parser.add_argument("--own", action="store_true", help="only hgraph, without other libraries and limits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--suffix", default="", help="suffix of the file names")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run suites; the exit code is 1 if a result of hgraph was wrong."""
    given = parser().parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*[Ss]parse")  # torch's beta warning for sparse tensors
    torch.set_num_threads(given.threads)
    setting = harness.Setting(given.threads, given.rounds, given.seconds, given.device, given.own)
    harness.PEERS["take part"] = not given.own
    failed = 0
    for name in given.suites:
        begin = time.perf_counter()
        path = given.out.resolve() / f"{name}{given.suffix}.csv"
        before = records.read_csv(path) if path.exists() else []
        # Written after every case, so an interrupted run keeps its measurements.
        keep = partial(_keep, path, before, list(suite_of(name, given.device)))
        rows, wrong = run_suite(name, setting, given.only, keep)
        failed += wrong
        if rows:
            if not given.own:
                picture.draw(records.read_csv(path), path.with_suffix(".png"))
            print(f"\nwritten: {os.path.relpath(path)} ({time.perf_counter() - begin:.0f} s)", flush=True)
    return 1 if failed else 0


def suite_of(name: str, device: str) -> Mapping[str, Callable[[], harness.Case | harness.Found]]:
    """The cases of a suite by name, built when called."""
    return importlib.import_module(f"hgraph.benchmarks.{name}").suite(device)


def _keep(path: Path, before: list[dict[str, str]], cases: list[str], found: list[dict[str, str]]) -> None:
    """Write the new rows, and the old rows of cases not run now, in the order of the suite."""
    others = set(cases) - {row["case"] for row in found}
    unchanged = [{name: row.get(name, "") for name in records.FIELDS} for row in before if row["case"] in others]
    records.save(path, sorted(found + unchanged, key=lambda row: cases.index(row["case"])))


def run_suite(
    name: str, setting: harness.Setting, only: str = "", keep: Callable[[list[dict[str, str]]], object] | None = None
) -> tuple[list[dict[str, str]], int]:
    """The rows of every case whose name contains ``only``, and the number of cases with wrong results.

    ``keep`` is called with all rows so far after every case.
    """
    fields = records.machine() | {
        "threads": str(setting.threads), "clock": setting.clock, "device": records.device(setting.device),
        "backend": current_backend(setting.device), "commit": records.commit(),
    }  # fmt: skip
    found, failed = [], 0
    for case, make in suite_of(name, setting.device).items():
        if only not in case:
            continue
        try:
            rows = _rows(name, case, make(), setting, fields)
        except harness.DifferenceError as error:
            print(f"\nFAILED {error}", flush=True)
            failed += 1
        except harness.NotHereError as error:
            print(f"\n{case}: not run: {error}", flush=True)
        else:
            print(records.table(rows), flush=True)
            found += rows
            if keep is not None:
                keep(found)
    return found, failed


def _rows(
    suite: str, case: str, made: harness.Case | harness.Found, setting: harness.Setting, fields: dict[str, str]
) -> list[dict[str, str]]:
    if isinstance(made, harness.Found):
        return records.rows(suite, case, made.values, unit=made.unit, fields=fields, note=made.note)
    measured = harness.run(made, setting)
    # On a busy machine, only ratios of wall times are meaningful.
    busy = setting.threads > 1 and measured.load > 0.5 * setting.threads
    note = f"machine busy (load {measured.load:.1f}): numbers are rough" if busy else ""
    fields = fields | {"load": f"{measured.load:.1f}"}
    return records.rows(suite, case, measured.times, unit="ms", left_out=measured.left_out, fields=fields, note=note)
