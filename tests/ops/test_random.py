"""Counter-based random numbers against their formula with Python integers, and tests of randomness."""

from __future__ import annotations

import math

import pytest
import torch

from hgraph.ops.random import bits, draw_seed, dropout_mask


def mixed(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) % 2**32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) % 2**32
    return x ^ (x >> 16)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**62 - 1, 1234567890123456789])
def test_bits_follow_the_formula(seed: int) -> None:
    counters = [0, 1, 2, 77, 2**31, 2**32 - 1, 2**32, 2**40 + 5]
    low, high = seed % 2**32, seed >> 32
    wanted = [mixed(mixed(n % 2**32 ^ low) ^ n >> 32 ^ high) for n in counters]
    assert bits(torch.tensor([seed]), torch.tensor(counters)).tolist() == wanted


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_the_rate_holds_over_edges_heads_and_seeds(dropout: float) -> None:
    heads, seeds = 8, [draw_seed(torch.Generator().manual_seed(i), torch.device("cpu")) for i in range(20)]
    masks = torch.stack([dropout_mask(seed, torch.zeros(2500, heads), dropout) for seed in seeds])
    assert masks.unique().tolist() == [0.0, float(torch.tensor(1.0) / (1 - dropout))]
    on = (masks > 0).double()
    for over in ((0, 1, 2), (1, 2), (0, 1), (0, 2)):
        draws = math.prod(on.shape[d] for d in over)
        deviation = math.sqrt(dropout * (1 - dropout) / draws)
        assert float((on.mean(over) - (1 - dropout)).abs().max()) < 6 * deviation


def test_neighboring_edges_heads_and_seeds_are_not_related() -> None:
    masks = torch.stack([dropout_mask(torch.tensor([s]), torch.zeros(4000, 4), 0.5) for s in (5, 6, 5 + 2**32)]) - 1
    for other in (masks.roll(1, 0), masks.roll(1, 1), masks.roll(1, 2), masks.roll(2, 1)):
        assert abs(float((masks * other).mean())) < 6 / math.sqrt(masks.numel())


def test_a_seed_is_drawn_from_its_generator() -> None:
    cpu = torch.device("cpu")
    one, two = (draw_seed(torch.Generator().manual_seed(s), cpu) for s in (0, 1))
    assert torch.equal(one, draw_seed(torch.Generator().manual_seed(0), cpu))
    assert not torch.equal(one, two)
    torch.manual_seed(3)
    drawn = draw_seed(None, cpu)
    torch.manual_seed(3)
    assert torch.equal(drawn, draw_seed(None, cpu))
