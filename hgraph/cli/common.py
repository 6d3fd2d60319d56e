"""What the commands share: options, checks of arguments, errors as one line, notes on stderr."""

from __future__ import annotations

import functools
import json
import logging
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from hgraph import __version__
from hgraph.errors import ArgumentError, HgraphError

# torch and all that needs it are imported inside the commands: `hgraph --help` answers at once
if TYPE_CHECKING:
    import torch

    from hgraph.data import Dataset

LOG = logging.getLogger("hgraph")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the finished run that is there.")]
UNDER_WAY = "under_way"
REPORT = "report.md"  # written last: a run that has one is finished
RootOption = Annotated[Path | None, typer.Option(help="Where data files are kept; default $HGRAPH_DATA.")]


def plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Errors raised on purpose become one line on stderr and exit code 2; others are bugs and show where.

    What the library logs while the command runs comes as plain lines on stderr, unless its ``quiet`` is set.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            with _notes(bool(kwargs.get("quiet"))):
                command(*args, **kwargs)
        except HgraphError as error:
            typer.echo("hgraph: error: " + " ".join(str(error).split()), err=True)
            raise typer.Exit(2) from None

    return wrapped


def load(name: str, root: Path | None, seed: int) -> Dataset:
    """The data set of that name, for vertex classification, its split drawn under the seed where it is drawn."""
    from hgraph import datasets

    card = datasets.info(name)
    if card.task != "vertex classification":
        hint = "Build it with --label" if card.target_spec.get("kind") == "none" else "`hgraph datasets list` has tasks"
        raise ArgumentError("dataset", "one for vertex classification", f"{name!r}, which is for {card.task}", hint)
    return datasets.load(name, root=root, **({"seed": seed} if "seed" in card.options else {}))


def device_of(name: str) -> torch.device:
    """The device of that name, if there is one here."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise ArgumentError("device", "cpu, cuda or cuda:0", repr(name)) from None
    if device.type not in ("cpu", "cuda"):
        raise ArgumentError("device", "cpu, cuda or cuda:0", repr(name))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ArgumentError("device", f"one of the {torch.cuda.device_count()} CUDA devices here", repr(name))
    return device


def run_folder(out: Path | None, dataset: str, what: str, seed: int) -> Path:
    """The folder that was given, or that of the data set, what is trained on it, and the seed."""
    return out or Path("runs") / f"{Path(dataset).resolve().name}-{what}-{seed}"


def made_with() -> dict[str, Any]:
    """What figures may depend on and no option names."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "versions": f"hgraph {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def check_folder(folder: Path, *, overwrite: bool = True) -> None:
    """Refuse, before any work, a folder that could not be written, or one with a finished run to keep."""
    if (folder / REPORT).exists() and not overwrite:
        raise ArgumentError("out", "a folder without a finished run", str(folder), "--overwrite replaces it")
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ArgumentError("out", "a folder", f"{place}, which is a file")
    try:  # permissions alone do not tell: a disk may be full, or mounted read-only
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
    except OSError as error:
        raise ArgumentError("out", "a folder that can be written", f"{place} ({error.strerror or error})") from None


def begin(folder: Path, facts: dict[str, Any], *, overwrite: bool) -> Path:
    """The folder of a run's checkpoints, which the same command finds again after a stop; see `finish`.

    Raises:
        ArgumentError: the run that was stopped there was another one.
    """
    place = folder / UNDER_WAY
    if overwrite:
        (folder / REPORT).unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
    from hgraph.errors import DataError

    known = place / "facts.json"
    if known.exists():
        try:
            before = json.loads(known.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{known}: cannot be read ({error}). --overwrite begins anew") from error
        now = json.loads(json.dumps(facts))
        for name in [*before, *now]:
            if before.get(name) != now.get(name):
                hint = "Give the same, another --out, or --overwrite to begin anew"
                raise ArgumentError(name, f"{before.get(name)!r}, as the run that was stopped in {folder} has it",
                                    repr(now.get(name)), hint)  # fmt: skip
        kept = "going on with it" if any(place.rglob("*.safetensors")) else "nothing was kept yet, so it begins anew"
        LOG.info("%s holds a run that was stopped: %s", folder, kept)
    write_json(known, facts)
    return place


def write_json(path: Path, value: Any) -> None:
    """Write it as JSON that people can read, whole or not at all."""
    from hgraph.files import write_atomically

    write_atomically(path, (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())


def finish(folder: Path) -> None:
    """Remove what only a run under way needs, once its report is written."""
    shutil.rmtree(folder / UNDER_WAY, ignore_errors=True)


@contextmanager
def _notes(quiet: bool) -> Iterator[None]:
    """What the library logs, as plain lines on stderr."""
    if quiet:
        yield
        return
    handler, level = logging.StreamHandler(sys.stderr), LOG.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)


@contextmanager
def written(out: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears when the block has ended well."""
    if out is None:
        yield sys.stdout
        return
    if not out.parent.is_dir():
        raise ArgumentError("out", "a file in a folder that exists", str(out))
    half = out.with_name(f".{out.name}.part")
    try:
        with half.open("w", newline="", encoding="utf-8") as file:
            yield file
        half.replace(out)
    finally:
        half.unlink(missing_ok=True)


def check_picture(name: str, path: Path) -> None:
    """Refuse a file that no picture can be written to, before any work."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ArgumentError(name, "a file that ends in .png, .svg or .pdf", repr(str(path)))
    if path.is_dir():
        raise ArgumentError(name, "a file", f"{path}, which is a folder")
    check_folder(path.parent)


def say(figures: dict[str, Any], head: dict[str, Any], as_json: bool) -> None:
    """The figures on stdout, as a table or as one JSON object after ``head``."""
    if as_json:
        typer.echo(json.dumps(head | figures, allow_nan=False))
        return
    width = max(map(len, figures))
    typer.echo("\n".join(f"{key.replace('_', ' ').ljust(width)}  {shown(v)}" for key, v in figures.items()))


def shown(value: Any) -> str:
    """A figure as people read it."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
