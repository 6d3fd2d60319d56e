"""Which built libraries may be loaded: to load one is to execute it.

A library counts where it lies at an absolute path, belongs to the user or to root, as its folder does, cannot be
written by anybody else, and has the bytes that were recorded when it was built.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

__all__ = ["UntrustedError", "check", "record", "secure"]

_OTHERS, _GROUP = stat.S_IWOTH, stat.S_IWGRP


class UntrustedError(OSError):
    """A library that is not loaded; the message says why, and what to do."""


def secure(folder: Path) -> None:
    """Make the folder of built libraries, or take from others what they may do in one of the user's.

    Raises:
        UntrustedError: others could put a library there.
    """
    if not folder.is_absolute():
        raise UntrustedError(f"{str(folder)!r} is not an absolute path, so another folder in each working directory")
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    _check_folder(folder)


def check(library: Path) -> None:
    """Refuse a library that somebody else may have made or changed.

    Raises:
        UntrustedError: with the reason.
    """
    if not library.is_absolute():
        raise UntrustedError(f"{str(library)!r} is not an absolute path, so another file in each working directory")
    real = Path(os.path.realpath(library))
    _check_folder(real.parent)
    state = real.stat()
    if not stat.S_ISREG(state.st_mode):
        raise UntrustedError(f"{library} is not a regular file")
    _check_owner(library, state)
    if state.st_mode & (_GROUP | _OTHERS):
        raise UntrustedError(f"{library} can be written by others than its owner. Remove it, then build it again")
    try:
        recorded = _record_of(library).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise UntrustedError(f"{library} has no recorded hash. Remove it, then build it again") from None
    if recorded != _hash(real):
        raise UntrustedError(f"{library} is not what was built: its hash differs. Remove it, then build it again")


def record(library: Path, name: Path) -> None:
    """Write the hash of a library that is going to have this name."""
    library.chmod(0o755)
    _record_of(name).write_text(_hash(library) + "\n", encoding="ascii")


def _record_of(library: Path) -> Path:
    return library.with_name(library.name + ".sha256")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_folder(folder: Path) -> None:
    """The folder is the user's or root's, and none above it lets everybody exchange it."""
    state = folder.stat()
    _check_owner(folder, state)
    if state.st_mode & _OTHERS:
        raise UntrustedError(f"{folder} can be written by everybody. chmod go-w {folder}, after a look at its content")
    if state.st_mode & _GROUP:
        try:
            folder.chmod(stat.S_IMODE(state.st_mode) & ~_GROUP)
        except OSError:
            raise UntrustedError(f"{folder} can be written by its group. chmod g-w {folder}") from None
    for above in folder.resolve().parents:
        mode = above.stat().st_mode
        if mode & _OTHERS and not mode & stat.S_ISVTX:
            raise UntrustedError(f"{above} can be written by everybody, so {folder} could be exchanged")


def _check_owner(path: Path, state: os.stat_result) -> None:
    if hasattr(os, "geteuid") and state.st_uid not in (0, os.geteuid()):
        raise UntrustedError(f"{path} belongs to user {state.st_uid}, not to you ({os.geteuid()}) or root")
