"""Atomic file writes."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hgraph.errors import ArgumentError

__all__ = ["is_temporary", "valid_path", "write_atomically", "writing"]

_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # bytes, on the usual file systems


def valid_path(path: str | os.PathLike[str], argument: str = "path") -> Path:
    r"""The path, after checking that it can be the name of a file on this system.

    Raises:
        ArgumentError: a zero character, characters that cannot be encoded, or a name that is too long.

    >>> valid_path("a\0b")
    Traceback (most recent call last):
    hgraph.errors.ArgumentError: path: expected a path without zero characters, got 'a\x00b'
    """
    text = os.fspath(path)
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


@contextmanager
def writing(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """A context for a file that is moved into place if the block succeeds; otherwise the old file stays.

    It is written under a random name that is opened exclusively, so concurrent writers do not mix. A device or a FIFO
    is written to directly.

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
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None or error.filename not in (None, given, str(path), str(temporary)):
            raise
        raise type(error)(error.errno, error.strerror, given) from error


def is_temporary(path: Path) -> bool:
    """Whether a file was left by an interrupted writer."""
    head, _, end = path.name.rpartition(".")
    letters = head.rpartition(".")[2]
    return end == "tmp" and path.name.startswith(".") and len(letters) == 8 and set(letters) <= set("0123456789abcdef")
