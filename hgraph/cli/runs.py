"""Run folders: what a command may write and remove there, and how it resumes after a stop."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hgraph.errors import ArgumentError, DataError, HgraphError
from hgraph.files import is_temporary, remove_abandoned, remove_folder, remove_temporary, try_lock, write_atomically
from hgraph.schema import parse

__all__ = [
    "MANIFEST",
    "REPORT",
    "SEEDS_FILE",
    "UNDER_WAY",
    "begin",
    "check_folder",
    "check_source",
    "finish",
    "is_data",
    "is_part",
    "running",
    "write_json",
]

LOG = logging.getLogger("hgraph")
UNDER_WAY = "under_way"
SEEDS_FILE = "seeds.json"  # of a folder of several seeds: settings, and the figures of every finished seed
REPORT = "report.md"  # written last: a run with a report is finished
FACTS = "facts.json"  # settings of the run under way
_APPENDED = ("study.jsonl", "results.jsonl")  # files of `hgraph tune` and `hgraph reproduce`, which resume from them
_LOCK = "lock"
MANIFEST = ".hgraph.json"  # lists the files that hgraph wrote into the folder
_HEAD: dict[str, Any] = {"format": "hgraph run", "version": 1}
_PARTS = (".safetensors", ".json", ".jsonl", ".onnx", ".pt2", ".png", ".md")


def check_folder(folder: Path, *, overwrite: bool = True) -> None:
    """Raise an error, before any work, if the folder is not writable or holds a finished run that must stay."""
    if (folder / REPORT).exists() and not (folder / UNDER_WAY / FACTS).exists() and not overwrite:
        remove_abandoned(folder / UNDER_WAY)
        hint = "Pass --overwrite or another --out"
        expected = "an empty folder or one of an unfinished run"
        raise ArgumentError("out", expected, f"{folder}, which holds a finished run", hint)
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ArgumentError("out", "a folder", f"{place}, which is a file")
    try:  # permissions are not enough: the disk may be full or mounted read-only
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
    except OSError as error:
        raise ArgumentError("out", "a writable folder", f"{place} ({error.strerror or error})") from None


def check_own(folder: Path) -> None:
    """Raise an error if the folder holds other files: a run needs a new or empty folder, or the folder of a run.

    Raises:
        ArgumentError: the folder is not a run's and has files in it.
    """
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if found and not _is_run(folder):
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise ArgumentError("out", "a new or empty folder, or a run folder", f"{folder or '.'}, which contains {shown}")


@contextmanager
def running(folder: Path, settings: dict[str, Any], *, overwrite: bool) -> Iterator[Path]:
    """Lock the run folder, call `begin`, yield the folder for checkpoints, and call `finish` if the block succeeds.

    Raises:
        ArgumentError: as `begin`, or another process is writing this run.
        DataError: the saved state cannot be read.
    """
    check_own(folder)
    is_new = not folder.exists()
    with _locked(folder):
        place = begin(folder, settings, overwrite=overwrite)
        try:
            yield place
        except HgraphError:
            if is_new and not _names(folder) and {p.name for p in place.iterdir()} <= {FACTS, _LOCK}:
                shutil.rmtree(folder)  # refused before any work
            raise
        finish(folder)


def begin(folder: Path, settings: dict[str, Any], *, overwrite: bool) -> Path:
    """Prepare the folder for a run and return its checkpoint folder; after a stop, the same command resumes there.

    ``overwrite`` removes the files that an earlier run wrote; all other files stay.

    Raises:
        ArgumentError: the folder holds a stopped run with other options, or is not a run folder.
        DataError: the saved state cannot be read.
    """
    check_own(folder)
    place = folder / UNDER_WAY
    if place.is_symlink():
        raise ArgumentError("out", "a folder of a run", f"{folder}, whose {UNDER_WAY} is a link to another folder")
    if overwrite:
        for path in (*_written(folder), *place.glob("*")):
            if path.name != _LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for inside in (folder, place):
        remove_temporary(inside)  # left behind by a killed process
    known = place / FACTS
    if known.exists():
        _check_same(folder, known, settings)
    else:
        # a stopped run has listed the files that were there before it began
        before = _manifest(folder)
        files = before.get("files", [])
        others = [name for name in _names(folder) if name not in files]
        others = others if files else before.get("others", others)
        write_json(folder / MANIFEST, _HEAD | {"files": [], "others": others})
    write_json(known, settings)
    return place


def finish(folder: Path) -> None:
    """Record which files the run wrote, and remove its checkpoints."""
    others = set(_manifest(folder).get("others", ()))
    names = [name for name in _names(folder) if name not in others and name.endswith(_PARTS)]
    write_json(folder / MANIFEST, _HEAD | {"files": names, "others": sorted(others)})
    remove_folder(folder / UNDER_WAY)  # until then, the same command continues here


def _check_same(folder: Path, known: Path, settings: dict[str, Any]) -> None:
    """Raise an error if the stopped run had other options, so this command cannot resume it."""
    try:
        before = parse(known.read_bytes(), known, hint="Pass --overwrite to start over")
    except OSError as error:
        raise DataError(f"{known}: cannot be read ({error}). Pass --overwrite to start over") from error
    if not isinstance(before, dict):
        raise DataError(f"{known}: expected a JSON object. Pass --overwrite to start over")
    now = json.loads(json.dumps(settings))
    for name in [*before, *now]:
        if before.get(name) != now.get(name):
            hint = "Use the same value, choose another --out, or pass --overwrite to start over"
            had = f"{before.get(name)!r}, the value of the stopped run in {folder}"
            raise ArgumentError(name, had, repr(now.get(name)), hint)
    resumes = any((folder / name).is_file() for name in _APPENDED) or any(known.parent.rglob("*.safetensors"))
    state = "resuming" if resumes else "it has no checkpoint yet, so it starts over"
    LOG.info("%s holds a stopped run: %s", folder, state)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Prevent other processes from writing the same run."""
    path = folder / UNDER_WAY / _LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="ascii") as file:
        free = try_lock(file.fileno()) is not False
        # if the names differ, the other process just ended and removed the file
        if not free or not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
            hint = "Wait until it is done, or choose another --out"
            raise ArgumentError("out", "a folder that no other process is writing to", str(folder), hint)
        yield


def is_part(run: Path, path: Path) -> bool:
    """Whether a file belongs to a run, such as a student, a report or a plot."""
    path, run = Path(os.path.realpath(path)), Path(os.path.realpath(run))
    return path.exists() and run in path.parents and (path.suffix in _PARTS or path in _written(run))


def is_data(run: Path, path: Path) -> bool:
    """Whether an existing file belongs to the data that a run was trained on, by its config.json."""
    try:
        config = parse((run / "config.json").read_bytes(), run / "config.json")
        sources = [config.get("source"), config.get("dataset"), (config.get("run") or {}).get("dataset")]
    except (OSError, ValueError, AttributeError):
        return False
    real = Path(os.path.realpath(path))
    places = [source for source in sources if isinstance(source, str) and "\0" not in source and source.isprintable()]
    folders = [Path(os.path.realpath(source)) for source in places if os.path.isdir(source)]
    return path.exists() and any(folder in real.parents for folder in folders)


def check_source(run: Path, source: str) -> None:
    """Check that the data folder of a run, if its data are a folder, is still there.

    Raises:
        DataError: it is not.
    """
    if os.sep in source and not os.path.exists(os.path.expanduser(source)):
        hint = "Move the data back, or train again"
        raise DataError(f"{run}: source: the data of this run were in {source}, which no longer exists. {hint}")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())


def _names(folder: Path) -> list[str]:
    """The files in a folder, without the manifest and the checkpoints."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST and not name.startswith(f"{UNDER_WAY}/"))


def _manifest(folder: Path) -> dict[str, list[str]]:
    """The lists of file names in the manifest; empty if it is missing or damaged."""
    try:
        found = parse((folder / MANIFEST).read_bytes(), folder / MANIFEST)
        return {k: [n for n in found[k] if isinstance(n, str)] for k in ("files", "others") if k in found}
    except (OSError, ValueError, TypeError):
        return {}


def _written(folder: Path) -> list[Path]:
    """The files that a run wrote, according to its manifest; paths outside the folder are ignored."""
    names = _manifest(folder).get("files", [REPORT])  # without a manifest, the run replaces other files as it writes
    root = Path(os.path.realpath(folder))
    paths = [folder / name for name in names if name.isprintable()]
    return [path for path in paths if root in Path(os.path.realpath(path.parent), path.name).parents]


def _is_run(folder: Path) -> bool:
    if any((folder / name).is_file() for name in (MANIFEST, f"{UNDER_WAY}/{FACTS}", *_APPENDED)):
        return True
    if {path.name for path in folder.iterdir() if not is_temporary(path)} <= {UNDER_WAY}:
        return True
    try:
        config = parse((folder / "config.json").read_bytes(), folder / "config.json")
        return str(config["versions"]).startswith("hgraph ")
    except (OSError, ValueError, KeyError, TypeError):
        return False
