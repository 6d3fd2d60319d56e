"""Check that a request fits into the available memory before anything is allocated."""

from __future__ import annotations

import os
from pathlib import Path

from hgraph.errors import ArgumentError

__all__ = ["available_bytes", "check_memory"]

_SMALL = 64 * 2**20  # smaller requests are not checked
_GROUPS = (  # limit and usage of the control group (cgroup), version 2 and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


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
    """Free memory of the system or of this process's control group, whichever is smaller.

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
    found = [_system(), *(_group(*files) for files in _GROUPS)]
    return min((n for n in found if n is not None), default=None)


def _system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _group(bound: str, use: str) -> int | None:
    try:
        return max(int(Path(bound).read_text(encoding="ascii")) - int(Path(use).read_text(encoding="ascii")), 0)
    except (OSError, ValueError):  # there is no such group, or it has no limit ("max")
        return None


def _shown(num_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if num_bytes < 1024 or unit == "PiB":
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    raise AssertionError
