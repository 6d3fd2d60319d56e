"""Write files atomically: a reader sees the complete old file or the complete new one."""

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
    """Write a file atomically: if the process is killed, the file has its old content or all of the new content.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with writing(path, "wb") as file:
        file.write(content)


@contextmanager
def writing(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that replaces ``path`` when the block succeeds; if it fails, the old file stays.

    The temporary file has a random name and is opened exclusively, so concurrent writers never mix their output.
    Devices and FIFOs are written to directly.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    path = Path(os.path.realpath(path))
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            with open(path, mode, **text) as file:  # type: ignore[call-overload]
                yield file
            return
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
        if error.errno is None or error.filename not in (None, str(path), str(temporary)):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


def is_temporary(path: Path) -> bool:
    """Whether this is a temporary file that a killed writer left behind."""
    head, _, end = path.name.rpartition(".")
    letters = head.rpartition(".")[2]
    return end == "tmp" and path.name.startswith(".") and len(letters) == 8 and set(letters) <= set("0123456789abcdef")
