"""How many threads a training runs with: one, or all that torch would take, whichever is faster here and now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["fastest_threads", "threads"]

_ROUNDS, _SECONDS = 4, 2.0  # so many steps of each, but no more time than that


def fastest_threads(step: Callable[[], object], *, most: int | None = None) -> int:
    """Time a step with one thread and with all, in turn, and return the faster number.

    Use it before a training on a machine that is shared: threads that wait for each other on busy cores can make a
    step ten times as slow as one thread. Small steps are often faster with one thread on an idle machine, too.

    Args:
        step: what a training repeats, forward and backward; it must not change what is trained. Random numbers that it
            draws are given back.
        most: the larger number; default `torch.get_num_threads`.

    Returns:
        1 or ``most``; 1 where the two differ by less than 5 %.

    >>> fastest_threads(lambda: None)
    1
    """
    most = torch.get_num_threads() if most is None else most
    if most <= 1:
        return 1
    times: dict[int, list[float]] = {1: [], most: []}
    begin = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        for i in range(_ROUNDS + 1):
            for count, taken in times.items():
                with threads(count):
                    start = time.perf_counter()
                    step()
                    taken.append(time.perf_counter() - start)
            if i and time.perf_counter() - begin > _SECONDS:
                break
    one, all_of_them = (min(taken[1:]) for taken in times.values())  # the first call of each warms up
    return most if all_of_them < 0.95 * one else 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run a block with so many of torch's threads.

    >>> with threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
