"""Decide whether to request huge pages for large outputs; after slow ones, wait before trying again."""

from __future__ import annotations

__all__ = ["HugePages"]

_LONGEST = 1024


class HugePages:
    """Count the large outputs for which no huge pages are requested.

    A huge page can take several times as long as the small pages it replaces. This happens if free memory is
    fragmented, because Linux first moves other pages out of the way, and if a hypervisor has reclaimed free memory,
    because the host must provide it again. The native kernel detects this at the second slow page of an output and
    uses small pages for the rest (native_pages.h). Pages that were provided once are usually fast the next time. So
    every second output is tried while each trial gets more fast pages than the one before. Otherwise every slow trial
    doubles the wait before the next one.

    >>> pages = HugePages()
    >>> pages.note(40, 0), pages.wanted()
    (None, True)
    >>> pages.note(0, 2), [pages.wanted() for _ in range(3)]
    (None, [False, False, True])
    """

    def __init__(self) -> None:
        self._wait, self._next, self._fast = 0, 1, -1

    def wanted(self) -> bool:
        """Whether to request huge pages for the next output."""
        if self._wait:
            self._wait -= 1
            return False
        return True

    def note(self, fast: int, slow: int) -> None:
        """Record how many huge pages of the last output were fast and how many were slow."""
        if slow < 2:
            self._next = 1
        elif fast > self._fast:
            self._wait = self._next = 1
        else:
            self._next = min(2 * self._next, _LONGEST)
            self._wait = self._next
        self._fast = fast
