"""`seeded`: a context manager for random seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from hgraph.checks import seed_of

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int, devices: Iterable[torch.device | str] = ()) -> Iterator[None]:
    """Run a block under a seed, then restore the caller's random state.

    Use it when random numbers must be reproducible without side effects on other code.

    The generators of the CPU and of the given CUDA devices are seeded; no other generator is changed.

    Args:
        seed: 0 .. 2**64 - 1.
        devices: CUDA devices on which the block uses random numbers; the CPU is always included.

    >>> before = torch.random.get_rng_state()
    >>> with seeded(0):
    ...     a = torch.rand(2)
    >>> with seeded(0):
    ...     b = torch.rand(2)
    >>> bool((a == b).all()), torch.equal(before, torch.random.get_rng_state())
    (True, True)
    """
    cuda = {torch.device(d) for d in devices if torch.device(d).type == "cuda"}
    indices = sorted({torch.cuda.current_device() if d.index is None else d.index for d in cuda})
    seed = seed_of(seed)
    with torch.random.fork_rng(devices=indices):
        # torch.manual_seed would seed every CUDA device, also those that are not restored
        torch.default_generator.manual_seed(seed)
        for index in indices:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
