"""Measures the latency of forward passes, in the same way for every model."""

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
_CALLS = 10  # calls in a row: alternating at every call would measure caches filled by the other model


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median and quartiles of many calls.

    >>> Timing(0.002, 0.001, 0.004).spread
    1.5
    """

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Interquartile range divided by the median; above `LARGE_SPREAD` the machine was busy."""
        return (self.high - self.low) / self.median

    @property
    def is_steady(self) -> bool:
        """Whether the spread is small enough to trust the median."""
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
    """The median wall-clock seconds per call of each model; takes the arguments of `timings`.

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
    """Median and quartiles of the wall-clock seconds per call of each model, in inference mode.

    Models take turns, so that other load of the machine affects all of them. In its turn, a model is called 10 times.
    The warm-up includes preparation that models cache (degrees, norms). On CUDA, each call is synchronized.

    Args:
        forwards: functions to time, by name; first put models in eval mode and inputs on the device.
        device: the device of the models.
        warmup: seconds of warm-up calls per model, at least 3 calls.
        rounds: maximum number of turns per model.
        budget: start no new round after this many seconds.
        threads: number of torch threads during the timing. One by default, since several threads slow down small calls
            and vary more on a busy machine. None does not change it.

    Raises:
        ArgumentError: rounds or threads below 1.

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
