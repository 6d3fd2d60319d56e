"""`hgraph bench`: the speed and memory that are claimed, measured here."""

from __future__ import annotations

import json
import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hgraph.cli.common import JsonOption, QuietOption, plain_errors
from hgraph.cli.numbers import real, whole
from hgraph.cli.runs import check_folder
from hgraph.errors import ArgumentError, HgraphError


class Suite(str, Enum):
    """What can be measured; see `hgraph.benchmarks.runner.SUITES`."""

    OPS = "ops"
    MODELS = "models"
    ATTENTION = "attention"
    SOFT = "soft"
    LANDMARK = "landmark"
    COMBINER = "combiner"
    ROUTING = "routing"
    MEMORY = "memory"
    LOCALITY = "locality"
    GROWTH = "growth"
    COMPILED = "compiled"
    ALL = "all"


class Allocator(str, Enum):
    """How memory is got from the system, for all methods alike."""

    DEFAULT = "default"
    HUGE_PAGES = "huge-pages"
    KEPT = "kept"


_IN_PROCESS = (Suite.OPS, Suite.MODELS, Suite.ATTENTION, Suite.LOCALITY, Suite.COMPILED)
_ALONE = (Suite.COMPILED, Suite.SOFT, Suite.LANDMARK, Suite.COMBINER, Suite.ROUTING)  # minutes each
_IN_ALL = [s for s in Suite if s not in (Suite.ALL, *_ALONE)]


@plain_errors
def bench(
    suites: Annotated[
        list[Suite],
        typer.Argument(help="Which suites; all: all but compiled, soft, landmark, combiner and routing."),
    ],
    only: Annotated[str, typer.Option(help="Only cases whose name contains this.")] = "",
    threads: Annotated[int, whole(high=4096, help="1: process CPU time. More: wall time, on a quiet machine.")] = 1,
    rounds: Annotated[int, whole(low=2, help="At most so many rounds a method.")] = 15,
    seconds: Annotated[
        float, real(low=0, high=86400, help="Timed seconds a method may take, two rounds at least")
    ] = 1.0,
    allocator: Annotated[Allocator, typer.Option(help="How all methods get their memory.")] = Allocator.DEFAULT,
    device: Annotated[str, typer.Option(help="cpu or cuda (the ops suite alone; never yet run on a GPU).")] = "cpu",
    compare: Annotated[
        str | None, typer.Option(metavar="REV", help="Hold the checkout beside this commit, hgraph alone.")
    ] = None,
    own_suites: Annotated[
        bool,
        typer.Option("--own-suites", help="With --compare: each commit runs its own suites, whose names it knows."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the CSV files and pictures.")] = Path("runs/bench"),
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure hgraph beside its peers and the limits of this machine: ops, models, attention, memory.

    Peers (torch's own ways, PyG, DHG, scipy, numba, torch_scatter, DGL) take part where they are installed:
    pip install 'hgraph[bench]'. Results are compared first; what computes something else is not timed. Writes one CSV
    file and one picture a suite; cases that are not run now keep the rows they have there, so a suite can be measured
    in pieces. `all` takes about 12 minutes of one quiet core.
    """
    from hgraph.cli.common import device_of

    chosen = list(dict.fromkeys(_IN_ALL if Suite.ALL in suites else suites))
    if device_of(device).type == "cuda" and chosen != [Suite.OPS]:
        raise ArgumentError("device", "cpu for other suites than ops", repr(device))
    if compare is not None and not set(chosen) <= set(_IN_PROCESS):
        known = ", ".join(s.value for s in _IN_PROCESS)
        raise ArgumentError("suites", f"some of {known} with --compare", ", ".join(s.value for s in chosen))
    if own_suites and compare is None:
        raise ArgumentError("own_suites", "--compare REV beside it", "none")
    check_folder(out)
    common = ["--only", only, "--threads", str(threads), "--rounds", str(rounds), "--seconds", str(seconds)]
    names = [s.value for s in chosen]
    process: dict[str, Any] = {"threads": threads, "allocator": allocator.value}
    if compare is not None:
        _compare(compare, names, common, {**process, "own_suites": own_suites}, out, quiet, as_json)
        return
    suffix = _suffix(threads, allocator, device)
    command = [*names, *common, "--device", device, "--out", str(out.resolve()), f"--suffix={suffix}"]
    from hgraph.benchmarks import launch

    begin = time.time()
    code = launch.start(command, **process, quiet=quiet, tables="stderr" if as_json else "stdout")
    files = [out / f"{name}{suffix}.csv" for name in names]
    files = [file for file in files if file.exists() and file.stat().st_mtime >= begin - 1]
    if as_json:
        typer.echo(json.dumps({"files": [str(f) for f in files], "rows": _read(files)}))
    if only and not code and not files:
        from hgraph.benchmarks.runner import suite_of

        cases = [case for name in names for case in suite_of(name, device)]
        if not any(only in case for case in cases):
            raise ArgumentError("only", f"part of a case's name: {', '.join(cases)}", repr(only))
    if code:
        raise HgraphError("not every case was measured, see above: a result that is wrong has no speed")


def _suffix(threads: int, allocator: Allocator, device: str) -> str:
    """One setting, one file: what was measured otherwise stays beside it."""
    parts = [f"{threads}-threads"] * (threads > 1) + [allocator.value] * (allocator is not Allocator.DEFAULT)
    return "".join(f"-{part}" for part in [*parts, *["cuda"] * device.startswith("cuda")])


def _compare(
    revision: str, names: list[str], common: list[str], process: dict[str, Any], out: Path, quiet: bool, as_json: bool
) -> None:
    from hgraph.benchmarks import compare as sides
    from hgraph.benchmarks import records

    try:
        found = sides.compare(revision, names, common, **process)
    except RuntimeError as error:
        raise HgraphError(str(error)) from error
    if not found:
        raise ArgumentError("only", "part of a case's name that both commits have", "none")
    path = records.save(out.resolve() / "compare.csv", found)
    if as_json:
        typer.echo(json.dumps({"files": [str(path)], "rows": found}))
    elif not quiet:
        typer.echo(sides.table(found))


def _read(files: list[Path]) -> list[dict[str, str]]:
    from hgraph.benchmarks import records

    return [row for file in files for row in records.read_csv(file)]
