"""Tokens that are queries of some heads only: the same as masking afterward, without the work."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hgraph import attend, patterns
from hgraph.ops.tiles.receivers import attend_receivers, is_skipping

H, D = 4, 6
TILES = {
    "full": patterns.full(70, 90).tiles(32),
    "causal": patterns.causal(200).tiles(64),
    "window": patterns.sliding_window(150, 40, causal=True).tiles(32),
    "global": (patterns.sliding_window(600, 20) | patterns.global_tokens(600, [3, 400])).tiles(32),
    "by head": patterns.sink_band(200, [8, 60, 100, 100], num_sink=3, block_size=4).tiles(64),
    "by example": patterns.padded(80, [10, 0]).tiles(32),
}
MASKS = {
    "some": lambda b, t: torch.rand(b, t, H, generator=torch.Generator().manual_seed(0)) < 0.4,
    "whole heads": lambda b, t: torch.tensor([True, True, False, True]).expand(b, t, H),
    "shared and chosen": lambda b, t: MASKS["some"](b, t) | torch.tensor([True, False, True, False]),
    "none": lambda b, t: torch.zeros(b, t, H, dtype=torch.bool),
}


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def inputs(tiles, key_heads=2, value=D):
    t, s = tiles.num_targets, tiles.num_sources
    return [numbers(2, t, H, D), numbers(2, s, key_heads, D, seed=1), numbers(2, s, key_heads, value, seed=2)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", TILES)
def test_rows_left_out_are_rows_masked(name, mask):
    """Forward, gradients through both results and second gradients; also with values of another width."""
    tiles = TILES[name]
    leaves = inputs(tiles, value=5 if name == "window" else D)
    active = MASKS[mask](2, tiles.num_targets)
    out, lse = attend_receivers(tiles, *leaves, active, 0.3)
    exact = attend(tiles, *leaves, scale=0.3)
    expected = torch.where(active.unsqueeze(-1), exact.out, 0.0), torch.where(active, exact.lse, -torch.inf)
    torch.testing.assert_close((out, lse), expected, rtol=1e-12, atol=1e-12)
    for through_lse in (False, True):
        finite = expected[1] > -torch.inf
        losses = [o.square().sum() + through_lse * torch.where(finite, x, 0.0).sum() for o, x in ((out, lse), expected)]
        grads = [torch.autograd.grad(loss, leaves, retain_graph=True, create_graph=True) for loss in losses]
        torch.testing.assert_close(*grads, rtol=1e-11, atol=1e-11)
    if name in ("full", "by head") and mask != "none":
        again = [torch.autograd.grad(sum(g.square().sum() for g in gs), leaves, retain_graph=True) for gs in grads]
        torch.testing.assert_close(*again, rtol=1e-10, atol=1e-10)


class Rows(TorchDispatchMode):
    """Counts the query rows per head and the pairs that torch's kernel computes."""

    rows = pairs = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket == torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
            q, k = args[:2]
            self.rows += q.shape[:3].numel()
            self.pairs += q.shape[:3].numel() * k.shape[2]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["full", "by example"])
def test_only_active_rows_are_computed(name):
    tiles = TILES[name]
    active = MASKS["some"](2, tiles.num_targets)
    with torch.no_grad(), Rows() as counted:
        attend_receivers(tiles, *inputs(tiles), active, 0.3)
    computed = (
        active if name == "full" else active & (torch.arange(80).view(-1, 1) < 32)
    )  # rows of other tiles have no edges
    computed = computed if name == "full" else computed & torch.tensor([True, False]).view(2, 1, 1)
    assert counted.rows == int(computed.sum())
    assert counted.pairs == int(computed.sum()) * (90 if name == "full" else 32)


def test_keys_and_values_of_inactive_tokens_count():
    """Queries of skipped rows may have any value; their keys and values count."""
    graph = patterns.full(2048)
    q, k, v = (torch.randn(2048, 2, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))
    active = torch.arange(2048).unsqueeze(1).expand(-1, 2) % 4 == 0
    exact = attend(graph, q, k, v)
    q[~active] = torch.nan
    ours = attend(graph, q, k, v, head_mask=active)
    assert torch.equal(ours.lse, torch.where(active, ours.lse, -torch.inf))
    torch.testing.assert_close(ours.out, torch.where(active.unsqueeze(-1), exact.out, 0.0))


def test_only_long_rows_are_left_out():
    """Small products are slower per pair, so short rows are computed and masked."""
    half = torch.arange(4096).unsqueeze(1).expand(-1, 8) % 2 == 0
    assert is_skipping(patterns.causal(4096).tiles(256), half)
    assert not is_skipping(patterns.sliding_window(4096, 256, causal=True).tiles(128), half)
    assert not is_skipping(patterns.causal(4096).tiles(256), torch.ones_like(half))
    assert not is_skipping(patterns.causal(256).tiles(256), half[:256])
    assert not is_skipping(patterns.causal(64).tiles(1), half[:64])
