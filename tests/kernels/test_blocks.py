"""Attention over tiles of tokens on the Triton backend: against the oracle, gradients against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hgraph import BlockAdjacency, attend, backend, errors, patterns
from hgraph.kernels import split
from hgraph.testing import attend_oracle, pairwise

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BLOCK = 16


def structures() -> dict[str, BlockAdjacency]:
    lists = torch.tensor([[[[0, 1], [1, 2], [2, 0]]], [[[2, 1], [0, 1], [1, 2]]]])  # a list for each example
    per_head = torch.tensor([[[0, 1], [1, 2], [2, 0]], [[2, 1], [0, 1], [1, 2]]])
    some = torch.tensor([[2, 0, 1], [0, 1, 0]])
    sizes = {"block": BLOCK, "num_targets": 40, "num_sources": 45}
    return {
        "causal": patterns.causal(40).tiles(BLOCK),
        "window": patterns.sliding_window(40, 9).tiles(BLOCK),
        "cross": patterns.full(17, 40).tiles(BLOCK),
        "global": (patterns.sliding_window(70, 3) | patterns.global_tokens(70, [0])).tiles(BLOCK),
        "by example": BlockAdjacency.from_index(lists, torch.tensor([[[2, 1, 0]], [[1, 2, 2]]]), **sizes),
        "by head": BlockAdjacency.from_index(per_head, some, **sizes),
        "one token": patterns.causal(1).tiles(BLOCK),
    }


STRUCTURES = structures()


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(tiles: BlockAdjacency, leaves: list[Tensor], flows: list[Tensor]) -> list[Tensor]:
    """out, lse and the gradients of q, k and v through both."""
    leaves = [t.detach().requires_grad_() for t in leaves]
    out, lse = attend(tiles, *leaves)
    grads = torch.autograd.grad([out, lse.masked_fill(lse.isinf(), 0.0)], leaves, flows)
    return [out.detach(), lse.detach(), *grads]


FAST = [
    ("causal", torch.float32, (2, 1), (5, 20)),
    ("global", torch.bfloat16, (1, 1), (16, 16)),
    ("by example", torch.float16, (1, 1), (40, 3)),
    ("by head", torch.bfloat16, (2, 2), (5, 20)),
    ("one token", torch.float16, (2, 1), (16, 16)),
]
FULL = pairwise(name=list(STRUCTURES), dtype=DTYPES, heads=[(2, 2), (2, 1)], width=[(16, 16), (5, 20), (40, 3)])


@pytest.mark.parametrize(("name", "dtype", "heads", "width"), FAST)
def test_each_kind(name: str, dtype: torch.dtype, heads: tuple[int, int], width: tuple[int, int], device: str) -> None:
    check(name, dtype, heads, width, 2 if name == "by example" else 1, device)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype", "heads", "width"), FULL)
def test_pairs(name: str, dtype: torch.dtype, heads: tuple[int, int], width: tuple[int, int], device: str) -> None:
    check(name, dtype, heads, width, 2, device)


def check(
    name: str, dtype: torch.dtype, heads: tuple[int, int], width: tuple[int, int], batch: int, device: str
) -> None:
    tiles = STRUCTURES[name]
    t, s = tiles.num_targets, tiles.num_sources
    given = [draw(batch, t, heads[0], width[0], seed=0), draw(batch, s, heads[1], width[0], seed=1)]
    given = [x.to(dtype) for x in (*given, draw(batch, s, heads[1], width[1], seed=2))]
    flows = [draw(batch, t, heads[0], width[1], seed=3).to(dtype), draw(batch, t, heads[0], seed=4)]
    here = [x.to(device) for x in given], [x.to(device) for x in flows]
    got = run(tiles.to(device), *here)
    assert all(torch.equal(a, b) for a, b in zip(got, run(tiles.to(device), *here), strict=True))
    with backend("torch"):
        want = run(tiles, [x.double() for x in given], [x.double() for x in flows])
    adj = tiles.adjacency(example=tiles.batch - 1, head=0)
    oracle = attend_oracle(adj, *(x[-1, :, :1] for x in given))
    torch.testing.assert_close(want[0][-1, :, :1], oracle[0])
    torch.testing.assert_close(want[1][-1, :, :1], oracle[1])
    for a, b in zip(got, want, strict=True):
        # Products of float32 keep 22 bits of their factors; half types round shares and their gradients before their
        # products with v, k and q, and delta is made of a rounded output. Against the largest number, or 1.
        unit = torch.finfo(torch.float32).eps * 64 + (16 * torch.finfo(dtype).eps if dtype != torch.float32 else 0)
        size = max(1.0, float(b.masked_fill(b.isinf(), 0).abs().max()))
        off = torch.where(a.cpu().double() == b, 0.0, (a.cpu().double() - b).abs())
        assert (off <= unit * size).all(), f"off by {off.max():.3g}, bound {unit * size:.3g}"


def test_addresses_in_int64_give_the_same_bits(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = STRUCTURES["by head"].to(device)
    given = [draw(1, n, 2, 8, seed=i).to(device) for i, n in enumerate((40, 45, 45))]
    flows = [draw(1, 40, 2, 8, seed=3).to(device), draw(1, 40, 2, seed=4).to(device)]
    narrow = run(tiles, given, flows)
    monkeypatch.setattr(split, "WIDE_FROM", 0)
    assert all(torch.equal(a, b) for a, b in zip(narrow, run(tiles, given, flows), strict=True))


def test_what_has_no_kernel_is_refused_by_name(device: str) -> None:
    q = torch.zeros(40, 1, 8, device=device, dtype=torch.float64)
    with pytest.raises(errors.BackendError, match="'triton' does not compute 'block_attend'"):
        attend(STRUCTURES["causal"].to(device), q, q, q)
