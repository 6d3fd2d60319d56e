"""`hgraph bench`: measures the speed and memory of hgraph and of its competitors on this machine."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hgraph.cli.common import JsonOption, QuietOption, plain_errors
from hgraph.cli.numbers import real, whole
from hgraph.cli.runs import check_folder
from hgraph.errors import ArgumentError, HgraphError


class Suite(str, Enum):
    """Suites of `hgraph.benchmarks.runner.SUITES`."""

    OPS = "ops"
    MODELS = "models"
    ATTENTION = "attention"
    SOFT = "soft"
    LANDMARK = "landmark"
    COMBINER = "combiner"
    ROUTING = "routing"
    CHAINS = "chains"
    MEMORY = "memory"
    LOCALITY = "locality"
    GROWTH = "growth"
    COMPILED = "compiled"
    ALL = "all"


class Allocator(str, Enum):
    """Settings of the memory allocator, the same for all methods."""

    DEFAULT = "default"
    HUGE_PAGES = "huge-pages"
    KEPT = "kept"


_IN_PROCESS = (Suite.OPS, Suite.MODELS, Suite.ATTENTION, Suite.LOCALITY, Suite.COMPILED)
_SLOW = (Suite.COMPILED, Suite.SOFT, Suite.LANDMARK, Suite.COMBINER, Suite.ROUTING, Suite.CHAINS)  # minutes each
_IN_ALL = [s for s in Suite if s not in (Suite.ALL, *_SLOW)]


@plain_errors
def bench(
    suites: Annotated[
        list[Suite],
        typer.Argument(
            help="Suites to run; all: every suite but compiled, soft, landmark, combiner, routing and chains."
        ),
    ],
    only: Annotated[str, typer.Option(help="Run only cases whose name contains this text.")] = "",
    threads: Annotated[
        int,
        whole(
            high=4096,
            help="Number of threads. With one, CPU time is measured; with several, wall-clock time.",
        ),
    ] = 1,
    rounds: Annotated[int, whole(low=2, help="Maximum number of rounds per method.")] = 15,
    seconds: Annotated[
        float, real(low=0, high=86400, help="Time limit per method in seconds, after at least two rounds.")
    ] = 1.0,
    allocator: Annotated[Allocator, typer.Option(help="Memory allocator of all methods.")] = Allocator.DEFAULT,
    device: Annotated[str, typer.Option(help="cpu, or cuda for the ops suite (not yet tested on a GPU).")] = "cpu",
    compare: Annotated[
        str | None, typer.Option(metavar="REV", help="Compare hgraph in this checkout with hgraph at this commit.")
    ] = None,
    own_suites: Annotated[
        bool,
        typer.Option("--own-suites", help="With --compare: each commit runs its own version of the suites."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the CSV files and plots.")] = Path("runs/bench"),
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the time and memory of hgraph with other libraries and with the limits of this machine.

    The other libraries (plain torch, PyG, DHG, scipy, numba, torch_scatter, DGL) are measured if they are installed:
    pip install 'hgraph[bench]'. Only methods that return equal results are timed. Writes one CSV file and one plot per
    suite. Existing rows of other cases are preserved, so a suite can be measured in several calls. `all` takes about 12
    minutes on one idle core.
    """
    from hgraph.cli.common import device_of

    chosen = list(dict.fromkeys(_IN_ALL if Suite.ALL in suites else suites))
    if device_of(device).type == "cuda" and chosen != [Suite.OPS]:
        raise ArgumentError("device", "cpu (cuda works only with the ops suite)", repr(device))
    if compare is not None and not set(chosen) <= set(_IN_PROCESS):
        known = ", ".join(s.value for s in _IN_PROCESS)
        raise ArgumentError("suites", f"one of {known} when --compare is used", ", ".join(s.value for s in chosen))
    if own_suites and compare is None:
        raise ArgumentError("own_suites", "--own-suites together with --compare REV", "no --compare")
    check_folder(out)
    common = ["--only", only, "--threads", str(threads), "--rounds", str(rounds), "--seconds", str(seconds)]
    names = [s.value for s in chosen]
    process: dict[str, Any] = {"threads": threads, "allocator": allocator.value}
    suffix = _suffix(threads, allocator, device)
    files = [out / f"{name}{suffix}.csv" for name in names]
    for file in [out / "compare.csv"] if compare is not None else files:
        _check_own(file)
    if compare is not None:
        _compare(compare, names, common, {**process, "own_suites": own_suites}, out, quiet, as_json)
        return
    command = [*names, *common, "--device", device, "--out", str(out.resolve()), f"--suffix={suffix}"]
    from hgraph.benchmarks import launch

    begin = time.time()
    code = launch.start(command, **process, quiet=quiet, tables="stderr" if as_json else "stdout")
    files = [file for file in files if file.exists() and file.stat().st_mtime >= begin - 1]
    if as_json:
        typer.echo(json.dumps({"files": [str(f) for f in files], "rows": _read(files)}))
    if only and not code and not files:
        from hgraph.benchmarks.runner import suite_of

        cases = [case for name in names for case in suite_of(name, device)]
        if not any(only in case for case in cases):
            raise ArgumentError("only", f"part of a case's name: {', '.join(cases)}", repr(only))
    if code:
        raise HgraphError(
            "some cases were not measured because of the errors above; cases with wrong results are not timed"
        )


def _check_own(file: Path) -> None:
    """Refuse to replace a table that is not of this command, or a picture without its table."""
    picture = file.with_suffix(".png")
    foreign = picture if picture.exists() and not file.exists() else None
    if file.exists():
        with suppress(OSError), file.open("rb") as lines:
            foreign = None if lines.readline(64).startswith(b"suite,case,") else file
    if foreign is not None:
        hint = "Choose another folder, or move the file"
        raise ArgumentError("out", "a folder without files that hgraph bench did not write", str(foreign), hint)


def _suffix(threads: int, allocator: Allocator, device: str) -> str:
    """Suffix of the file name, so that results of different settings go to different files."""
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
