"""The random numbers of hgraph.ops.random in kernels: number n of seed z is a function of (z, n) only."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["NONE_DROPPED", "dropout_mask", "limit"]

NONE_DROPPED = {"LIMIT": -1, "KEPT": 1.0}  # compile-time parameters without dropout


@triton.jit
def _mixed(x):
    x = (x ^ (x >> 16)) * 0x85EBCA6B
    x = (x ^ (x >> 13)) * 0xC2B2AE35
    return x ^ (x >> 16)


@triton.jit
def dropout_mask(seed, counter, LIMIT: tl.constexpr, KEPT: tl.constexpr, ACC: tl.constexpr):
    """KEPT where the 32-bit number at an int64 counter reaches the limit, else 0."""
    key = tl.load(seed)
    low = (counter & 0xFFFFFFFF).to(tl.uint32) ^ (key & 0xFFFFFFFF).to(tl.uint32)
    high = (counter >> 32).to(tl.uint32) ^ (key >> 32).to(tl.uint32)
    drawn = _mixed(_mixed(low) ^ high)
    return tl.where(drawn.to(tl.int64) >= LIMIT, tl.full(counter.shape, KEPT, dtype=ACC), 0.0)


def limit(dropout: float) -> dict[str, int | float]:
    """Compile-time parameters for a dropout probability."""
    return {"LIMIT": round(dropout * 2**32), "KEPT": 1 / (1 - dropout)}
