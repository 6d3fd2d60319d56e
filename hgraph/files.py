"""Atomic file writes."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["is_temporary", "write_atomically", "writing"]


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: after an interruption either the old or the complete new content exists.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
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
    given, path = str(path), Path(path)
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
