"""Chooses the number of threads for training: one, or all that torch uses, whichever is currently faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["fastest_threads", "threads"]

_ROUNDS, _SECONDS = 4, 2.0  # timed steps per thread count, and the time limit for all of them


def fastest_threads(step: Callable[[], object], *, most: int | None = None) -> int:
    """Time a step alternately with one thread and with all threads, and return the faster number of threads.

    Use it before training on a shared machine: if the cores are busy, threads wait for each other, and a step can take
    ten times as long as with one thread. Even on an idle machine, small steps are often faster with one thread.

    Args:
        step: one training step, forward and backward; it must not change parameters. The state of the random number
            generator is restored afterward.
        most: the larger number of threads; default `torch.get_num_threads`.

    Returns:
        1 or ``most``. The result is 1 unless ``most`` threads take at least 5 % less time.

    >>> fastest_threads(lambda: None, most=1)
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
    one, all_of_them = (min(taken[1:]) for taken in times.values())  # the first step of each is a warm-up
    return most if all_of_them < 0.95 * one else 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run a block with this number of torch threads.

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
