"""Check that a request fits into the available memory before anything is allocated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from hgraph.errors import ArgumentError

__all__ = ["available_bytes", "check_memory"]

_SMALL = 64 * 2**20  # smaller requests are not checked
_MOUNTS = "/sys/fs/cgroup"  # of control groups (cgroups), version 2 and 1
_OWN_GROUPS = "/proc/self/cgroup"
_V2 = ("memory.max", "memory.current", ("inactive_file", "active_file"))
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


def check_memory(argument: str, num_bytes: float, what: str, hint: str = "") -> None:
    """Raise an error if a request does not fit into memory, before anything is allocated.

    Args:
        argument: name of the argument that sets the size.
        num_bytes: estimated size.
        what: what needs the memory, for the message.
        hint: what the user can do.

    Raises:
        ArgumentError: less memory than ``num_bytes`` is available.
    """
    if num_bytes <= _SMALL:
        return
    bound = available_bytes()
    if bound is not None and num_bytes > bound:
        hint = ". ".join([*[hint] * bool(hint), "Set HGRAPH_MAX_BYTES to change this limit"])
        got = f"{what}, which needs about {_shown(num_bytes)}"
        raise ArgumentError(argument, f"a size that fits into {_shown(bound)} of memory", got, hint)


def available_bytes() -> int | None:
    """Free memory of the system or of this process's control groups, whichever is smallest.

    ``$HGRAPH_MAX_BYTES`` takes precedence if it is set. None if the free memory is unknown.

    Raises:
        ArgumentError: the variable is not a number of bytes.
    """
    given = os.environ.get("HGRAPH_MAX_BYTES")
    if given:
        try:
            return int(float(given))
        except (ValueError, OverflowError):
            raise ArgumentError("HGRAPH_MAX_BYTES", "a number of bytes", repr(given)) from None
    return min((n for n in (_system(), *_groups()) if n is not None), default=None)


def _system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _groups() -> Iterator[int | None]:
    """Free memory of the control groups of this process, from its own to the root, each of which may have a limit."""
    try:
        lines = Path(_OWN_GROUPS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    own = {kind: path for _, kind, path in (line.split(":", 2) for line in lines if line.count(":") >= 2)}
    for mount, path, names in (
        (Path(_MOUNTS), own.get("", "/"), _V2),
        (Path(_MOUNTS, "memory"), next((p for kind, p in own.items() if "memory" in kind.split(",")), "/"), _V1),
    ):
        inner = PurePosixPath(path.lstrip("/"))
        for group in (inner, *inner.parents) if inner.parts else (inner,):
            if ".." not in group.parts:  # a group outside of this container
                yield _group(mount / group, *names)


def _group(folder: Path, bound: str, use: str, cached: tuple[str, ...]) -> int | None:
    """The limit of a group minus its usage; the page cache of files counts as free, because the system drops it."""
    try:
        limit, used = (int((folder / name).read_text(encoding="ascii")) for name in (bound, use))
    except (OSError, ValueError):  # there is no such group, or it has no limit ("max")
        return None
    try:
        rows = [line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()]
        pages = sum(int(row[1]) for row in rows if row[0] in cached)
    except (OSError, ValueError, IndexError):
        pages = 0
    return max(limit - max(used - pages, 0), 0)


def _shown(num_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if num_bytes < 1024 or unit == "PiB":
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    raise AssertionError
