"""The random numbers of kernels equal those of hgraph.ops.random, also for counters beyond 32 bits."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from hgraph.kernels.random import dropout_mask, limit
from hgraph.ops.random import bits

# Attention over 64k tokens with two heads has more than 2**32 pairs.
COUNTERS = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**33 + 1, 2**40 + 5, *range(5 * 2**32, 5 * 2**32 + 56)]


@triton.jit
def _draw(seed, counter, out, LIMIT: tl.constexpr, KEPT: tl.constexpr, SIZE: tl.constexpr):
    each = tl.arange(0, SIZE)
    tl.store(out + each, dropout_mask(seed, tl.load(counter + each), LIMIT, KEPT, tl.float32))


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 0x123456789ABCDEF])
def test_kernels_draw_what_the_reference_draws(seed: int, device: str) -> None:
    counter, key = torch.tensor(COUNTERS, device=device), torch.tensor([seed], device=device)
    for dropout in (0.3, 0.5, 0.9):
        out = torch.empty(len(COUNTERS), device=device)
        _draw[(1,)](key, counter, out, SIZE=len(COUNTERS), **limit(dropout))
        want = (bits(key, counter) >= round(dropout * 2**32)).float() / (1 - dropout)
        assert 0 < want.count_nonzero() < len(COUNTERS)
        torch.testing.assert_close(out, want)
