"""Whether large outputs are asked for in huge pages: not for a while after these came slowly."""

from __future__ import annotations

__all__ = ["HugePages"]

_LONGEST = 1024


class HugePages:
    """Counts for how many large outputs no huge pages are asked for.

    Where free memory is in small pieces Linux moves pages out of the way of a huge one, and under a hypervisor that
    takes free memory back the host has to find it again: a huge page then takes several times as long as the small
    ones in its place. The native kernel notices that at the second such page of an output, and leaves the rest of it
    small (native_pages.h). Pages that were found once come fast the next time, mostly; so as long as an output gets
    more fast ones than the one before, every second output is tried. Where it does not, each trial that is slow
    doubles the wait for the next one.

    >>> pages = HugePages()
    >>> pages.note(40, 0), pages.wanted()
    (None, True)
    >>> pages.note(0, 2), [pages.wanted() for _ in range(3)]
    (None, [False, False, True])
    """

    def __init__(self) -> None:
        self._wait, self._next, self._fast = 0, 1, -1

    def wanted(self) -> bool:
        """Whether the next output is to be in huge pages."""
        if self._wait:
            self._wait -= 1
            return False
        return True

    def note(self, fast: int, slow: int) -> None:
        """How many pages of the output that was just made came fast, and slowly."""
        if slow < 2:
            self._next = 1
        elif fast > self._fast:
            self._wait = self._next = 1
        else:
            self._next = min(2 * self._next, _LONGEST)
            self._wait = self._next
        self._fast = fast
