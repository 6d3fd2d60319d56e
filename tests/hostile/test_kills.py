"""Commands killed at twenty moments each: files are whole, nothing stays behind, and the next run gives equal bytes."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hgraph import datasets
from hgraph.cli.app import app
from hgraph.distill import export
from hgraph.models import MLP
from hgraph.train import checkpoint, seeded

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

MOMENTS = 20
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
TIMED = ("config.json", "report.md", "metrics.jsonl", "metrics.json")  # hold times; their other lines are compared
UNEQUAL = ("accuracy_latency.png", "study.jsonl")  # a picture of times, and ids of processes; the report has the trials


# ---------------------------------------------------------------------- the commands


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line that runs in an empty folder, next to the folder ``in`` of its input."""

    line: str
    older: str | None = None  # a file that is there before
    again: Callable[[Path], bool] = lambda folder: True  # whether it has to run again after it was killed
    needs: str = "torch"
    variables: Callable[[Path], dict[str, str]] = lambda folder: {}


COMMANDS = {
    "predict": Command("predict ../in/student ../in/rows.csv --out out.csv", older="out.csv"),
    "recommend": Command("recommend ../in/taste --out out.csv", older="out.csv"),
    "export": Command("export ../in/student --out out --format torch",
                      again=lambda folder: not (folder / "out").exists()),
    "train": Command("train ../in/set --model hgnn --hidden 4 --epochs 4 --threads 1 --out out"),
    "train a recommender": Command("train ../in/shop --model kgat --hidden 4 --epochs 2 --threads 1 --out out"),
    "train on triples": Command("train ../in/triples --model distmult --hidden 4 --epochs 3 --threads 1 --out out"),
    "distill": Command("distill ../in/set --epochs 3 --threads 1 --out out"),
    "tune": Command("tune ../in/set --model hgnn --trials 3 --epochs 3 --threads 1 --out out", needs="optuna"),
    "datasets build": Command("datasets build --nodes ../in/rows.csv --hyperedges ../in/links.csv --label b --out out",
                              again=lambda folder: not (folder / "out").exists()),
    "kernels build": Command("kernels build", variables=lambda folder: {"HGRAPH_CACHE": str(folder / "out")}),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set, a student, interactions and a trained recommender."""
    folder = tmp_path_factory.mktemp("kills")
    inputs = folder / "in"
    inputs.mkdir()
    ids = [f"n{i}" for i in range(12)]
    nodes = {"id": ids, "size": [str(i) for i in range(12)], "y": [*"xy"] * 6}
    made = datasets.from_tables(nodes, {"members": [ids[:4], ids[3:]]}, label="y", shares=(0.5, 0.25, 0.25))
    datasets.save(made, inputs / "set")
    with seeded(0):
        export(MLP(2, 4, 2).eval(), inputs / "student", torch.randn(9, 2), feature_names=["a", "b"])
    (inputs / "rows.csv").write_text("id,a,b\n" + "".join(f"v{i},{i},{i % 3}\n" for i in range(30)), encoding="utf-8")
    links = "node,hyperedge\n" + "".join(f"v{i},h{i % 5}\n" for i in range(30))
    (inputs / "links.csv").write_text(links, encoding="utf-8")
    (inputs / "shop").mkdir()
    lines = "".join(f"u{i % 5},i{i * i % 7}\n" for i in range(40))
    (inputs / "shop" / "interactions.csv").write_text("user,item\n" + lines, encoding="utf-8")
    triples = "head,relation,tail\n" + "".join(f"i{i},of,k{i % 3}\n" for i in range(7))
    (inputs / "shop" / "triples.csv").write_text(triples, encoding="utf-8")
    (inputs / "triples").mkdir()
    ring = [(i, i % 2, (i + step) % 6) for step in (1, 2) for i in range(6)]
    for part, some in (("train", ring), ("valid", [(0, 1, 3), (1, 1, 4)]), ("test", [(2, 1, 5), (3, 1, 0)])):
        lines = "".join(f"a{head}\tof{relation}\ta{tail}\n" for head, relation, tail in some)
        (inputs / "triples" / f"{part}.txt").write_text(lines, encoding="utf-8")
    arguments = ["train", inputs / "shop", "--model", "bprmf", "--epochs", 1, "--hidden", 4, "--out", inputs / "taste"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--quiet"])
    assert done.exit_code == 0, done.output
    return folder


# ---------------------------------------------------------------------- killing


def watch(folder: Path, moment: int, report: int) -> None:
    """Count changes of files in the folder; kill this process before one of them.

    A flush to disk is a moment too: half of what was written is lost.
    """
    count = 0
    fsync = os.fsync

    def meet(damage: Callable[[], object] = lambda: None) -> None:
        nonlocal count
        count += 1
        os.pwrite(report, str(count).encode(), 0)
        if count == moment:
            damage()
            os.kill(os.getpid(), signal.SIGKILL)

    def flush(file):
        descriptor = file if isinstance(file, int) else file.fileno()

        def halve() -> None:
            with suppress(OSError):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)

        meet(halve)
        fsync(file)

    def hook(event, arguments):
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & WRITES
        else:
            changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink")
        if changes and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if path.startswith(str(folder)):
                meet()

    os.fsync = flush
    sys.addaudithook(hook)


def run(command: Command, folder: Path, more: dict[str, str], moment: int = 0) -> tuple[int | None, int]:
    """Exit code (None: killed) and number of changes of a command in a child process."""
    report = folder.with_suffix(".count")
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # the threads of the parent do not exist here
            os.chdir(folder)
            os.environ.update(command.variables(folder) | more)
            checkpoint._SECONDS = 0.0  # a checkpoint after every epoch: trainings stop half-done, not only at their end
            descriptor = os.open(report, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            watch(folder, moment, descriptor)
            done = CliRunner().invoke(app, [*shlex.split(command.line), "--quiet"])
            os.write(2, done.stderr.encode())  # shown if the test fails
            os._exit(done.exit_code)
        finally:
            os._exit(99)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None, moment
    return os.WEXITSTATUS(status), int(report.read_text() or 0)


def content(folder: Path) -> dict[str, bytes]:
    """What must be equal: the bytes of files, or their lines without times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            found[name] = _untimed(path.read_bytes()) if path.name in TIMED else path.read_bytes()
        if path.is_dir() or path.name in UNEQUAL:
            found[name] = b""
    return found


def _untimed(text: bytes) -> bytes:
    lines = (line for line in text.splitlines() if not re.search(rb"seconds \||\d ms | as fast as ", line))
    return b"\n".join(re.sub(rb'"(cpu_)?seconds": [^,}]*', b"", line) for line in lines)


def new_folder(command: Command, folder: Path) -> Path:
    folder.mkdir()
    if command.older is not None:
        (folder / command.older).write_bytes(b"older")
    return folder


def check(name: str, place: Path, tmp_path: Path, request: pytest.FixtureRequest, moments: int) -> None:
    command, more = COMMANDS[name], {}
    pytest.importorskip(command.needs)
    (tmp_path / "in").symlink_to(place / "in")
    if name == "kernels build":
        more["CXX"] = str(fake_compiler(request.getfixturevalue("native_cache"), tmp_path))
    before = content(place)
    whole = new_folder(command, tmp_path / "whole")
    code, changes = run(command, whole, more)
    assert code == 0
    expected = content(whole)
    assert changes > 0
    for moment in sorted({changes - at * changes // moments for at in range(moments)}):
        folder = new_folder(command, tmp_path / f"at {moment}")
        assert run(command, folder, more, moment)[0] is None, f"not killed at {moment} of {changes}"
        for file, found in content(folder).items():
            if not re.search(r"(^|/)\.|under_way", file) and not Path(folder, file).is_dir():
                older = found == b"older" and file == command.older
                grows = file.endswith("metrics.jsonl") and expected[file].startswith(found)  # a line per epoch
                assert older or grows or found == expected[file], f"{file} is not whole at {moment} of {changes}"
        if command.again(folder):
            allowed = (0, 2) if (folder / "out" / "report.md").exists() else (0,)  # a finished run is refused
            code = run(command, folder, more)[0]
            assert code in allowed, f"{name} does not run after a kill at {moment} of {changes}"
        assert content(folder) == expected, f"at {moment} of {changes}"
    assert content(place) == before


def fake_compiler(cache: str, folder: Path) -> Path:
    """A compiler that is done at once: it copies the library that was built for the other tests."""
    (library,) = Path(cache).glob("native-*.so")
    script = folder / "c++"
    lines = ["#!/bin/sh", 'if [ "$1" = --version ]; then echo 1; exit; fi', 'while [ "$1" != -o ]; do shift; done']
    script.write_text("\n".join([*lines, f'cp {shlex.quote(str(library))} "$2"', ""]), encoding="utf-8")
    script.chmod(0o755)
    return script


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_twenty_moments(name, place, tmp_path, request):
    check(name, place, tmp_path, request, MOMENTS)


@pytest.mark.parametrize("name", ["predict", "recommend", "kernels build"])
def test_killed_at_the_last_change(name, place, tmp_path, request):
    check(name, place, tmp_path, request, 1)
