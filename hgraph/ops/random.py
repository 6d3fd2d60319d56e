r"""Counter-based random numbers: number n of seed z is a function of (z, n) only.

So they are the same on every backend, device and number of threads, in the forward and the backward pass, and
need not be stored. A number is 32 bits, from two rounds of mixing:

.. math:: r_n = \mathrm{mix}(\mathrm{mix}(n_{lo} \oplus z_{lo}) \oplus n_{hi} \oplus z_{hi})

with the low and high 32 bits of counter and seed, and with the mix of MurmurHash3's finalizer (below).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["bits", "draw_seed", "dropout_mask"]

_LOW = 0xFFFFFFFF


def draw_seed(generator: torch.Generator | None, device: torch.device) -> Tensor:
    """[1] int64 below 2**62, from the generator (or torch's default), on the device: never synchronizes."""
    origin = device if generator is None else generator.device
    return torch.randint(2**62, (1,), generator=generator, device=origin).to(device, non_blocking=True)


def bits(seed: Tensor, counter: Tensor) -> Tensor:
    """The 32-bit numbers (as int64) of a seed [1] at the counters."""
    return _mix(_mix((counter & _LOW) ^ (seed & _LOW)) ^ (counter >> 32) ^ (seed >> 32))


def _mix(x: Tensor) -> Tensor:
    """MurmurHash3's 32-bit finalizer: two multiplications modulo 2**32 between xor-shifts by 16, 13 and 16."""
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _LOW
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _LOW
    return x ^ (x >> 16)


def dropout_mask(seed: Tensor, score: Tensor, dropout: float) -> Tensor:
    """Dropout mask for scores [E, H]: 1 / (1 - p) where number e H + h is at least p 2**32 (rounded), else 0."""
    counter = torch.arange(score.numel(), device=score.device).view(score.shape)
    return (bits(seed, counter) >= round(dropout * 2**32)).to(score.dtype) / (1 - dropout)
