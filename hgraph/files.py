"""Atomic file writes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from hgraph.errors import ArgumentError

__all__ = [
    "is_temporary",
    "remove_abandoned",
    "remove_folder",
    "remove_temporary",
    "sorted_metadata",
    "temporary_folder",
    "try_lock",
    "valid_path",
    "write_atomically",
    "writing",
]

_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # bytes, on the usual file systems


def valid_path(path: str | os.PathLike[str], argument: str = "path") -> Path:
    r"""The path, with ``~`` expanded, after checking that it can be the name of a file on this system.

    Raises:
        ArgumentError: a zero character, characters that cannot be encoded, or a name that is too long.

    >>> valid_path("a\0b")
    Traceback (most recent call last):
    hgraph.errors.ArgumentError: path: expected a path without zero characters, got 'a\x00b'
    """
    text = os.path.expanduser(os.fspath(path))  # Path.expanduser raises an error for names such as ~$table.csv
    if "\0" in text:
        raise ArgumentError(argument, "a path without zero characters", repr(text)[:200])
    try:
        names = [len(os.fsencode(name)) for name in Path(text).parts]
    except UnicodeEncodeError:
        raise ArgumentError(argument, "a path that this system can encode", repr(text)[:200]) from None
    if max(names, default=0) > _LONGEST_NAME or len(os.fsencode(text)) >= _LONGEST_PATH:
        expected = f"a path of at most {_LONGEST_PATH:,} bytes, with names of at most {_LONGEST_NAME}"
        raise ArgumentError(argument, expected, f"{max(names)} bytes in one name, {text[:40]!r} ...")
    return Path(text)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: after an interruption either the old or the complete new content exists.

    Raises:
        ArgumentError: as `valid_path`.
        OSError: the file cannot be written; the message names it.
    """
    valid_path(path).parent.mkdir(parents=True, exist_ok=True)
    with writing(path, "wb") as file:
        file.write(content)


def sorted_metadata(content: bytes) -> bytes:
    """The bytes of a safetensors file with its metadata in order: safetensors writes them in a random one.

    >>> header = b'{"__metadata__":{"b":"1","a":"2"}}      '
    >>> sorted_metadata(len(header).to_bytes(8, "little") + header)[8:]
    b'{"__metadata__":{"a":"2","b":"1"}}      '
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[end:]


@contextmanager
def writing(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """A context for a file that is moved into place if the block succeeds; otherwise the old file stays.

    It is written under a random name that is opened exclusively, so concurrent writers do not mix. Temporary files that
    killed writers of the same file left are removed first. A device or a FIFO is written to directly. A file that is
    replaced keeps its permissions.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    given, path = str(path), valid_path(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    temporary = None
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            with open(path, mode, **text) as file:  # type: ignore[call-overload]
                yield file
            return
        path = Path(os.path.realpath(path))
        mode_of = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
        with _claimed(path, _new_file) as (temporary, descriptor):
            with open(os.dup(descriptor), mode, **text) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                os.fsync(file.fileno())
            if mode_of is not None and hasattr(os, "fchmod"):
                os.fchmod(descriptor, mode_of)
            os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, given, str(path), str(temporary)):
            raise
        raise type(error)(error.errno, error.strerror, given) from error


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A new folder next to ``target`` that the block fills and renames to it; otherwise it is removed.

    Temporary folders that killed processes left for the same target are removed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _claimed(target, _new_folder) as (folder, _):
        yield folder


def remove_abandoned(target: Path) -> None:
    """Remove temporary files and folders of a target that no running process has locked."""
    stem = _stem(target)
    length = len(stem) + len("01234567.tmp")
    try:
        with os.scandir(target.parent) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(stem)]
    except OSError:
        return
    for path in (target.with_name(name) for name in names if len(name) == length):
        if not is_temporary(path):
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError:  # a link, another user's, or removed meanwhile
            continue
        with suppress(OSError):
            if try_lock(descriptor):
                _remove(path)
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all its files; if the process is killed, they are left under a temporary name."""
    with temporary_folder(folder) as place:
        os.rename(folder, place / folder.name)


def remove_temporary(folder: Path) -> None:
    """Remove all temporary files and folders in a folder that no other process writes to."""
    for path in folder.glob(".*.tmp"):
        if is_temporary(path):
            _remove(path)


def is_temporary(path: Path) -> bool:
    """Whether a file or folder has the name of a temporary one."""
    head, _, end = path.name.rpartition(".")
    letters = head.rpartition(".")[2]
    return end == "tmp" and path.name.startswith(".") and len(letters) == 8 and set(letters) <= set("0123456789abcdef")


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder against other processes, until it is closed or the process ends.

    Returns:
        Whether it is locked now; False if another process holds the lock, None where there are no locks.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


@contextmanager
def _claimed(target: Path, create: Callable[[Path], int | None]) -> Iterator[tuple[Path, Any]]:
    """A new temporary file or folder for a target, locked while it is used, and its descriptor."""
    remove_abandoned(target)
    path, descriptor, lost = target, None, True
    while lost:  # another process can remove it between its creation and the lock
        path = target.with_name(f"{_stem(target)}{secrets.token_hex(4)}.tmp")
        descriptor = create(path)
        lost = descriptor is not None and (try_lock(descriptor) is False or not _is_at(path, descriptor))
        if lost:
            os.close(descriptor)  # type: ignore[arg-type]
    try:
        yield path, descriptor
    finally:
        _remove(path)
        if descriptor is not None:
            os.close(descriptor)


def _stem(target: Path) -> str:
    """The common prefix of all temporary names of a target; a name that is too long is replaced by its hash."""
    name = target.name
    if len(os.fsencode(name)) + len("..01234567.tmp") > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}."


def _new_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _new_folder(path: Path) -> int | None:
    path.mkdir()
    return None if os.name == "nt" else os.open(path, os.O_RDONLY)  # Windows cannot open folders


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
