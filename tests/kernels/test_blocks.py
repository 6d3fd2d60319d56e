"""Attention over tiles of tokens on the Triton backend: against the oracle, gradients against float64."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hgraph import BlockAdjacency, Relative, attend, backend, errors, patterns
from hgraph.kernels import split
from hgraph.testing import attend_oracle, pairwise

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def structures(block: int) -> dict[str, BlockAdjacency]:
    t, s = 2 * block + 8, 3 * block - 3
    lists = torch.tensor([[[[0, 1], [1, 2], [2, 0]]], [[[2, 1], [0, 1], [1, 2]]]])  # a list for each example
    per_head = torch.tensor([[[0, 1], [1, 2], [2, 0]], [[2, 1], [0, 1], [1, 2]]])
    some = torch.tensor([[2, 0, 1], [0, 1, 0]])
    sizes = {"block": block, "num_targets": t, "num_sources": s}
    return {
        "causal": patterns.causal(t).tiles(block),
        "window": patterns.sliding_window(t, 9).tiles(block),
        "cross": patterns.full(17, t).tiles(block),
        "global": (patterns.sliding_window(4 * block + 6, 3) | patterns.global_tokens(4 * block + 6, [0])).tiles(block),
        "by example": BlockAdjacency.from_index(lists, torch.tensor([[[2, 1, 0]], [[1, 2, 2]]]), **sizes),
        "by head": BlockAdjacency.from_index(per_head, some, **sizes),
        "one token": patterns.causal(1).tiles(block),
    }


STRUCTURES = {block: structures(block) for block in (16, 64, 128)}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(tiles: BlockAdjacency, bias: str | None, heads: int) -> list[Tensor]:
    """A table and the places of targets and sources: on a line, shared by the heads, or on a grid, a head each."""
    if bias is None:
        return []
    t, s = torch.arange(tiles.num_targets), torch.arange(tiles.num_sources)
    if bias == "line":
        return [draw(1, 21, seed=5), t.unsqueeze(1) + 2**33, s.unsqueeze(1) + 2**33]
    return [draw(heads, 5, 4, seed=5), torch.stack([t // 7, t % 7], 1), torch.stack([s // 7, s % 7], 1)]


def run(
    tiles: BlockAdjacency, leaves: list[Tensor], flows: list[Tensor], bias: list[Tensor], dropout: float
) -> list[Tensor]:
    """out, lse and the gradients of q, k, v and the table through both."""
    leaves = [t.detach().requires_grad_() for t in (*leaves, *bias[:1])]
    more = {"bias": Relative(leaves[3], *bias[1:])} if bias else {}
    out, lse = attend(tiles, *leaves[:3], dropout=dropout, **more)
    grads = torch.autograd.grad([out, lse.masked_fill(lse.isinf(), 0.0)], leaves, flows)
    return [out.detach(), lse.detach(), *grads]


FAST = [
    ("causal", 16, torch.float32, (2, 1), (5, 20), None, 0.0),
    ("global", 16, torch.bfloat16, (1, 1), (16, 16), None, 0.4),
    ("by example", 16, torch.float16, (1, 1), (40, 3), "line", 0.0),
    ("by head", 16, torch.bfloat16, (2, 2), (5, 20), "grid", 0.4),
    ("one token", 16, torch.float16, (2, 1), (16, 16), None, 0.0),
    ("cross", 64, torch.float32, (2, 1), (5, 20), "grid", 0.0),
    ("by head", 128, torch.float16, (2, 1), (3, 20), None, 0.0),
]
FULL = pairwise(
    name=list(STRUCTURES[16]), block=[16, 64, 128], dtype=DTYPES, heads=[(2, 2), (2, 1)],
    width=[(16, 16), (5, 20), (40, 3), (200, 200)], bias=[None, "line", "grid"], dropout=[0.0, 0.4],
)  # fmt: skip
_NAMES = ("name", "block", "dtype", "heads", "width", "bias", "dropout")


@pytest.mark.parametrize(_NAMES, FAST)
def test_each_kind(
    name: str, block: int, dtype: torch.dtype, heads: tuple[int, int], width: tuple[int, int], bias: str | None,
    dropout: float, device: str,
) -> None:  # fmt: skip
    check(name, block, dtype, heads, width, bias, dropout, 2 if name == "by example" else 1, device)


@pytest.mark.slow
@pytest.mark.parametrize(_NAMES, FULL)
def test_pairs(
    name: str, block: int, dtype: torch.dtype, heads: tuple[int, int], width: tuple[int, int], bias: str | None,
    dropout: float, device: str,
) -> None:  # fmt: skip
    check(name, block, dtype, heads, width, bias, dropout, 2, device)


def check(
    name: str, block: int, dtype: torch.dtype, heads: tuple[int, int], width: tuple[int, int], bias: str | None,
    dropout: float, batch: int, device: str,
) -> None:  # fmt: skip
    tiles = STRUCTURES[block][name]
    t, s = tiles.num_targets, tiles.num_sources
    given = [draw(batch, t, heads[0], width[0], seed=0), draw(batch, s, heads[1], width[0], seed=1)]
    given = [x.to(dtype) for x in (*given, draw(batch, s, heads[1], width[1], seed=2))]
    flows = [draw(batch, t, heads[0], width[1], seed=3).to(dtype), draw(batch, t, heads[0], seed=4)]
    more = relative(tiles, bias, heads[0])
    here = [[x.to(device) for x in tensors] for tensors in (given, flows, more)]
    got = run(tiles.to(device), *here, dropout)
    assert all(torch.equal(a, b) for a, b in zip(got, run(tiles.to(device), *here, dropout), strict=True))
    with backend("torch"):
        wide = [[x.double() if x.is_floating_point() else x for x in tensors] for tensors in (given, flows, more)]
        want = run(tiles, *wide, dropout)
    if bias is None and dropout == 0:
        adj = tiles.adjacency(example=tiles.batch - 1, head=0)
        oracle = attend_oracle(adj, *(x[-1, :, :1] for x in given))
        torch.testing.assert_close(want[0][-1, :, :1], oracle[0])
        torch.testing.assert_close(want[1][-1, :, :1], oracle[1])
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        # Products of float32 keep 22 bits of their factors; half types round shares and their gradients before their
        # products with v, k and q, and delta is made of a rounded output. Against the largest number, or 1.
        unit = torch.finfo(torch.float32).eps * 64 + (16 * torch.finfo(dtype).eps if dtype != torch.float32 else 0)
        size = max(1.0, float(b.masked_fill(b.isinf(), 0).abs().max()))
        if i == 5:  # an entry of the table collects a gradient from each of its pairs, of size 1 a target
            size *= t * heads[0]
        off = torch.where(a.cpu().double() == b, 0.0, (a.cpu().double() - b).abs())
        assert (off <= unit * size).all(), f"{i} off by {off.max():.3g}, bound {unit * size:.3g}"


def hub(block: int) -> BlockAdjacency:
    """Each tile row hears itself and a tile that all of one head and example hear, of which some rows know nothing."""
    own = torch.arange(5).view(1, 1, 5, 1).expand(2, 2, 5, 1)
    heard = (torch.arange(2).view(2, 1) + 2 * torch.arange(2)).view(2, 2, 1, 1).expand(2, 2, 5, 1)
    lists = torch.cat([own, torch.where(heard == own, 4 - own, heard)], 3)
    count = 2 - (torch.arange(20).view(2, 2, 5) % 7 == 0).long()
    sizes = {"block": block, "num_targets": 5 * block - 3, "num_sources": 5 * block - 6}
    return BlockAdjacency.from_index(lists, count, **sizes)


STRUCTURES[16]["hub"] = hub(16)
CUT = [
    ("causal", torch.float32, (2, 1), (5, 20), None, 0.0, True),
    ("global", torch.bfloat16, (1, 1), (16, 16), "line", 0.4, True),
    ("hub", torch.float16, (2, 1), (20, 5), None, 0.4, False),
    ("hub", torch.float32, (2, 2), (3, 3), "grid", 0.0, True),
]


@pytest.mark.parametrize(("name", "dtype", "heads", "width", "bias", "dropout", "turned"), CUT)
def test_long_rows_and_often_heard_tiles_are_cut(
    name: str, dtype: torch.dtype, heads: tuple[int, int], width: tuple[int, int], bias: str | None, dropout: float,
    turned: bool, device: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cuts, grads = (importlib.import_module(f"hgraph.kernels.{n}") for n in ("tile_split", "block_attend_grads"))
    monkeypatch.setattr(cuts, "LEAST", 1)
    monkeypatch.setattr(cuts, "FAR", 1)
    if turned:
        monkeypatch.setitem(STRUCTURES[16], name, STRUCTURES[16][name].with_transpose())
    added: list[int] = []
    before = grads.add_pieces
    monkeypatch.setattr(grads, "add_pieces", lambda split, *rest: added.append(split.extra) or before(split, *rest))
    check(name, 16, dtype, heads, width, bias, dropout, 2 if name == "hub" else 1, device)
    assert bool(added) == (name == "hub")  # the lists of the others are as long as any tile is heard
    assert all(added)


def test_the_transpose_of_a_structure_gives_the_bits_of_sorted_visits(device: str) -> None:
    for name, heads in (("global", 1), ("by head", 2)):
        tiles = STRUCTURES[16][name].to(device)
        both = tiles.with_transpose()
        t, s = tiles.num_targets, tiles.num_sources
        given = [draw(1, n, heads, 8, seed=i).to(device) for i, n in enumerate((t, s, s))]
        flows = [draw(1, t, heads, 8, seed=3).to(device), draw(1, t, heads, seed=4).to(device)]
        sorted_here, turned = (run(x, given, flows, [], 0.0) for x in (tiles, both))
        assert all(torch.equal(a, b) for a, b in zip(sorted_here, turned, strict=True))


def test_a_pattern_is_transposed_once(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = patterns.sliding_window(20, 9).to(device)
    q = draw(20, 1, 8, seed=0).to(device).requires_grad_()
    out = attend(graph, q, q, q).out
    monkeypatch.setattr(torch, "sort", lambda *_, **__: pytest.fail("visits were sorted"))
    attend(graph, q, q, q).out.sum().backward()
    with pytest.raises(pytest.fail.Exception):
        attend(graph.tiles(64), q, q, q).out.sum().backward()  # without its transpose
    assert out.shape == q.shape


def test_a_table_in_pieces_gives_its_gradient(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hgraph.kernels import block_attend_grads

    tiles = STRUCTURES[16]["causal"].to(device)
    more = [x.to(device) for x in relative(tiles, "grid", 2)]
    given = [draw(1, 40, 2, 8, seed=i).to(device) for i in range(3)]
    flows = [draw(1, 40, 2, 8, seed=3).to(device), draw(1, 40, 2, seed=4).to(device)]
    whole = run(tiles, given, flows, more, 0.0)
    monkeypatch.setattr(block_attend_grads, "_FLOWS", 1)
    pieces = run(tiles, given, flows, more, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(whole[:5], pieces[:5], strict=True))
    torch.testing.assert_close(whole[5], pieces[5])


def test_addresses_in_int64_give_the_same_bits(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = STRUCTURES[16]["by head"].to(device)
    more = [x.to(device) for x in relative(tiles, "grid", 2)]
    given = [draw(1, n, 2, 8, seed=i).to(device) for i, n in enumerate((40, 45, 45))]
    flows = [draw(1, 40, 2, 8, seed=3).to(device), draw(1, 40, 2, seed=4).to(device)]
    narrow = run(tiles, given, flows, more, 0.3)
    monkeypatch.setattr(split, "WIDE_FROM", 0)
    assert all(torch.equal(a, b) for a, b in zip(narrow, run(tiles, given, flows, more, 0.3), strict=True))


def test_more_numbers_than_int32_counts(device: str) -> None:
    """The last tile of a table of 4 GB, of which only the pages that are read come into being."""
    from hgraph.kernels.block_attend import Inputs, Tiles, block_attend

    block, width = 16, 64
    last = 2**25 // block  # its first number is number 2**31
    v = torch.empty((1, (last + 1) * block, 1, width), dtype=torch.bfloat16, device=device)
    v[0, last * block :], v[0, :block] = 1.0, 0.0
    lists = (torch.tensor(t, dtype=torch.int32, device=device) for t in ([[[[0, last]]]], [[[[-1, -1]]]], [[[2]]], [0]))
    part = Tiles(*lists, torch.zeros(1, block, block // 8, dtype=torch.uint8, device=device))
    q = torch.full((1, block, 1, width), 0.5, dtype=torch.bfloat16, device=device)
    given = Inputs(q, v, v, None, None, None, None, 0.0, 1 / 32)
    out, lse = block_attend([part], given, interpreted=device == "cpu")
    share = torch.tensor([0.0, 1.0]).softmax(0)[1]  # of scores 0 and width / 2 / 32
    torch.testing.assert_close(out.float().cpu(), share.expand(out.shape), rtol=0.01, atol=0)
    want = torch.tensor([0.0, 1.0]).logsumexp(0) + torch.tensor(16.0).log()
    torch.testing.assert_close(lse.cpu(), want.expand(lse.shape))


def test_what_has_no_kernel_is_refused_by_name_and_goes_to_the_reference_else(device: str) -> None:
    q = draw(40, 1, 8, seed=0).double()
    for tiles in (STRUCTURES[16]["causal"], patterns.causal(40).tiles(8)):
        there = tiles.to(device), q.to(device).requires_grad_()
        with pytest.raises(errors.BackendError, match="'triton' does not compute 'block_attend'"):
            attend(there[0], *[there[1]] * 3)
        with backend("torch"):
            want = attend(tiles, q, q, q).out
        with backend("auto"):
            out = attend(there[0], *[there[1]] * 3, dropout=0.0).out
            out.sum().backward()
        torch.testing.assert_close(out.cpu(), want)
