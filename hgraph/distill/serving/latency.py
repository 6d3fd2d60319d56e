"""How long a forward pass takes, measured the same way for every model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from hgraph.errors import ArgumentError

__all__ = ["latencies"]

_CALLS = 10  # in a row: models in turn at every call would find each other's data in the cache


def latencies(
    forwards: Mapping[str, Callable[[], object]],
    *,
    device: torch.device | str = "cpu",
    warmup: float = 0.1,
    rounds: int = 30,
    budget: float = 3.0,
) -> dict[str, float]:
    """The median wall-clock seconds of a call of each model, in inference mode, with the threads torch has now.

    Models take turns, so that what else the machine does falls on all of them. In its turn a model is called 10
    times in a row. Preparation that a model caches
    (degrees, norms) falls into the warm-up; on CUDA each call is waited for.

    Args:
        forwards: what to time, by name; put models in eval mode and their inputs on the device first.
        device: where they compute.
        warmup: seconds of calls of each, at least 3 calls, before the first that counts.
        rounds: at most so many turns each.
        budget: begin no further round after so many seconds.

    Raises:
        ArgumentError: no call would count.

    >>> sorted(latencies({"a": lambda: None, "b": lambda: 2 + 2}, rounds=2, warmup=0))
    ['a', 'b']
    """
    if rounds < 1:
        raise ArgumentError("rounds", "1 or more", rounds)
    cuda = torch.device(device).type == "cuda"

    def timed(forward: Callable[[], object]) -> float:
        start = time.perf_counter()
        forward()
        if cuda:
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    times: dict[str, list[float]] = {name: [] for name in forwards}
    with torch.inference_mode():
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
    return {name: statistics.median(values) for name, values in times.items()}
