"""Records of measurements: the machine, the versions, one row per method."""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import math
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

import hgraph
from hgraph.files import writing

RESULTS = Path(__file__).resolve().parent / "results"
FIELDS = (
    "suite", "case", "method", "unit", "min", "median", "ratio_to_hgraph", "rounds", "threads", "clock", "device",
    "date", "cpu", "cores", "load", "allocator", "python", "torch", "pyg", "dhg", "backend", "commit", "note",
)  # fmt: skip
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def setup(description: str) -> argparse.Namespace:
    """Command line of a standalone script, and its threads; call before computing anything."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", default="", help="run only cases whose name contains this")
    parser.add_argument("--csv", default=None, help="file name in benchmarks/results (default: by script)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    return arguments


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def allocator() -> str:
    """The allocator setting of all methods in the process."""
    if os.environ.get(HUGE_PAGES) == "1":
        return "huge pages"
    return "glibc kept" if "MALLOC_MMAP_THRESHOLD_" in os.environ else "default"


def commit() -> str:
    """The commit of the measured library, with "+" if files differ from it; its version outside a checkout."""
    root = Path(hgraph.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return hgraph.__version__

    def git(*command: str) -> str:
        done = subprocess.run(["git", "-C", root, *command], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = "+" if git("status", "--porcelain", "--untracked-files=no", "hgraph", "kernels") else ""
    return git("rev-parse", "--short=9", "HEAD") + changed


def machine() -> dict[str, str]:
    """The environment of the measurements."""
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "allocator": allocator(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyg": version("torch_geometric"),
        "dhg": version("dhg"),
    }


def device(name: str) -> str:
    """The name of a device in the records: a GPU with its model."""
    return f"{name} ({torch.cuda.get_device_name(name)})" if name.startswith("cuda") else name


def rows(
    suite: str,
    case: str,
    values: Mapping[str, list[float]],
    *,
    unit: str,
    fields: Mapping[str, str],
    left_out: Mapping[str, str] | None = None,
    note: str = "",
) -> list[dict[str, str]]:
    """One row per method. Excluded methods have no numbers, but a note with the reason."""
    best = min(values["hgraph"]) if "hgraph" in values else 0.0
    found = []
    for method, each in values.items():
        low = min(each)
        found.append(
            {
                "suite": suite,
                "case": case,
                "method": method,
                "unit": unit,
                "min": f"{low:.4f}",
                "median": f"{statistics.median(each):.4f}",
                "ratio_to_hgraph": f"{low / best:.3f}" if best > 0 else "",
                "rounds": str(len(each)),
                **fields,
                "note": note,
            }
        )
    for method, reason in (left_out or {}).items():
        empty = dict.fromkeys(("min", "median", "ratio_to_hgraph"), "")
        found.append({"suite": suite, "case": case, "method": method, "unit": unit, **empty, "rounds": "0", **fields,
                      "note": f"left out: {reason}"})  # fmt: skip
    return [{name: row[name] for name in FIELDS} for row in found]


def figures(value: float) -> str:
    """A number with three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(found: list[dict[str, str]]) -> str:
    """The rows of one case as a table."""
    first = found[0]
    clock = f", {first['threads']} thread(s), {first['clock']}" if first["unit"] == "ms" else ""
    lines = [
        f"\n{first['case']}: {first['unit']}{clock}",
        f"  {'method':40}{'min':>10}{'median':>10}{'ratio':>8}  rounds",
    ]
    for row in found:
        if not row["min"]:
            lines.append(f"  {row['method']:40}{row['note']}")
            continue
        ratio = float(row["ratio_to_hgraph"] or math.nan)
        low, middle = float(row["min"]), float(row["median"])
        lines.append(f"  {row['method']:40}{low:10.3f}{middle:10.3f}{ratio:8.2f}  {row['rounds']}")
        if row["note"]:
            lines[-1] += f"  {row['note']}"
    return "\n".join(lines)


def save(path: Path, found: Iterable[Mapping[str, str]]) -> Path:
    """Write one file atomically, one row per dict."""
    found = list(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        writer = csv.DictWriter(file, fieldnames=list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    return path


def write_csv(name: str, found: Iterable[Mapping[str, str]]) -> None:
    """Write one file of `RESULTS`, for the scripts."""
    print(f"\nwritten: {os.path.relpath(save(RESULTS / name, found))}", flush=True)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
