"""Whether to request huge pages for large outputs: not for a while after they were slow."""

from __future__ import annotations

__all__ = ["HugePages"]

_LONGEST = 1024


class HugePages:
    """Counts the large outputs for which no huge pages are requested.

    If free memory is fragmented, Linux moves pages to make room for a huge one, and under a hypervisor that
    reclaims free memory the host must find it again: a huge page then takes several times as long as the small
    pages it replaces. The native kernel detects that at the second such page of an output, and uses small pages for
    the rest (native_pages.h). Pages that were found once are usually fast the next time; so while each output gets
    more fast pages than the one before, every second output tries them. Otherwise each slow trial
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
        """Whether the next output should use huge pages."""
        if self._wait:
            self._wait -= 1
            return False
        return True

    def note(self, fast: int, slow: int) -> None:
        """Record how many pages of the last output were fast, and slow."""
        if slow < 2:
            self._next = 1
        elif fast > self._fast:
            self._wait = self._next = 1
        else:
            self._next = min(2 * self._next, _LONGEST)
            self._wait = self._next
        self._fast = fast
