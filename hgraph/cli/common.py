"""Shared by the commands: options, argument checks, one-line errors and notes on stderr."""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import platform
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from hgraph import __version__
from hgraph.cli.flags import located
from hgraph.cli.runs import check_folder, is_data, is_part
from hgraph.errors import ArgumentError, HgraphError
from hgraph.files import writing
from hgraph.report import format_value

# torch is imported inside the commands, so that `hgraph --help` is fast
if TYPE_CHECKING:
    import torch

    from hgraph.data import Dataset

LOG = logging.getLogger("hgraph")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print no progress and no notes on stderr.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a finished run in the folder.")]
RootOption = Annotated[Path | None, typer.Option(help="Folder for data files; default $HGRAPH_DATA.")]


def plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Print errors that hgraph raises on purpose as one line on stderr, with exit code 2.

    Other exceptions are bugs and keep their traceback. While the command runs, log messages are printed as plain lines
    on stderr, unless ``quiet`` is set.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            with _notes(bool(kwargs.get("quiet")), command):
                command(*args, **{name: _expanded(value) for name, value in kwargs.items()})
        except HgraphError as error:
            typer.echo("hgraph: error: " + located(" ".join(str(error).split()), command), err=True)
            raise typer.Exit(2) from None
        except OSError as error:
            if error.errno == errno.EPIPE and not error.filename:
                raise  # the reader has gone; `hgraph.cli.entry` ends the program quietly
            printing = error.errno in (errno.ENOSPC, errno.EBADF, errno.EIO)
            if error.strerror is None or not (error.filename or printing):
                raise
            place = error.filename or "standard output"  # `files.writing` sets the file name
            typer.echo(f"hgraph: error: {place}: {error.strerror}", err=True)
            raise typer.Exit(2) from None

    return wrapped


def _expanded(value: Any) -> Any:
    """A path with ``~`` expanded: shells do not expand it in --out=~/runs."""
    return Path(os.path.expanduser(value)) if isinstance(value, Path) else value


def absolute(source: str) -> str:
    """The name of a data set, or the absolute path of a folder, so that a run finds it from any folder."""
    from hgraph import datasets

    named = "/" not in source and not source.startswith((".", "~")) and source in datasets.names()
    return source if named else str(Path(os.path.expanduser(source)).resolve())


_NODE_TASKS = ("node classification", "node regression")


def load(name: str, root: Path | None, seed: int) -> Dataset:
    """Load a data set with labels of nodes; ``seed`` draws its split if the split is random."""
    from hgraph import datasets

    card = datasets.info(name)
    if card.task not in _NODE_TASKS:
        hint = (
            "Build it with `hgraph datasets build --label COLUMN`"
            if card.target_spec.get("kind") == "none"
            else 'Run `hgraph datasets list --task "node classification"` to see suitable ones'
        )
        raise ArgumentError("dataset", "a data set with labels of nodes", f"{name!r}, which is for {card.task}", hint)
    return datasets.load(name, root=root, **({"seed": seed} if "seed" in card.options else {}))


def device_of(name: str) -> torch.device:
    """Return the device of that name, or raise an error if this machine does not have it."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise ArgumentError("device", "cpu, cuda or cuda:0", repr(name)) from None
    if device.type not in ("cpu", "cuda"):
        raise ArgumentError("device", "cpu, cuda or cuda:0", repr(name))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ArgumentError("device", f"one of the {count} CUDA devices of this machine", repr(name))
    return device


def run_folder(out: Path | None, dataset: str, what: str, seed: int) -> Path:
    """Return ``out``, or by default a folder named after the data set, the model and the seed."""
    return out or Path("runs") / f"{short_name(dataset)}-{what}-{seed}"


def short_name(dataset: str) -> str:
    """The name of a data set, of its folder, or of a file without its ending."""
    place = Path(os.path.expanduser(dataset)).resolve()
    return place.stem if place.is_file() else place.name


def environment_info() -> dict[str, Any]:
    """Versions, threads and machine: results may depend on them, but no option sets them."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "versions": f"hgraph {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}",
    }


class _Located(logging.Formatter):
    """Plain lines; an option that the running command lacks is shown with the command that has it."""

    def __init__(self, command: Callable[..., None]) -> None:
        super().__init__("%(message)s")
        self._command = command

    def format(self, record: logging.LogRecord) -> str:
        return located(super().format(record), self._command)


@contextmanager
def _notes(quiet: bool, command: Callable[..., None]) -> Iterator[None]:
    """Print log messages as plain lines on stderr, unless ``quiet``."""
    if quiet:
        yield
        return
    handler, level = logging.StreamHandler(sys.stderr), LOG.level
    handler.setFormatter(_Located(command))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)


@contextmanager
def written(out: Path | None, *inputs: Path, run: Path | None = None) -> Iterator[IO[str]]:
    """Standard output (``out`` is None or ``-``), or a file that appears only when the block succeeds.

    Raises:
        ArgumentError: ``out`` is a folder, an input file or part of a run.
    """
    if out is None or str(out) == "-":
        yield sys.stdout
        return
    check_file("out", out, *inputs, run=run)
    with writing(out) as file:
        yield file


def check_file(name: str, out: Path, *inputs: Path, run: Path | None = None) -> None:
    """Raise an error, before any work, if a file is not writable, is an input, or belongs to a run.

    Raises:
        ArgumentError: the file must not be written; the message says why.
    """
    kind = out.stat().st_mode if out.exists() else stat.S_IFREG
    if stat.S_ISDIR(kind):
        raise ArgumentError(name, "a file", f"{str(out)!r}, which is a folder")
    if stat.S_ISBLK(kind) or stat.S_ISSOCK(kind):
        raise ArgumentError(name, "a file, a FIFO or a terminal", f"{out}, which is a disk or a socket")
    if not out.parent.is_dir():
        raise ArgumentError(name, "a file in an existing folder", str(out))
    if out.exists() and any(path.exists() and os.path.samefile(path, out) for path in inputs):
        raise ArgumentError(name, "a file other than the input", str(out))
    _check_not_in_run(name, out, run)
    if stat.S_ISREG(kind):
        check_folder(out.parent)


def _check_not_in_run(name: str, path: Path, run: Path | None) -> None:
    """Raise an error if the file belongs to the run or to its data."""
    for what, belongs in (("the run", is_part), ("the run's data", is_data)):
        if run is not None and belongs(run, path):
            raise ArgumentError(name, f"a file that is not part of {what}", str(path), "Choose another name")


def check_picture(name: str, path: Path, *, run: Path | None = None) -> None:
    """Raise an error, before any work, if no plot can be written to this file."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ArgumentError(name, "a file name that ends in .png, .svg or .pdf", repr(str(path)))
    if path.is_dir():
        raise ArgumentError(name, "a file", f"{path}, which is a folder")
    _check_not_in_run(name, path, run)
    check_folder(path.parent)


def print_results(figures: dict[str, Any], head: dict[str, Any], as_json: bool) -> None:
    """Print results on stdout, as a table or as one JSON object that starts with ``head``."""
    if as_json:
        typer.echo(json.dumps(head | figures, allow_nan=False))
        return
    width = max(map(len, figures))
    typer.echo("\n".join(f"{key.replace('_', ' ').ljust(width)}  {format_value(v)}" for key, v in figures.items()))
