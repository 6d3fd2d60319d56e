"""Tiles: lists from content, rules, masks, wide rows, the transpose."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import hgraph
from hgraph import BlockAdjacency, patterns
from hgraph.data import io
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError
from hgraph.structure.block_adjacency import CAUSAL, FULL, packed, unpacked

SELECTED = torch.tensor([[0, 0, 0], [1, 0, 0], [2, 0, 1]])  # three tile rows
COUNT = torch.tensor([1, 2, 2])


@pytest.mark.parametrize("causal", [False, True])
def test_lists_of_tiles_are_their_pairs(causal):
    tiles = BlockAdjacency.from_index(SELECTED, COUNT, block_size=4, num_targets=10, num_sources=11, causal=causal)
    lists = [[0], [1, 0], [2, 0]]
    expected = torch.zeros(10, 11)
    for t in range(10):
        for s in range(11):
            expected[t, s] = s // 4 in lists[t // 4] and (not causal or s // 4 != t // 4 or s % 4 <= t % 4)
    assert torch.equal(tiles.adjacency().dense(), expected)
    assert tiles.num_tiles == 5
    assert tiles.index.tolist() == [[[[0, 0, 0], [0, 1, 0], [0, 2, 0]]]]  # ascending, padded with 0
    assert tiles.rule[0, 0, 1, :2].tolist() == [FULL, CAUSAL if causal else FULL]


def test_lists_far_longer_than_the_median_are_separate():
    """In causal lists of two heads, one of which has a row with all earlier tiles; not in lists built in a forward."""
    index, count = torch.arange(14).view(14, 1).repeat(2, 1, 14), torch.ones(2, 14, dtype=torch.long)
    index[1, 11, :12], count[1, 11], count[0, 3] = torch.arange(11, -1, -1), 12, 0
    sizes = {"block_size": 2, "num_targets": 27, "num_sources": 28, "causal": True}
    tiles = BlockAdjacency.from_index(index, count, **sizes)
    listed = torch.where(torch.arange(14) < count.unsqueeze(2), index, -1)
    whole = BlockAdjacency.trusted(listed, **sizes)
    assert whole.wide is None
    assert tiles.wide is not None
    assert tiles.wide.row.tolist() == [11]
    assert tiles.wide.index.tolist() == [[[[11, *[0] * 11]], [list(range(12))]]]
    assert tiles.row.tolist() == [r for r in range(14) if r != 11]
    assert tiles.index.shape == (1, 2, 13, 1)
    assert tiles.num_tiles == whole.num_tiles == 27 + 11
    for head in range(2):
        assert tiles.adjacency(head=head).equal(whole.adjacency(head=head))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
def test_lists_may_differ_by_head_and_example(shape):
    generator = torch.Generator().manual_seed(0)
    index = torch.rand(*shape, 5, generator=generator).argsort(-1)[..., :2]
    tiles = BlockAdjacency.from_index(index, block_size=2, num_targets=6, num_sources=10)
    for e in range(tiles.batch):
        for h in range(tiles.num_heads):
            one = index[e, h] if len(shape) == 3 else index[h] if len(shape) == 2 else index
            again = BlockAdjacency.from_index(one, block_size=2, num_targets=6, num_sources=10)
            assert tiles.adjacency(example=e, head=h).equal(again.adjacency())


def test_tiles_of_one_token_are_top_k():
    index = torch.tensor([[2, 0], [1, 3], [3, 0]])
    tiles = BlockAdjacency.from_index(index, block_size=1, num_targets=3, num_sources=4)
    assert tiles.adjacency().equal(patterns.top_k(index, num_sources=4).adjacency())
    assert tiles.equal(patterns.top_k(index, num_sources=4).tiles(1))


def test_regular_patterns_share_their_masks():
    tiles = patterns.sliding_window(4096, 256, causal=True).tiles(128)
    assert tiles.mask.shape == (1, 128, 16)
    assert tiles.index.shape == (1, 1, 32, 3)
    assert tiles.rule[0, 0, 5].tolist() == [0, FULL, CAUSAL]
    assert patterns.causal(4096).tiles(128).mask.shape[0] == 0
    assert patterns.power(4096, 128, window=5, num_sink=128).tiles(128).mask.shape[0] == 0


def test_rows_far_above_the_median_are_separate():
    graph = patterns.sliding_window(2000, 33) | patterns.global_tokens(2000, [3, 1990])
    tiles = graph.tiles(16)
    assert tiles.index.shape[3] <= 7
    assert tiles.wide is not None
    assert tiles.wide.row.tolist() == [0, 124]
    assert tiles.wide.index.shape == (1, 1, 2, 125)
    assert sorted([*tiles.row.tolist(), *tiles.wide.row.tolist()]) == list(range(125))
    assert tiles.adjacency().equal(graph.adjacency())
    assert [part.wide for part in tiles.parts()] == [None, None]
    assert patterns.causal(2000).tiles(16).wide is None


ORDERED = {
    "dilated": patterns.dilated(60, 5, 4),
    "strided": patterns.strided(60, 7, causal=True),
    "columns": patterns.axial((6, 10), 0),
    "planes": patterns.axial((3, 4, 5), 1),
    "curve": patterns.hilbert_windows((8, 8), 6),
}


@pytest.mark.parametrize("block", [1, 4, 32])
@pytest.mark.parametrize("name", ORDERED)
def test_tiles_keep_the_order_of_tokens(name, block, tmp_path):
    graph = ORDERED[name]
    tiles = graph.tiles(block)
    assert graph.order is not None
    assert tiles.adjacency().equal(graph.adjacency())
    assert tiles.with_transpose().adjacency().equal(graph.adjacency())
    assert not tiles.equal(dataclasses.replace(tiles, order=None))
    tiles.save(tmp_path / "tiles.safetensors")
    assert hgraph.load(tmp_path / "tiles.safetensors").equal(tiles)
    assert graph.natural().tiles(block).order is None


def test_wide_rows_follow_the_order_of_the_whole():
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    graph = patterns.sliding_window(200, 5) | patterns.global_tokens(200, [0])
    graph = dataclasses.replace(graph, order=order)
    assert graph.tiles(4).wide is not None
    assert graph.tiles(4).adjacency().equal(graph.adjacency())


@pytest.mark.parametrize(
    "tiles",
    [
        patterns.power(50).tiles(4),
        patterns.sink_band(50, [4, 20], num_sink=3, block_size=4).tiles(8),
        patterns.padded(20, [3, 0, 20]).tiles(4),
        (patterns.sliding_window(200, 5) | patterns.global_tokens(200, [0])).tiles(4),
        patterns.none(5, 3).tiles(2),
        patterns.full(0).tiles(2),
    ],
    ids=str,
)
def test_transpose_lists_the_same_visits(tiles):
    both = tiles.with_transpose()
    assert both.with_transpose().equal(both)
    for part in both.parts():
        rows, columns = set(), set()
        for e in range(part.batch):
            for h in range(part.num_heads):
                for r, row in enumerate(part.row.tolist()):
                    for k in range(int(part.count[e, h, r])):
                        rows.add((e, h, row, int(part.index[e, h, r, k]), int(part.rule[e, h, r, k])))
                for s in range(part.t_count.shape[2]):
                    own = part.t_index[e, h, s, : int(part.t_count[e, h, s])].tolist()
                    assert own == sorted(own)
                    columns |= {(e, h, t, s, int(part.t_rule[e, h, s, k])) for k, t in enumerate(own)}
        assert rows == columns
        assert int(part.t_count.sum()) == part.num_tiles


@given(st.integers(1, 19), st.integers(0, 2**32))
def test_bits_are_packed_and_unpacked(block, seed):
    bits = torch.rand(3, block, block, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask = packed(bits)
    assert mask.shape == (3, block, -(-block // 8))
    assert torch.equal(unpacked(mask, block), bits)
    for c in range(block):
        assert torch.equal(mask[:, :, c // 8] >> (c % 8) & 1, bits[:, :, c].to(torch.uint8))


@pytest.mark.parametrize(
    ("index", "options", "error", "message"),
    [
        (torch.zeros(3, 2), {}, ArgumentTypeError, "index: expected an integer tensor, got torch.float32"),
        ([[0]], {}, ArgumentTypeError, "index: expected an integer tensor, got list"),
        (torch.zeros(2, 2, dtype=torch.long), {}, ArgumentError, r"index: expected shape \[B, H, 3, K\]"),
        (torch.tensor([[0], [1], [3]]), {}, ArgumentError, r"index: expected tiles of sources in 0 \.\. 2, got 3"),
        (torch.tensor([[0, 0], [1, 0], [2, 1]]), {}, ArgumentError, "each tile of a row once"),
        (torch.tensor([[1], [1], [2]]), {"causal": True}, ArgumentError, "no tile after a row's own"),
        (SELECTED, {"count": torch.tensor([1, 2, 4])}, ArgumentError, r"count: expected 0 \.\. 3, got 1 \.\. 4"),
        (SELECTED, {"count": torch.tensor([1, 2])}, ArgumentError, r"count: expected shape \[3\], got shape \[2\]"),
        (SELECTED, {"count": COUNT, "block_size": 0}, ArgumentError, "block_size: expected a whole number, 1 or more"),
    ],
)
def test_wrong_lists_raise_errors(index, options, error, message):
    options = {"block_size": 4, "num_targets": 10, "num_sources": 11} | options
    with pytest.raises(error, match=message):
        BlockAdjacency.from_index(index, **options)


# ---------------------------------------------------------------------- files


FAR = patterns.sliding_window(300, 5) | patterns.global_tokens(300, [7])
SAVED = {
    "window": patterns.sliding_window(70, 9, causal=True).tiles(16),
    "rows far above the median": FAR.tiles(16),
    "by head, turned": patterns.sink_band(40, [4, 9], num_sink=2, block_size=2).tiles(8).with_transpose(),
    "wide, turned": FAR.tiles(16).with_transpose(),
    "by token": patterns.power(9).tiles(1),
    "none": patterns.none(5, 6).tiles(4),
    "no targets": patterns.full(0, 3).tiles(4),
}


@pytest.mark.parametrize("name", SAVED)
def test_tiles_are_read_back_from_a_file(name, tmp_path):
    SAVED[name].save(tmp_path / "tiles")
    again = hgraph.load(tmp_path / "tiles")
    assert again.equal(SAVED[name])
    for mine, other in zip(SAVED[name].tensors(), again.tensors(), strict=True):
        assert mine.dtype == other.dtype
        assert torch.equal(mine, other)


WIDE = io._parts(SAVED["wide, turned"])


@pytest.mark.parametrize(
    "changed",
    [
        {"index": WIDE["index"] + 99},
        {"index": WIDE["index"] - 1},
        {"index": WIDE["index"].flip(3)},
        {"index": WIDE["index"].long()},
        {"index": WIDE["index"][0]},
        {"index": None},
        {"rule": WIDE["rule"] - 5},
        {"rule": WIDE["rule"].clamp(min=0) + len(WIDE["mask"])},
        {"rule": WIDE["rule"][..., :-1]},
        {"count": WIDE["count"] + 9},
        {"count": WIDE["count"] - 9},
        {"count": WIDE["count"][..., :-1]},
        {"row": WIDE["row"].flip(0)},
        {"row": WIDE["row"] + 99},
        {"row": WIDE["row"][:-1]},
        {"mask": WIDE["mask"].int()},
        {"mask": WIDE["mask"][:, :, :-1]},
        {"mask": WIDE["mask"][:, :0]},
        {"extent": torch.empty(300, 0)},
        {"extent": torch.empty(30, 30, 0)},
        {"extent": torch.empty(2**31, 2**31, 0)},
        {"wide.row": WIDE["row"][: len(WIDE["wide.row"])]},
        {"wide.rule": None},
        {"t_count": WIDE["t_count"] + 1},
        {"t_count": WIDE["t_count"][..., :-1]},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_inconsistent_tiles_are_rejected(changed, tmp_path):
    tensors = {k: t.clone() for k, t in (WIDE | changed).items() if t is not None}
    save_file(tensors, tmp_path / "a", metadata={"hgraph": json.dumps({"type": "BlockAdjacency", "version": 1})})
    with pytest.raises(DataError, match="damaged"):
        hgraph.load(tmp_path / "a")
