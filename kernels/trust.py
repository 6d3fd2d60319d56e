"""Which built libraries may be loaded: loading a library executes it.

A library is trusted if its path is absolute, it and its folder belong to the user or to root, nobody else can
write to it, and its bytes match the hash recorded when it was built.
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
    """A library that must not be loaded; the message has the reason and a fix."""


def secure(folder: Path) -> None:
    """Create the folder of built libraries, or remove write permissions of others from an existing one.

    Raises:
        UntrustedError: other users could put a library there.
    """
    if not folder.is_absolute():
        raise UntrustedError(f"{str(folder)!r} is not an absolute path, so it depends on the working directory")
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    _check_folder(folder)


def check(library: Path) -> Path:
    """The real path of a library that nobody else can have created or changed.

    Raises:
        UntrustedError: the library must not be loaded; the message says why.
    """
    if not library.is_absolute():
        raise UntrustedError(f"{str(library)!r} is not an absolute path, so it depends on the working directory")
    real = Path(os.path.realpath(library))
    for folder in dict.fromkeys((library.parent, real.parent)):  # whoever can write to the first can move a link
        _check_folder(folder)
    state = real.stat()
    if not stat.S_ISREG(state.st_mode):
        raise UntrustedError(f"{library} is not a regular file")
    _check_owner(library, state)
    if state.st_mode & (_GROUP | _OTHERS):
        raise UntrustedError(f"{library} is writable by others than its owner. Remove it, then build it again")
    try:
        recorded = _record_of(library).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise UntrustedError(f"{library} has no recorded hash. {_REBUILD}") from None
    if recorded != _hash(real):
        raise UntrustedError(f"{library} differs from what was built: its hash differs. Remove it, then build it again")
    return real


def record(library: Path, name: Path) -> None:
    """Write the hash of a library before it is moved to this name."""
    library.chmod(0o755)
    _record_of(name).write_text(_hash(library) + "\n", encoding="ascii")


def _record_of(library: Path) -> Path:
    return library.with_name(library.name + ".sha256")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_folder(folder: Path) -> None:
    """Check that the folder belongs to the user or root, and that nobody else can replace a parent folder."""
    state = folder.stat()
    _check_owner(folder, state)
    if state.st_mode & _OTHERS:
        raise UntrustedError(f"{folder} is writable by everybody. chmod go-w {folder}, after checking its content")
    if state.st_mode & _GROUP:
        try:
            folder.chmod(stat.S_IMODE(state.st_mode) & ~_GROUP)
        except OSError:
            raise UntrustedError(f"{folder} is writable by its group. chmod g-w {folder}") from None
    for above in folder.resolve().parents:
        mode = above.stat().st_mode
        if mode & _OTHERS and not mode & stat.S_ISVTX:
            raise UntrustedError(f"{above} is writable by everybody, so {folder} could be replaced")


def _check_owner(path: Path, state: os.stat_result) -> None:
    if hasattr(os, "geteuid") and state.st_uid not in (0, os.geteuid()):
        raise UntrustedError(f"{path} belongs to user {state.st_uid}, not to you ({os.geteuid()}) or root")
