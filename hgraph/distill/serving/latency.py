"""How long a forward pass takes, measured the same way for every model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from hgraph.errors import ArgumentError
from hgraph.train.threads import threads as with_threads

__all__ = ["Timing", "latencies", "timings"]

LARGE_SPREAD = 0.3
_CALLS = 10  # in a row: models in turn at every call would find each other's data in the cache


@dataclass(frozen=True)
class Timing:
    """Seconds of a call: the median of many, and the quartiles.

    >>> Timing(0.002, 0.001, 0.004).spread
    1.5
    """

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """How far the quartiles are apart, in medians; above `LARGE_SPREAD` the machine was busy with other things."""
        return (self.high - self.low) / self.median

    @property
    def is_steady(self) -> bool:
        """Whether the median can be relied on."""
        return self.spread <= LARGE_SPREAD


def latencies(
    forwards: Mapping[str, Callable[[], object]],
    *,
    device: torch.device | str = "cpu",
    warmup: float = 0.1,
    rounds: int = 30,
    budget: float = 3.0,
    threads: int | None = 1,
) -> dict[str, float]:
    """The median wall-clock seconds of a call of each model: the medians of `timings`, with the same arguments.

    >>> sorted(latencies({"a": lambda: None, "b": lambda: 2 + 2}, rounds=2, warmup=0))
    ['a', 'b']
    """
    found = timings(forwards, device=device, warmup=warmup, rounds=rounds, budget=budget, threads=threads)
    return {name: timing.median for name, timing in found.items()}


def timings(
    forwards: Mapping[str, Callable[[], object]],
    *,
    device: torch.device | str = "cpu",
    warmup: float = 0.1,
    rounds: int = 30,
    budget: float = 3.0,
    threads: int | None = 1,
) -> dict[str, Timing]:
    """Median and quartiles of the wall-clock seconds of a call of each model, in inference mode.

    Models take turns, so that what else the machine does falls on all of them. In its turn a model is called 10
    times in a row. Preparation that a model caches
    (degrees, norms) falls into the warm-up; on CUDA each call is waited for.

    Args:
        forwards: what to time, by name; put models in eval mode and their inputs on the device first.
        device: where they compute.
        warmup: seconds of calls of each, at least 3 calls, before the first that counts.
        rounds: at most so many turns each.
        budget: begin no further round after so many seconds.
        threads: of torch while it is timed, one by default: with several, small calls wait for each other, and a
            machine that does other work answers otherwise each time. None leaves them as they are.

    Raises:
        ArgumentError: no call would count, or threads below 1.

    >>> timings({"a": lambda: None}, rounds=2, warmup=0)["a"].median > 0
    True
    """
    if rounds < 1:
        raise ArgumentError("rounds", "1 or more", rounds)
    if threads is not None and threads < 1:
        raise ArgumentError("threads", "None, or 1 or more", threads)
    cuda = torch.device(device).type == "cuda"

    def timed(forward: Callable[[], object]) -> float:
        start = time.perf_counter()
        forward()
        if cuda:
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    times: dict[str, list[float]] = {name: [] for name in forwards}
    with with_threads(torch.get_num_threads() if threads is None else threads), torch.inference_mode():
        for forward in forwards.values():
            warm: list[float] = []
            while len(warm) < 3 or sum(warm) < warmup:
                warm.append(timed(forward))
        start = time.perf_counter()
        for turn in range(rounds):
            if turn and time.perf_counter() - start > budget:
                break
            for name, forward in forwards.items():
                times[name] += [timed(forward) for _ in range(_CALLS)]
    found = {}
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        found[name] = Timing(median, low, high)
    return found
