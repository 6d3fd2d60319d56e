"""Timing and memory of several ways to compute one thing, fair to all of them.

- Results are compared first; a method that computes something else is not timed.
- Methods are interleaved round by round in one process, so drift of the machine meets all alike.
- One thread is timed by CPU time of the process (other programs do not count), two threads by the wall.
- Memory is the peak of a process of its own for each method, above what it held before the call (VmHWM).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import importlib.metadata
import math
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RESULTS = Path(__file__).parent / "results"
Method = Callable[[], Any]


def setup(description: str) -> argparse.Namespace:
    """Command line and threads; call before anything is computed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1, help="1: process CPU time; more: wall time (default 1)")
    parser.add_argument("--seconds", type=float, default=6.0, help="timed seconds a method may take (default 6)")
    parser.add_argument("--only", default="", help="run only cases whose name contains this")
    parser.add_argument("--csv", default=None, help="file name in benchmarks/results (default: by script)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments


# ---------------------------------------------------------------------- time


def rounds_of(method: Method, seconds: float) -> int:
    """3 to 30 rounds, as many as fit into the time."""
    start = time.perf_counter()
    method()
    return max(3, min(30, int(seconds / max(time.perf_counter() - start, 1e-6))))


def interleaved(methods: dict[str, Method], *, seconds: float, threads: int) -> dict[str, list[float]]:
    """Milliseconds of every round of every method; a slow one sits out once it has had its time."""
    clock = time.process_time if threads == 1 else time.perf_counter
    for method in methods.values():  # caches, plans, first-touch of memory
        method()
    rounds = {name: rounds_of(method, seconds) for name, method in methods.items()}
    times: dict[str, list[float]] = {name: [] for name in methods}
    for i in range(max(rounds.values())):
        for name, method in methods.items():
            if i >= rounds[name]:
                continue
            repeat = 1 if not times[name] or min(times[name]) > 2 else 10  # short calls: average over some
            start = clock()
            for _ in range(repeat):
                method()
            times[name].append((clock() - start) / repeat * 1e3)
    return {name: t[1:] for name, t in times.items()}


def check_equal(methods: dict[str, Method], *, rtol: float = 1e-4) -> None:
    """Hold every method's result against the first one's."""

    def tensors(result: Any) -> list[Tensor]:
        return [result.detach()] if isinstance(result, Tensor) else [t.detach() for t in result]

    names = list(methods)
    first = tensors(methods[names[0]]())
    for name in names[1:]:
        for own, other in zip(first, tensors(methods[name]()), strict=True):
            size = own.abs().max()
            if not bool((own - other).abs().max() <= rtol * size):
                raise AssertionError(f"{name} differs from {names[0]} by {(own - other).abs().max() / size:.2g}")


# ---------------------------------------------------------------------- memory


def _peak_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _measure(make: Callable[[], Method], queue: Any) -> None:
    torch.set_num_threads(1)
    method = make()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _peak_kib()
    result = method()
    queue.put((_peak_kib() - before) / 1024)
    del result


def peak_mib(make: Callable[[], Method]) -> float:
    """MiB that one call takes above its inputs; ``make`` builds inputs and returns the call."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(make, queue))
    process.start()
    value = queue.get(timeout=600)
    process.join()
    return value


# ---------------------------------------------------------------------- results


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":")[1].strip()
                break
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model,
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "allocator": "huge pages" if os.environ.get("THP_MEM_ALLOC_ENABLE") == "1" else "default",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyg": version("torch_geometric"),
        "dhg": version("dhg"),
    }


def write_csv(name: str, rows: list[dict[str, str]]) -> None:
    """One file of `RESULTS`, a row a dict."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / name
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"\nwritten: {os.path.relpath(path)}")


class Report:
    """Collects rows, prints ratios to hgraph, writes one CSV."""

    def __init__(self, file: str, *, threads: int, unit: str = "ms") -> None:
        self.path, self.threads, self.unit = RESULTS / file, threads, unit
        self.machine = machine()
        self.rows: list[dict[str, str]] = []
        self.clock = "process CPU time" if threads == 1 else "wall time"

    def add(self, case: str, results: dict[str, list[float]]) -> None:
        """Print one table; the method called "hgraph" is the measure of the others."""
        own = min(results["hgraph"])
        head = f"{case}: {self.unit}" + (f", {self.threads} thread(s), {self.clock}" if self.unit == "ms" else "")
        print(f"\n{head}\n{'':2}{'method':34}{'min':>10}{'median':>10}{'ratio':>8}  rounds")
        for name, values in results.items():
            low, mid = min(values), statistics.median(values)
            ratio = low / own if own > 0 else math.nan
            print(f"  {name:34}{low:10.3f}{mid:10.3f}{ratio:8.2f}  {len(values)}", flush=True)
            self.rows.append(
                {
                    "case": case,
                    "method": name,
                    "unit": self.unit,
                    "min": f"{low:.4f}",
                    "median": f"{mid:.4f}",
                    "ratio_to_hgraph": f"{ratio:.3f}",
                    "rounds": str(len(values)),
                    "threads": str(self.threads),
                    "clock": self.clock if self.unit == "ms" else "peak VmHWM",
                    **self.machine,
                    "note": "shared machine: compare ratios within one case, not absolute times",
                }
            )

    def write(self) -> None:
        write_csv(self.path.name, self.rows)
