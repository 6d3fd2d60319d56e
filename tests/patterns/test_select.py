"""Selection by content: tree search, members, segments, and structures built from them without device syncs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from hgraph import BlockAdjacency, TokenGraph, attend, patterns
from hgraph.errors import ArgumentError
from hgraph.patterns import from_boundaries, topk_members, tree_topk


def by_loops(values, n, k, representative):
    """The tree search for one row, as described in the paper."""
    ranges = [(n * i // k, n * (i + 1) // k) for i in range(k)]
    ranges = [r for r in ranges if r[0] < r[1]]
    while any(b - a > 1 for a, b in ranges):
        halves = []
        for a, b in ranges:
            m = a + (b - a) // 2
            halves += [(a, b)] if b - a == 1 else [(a, m), (m, b)]
        at = {r: r[0] if representative == "first" else r[0] + (r[1] - r[0]) // 2 for r in halves}
        ranges = sorted(sorted(halves, key=lambda r: (-values[at[r]], r[0]))[:k])
    return [-1] * (k - len(ranges)) + [a for a, _ in ranges]


@given(
    st.lists(st.integers(0, 37), min_size=0, max_size=5),
    st.integers(1, 9),
    st.sampled_from(["first", "middle"]),
    st.integers(0, 99),
)
def test_tree_topk_is_the_tree_search(visible, k, representative, seed):
    values = torch.randint(12, (37,), generator=torch.Generator().manual_seed(seed)).float()  # ties among them
    values[5:8] = -torch.inf
    index = tree_topk(
        lambda leaf: values[leaf], torch.tensor(visible, dtype=torch.long), k, size=37, representative=representative
    )
    assert index.tolist() == [by_loops(values.tolist(), n, k, representative) for n in visible]


def test_number_of_scores_of_tree_topk():
    """Lee et al., HiP Attention: 2 m log2(n / m) scores per row, for m = 32."""
    for n, expected in ((256, 192), (1024, 320), (4096, 448)):
        asked = []

        def score(leaf, asked=asked):
            asked.append(leaf.shape[-1])
            return leaf.float()

        index = tree_topk(score, torch.tensor([n]), 32, size=n)
        assert sum(asked) == expected
        assert index.tolist() == [list(range(n - 32, n))]  # what grows with the place is found exactly


def test_tree_topk_by_head_and_example():
    values = torch.randn(2, 3, 7, 50, generator=torch.Generator().manual_seed(0))
    visible = torch.arange(7) * 8
    index = tree_topk(lambda leaf: values.gather(-1, leaf), visible.expand(2, 3, 7), 4, size=50)
    for b, h, r in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(7)).tolist():
        assert index[b, h, r].tolist() == by_loops(values[b, h, r].tolist(), r * 8, 4, "middle")
    with pytest.raises(ArgumentError, match="representative: expected 'first' or 'middle'"):
        tree_topk(lambda leaf: leaf.float(), visible, 4, size=50, representative="last")


def test_topk_members_and_boundaries():
    score = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    score[0, 1, 2:] = -torch.inf
    found = topk_members(score, 5)
    for b, c in torch.cartesian_prod(torch.arange(2), torch.arange(4)).tolist():
        best = sorted(range(9), key=lambda n: -score[b, c, n])[:5]
        best = sorted(n for n in best if score[b, c, n] > -torch.inf)
        assert found[b, c].tolist() == [-1] * (5 - len(best)) + best
    marked = torch.tensor([[True, False, True], [False, True, True]])
    assert from_boundaries(marked).tolist() == [[0, 0, 1], [0, 1, 2]]
    assert marked.tolist() == [[True, False, True], [False, True, True]]
    assert from_boundaries(torch.zeros(0, dtype=torch.bool)).shape == (0,)


# ---------------------------------------------------------------------- structures built from selections


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(4,), (2, 4), (3, 2, 4)])
def test_trusted_tiles_are_their_lists(shape, causal):
    """Negative entries and later tiles do not count, repeated ones once; tiles are cut short by T and S."""
    index = torch.randint(-2, 5, (*shape, 6), generator=torch.Generator().manual_seed(0))
    tiles = BlockAdjacency.trusted(index, block_size=3, num_targets=11, num_sources=14, causal=causal)
    index = index.reshape((1,) * (4 - index.dim()) + tuple(index.shape))
    for b in range(tiles.batch):
        for h in range(tiles.num_heads):
            expected = torch.zeros(11, 14)
            for t in range(11):
                for s in range(14):
                    listed = s // 3 in index[b, h, t // 3].tolist()
                    expected[t, s] = listed and (not causal or s // 3 < t // 3 or (s // 3 == t // 3 and s <= t))
            assert torch.equal(tiles.adjacency(example=b, head=h).dense(), expected)


def test_trusted_tiles_equal_checked_tiles():
    index = torch.rand(2, 3, 13, 9, generator=torch.Generator().manual_seed(0)).argsort(-1)[..., :4]
    options = {"block_size": 16, "num_targets": 200, "num_sources": 140}
    assert BlockAdjacency.trusted(index, **options).equal(BlockAdjacency.from_index(index, **options))


def test_trusted_runs_equal_checked_runs():
    graph = patterns.sink_band(23, [4, 9], num_sink=2, block_size=2)
    parts = {"indptr": graph.indptr, "start": graph.start.long(), "stop": graph.stop.long()}
    again = TokenGraph.trusted(**parts, num_targets=23, num_sources=23, num_heads=2)
    assert again.equal(graph)
    assert again.start.dtype == graph.start.dtype


def chosen_tiles(q, k, block=4, budget=2):
    """The tiles with the best scores for the mean query of each tile row, up to its own tile."""
    n = q.shape[-3]
    tile_q, tile_k = (x.unflatten(-3, (-1, block)).mean(-3).transpose(-2, -3) for x in (q, k))

    def score(leaf):
        every = tile_q @ tile_k.transpose(-1, -2)
        return every.gather(-1, leaf)

    rows = torch.arange(1, n // block + 1, device=q.device).expand(tile_q.shape[:-1])
    index = tree_topk(score, rows, budget, size=n // block)
    return BlockAdjacency.trusted(index, block_size=block, num_targets=n, num_sources=n, causal=True)


def test_nothing_waits_for_the_device():
    """With fake tensors, reading a number raises an error."""
    with FakeTensorMode():
        q = torch.empty(2, 16, 3, 8)
        tiles = chosen_tiles(q, q)
        assert tiles.index.shape == (2, 3, 4, 2)
        assert attend(tiles, q, q, q).out.shape == (2, 16, 3, 8)
        runs = torch.empty(17, dtype=torch.long), torch.empty(16, dtype=torch.long), torch.empty(16, dtype=torch.long)
        names = dict(zip(("indptr", "start", "stop"), runs, strict=True))
        assert TokenGraph.trusted(**names, num_targets=16, num_sources=16).num_runs == 16
        assert topk_members(torch.empty(3, 16), 4).shape == (3, 4)
        assert from_boundaries(torch.empty(16, dtype=torch.bool)).shape == (16,)


def test_structures_made_in_a_compiled_forward():
    """Choice, structure and attention in one graph, forward and backward."""
    torch._dynamo.reset()
    q, k, v = (torch.randn(2, 16, 3, 8, generator=torch.Generator().manual_seed(i)).requires_grad_() for i in range(3))

    def forward(q, k, v):
        return attend(chosen_tiles(q, k), q, k, v).out

    ours = torch.compile(forward, fullgraph=True, backend="aot_eager")(q, k, v)
    plain = forward(q, k, v)
    torch.testing.assert_close(ours, plain)
    grads = [torch.autograd.grad(y.square().sum(), (q, k, v)) for y in (ours, plain)]
    torch.testing.assert_close(*grads)
