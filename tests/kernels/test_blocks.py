"""Attention over tiles of tokens on the Triton backend: against the oracle, gradients against float64."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hgraph import BlockAdjacency, Relative, attend, backend, errors, patterns
from hgraph.kernels import block_attend as kernels
from hgraph.kernels import block_attend_grads as grads
from hgraph.kernels import split, tile_split
from hgraph.testing import attend_oracle, pairwise

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def parted(tiles: BlockAdjacency, row: int) -> BlockAdjacency:
    """The same structure with one tile row in a separate part, like those of global tokens."""

    def some(rows: Tensor) -> BlockAdjacency:
        lists = {name: getattr(tiles, name)[:, :, rows] for name in ("index", "rule", "count")}
        return dataclasses.replace(tiles, row=tiles.row[rows], **lists)

    own = tiles.row == row
    return dataclasses.replace(some(~own), wide=some(own))


def structures(block: int) -> dict[str, BlockAdjacency]:
    """Three tile rows and columns, or two if these are sliced; the last ones are shorter."""
    n = 3 if block == 16 else 2
    t, s = (n - 1) * block + 8, n * block - 3
    turns = torch.stack([torch.arange(n), torch.arange(n).roll(-1)], 1)  # own tile and the next
    lists = torch.stack([turns, turns.flip(0)])
    some = torch.tensor([[2, 0, 1], [0, 1, 2]])[:, :n]
    sizes = {"block_size": block, "num_targets": t, "num_sources": s}
    return {
        "causal": patterns.causal(t).tiles(block),
        "window": patterns.sliding_window(t, 9).tiles(block),
        "cross": patterns.full(17, t).tiles(block),
        "global": parted((patterns.sliding_window(t, 3) | patterns.global_tokens(t, [0])).tiles(block), 0),
        "by example": BlockAdjacency.from_index(lists.unsqueeze(1), some.unsqueeze(1), **sizes),
        "by head": BlockAdjacency.from_index(lists, some, **sizes),
        "one token": patterns.causal(1).tiles(block),
    }


STRUCTURES = {block: structures(block) for block in (16, 64, 128)}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(tiles: BlockAdjacency, bias: str | None, heads: int) -> list[Tensor]:
    """A table and the positions of targets and sources: on a line, shared by heads, or on a grid, per head."""
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


@pytest.mark.usefixtures("no_overflow_checks")
@pytest.mark.slow
@pytest.mark.parametrize(_NAMES, FULL)
def test_pairs(
    name: str, block: int, dtype: torch.dtype, heads: tuple[int, int], width: tuple[int, int], bias: str | None,
    dropout: float, device: str,
) -> None:  # fmt: skip
    batch = 2 if name == "by example" or (block == 16 and width[0] < 200) else 1
    check(name, block, dtype, heads, width, bias, dropout, batch, device)


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
    if device == "cuda":  # the interpreter takes program after program
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
        # Products of float32 keep 22 bits of their factors; half types round probabilities and their gradients before
        # their products with v, k and q, and delta is made of a rounded output. Against the largest number, or 1.
        unit = torch.finfo(torch.float32).eps * 64 + (16 * torch.finfo(dtype).eps if dtype != torch.float32 else 0)
        size = max(1.0, float(b.masked_fill(b.isinf(), 0).abs().max()))
        if i == 5:  # an entry of the table collects a gradient from each of its pairs, of size 1 a target
            size *= t * heads[0]
        off = torch.where(a.cpu().double() == b, 0.0, (a.cpu().double() - b).abs())
        assert (off <= unit * size).all(), f"{i} off by {off.max():.3g}, bound {unit * size:.3g}"


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", ["causal", "global", "by example"])
def test_masked_sources(name: str, transposed: bool, device: str) -> None:
    """Padding is left out by the bits of tiles, in the forward and in both passes of the gradients."""
    tiles = STRUCTURES[16][name]
    tiles = tiles.with_transpose() if transposed else tiles
    shapes = (tiles.num_targets, 2, 8), (tiles.num_sources, 1, 8), (tiles.num_sources, 1, 8)
    given = [draw(2, *shape, seed=i) for i, shape in enumerate(shapes)]
    mask, flow = draw(2, tiles.num_sources, seed=9) > -0.5, draw(2, tiles.num_targets, 2, 8, seed=3)

    def results(tiles: BlockAdjacency, mask: Tensor, flow: Tensor, leaves: list[Tensor]) -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in leaves]
        out, lse = attend(tiles, *leaves, mask=mask)
        return [out.detach(), lse.detach(), *torch.autograd.grad(out, leaves, flow)]

    got = results(tiles.to(device), mask.to(device), flow.to(device), [x.to(device) for x in given])
    with backend("torch"):
        want = results(tiles, mask, flow.double(), [x.double() for x in given])
    for a, b in zip(got, want, strict=True):
        size = max(1.0, float(b.masked_fill(b.isinf(), 0).abs().max()))
        off = torch.where(a.cpu().double() == b, 0.0, (a.cpu().double() - b).abs())
        assert (off <= torch.finfo(torch.float32).eps * 64 * size).all()


def hub(block: int) -> BlockAdjacency:
    """Each tile row attends to itself and to one tile per head and example, to which some rows have no edges."""
    own = torch.arange(4).view(1, 1, 4, 1).expand(2, 2, 4, 1)
    tile = (torch.arange(2).view(2, 1) + 2 * torch.arange(2)).view(2, 2, 1, 1).expand(2, 2, 4, 1)
    lists = torch.cat([own, torch.where(tile == own, 3 - own, tile)], 3)
    count = 2 - (torch.arange(16).view(2, 2, 4) % 7 == 0).long()
    sizes = {"block_size": block, "num_targets": 4 * block - 3, "num_sources": 4 * block - 6}
    return BlockAdjacency.from_index(lists, count, **sizes)


def apart(heads: int, block: int) -> BlockAdjacency:
    """All tile rows of head h attend to tile h, so heads of a group share few visits."""
    lists = torch.arange(heads).view(heads, 1, 1).expand(heads, 3, 1)
    return BlockAdjacency.from_index(lists, block_size=block, num_targets=3 * block, num_sources=heads * block)


@pytest.fixture
def fine_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A visit takes one program, and tiles with more visits than the average are cut."""
    monkeypatch.setattr(tile_split, "LEAST", 1)
    monkeypatch.setattr(tile_split, "FAR", 1)


STRUCTURES[16] |= {"hub": hub(16), "apart": apart(3, 16)}
CUT = [
    ("causal", torch.float32, (2, 1), (5, 20), None, 0.0, True),
    ("global", torch.bfloat16, (1, 1), (16, 16), "line", 0.4, True),
    ("hub", torch.float16, (2, 1), (20, 5), None, 0.4, False),
    ("hub", torch.float32, (2, 2), (3, 3), "grid", 0.0, True),
    ("apart", torch.float16, (3, 1), (5, 5), None, 0.0, False),
]


@pytest.mark.usefixtures("no_overflow_checks", "fine_cuts")
@pytest.mark.parametrize(("name", "dtype", "heads", "width", "bias", "dropout", "turned"), CUT)
def test_long_rows_and_often_visited_tiles_are_cut(
    name: str, dtype: torch.dtype, heads: tuple[int, int], width: tuple[int, int], bias: str | None, dropout: float,
    turned: bool, device: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if turned:
        monkeypatch.setitem(STRUCTURES[16], name, STRUCTURES[16][name].with_transpose())
    added: list[int] = []
    before = grads.work

    def work(*arguments: Any) -> tile_split.Work:
        split = before(*arguments)
        added.append(split.extra)
        assert int(split.starts[:, -1].max()) <= split.tiles.shape[1], "a piece has no slot"
        return split

    monkeypatch.setattr(grads, "work", work)
    check(name, 16, dtype, heads, width, bias, dropout, 2 if name == "hub" else 1, device)
    assert bool(added) == (name in ("hub", "apart"))  # in the others, all lists are equally long
    assert all(added)


Drawn = tuple[list[Tensor], list[Tensor]]


def drawn(tiles: BlockAdjacency, batch: int, heads: int, device: str) -> Drawn:
    """q, k, v and gradients of out and lse."""
    t, s = tiles.num_targets, tiles.num_sources
    given = [draw(batch, n, heads, 8, seed=i).to(device) for i, n in enumerate((t, s, s))]
    return given, [draw(batch, t, heads, 8, seed=3).to(device), draw(batch, t, heads, seed=4).to(device)]


@pytest.mark.usefixtures("no_overflow_checks", "fine_cuts")
@pytest.mark.parametrize(("name", "bias"), [("full", None), ("full", "grid"), ("hub", None)])
def test_an_example_has_the_same_bits_in_a_batch(
    name: str, bias: str | None, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are cut in two: for one example, in a batch that fills the GPU, and for the gradient of a table."""
    tiles, heads = (patterns.full(48, 48).tiles(16), 1) if name == "full" else (STRUCTURES[16]["hub"], 2)
    own = {n: getattr(tiles, n)[-1:] for n in ("index", "rule", "count")}
    more = [x.to(device) for x in relative(tiles, bias, heads)]
    monkeypatch.setattr(tile_split, "PROGRAMS", 2 * heads * len(tiles.row))
    monkeypatch.setattr(grads, "_FLOWS", tiles.index.shape[2] * tiles.index.shape[3] * 16 * 16)
    given, flows = drawn(tiles, 2, heads, device)
    both = run(tiles.to(device), given, flows, more, 0.0)
    one = dataclasses.replace(tiles, **own).to(device)
    single = run(one, [x[1:] for x in given], [x[1:] for x in flows], more, 0.0)
    assert [torch.equal(a[1:], b) for a, b in zip(both[:5], single[:5], strict=True)] == [True] * 5


def test_targets_beyond_the_last_add_nothing(device: str) -> None:
    """Exponentials of their scores would be infinite, and their products with zeros NaN."""
    tiles = STRUCTURES[16]["causal"]
    given, flows = drawn(tiles, 1, 1, "cpu")
    more = [torch.full((1, 21), 100.0), *relative(tiles, "line", 1)[1:]]
    got = run(tiles.to(device), *([x.to(device) for x in xs] for xs in (given, flows, more)), 0.0)
    with backend("torch"):
        want = run(tiles, [x.double() for x in given], [x.double() for x in flows], [more[0].double(), *more[1:]], 0.0)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.cpu().double(), b, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("no_overflow_checks")
def test_the_transpose_of_a_structure_gives_the_bits_of_sorted_visits(device: str) -> None:
    for name, heads in (("global", 1), ("by head", 2)):
        tiles = STRUCTURES[16][name].to(device)
        both = tiles.with_transpose()
        given, flows = drawn(tiles, 1, heads, device)
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


@pytest.mark.usefixtures("no_overflow_checks")
def test_a_table_in_pieces_gives_its_gradient(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = STRUCTURES[16]["causal"].to(device)
    more = [x.to(device) for x in relative(tiles, "grid", 2)]
    given, flows = drawn(tiles, 1, 2, device)
    whole = run(tiles, given, flows, more, 0.0)
    monkeypatch.setattr(grads, "_FLOWS", 1)
    pieces = run(tiles, given, flows, more, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(whole[:5], pieces[:5], strict=True))
    torch.testing.assert_close(whole[5], pieces[5])


def test_addresses_in_int64_give_the_same_bits(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = STRUCTURES[16]["by head"].to(device)
    more = [x.to(device) for x in relative(tiles, "grid", 2)]
    given, flows = drawn(tiles, 1, 2, device)
    narrow = run(tiles, given, flows, more, 0.3)
    monkeypatch.setattr(split, "WIDE_FROM", 0)
    assert all(torch.equal(a, b) for a, b in zip(narrow, run(tiles, given, flows, more, 0.3), strict=True))


@pytest.mark.usefixtures("no_overflow_checks", "fine_cuts")
def test_cut_rows_and_tiles_give_the_same_bits_in_int64(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all offsets beyond int32, and with only the parts beyond it."""
    tiles = STRUCTURES[16]["hub"].to(device)
    given, flows = drawn(tiles, 2, 2, device)
    narrow = run(tiles, given, flows, [], 0.3)
    wide: list[bool] = []
    for module, name in ((kernels, "join"), (grads, "join"), (grads, "add_pieces")):
        before = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, before=before: wide.append(a[-1]["WIDE"]) or before(*a))
    for limit in (0, 2**16 + max(x.numel() for x in given)):
        monkeypatch.setattr(split, "WIDE_FROM", limit)
        assert split.wide(*given) == (limit == 0)
        assert all(torch.equal(a, b) for a, b in zip(narrow, run(tiles, given, flows, [], 0.3), strict=True))
    assert wide == [True] * 8


def test_more_numbers_than_int32_counts(device: str) -> None:
    """Read the last tile of a table of 4 GB, of which only these pages are allocated."""
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
    probability = torch.tensor([0.0, 1.0]).softmax(0)[1]  # of scores 0 and width / 2 / 32
    torch.testing.assert_close(out.float().cpu(), probability.expand(out.shape), rtol=0.01, atol=0)
    want = torch.tensor([0.0, 1.0]).logsumexp(0) + torch.tensor(16.0).log()
    torch.testing.assert_close(lse.cpu(), want.expand(lse.shape))


def test_calls_without_a_kernel_raise_if_selected_and_else_use_the_reference(device: str) -> None:
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
