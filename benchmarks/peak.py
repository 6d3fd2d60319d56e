"""Peak memory of one call, in a separate process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import queue as queues
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hgraph.benchmarks.harness import Method


def _peak_kib() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _measure(make: Callable[[], Method], queue: Any) -> None:
    torch.set_num_threads(1)
    method = make()
    if torch.cuda.is_initialized():  # if the inputs are on a GPU
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        method()
        queue.put((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        # return freed memory, which the call could otherwise reuse unnoticed
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = _peak_kib()
    result = method()
    queue.put((_peak_kib() - before) / 1024)
    del result


def peak_mib(make: Callable[[], Method]) -> float:
    """Peak memory in MiB of one call above its inputs (VmHWM; on CUDA the allocator's peak); ``make`` builds both.

    Raises:
        RuntimeError: the process ended without a result.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(make, queue))
    process.start()
    try:
        while True:
            try:
                return queue.get(timeout=1)
            except queues.Empty:
                if not process.is_alive() and queue.empty():
                    raise RuntimeError(f"the measured process ended with exit code {process.exitcode}") from None
    finally:
        process.join()
