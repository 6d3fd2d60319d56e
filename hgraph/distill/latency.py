"""How long a forward pass takes, measured the same way for every model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from hgraph.errors import ArgumentError

__all__ = ["latency"]


def latency(
    forward: Callable[[], object],
    *,
    device: torch.device | str = "cpu",
    warmup: int = 3,
    repeats: int = 200,
    budget: float = 0.5,
) -> float:
    """The median wall-clock time of a call in seconds, in inference mode, with the threads torch has now.

    Preparation that a model caches (degrees, norms) falls into the warm-up; on CUDA each call is waited for.

    Args:
        forward: what to time; put models in eval mode and their inputs on the device first.
        device: where it computes.
        warmup: calls before the first that counts.
        repeats: at most so many calls count.
        budget: stop counting after so many seconds, but not before 5 calls.

    Raises:
        ArgumentError: no call would count.

    >>> 0 <= latency(lambda: None, repeats=5) < 1
    True
    """
    if repeats < 1:
        raise ArgumentError("repeats", "1 or more", repeats)
    cuda = torch.device(device).type == "cuda"

    def timed() -> float:
        start = time.perf_counter()
        forward()
        if cuda:
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    with torch.inference_mode():
        for _ in range(warmup):
            timed()
        times: list[float] = []
        while len(times) < repeats and (len(times) < 5 or sum(times) < budget):
            times.append(timed())
    return statistics.median(times)
