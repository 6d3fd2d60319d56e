"""Run folders: what a command may write there, how it goes on after a stop, and what it may remove."""

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

from hgraph.errors import ArgumentError, DataError
from hgraph.files import is_temporary, write_atomically

__all__ = ["MANIFEST", "REPORT", "UNDER_WAY", "begin", "check_folder", "finish", "is_part", "running", "write_json"]

LOG = logging.getLogger("hgraph")
UNDER_WAY = "under_way"
REPORT = "report.md"  # written last: a run that has one is finished
_LOCK = "lock"
MANIFEST = ".hgraph.json"  # the names of the files that hgraph wrote into a folder
_HEAD: dict[str, Any] = {"format": "hgraph run", "version": 1}
_PARTS = (".safetensors", ".json", ".jsonl", ".onnx", ".pt2", ".png", ".md")


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


def check_own(folder: Path) -> None:
    """Refuse a folder with files of something else: a run is written into a new or empty one, or over a run.

    Raises:
        ArgumentError: there are such files.
    """
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if found and not _is_run(folder):
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise ArgumentError("out", "a new or an empty folder, or one of a run", f"{folder or '.'}, which has {shown}")


@contextmanager
def running(folder: Path, facts: dict[str, Any], *, overwrite: bool) -> Iterator[Path]:
    """The folder of a run's checkpoints, for the time that the run is written: `begin`, and `finish` if it ends well.

    Raises:
        ArgumentError: as `begin`, or another process is writing the run.
        DataError: what was kept cannot be read.
    """
    check_own(folder)
    with _locked(folder):
        place = begin(folder, facts, overwrite=overwrite)
        yield place
        finish(folder)


def begin(folder: Path, facts: dict[str, Any], *, overwrite: bool) -> Path:
    """The folder of a run's checkpoints, which the same command finds again after a stop.

    With ``overwrite`` the files that a run there has written go; files that somebody else put there stay.

    Raises:
        ArgumentError: the run that was stopped there was another one, or the folder is not a run's.
        DataError: what was kept cannot be read.
    """
    check_own(folder)
    place = folder / UNDER_WAY
    if place.is_symlink():
        raise ArgumentError("out", "a folder of a run", f"{folder}, whose {UNDER_WAY} is a link to another folder")
    if overwrite:
        for path in (*_written(folder), *place.glob("*")):
            if path.name != _LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in (*folder.glob(".*.tmp"), *place.glob(".*.tmp")):
        if is_temporary(path):  # of a process that was killed
            path.unlink(missing_ok=True)
    known = place / "facts.json"
    if known.exists():
        _check_same(folder, known, facts)
    else:
        others = _manifest(folder).get("others", _names(folder))  # of a run that was stopped, from before it began
        write_json(folder / MANIFEST, _HEAD | {"files": [], "others": others})
    write_json(known, facts)
    return place


def finish(folder: Path) -> None:
    """Write down which files the run has written, and remove what only a run under way needs."""
    others = set(_manifest(folder).get("others", ()))
    shutil.rmtree(folder / UNDER_WAY, ignore_errors=True)
    names = [name for name in _names(folder) if name not in others and name.endswith(_PARTS)]
    write_json(folder / MANIFEST, _HEAD | {"files": names})


def _check_same(folder: Path, known: Path, facts: dict[str, Any]) -> None:
    """Refuse to go on with a run of other facts."""
    try:
        before = json.loads(known.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{known}: cannot be read ({error}). --overwrite begins anew") from error
    if not isinstance(before, dict):
        raise DataError(f"{known}: expected an object. --overwrite begins anew")
    now = json.loads(json.dumps(facts))
    for name in [*before, *now]:
        if before.get(name) != now.get(name):
            hint = "Give the same, another --out, or --overwrite to begin anew"
            had = f"{before.get(name)!r}, as the run that was stopped in {folder} has it"
            raise ArgumentError(name, had, repr(now.get(name)), hint)
    kept = "going on with it" if any(known.parent.rglob("*.safetensors")) else "nothing was kept yet, so it begins anew"
    LOG.info("%s holds a run that was stopped: %s", folder, kept)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the same run."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    path = folder / UNDER_WAY / _LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                raise OSError  # the other process ended in between, and took the file with it
        except OSError:
            hint = "Wait for it, or give another --out"
            raise ArgumentError("out", "a folder that no other process is writing", str(folder), hint) from None
        yield


def is_part(run: Path, path: Path) -> bool:
    """Whether a file belongs to a run: a student, a card, a report, a picture."""
    path, run = Path(os.path.realpath(path)), Path(os.path.realpath(run))
    return path.exists() and run in path.parents and (path.suffix in _PARTS or path in _written(run))


def write_json(path: Path, value: Any) -> None:
    """Write it as JSON that people can read, whole or not at all."""
    write_atomically(path, (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())


def _names(folder: Path) -> list[str]:
    """The files in a folder, but for the manifest and what a run under way needs."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST and not name.startswith(f"{UNDER_WAY}/"))


def _manifest(folder: Path) -> dict[str, list[str]]:
    """The lists of names of the manifest; none where it is missing or damaged."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return {k: [n for n in found[k] if isinstance(n, str)] for k in ("files", "others") if k in found}
    except (OSError, ValueError, TypeError):
        return {}


def _written(folder: Path) -> list[Path]:
    """The files that a run has written there, by its manifest; inside the folder, whatever the manifest says."""
    names = _manifest(folder).get("files", [REPORT])  # without one the other files are replaced as they are written
    root = Path(os.path.realpath(folder))
    paths = [folder / name for name in names]
    return [path for path in paths if root in Path(os.path.realpath(path.parent), path.name).parents]


def _is_run(folder: Path) -> bool:
    if (folder / MANIFEST).exists() or (folder / UNDER_WAY / "facts.json").exists():
        return True
    names = {path.name for path in folder.iterdir()}
    if names <= {UNDER_WAY}:
        return True
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(config["versions"]).startswith("hgraph ")
    except (OSError, ValueError, KeyError, TypeError):
        return False
