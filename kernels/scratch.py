"""Temporary folders of builds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["remove_abandoned", "scratch_folder"]

_PREFIX = ".native-"


def remove_abandoned(parent: Path) -> None:
    """Remove the temporary folders of killed builds; those of running ones are locked."""
    for left in parent.glob(f"{_PREFIX}*"):
        lock = _lock(left)
        if lock is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent``, locked while it is used and removed at the end."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as place:
        lock = _lock(Path(place))
        try:
            yield Path(place)
        finally:
            if lock is not None:
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """The descriptor of a folder that is locked until it is closed; None if that is impossible."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except (ImportError, OSError):  # no locks here, a link, or removed meanwhile
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a running build has it, or the disk has no locks
        os.close(descriptor)
        return None
    return descriptor
