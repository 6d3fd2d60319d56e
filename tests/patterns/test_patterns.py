"""Every pattern against its definition by pairs, its tiles against its edges, and the cost of building it."""

from __future__ import annotations

import functools
import math
import time

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hgraph import TokenGraph, patterns
from hgraph.errors import ArgumentError, ArgumentTypeError

N = 41
ASSIGNMENT = torch.randint(-1, 4, (2, N), generator=torch.Generator().manual_seed(0))
SELECTED = torch.randint(-1, 30, (2, 3, 20, 5), generator=torch.Generator().manual_seed(1))
SPANS = [4, 9, 40]
PRESENT = torch.rand(3, 12, generator=torch.Generator().manual_seed(2)) < torch.tensor([[0.6], [0.0], [1.0]])


def power_of(base):
    return {base**t for t in range(20)}


def cell(i, sides):
    return tuple(int(c) for c in torch.unravel_index(torch.tensor(i), sides))


def near(i, j, sides, windows):
    return all(abs(a - b) < w for a, b, w in zip(cell(i, sides), cell(j, sides), windows, strict=True))


def on_a_line(i, j, sides, axis, causal):
    a, b = cell(i, sides), cell(j, sides)
    same = all(a[k] == b[k] for k in range(len(sides)) if k != axis)
    return same and (not causal or b[axis] <= a[axis])


def in_power(i, j, b, window, sink, base):
    delta = i // b - j // b
    return j <= i and (delta == 0 or delta in power_of(base) or delta < window or j < sink)


def in_longnet(i, j, segments, dilations):
    return any(i // w == j // w and i % w % r == 0 == j % w % r for w, r in zip(segments, dilations, strict=True))


document = torch.tensor([0] * 3 + [2] * 9 + [3] * 29).tolist()

# Each pattern and its definition: does target i attend to source j (for head h of example e)?
CASES = {
    "full": (patterns.full(5, 7), lambda i, j: True),
    "none": (patterns.none(4, 3), lambda i, j: False),
    "no tokens": (patterns.full(0), lambda i, j: True),
    "no sources": (patterns.full(3, 0), lambda i, j: True),
    "causal": (patterns.causal(N), lambda i, j: j <= i),
    "last ones": (patterns.causal(5, 9), lambda i, j: j <= i + 4),
    "more targets": (patterns.causal(9, 5), lambda i, j: j <= i - 4),
    "prefix": (patterns.prefix_lm(N, 7), lambda i, j: j <= i or j < 7),
    "window": (patterns.sliding_window(N, 6), lambda i, j: abs(i - j) < 6),
    "causal window": (patterns.sliding_window(N, 6, causal=True), lambda i, j: 0 <= i - j < 6),
    "window of one": (patterns.sliding_window(N, 1), lambda i, j: i == j),
    "window 2-D": (patterns.sliding_window((5, 8), (2, 3)), lambda i, j: near(i, j, (5, 8), (2, 3))),
    "window 3-D": (
        patterns.sliding_window((3, 4, 5), 2, causal=True),
        lambda i, j: near(i, j, (3, 4, 5), (2, 2, 2)) and j <= i,
    ),
    "dilated": (patterns.dilated(N, 3, 4), lambda i, j: (i - j) % 4 == 0 and abs(i - j) < 12),
    "causal dilated": (patterns.dilated(N, 3, 2, causal=True), lambda i, j: (i - j) % 2 == 0 and 0 <= i - j < 6),
    "strided": (patterns.strided(N, 5), lambda i, j: (i - j) % 5 == 0),
    "causal strided": (patterns.strided(N, 50, causal=True), lambda i, j: i == j),
    "power": (patterns.power(N), lambda i, j: in_power(i, j, 1, 0, 0, 2)),
    "power of 3": (patterns.power(N, base=3), lambda i, j: in_power(i, j, 1, 0, 0, 3)),
    "power blocks": (patterns.power(N, 3, window=3, num_sink=4), lambda i, j: in_power(i, j, 3, 3, 4, 2)),
    "longnet": (patterns.longnet(N, [4, 16], [1, 4]), lambda i, j: in_longnet(i, j, [4, 16], [1, 4])),
    "causal longnet": (
        patterns.longnet(N, [5, 64], [2, 3], causal=True),
        lambda i, j: in_longnet(i, j, [5, 64], [2, 3]) and j <= i,
    ),
    "sinks": (patterns.sinks(N, 3), lambda i, j: j < 3 and j <= i),
    "sinks of all": (patterns.sinks(N, 3, causal=False), lambda i, j: j < 3),
    "global": (patterns.global_tokens(N, [20, 0, 20]), lambda i, j: i in (0, 20) or j in (0, 20)),
    "blocks": (patterns.block_local(N, 7, before=1, after=2), lambda i, j: -1 <= j // 7 - i // 7 <= 2),
    "causal blocks": (patterns.block_local(N, 7, before=1, causal=True), lambda i, j: j // 7 >= i // 7 - 1 and j <= i),
    "axial": (patterns.axial((5, 8), 0), lambda i, j: on_a_line(i, j, (5, 8), 0, False)),
    "axial, last": (patterns.axial((5, 8), -1, causal=True), lambda i, j: on_a_line(i, j, (5, 8), 1, True)),
    "axial 3-D": (patterns.axial((3, 4, 5), 1, causal=True), lambda i, j: on_a_line(i, j, (3, 4, 5), 1, True)),
    "packed": (patterns.packed([3, 0, 9, 29]), lambda i, j: document[i] == document[j]),
    "causal packed": (
        patterns.packed([3, 0, 9, 29], causal=True),
        lambda i, j: document[i] == document[j] and j <= i,
    ),
    "padded": (patterns.padded(6, [2, 0, 6]), lambda i, j, e, h: max(i, j) < [2, 0, 6][e]),
    "present": (patterns.present(PRESENT), lambda i, j, e, h: bool(PRESENT[e, i] and PRESENT[e, j])),
    "clusters": (
        patterns.clusters(ASSIGNMENT),
        lambda i, j, e, h: int(ASSIGNMENT[h, i]) == int(ASSIGNMENT[h, j]) >= 0,
    ),
    "causal clusters": (
        patterns.clusters(ASSIGNMENT[0], causal=True),
        lambda i, j: int(ASSIGNMENT[0, i]) == int(ASSIGNMENT[0, j]) >= 0 and j <= i,
    ),
    "top-k": (patterns.top_k(SELECTED, num_sources=30), lambda i, j, e, h: j in SELECTED[e, h, i].tolist()),
    "sink band": (
        patterns.sink_band(N, SPANS, num_sink=3, block_size=4),
        lambda i, j, e, h: j <= i and (j < 3 or j // 4 > i // 4 - max(1, SPANS[h] // 4)),
    ),
    "summaries": (patterns.summaries(13, 4), lambda i, j: j < i // 4),
    "all summaries": (patterns.summaries(13, 4, causal=False), lambda i, j: True),
    "extra": (patterns.with_extra(patterns.causal(9), 2), lambda i, j: i < 2 or j < 2 or j <= i),
    "deaf extra": (
        patterns.with_extra(patterns.causal(9), 2, attend=False),
        lambda i, j: i == j if i < 2 else j <= i,
    ),
    "beside": (patterns.beside(patterns.causal(5), patterns.full(5, 2)), lambda i, j: j <= i or j >= 5),
}  # fmt: skip


@functools.cache
def pairs(graph, attends, example, head):
    """The matrix of a definition, by loops over all pairs."""
    each = (example, head) if attends.__code__.co_argcount == 4 else ()
    rows = [[attends(i, j, *each) for j in range(graph.num_sources)] for i in range(graph.num_targets)]
    return torch.tensor(rows, dtype=torch.bool).reshape(graph.num_targets, graph.num_sources)


@pytest.mark.parametrize("name", CASES)
def test_pattern_is_its_definition(name):
    graph, attends = CASES[name]
    total = 0
    for e in range(graph.batch):
        for h in range(graph.num_heads):
            expected = pairs(graph, attends, e, h)
            assert torch.equal(graph.adjacency(example=e, head=h).dense().bool(), expected)
            assert torch.equal(graph.degree()[e, h], expected.sum(1))
            total += int(expected.sum())
    assert graph.num_edges == total
    assert graph.density == (total / math.prod(graph.shape) if total else 0)
    one = pairs(graph, attends, 0, 0)
    below = torch.ones_like(one).tril(graph.num_sources - graph.num_targets)
    if graph.batch * graph.num_heads == 1:
        assert graph.is_causal == bool((one <= below).all())


@pytest.mark.parametrize("block", [1, 4, 16, 128])
@pytest.mark.parametrize("name", CASES)
def test_tiles_are_the_edges(name, block):
    graph, attends = CASES[name]
    tiles = graph.tiles(block)
    for e in range(graph.batch):
        for h in range(graph.num_heads):
            expected = pairs(graph, attends, e, h)
            assert torch.equal(tiles.adjacency(example=e, head=h).dense().bool(), expected)
            if graph.order is not None:  # tiles are of positions
                expected = expected[graph.order][:, graph.order]
            if not expected.numel():
                assert tiles.num_tiles == 0
                continue
            height, width = -graph.num_targets % block, -graph.num_sources % block
            cut = (
                torch.nn.functional.pad(expected, (0, width, 0, height)).unfold(0, block, block).unfold(1, block, block)
            )
            counts = cut.flatten(2).any(2).sum(1)
            found = torch.zeros(len(counts), dtype=torch.long)
            for part in tiles.parts():
                found[part.row.long()] = part.count[e, h].long()
            assert torch.equal(found, counts)


def test_random_tokens_attend_to_themselves_and_at_most_degree_others():
    for causal in (False, True):
        graph = patterns.random(N, 3, seed=0, causal=causal)
        assert ((graph.degree() >= 1) & (graph.degree() <= 4)).all()
        assert torch.equal((graph & patterns.sliding_window(N, 1)).degree(), torch.ones(1, 1, N, dtype=torch.long))
        assert graph.is_causal == causal
        assert graph.equal(patterns.random(N, 3, seed=0, causal=causal))
        assert not graph.equal(patterns.random(N, 3, seed=1, causal=causal))


@pytest.mark.parametrize("sides", [(8, 8), (16, 16), (4, 4, 4), (2, 2, 2, 2), (16,)])
def test_hilbert_neighbors_are_neighbors(sides):
    order = patterns.hilbert_windows(sides, 4).order
    assert torch.equal(order.sort().values, torch.arange(math.prod(sides)))
    at = torch.stack(torch.unravel_index(order, sides), 1)
    assert torch.equal(at.diff(dim=0).abs().sum(1), torch.ones(len(order) - 1, dtype=torch.long))


def test_hilbert_windows_on_any_grid():
    graph = patterns.hilbert_windows((5, 7), 8)
    assert sorted(graph.degree().flatten().tolist()) == [3] * 3 + [8] * 32
    assert graph.equal(graph.natural())
    assert torch.equal(graph.adjacency().dense(), graph.adjacency().dense().T)


# ---------------------------------------------------------------------- receptive fields


def test_power_reaches_binomially():
    """After l layers, the last of 256 tokens receives from sum of C(8, t), t <= l, tokens; d takes popcount(d) hops."""
    graph = patterns.power(256)
    expected = [sum(math.comb(8, t) for t in range(layers + 1)) for layers in range(1, 9)]
    assert expected == [9, 37, 93, 163, 219, 247, 255, 256]
    assert [int(graph.reach(layers).degree()[0, 0, -1]) for layers in range(1, 9)] == expected
    hops = graph.first_hop(255)
    assert hops.tolist() == [bin(255 - j).count("1") for j in range(256)]
    assert torch.equal(graph.first_hop()[255], hops)
    assert hops.dtype == torch.int32  # a window of two takes a layer a token


def test_windows_reach_by_steps_and_gaps_never_fill():
    window = patterns.sliding_window(256, 9, causal=True)  # 8 previous tokens
    reached = [int(window.reach(layers).degree()[0, 0, -1]) for layers in range(1, 9)]
    assert reached == [1 + 8 * layers for layers in range(1, 9)]
    assert (patterns.dilated(64, 5, 2, causal=True).first_hop(63)[::2] == -1).all()  # the odd distances
    slash = patterns.strided(256, 16, causal=True) | patterns.sliding_window(256, 2, causal=True)
    assert int(slash.first_hop(255).max()) == 16  # one stride and 15 steps: sqrt(N)


def test_patterns_work_for_fewer_tokens_than_sinks():
    assert patterns.sinks(2, 4).equal(patterns.causal(2))
    assert patterns.prefix_lm(2, 4).equal(patterns.full(2))


def test_axial_layers_reach_every_cell():
    grid = (4, 5, 6)
    lines = [patterns.axial(grid, axis) for axis in range(3)]
    assert [g.num_edges for g in lines] == [120 * 4, 120 * 5, 120 * 6]
    assert (lines[0] @ lines[1] @ lines[2]).density == 1
    assert (lines[0] @ lines[1]).density == 1 / 6


# ---------------------------------------------------------------------- cost


def test_a_million_tokens_take_less_than_a_second():
    patterns.sliding_window(1024, 256, causal=True)
    start = time.process_time()
    graph = patterns.sliding_window(2**20, 256, causal=True)
    assert time.process_time() - start < 1
    assert graph.num_edges == 2**20 * 256 - 255 * 128


class Largest(TorchDispatchMode):
    """Records the largest storage in bytes of any result."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor):
                self.bytes = max(self.bytes, t.untyped_storage().nbytes())
        return out


LARGE = {
    "full": lambda n: patterns.full(n),
    "causal": lambda n: patterns.causal(n),
    "window": lambda n: patterns.sliding_window(n, 256, causal=True),
    "window 2-D": lambda n: patterns.sliding_window((256, n // 256), 8),
    "dilated": lambda n: patterns.dilated(n, 128, 4, causal=True),
    "strided": lambda n: patterns.strided(n, 256, causal=True),
    "global": lambda n: patterns.sliding_window(n, 129) | patterns.global_tokens(n, [0, 5, n - 1]),
    "axial": lambda n: patterns.axial((256, n // 256), 0),
    "power": lambda n: patterns.power(n, 256, window=5, num_sink=256),
    "blocks": lambda n: patterns.block_local(n, 128, before=1, causal=True),
    "hilbert": lambda n: patterns.hilbert_windows((256, n // 256), 256),
    "packed": lambda n: patterns.packed([n // 4, n // 2, n // 4], causal=True),
    "sink band": lambda n: patterns.sink_band(n, [n // 8, n // 4]),
    "clusters": lambda n: patterns.clusters(torch.arange(n) // 64),
}


@pytest.mark.parametrize("name", LARGE)
def test_no_tensor_of_all_pairs_is_allocated(name):
    n = 65_536
    with Largest() as largest:
        tiles = LARGE[name](n).tiles(128)
        assert tiles.num_tiles
    assert 0 < largest.bytes < n * n / 8


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: patterns.full(-1), ArgumentError, "num_targets: expected a whole number, 0 or more, got -1"),
        (lambda: patterns.sliding_window(5, 0), ArgumentError, "window: expected a whole number, 1 or more, got 0"),
        (lambda: patterns.sliding_window((4, 5), (1, 2, 3)), ArgumentError, "window: expected one number, or"),
        (lambda: patterns.axial((4, 5), 2), ArgumentError, r"axis: expected -2 \.\. 1, got 2"),
        (lambda: patterns.power(8, base=1), ArgumentError, "base: expected a whole number, 2 or more"),
        (lambda: patterns.packed([3, -1]), ArgumentError, "lengths: expected lengths in .* got -1 at position 1"),
        (lambda: patterns.padded(4, [5]), ArgumentError, "lengths: expected .* got 5 at position 0"),
        (lambda: patterns.global_tokens(4, [4]), ArgumentError, r"tokens: expected tokens in 0 \.\. 3, got 4"),
        (lambda: patterns.clusters(torch.zeros(2)), ArgumentTypeError, "assignment: expected integer indices"),
        (lambda: patterns.top_k(torch.tensor([[9]]), num_sources=3), ArgumentError, "start: expected sources in"),
        (lambda: patterns.longnet(8, [4], [1, 2]), ArgumentError, "dilations: expected 1 numbers"),
        (lambda: patterns.with_extra(patterns.full(2, 3), 1), ArgumentError, "expected a square graph"),
        (lambda: patterns.beside(patterns.full(2), patterns.full(3)), ArgumentError, "right: expected examples, heads"),
        (lambda: TokenGraph.per_head([]), ArgumentTypeError, "graphs: expected one or more token graphs"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
