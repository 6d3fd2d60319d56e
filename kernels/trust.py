"""Decide which built libraries are safe to load; loading a library executes its code.

A library is trusted if its path is absolute, it and its folder belong to the user or root, nobody else can write to
them, and its hash is the one that was recorded when it was built.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

__all__ = ["UntrustedError", "check", "record", "secure"]

_OTHERS, _GROUP = stat.S_IWOTH, stat.S_IWGRP
_REBUILD = "Delete it and run `hgraph kernels build`"


class UntrustedError(OSError):
    """A library must not be loaded; the message says why."""


def secure(folder: Path) -> None:
    """Create the folder for built libraries; if it exists, take write permission from its group.

    Raises:
        UntrustedError: other users could put a library there.
    """
    if not folder.is_absolute():
        raise UntrustedError(
            f"{str(folder)!r} is not an absolute path: it would be a different folder in each working directory"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    _check_folder(folder)


def check(library: Path) -> None:
    """Raise an error for a library that somebody else could have made or changed.

    Raises:
        UntrustedError: the library must not be loaded; the message says why.
    """
    if not library.is_absolute():
        raise UntrustedError(
            f"{str(library)!r} is not an absolute path: it would be a different file in each working directory"
        )
    real = Path(os.path.realpath(library))
    _check_folder(real.parent)
    state = real.stat()
    if not stat.S_ISREG(state.st_mode):
        raise UntrustedError(f"{library} is not a regular file")
    _check_owner(library, state)
    if state.st_mode & (_GROUP | _OTHERS):
        raise UntrustedError(f"{library} can be written by users other than its owner. {_REBUILD}")
    try:
        recorded = _record_of(library).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise UntrustedError(f"{library} has no recorded hash. {_REBUILD}") from None
    if recorded != _hash(real):
        raise UntrustedError(f"{library} was changed after it was built: its hash differs. {_REBUILD}")


def record(library: Path, name: Path) -> None:
    """Record the hash of a built library that will be moved to ``name``."""
    library.chmod(0o755)
    _record_of(name).write_text(_hash(library) + "\n", encoding="ascii")


def _record_of(library: Path) -> Path:
    return library.with_name(library.name + ".sha256")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_folder(folder: Path) -> None:
    """Check that the folder belongs to the user or root, and that no other user can write to it or replace it."""
    state = folder.stat()
    _check_owner(folder, state)
    if state.st_mode & _OTHERS:
        raise UntrustedError(f"{folder} can be written by everybody. Check its content, then run `chmod go-w {folder}`")
    if state.st_mode & _GROUP:
        try:
            folder.chmod(stat.S_IMODE(state.st_mode) & ~_GROUP)
        except OSError:
            raise UntrustedError(f"{folder} can be written by its group. Run `chmod g-w {folder}`") from None
    for above in folder.resolve().parents:
        mode = above.stat().st_mode
        if mode & _OTHERS and not mode & stat.S_ISVTX:
            raise UntrustedError(f"{above} can be written by everybody, so {folder} could be replaced")


def _check_owner(path: Path, state: os.stat_result) -> None:
    if hasattr(os, "geteuid") and state.st_uid not in (0, os.geteuid()):
        raise UntrustedError(f"{path} belongs to user {state.st_uid}, not to you ({os.geteuid()}) or root")
