"""Attention over token graphs and tiles: equal to that over the exact edges, whatever form computes it."""

from __future__ import annotations

import dataclasses
import importlib

import pytest
import torch

from hgraph import Additive, BlockAdjacency, Relative, TokenGraph, alibi, attend, merge, patterns
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops.tiles.plan import block_of, plan_of, tensors_of
from hgraph.ops.tiles.tokens import is_scattered
from hgraph.testing import attend_oracle

H, D = 4, 6
GRAPHS = {
    "window": patterns.sliding_window(150, 40, causal=True),
    "both ways": patterns.sliding_window(140, 30),
    "full, cross": patterns.full(70, 90),
    "causal": patterns.causal(200),
    "last ones": patterns.causal(40, 170),
    "power": patterns.power(300, 16, window=2, num_sink=5),
    "global": patterns.sliding_window(600, 20) | patterns.global_tokens(600, [3, 400]),
    "ordered": patterns.dilated(100, 9, 3),
    "columns": patterns.axial((9, 11), 0),
    "curve": patterns.hilbert_windows((8, 16), 12),
    "padded": patterns.padded(80, [10, 0]),
    "by head": patterns.sink_band(200, [8, 60, 100, 100], num_sink=3, block_size=4),
    "by both": patterns.sink_band(80, [8, 60, 40, 40], num_sink=3, block_size=4) & patterns.padded(80, [70, 33]),
    "scattered": patterns.random(150, 1, seed=0),
    "one target": patterns.power(100).select([77]),
    "one target a head": patterns.sink_band(100, [8, 60, 40, 40], num_sink=3, block_size=4).select([77, 3]),
    "none": patterns.none(5, 6),
    "no targets": patterns.full(0, 3),
}


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inputs(graph, batch=2, key_heads=2, width=D, dtype=torch.float64):
    t, s = graph.num_targets, graph.num_sources
    shapes = ((batch, t, H, D), (batch, s, key_heads, D), (batch, s, key_heads, width))
    return [numbers(*shape, seed=i, dtype=dtype).requires_grad_() for i, shape in enumerate(shapes)]


def by_edges(graph, q, k, v, *, bias=None, **options):
    """Attention over the exact edges; if edges differ by head and example, one after the other."""
    if graph.batch == graph.num_heads == 1:
        adj = graph.adjacency()
        own = None if bias is None else torch.stack([bias(adj, h) for h in range(q.shape[2])], 1)
        return attend(adj, q, k, v, bias=own, **options)
    group = q.shape[2] // k.shape[2]
    outs, logs = [], []
    for b in range(q.shape[0]):
        heads = []
        for h in range(q.shape[2]):
            adj = graph.adjacency(example=b if graph.batch > 1 else 0, head=h if graph.num_heads > 1 else 0)
            own = None if bias is None else bias(adj, h)
            key, value = k[b, :, h // group : h // group + 1], v[b, :, h // group : h // group + 1]
            heads.append(attend(adj, q[b, :, h : h + 1], key, value, bias=own, **options))
        outs.append(torch.cat([r.out for r in heads], 1))
        logs.append(torch.cat([r.lse for r in heads], 1))
    return torch.stack(outs), torch.stack(logs)


def agree(ours, exact, leaves, *, through_lse, tolerance=1e-12):
    (out, lse), (exact_out, exact_lse) = ours, exact
    finite = exact_lse > -float("inf")
    assert torch.equal(finite, lse > -float("inf"))
    torch.testing.assert_close(out, exact_out, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(lse, exact_lse, rtol=tolerance, atol=tolerance)
    weight, log_weight = numbers(*out.shape, seed=7), numbers(*lse.shape, seed=8) * through_lse
    losses = [
        (o * weight).sum() + (torch.where(finite, log, 0.0) * log_weight).sum()
        for o, log in ((out, lse), (exact_out, exact_lse))
    ]
    grads = [torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True) for loss in losses]
    for own, expected in zip(*grads, strict=True):
        expected = torch.zeros_like(own) if expected is None else expected
        torch.testing.assert_close(own, expected, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize(("key_heads", "width"), [(4, D), (2, D), (1, 5)])
@pytest.mark.parametrize("name", GRAPHS)
def test_graph_is_its_edges(name, key_heads, width):
    leaves = inputs(GRAPHS[name], key_heads=key_heads, width=width)
    ours, exact = attend(GRAPHS[name], *leaves), by_edges(GRAPHS[name], *leaves)
    agree(ours, exact, leaves, through_lse=False)
    agree(ours, exact, leaves, through_lse=True)


@pytest.mark.parametrize("block", [1, 8, 32, 128])
@pytest.mark.parametrize("name", GRAPHS)
def test_tiles_of_any_size_are_the_edges(name, block):
    leaves = inputs(GRAPHS[name])
    ours, exact = attend(GRAPHS[name].tiles(block), *leaves), by_edges(GRAPHS[name], *leaves)
    agree(ours, exact, leaves, through_lse=block == 8)


@pytest.mark.parametrize("name", ["window", "power", "by head", "last ones"])
def test_tiles_are_the_loops(name):
    """The loops over the sums themselves, one head."""
    graph = GRAPHS[name]
    q, k, v = (x[0, :, 1:2] for x in inputs(graph, key_heads=4))
    adj = graph.adjacency(head=1 if graph.num_heads > 1 else 0)
    ours = attend(TokenGraph.from_adjacency(adj).tiles(32), q, k, v)
    out, lse = attend_oracle(adj, q, k, v)
    torch.testing.assert_close(ours.out, out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.lse, lse, rtol=1e-12, atol=1e-12)


def test_lists_of_tiles_made_from_content():
    index = torch.rand(2, H, 13, 9, generator=torch.Generator().manual_seed(0)).argsort(-1)[..., :4]
    tiles = BlockAdjacency.from_index(index, block_size=16, num_targets=200, num_sources=140)
    leaves = inputs(tiles)
    agree(attend(tiles, *leaves), by_edges(tiles, *leaves), leaves, through_lse=True)


def test_tiles_that_share_their_lists_are_not_confused():
    """The plan of dense products is cached by a tensor of the structure: the others must be the same, too."""
    tiles = patterns.causal(64).tiles(32)
    full = dataclasses.replace(tiles, rule=torch.full_like(tiles.rule, -1))
    q, k, v = (x.detach() for x in inputs(tiles, batch=1))
    attend(tiles, q, k, v)
    torch.testing.assert_close(attend(full, q, k, v).out, by_edges(full, q, k, v)[0])


def test_the_form_fits_the_graph():
    assert block_of(patterns.sliding_window(4096, 256, causal=True)) == 128
    assert block_of(patterns.causal(4096)) == 256
    assert block_of(patterns.sliding_window(4096, 40, causal=True)) == 64
    assert block_of(patterns.causal(1, 4096)) == 1
    assert is_scattered(patterns.random(4096, 8, seed=0))
    assert not is_scattered(patterns.sliding_window(4096, 64))
    assert is_scattered(GRAPHS["scattered"])


def test_disjoint_graphs_merge():
    leaves = inputs(GRAPHS["window"])
    window, sinks = patterns.sliding_window(150, 20, causal=True), patterns.sinks(150, 4)
    both = merge(attend(window, *leaves), attend(sinks - window, *leaves))
    exact = attend(window | sinks, *leaves)
    torch.testing.assert_close(both.out, exact.out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(both.lse, exact.lse, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (1,), (3, 2), (0,)])
def test_batch_dimensions(batch):
    graph = GRAPHS["window"]
    q, k, v = numbers(*batch, 150, H, D), numbers(*batch, 150, 2, D, seed=1), numbers(*batch, 150, 2, D, seed=2)
    result = attend(graph, q, k, v)
    assert result.out.shape == (*batch, 150, H, D)
    assert result.lse.shape == (*batch, 150, H)
    for at in torch.arange(torch.Size(batch).numel()):
        i = torch.unravel_index(at, batch) if batch else ()
        torch.testing.assert_close(result.out[i], attend(graph, q[i], k[i], v[i]).out, rtol=1e-12, atol=1e-12)


def filled(graph, fill):
    """Inputs for a graph of 80 tokens, of which the first example has 50 that are not padding; and a mask of these."""
    there = (torch.arange(80) < torch.tensor([[50], [0]]))[..., None, None]
    return [torch.where(there, x.detach(), fill).requires_grad_() for x in inputs(graph)], there


def test_sources_without_edges_may_have_any_value():
    """NaN in padding, forward and backward; targets without edges have result 0."""
    graph, found = patterns.causal(80) & patterns.padded(80, [50, 0]), []
    for fill in (0.0, float("nan")):
        leaves, there = filled(graph, fill)
        out, lse = attend(graph, *leaves)
        assert (out.masked_select(~there) == 0).all()
        assert torch.equal(lse > -float("inf"), there.squeeze(-1).expand(lse.shape))
        found.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_without_torchs_private_kernel(monkeypatch):
    """Without this kernel, matrix products give the same results: forward, gradients, half precision."""
    module = importlib.import_module("hgraph.ops.tiles.block_attend")
    arguments = [*module._CALLED[0], *module._CALLED[1]]
    assert module.private_operator(module._FLASH, arguments, 2) is not None
    assert module.private_operator("_no_such_kernel", arguments, 2) is None
    assert module.private_operator(module._FLASH, [*arguments, "more"], 2) is None
    assert module.private_operator(module._FLASH, arguments, 3) is None

    def results(name, dtype):
        leaves = inputs(GRAPHS[name], dtype=dtype)
        result = attend(GRAPHS[name], *leaves)
        return (*result, *torch.autograd.grad(result.out.square().sum(), leaves))

    cases = [("window", torch.float64), ("by head", torch.float64), ("power", torch.bfloat16)]
    usual = [results(*case) for case in cases]
    monkeypatch.setattr(module, "_fused", None)
    for case, expected in zip(cases, usual, strict=True):
        close = 1e-12 if case[1] == torch.float64 else 0.05
        torch.testing.assert_close(results(*case), expected, rtol=close, atol=close)


def test_head_mask_and_scale():
    graph, leaves = GRAPHS["window"], inputs(GRAPHS["window"])
    mask = torch.rand(2, 150, H, generator=torch.Generator().manual_seed(0)) < 0.5
    ours = attend(graph, *leaves, head_mask=mask, scale=0.3)
    exact = attend(graph, *leaves, scale=0.3)
    assert torch.equal(ours.out, torch.where(mask.unsqueeze(-1), exact.out, 0.0))
    assert torch.equal(ours.lse, torch.where(mask, exact.lse, -float("inf")))
    torch.testing.assert_close(exact.out, by_edges(graph, *leaves, scale=0.3)[0], rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------- biases


@pytest.mark.parametrize("heads", [1, H])
@pytest.mark.parametrize("name", ["window", "both ways", "global", "ordered", "by head", "scattered", "one target"])
def test_relative_bias_is_a_bias_by_edge(name, heads):
    graph = GRAPHS[name]
    table = numbers(heads, 21, seed=5).requires_grad_()
    leaves = [*inputs(graph), table]
    last = graph.num_sources - graph.num_targets

    def by_edge(adj, h):
        apart = (adj.target.long() + last - adj.indices).clamp(-10, 10) + 10
        return table[h if heads > 1 else 0, apart]

    exact = by_edges(graph, *leaves[:3], bias=by_edge)
    agree(attend(graph, *leaves[:3], bias=Relative(table)), exact, leaves, through_lse=True)


def test_relative_bias_on_a_grid():
    graph = patterns.sliding_window((9, 11), 3) | patterns.full(99)
    place = torch.stack(torch.meshgrid(torch.arange(9), torch.arange(11), indexing="ij"), -1).view(99, 2)
    table = numbers(H, 5, 7, seed=5).requires_grad_()
    leaves = [*inputs(graph), table]

    def by_edge(adj, h):
        apart = place[adj.target] - place[adj.indices]
        return table[h, apart[:, 0].clamp(-2, 2) + 2, apart[:, 1].clamp(-3, 3) + 3]

    ours = attend(graph, *leaves[:3], bias=Relative(table, place, place))
    agree(ours, by_edges(graph, *leaves[:3], bias=by_edge), leaves, through_lse=False)


def test_alibi_falls_with_distance():
    graph = GRAPHS["causal"]
    slopes = torch.tensor([0.5, 0.25, 0.125, 0.0625], dtype=torch.float64, requires_grad=True)
    leaves = [*inputs(graph), slopes]

    def by_edge(adj, h):
        return -slopes[h] * (adj.target - adj.indices).abs()

    ours = attend(graph, *leaves[:3], bias=alibi(slopes, 200))
    agree(ours, by_edges(graph, *leaves[:3], bias=by_edge), leaves, through_lse=False)


# ---------------------------------------------------------------------- dropout


@pytest.mark.parametrize("name", ["window", "ordered", "by head", "one target a head"])
def test_dropout_sets_probabilities_to_0_and_scales_the_others(name):
    """With the identity as values the output is the matrix of attention probabilities."""
    graph = GRAPHS[name]
    q, k, _ = inputs(graph, key_heads=4)
    v = torch.eye(graph.num_sources, dtype=torch.float64)[:, None].expand(2, -1, 4, -1)
    full = attend(graph, q, k, v)
    some = attend(graph, q, k, v, dropout=0.3, generator=torch.Generator().manual_seed(3))
    again = attend(graph, q, k, v, dropout=0.3, generator=torch.Generator().manual_seed(3))
    assert torch.equal(some.out, again.out)
    torch.testing.assert_close(some.lse, full.lse)
    kept = (some.out != 0) & (full.out != 0)
    torch.testing.assert_close(some.out, torch.where(kept, full.out / 0.7, 0.0))
    count = int((full.out != 0).sum())
    assert abs(int(kept.sum()) / count - 0.7) < 4 * (0.21 / count) ** 0.5
    different = kept[0] != kept[1]
    assert different[(full.out[0] != 0)].any()


@pytest.mark.parametrize("block", [1, 4, 32])
def test_dropout_is_the_same_in_every_form(block):
    graph, leaves = GRAPHS["by both"], inputs(GRAPHS["by both"])
    one, other = (
        attend(graph.tiles(b), *leaves, dropout=0.4, generator=torch.Generator().manual_seed(1)) for b in (64, block)
    )
    torch.testing.assert_close(one.out, other.out, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------- gradients


SMALL = {
    "causal": patterns.causal(7).tiles(2),
    "window in large tiles": patterns.sliding_window(40, 3).tiles(32),
    "by head": patterns.sink_band(7, [2, 4], num_sink=1, block_size=2).tiles(4),
    "by token": patterns.power(7).tiles(1),
    "empty rows": patterns.summaries(7, 3).tiles(2),
}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", SMALL)
def test_first_and_second_derivatives(name, dropout):
    tiles = SMALL[name]
    t, s = tiles.num_targets, tiles.num_sources
    q, k, v = (numbers(*shape, seed=i).requires_grad_() for i, shape in enumerate(((t, 2, 2), (s, 1, 2), (s, 1, 2))))
    table = numbers(2, 5, seed=4).requires_grad_()
    finite = attend(tiles, q, k, v).lse > -float("inf")

    def call(q, k, v, table):
        generator = torch.Generator().manual_seed(0)
        result = attend(tiles, q, k, v, bias=Relative(table), dropout=dropout, generator=generator)
        return result.out, torch.where(finite, result.lse, 0.0)

    assert torch.autograd.gradcheck(call, (q, k, v, table), fast_mode=name != "by head")
    assert torch.autograd.gradgradcheck(call, (q, k, v, table), fast_mode=True)
    if not dropout:
        assert torch.autograd.gradgradcheck(lambda q, k, v: attend(tiles, q, k, v).out, (q, k, v), fast_mode=True)


def test_only_inputs_that_require_gradients_get_them():
    q, k, v = inputs(GRAPHS["window"])
    out = attend(GRAPHS["window"], q.detach(), k.detach(), v).out
    assert torch.autograd.grad(out.sum(), v)[0].abs().sum() > 0


# ---------------------------------------------------------------------- precision, bits, memory, compiler


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["window", "power", "global", "by head", "one target"])
def test_precision(name, dtype):
    graph = GRAPHS[name]
    leaves = inputs(graph, dtype=dtype)
    wide = [x.detach().double().requires_grad_() for x in leaves]
    ours, exact = attend(graph, *leaves), attend(graph, *wide)
    assert ours.out.dtype == dtype
    assert ours.lse.dtype == torch.float32
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(
        ours.out.double(), exact.out, rtol=0, atol=4 * unit * float(exact.out.detach().abs().max())
    )
    close = 4e-6 if dtype == torch.float32 else 1e-4  # for half types, torch's kernel uses a faster exponential
    torch.testing.assert_close(ours.lse.double(), exact.lse, rtol=close, atol=close)
    grads = [torch.autograd.grad(r.out.double().square().sum(), x) for r, x in ((ours, leaves), (exact, wide))]
    for own, expected in zip(*grads, strict=True):
        assert own.dtype == dtype
        torch.testing.assert_close(own.double(), expected, rtol=0, atol=16 * unit * float(expected.abs().max()))


def test_large_scores_and_long_masked_runs_stay_finite():
    graph = patterns.sliding_window(3000, 20, causal=True) | patterns.global_tokens(3000, [0])
    q, k, v = (20 * numbers(1, 3000, 1, 8, seed=i, dtype=torch.float32) for i in range(3))
    ours = attend(graph.tiles(128), q, k, v)
    exact = attend(graph.adjacency(), q, k, v)
    torch.testing.assert_close(ours.out, exact.out, rtol=1e-3, atol=1e-2)
    assert ours.lse.isfinite().all()


@pytest.mark.parametrize("name", ["window", "global", "ordered", "by head", "scattered", "one target"])
def test_the_number_of_threads_does_not_change_the_bits(name, threads):
    runs = []
    for count in (1, 2, 1):
        torch.set_num_threads(count)
        leaves = inputs(GRAPHS[name], dtype=torch.float32)
        result = attend(GRAPHS[name], *leaves, bias=Relative(torch.ones(1, 3)))
        runs.append((*result, *torch.autograd.grad(result.out.square().sum(), leaves)))
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["window", "global", "by head", "padded", "none"])
def test_unwritten_memory_is_not_read(name, poisoned):
    leaves = inputs(GRAPHS[name], dtype=torch.float32)
    result = attend(GRAPHS[name].tiles(32), *leaves)
    grads = torch.autograd.grad(result.out.sum(), leaves)
    assert not any(x.isnan().any() for x in (*result, *grads))


@pytest.mark.parametrize("name", ["window", "power", "global"])
def test_no_tensor_of_all_pairs_is_allocated(name, largest):
    n, d = 8192, 16
    graph = {
        "window": patterns.sliding_window(n, 256, causal=True),
        "power": patterns.power(n, 128, window=2, num_sink=128),
        "global": patterns.sliding_window(n, 65) | patterns.global_tokens(n, [0]),
    }[name]
    q, k, v = (numbers(n, 1, d, seed=i, dtype=torch.float32).requires_grad_() for i in range(3))
    graph.tiles(block_of(graph))
    with largest:
        result = attend(graph, q, k, v)
        torch.autograd.grad(result.out.square().sum(), (q, k, v))
    assert largest.bytes <= 256 * n * 4  # at most one tile row of scores; all pairs need 268 MB


def test_compiles_once_for_all_sizes():
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda t, *x: attend(t, *x).out, fullgraph=True, dynamic=True, backend=counter)
    frames = []
    # Otherwise the compiler assumes that sizes that are equal here are always equal.
    with torch.fx.experimental._config.patch(use_duck_shape=False):
        for n in (90, 130, 170):
            tiles = patterns.sliding_window(n, 20 + n // 10).tiles(16)
            leaves = inputs(tiles, dtype=torch.float32)
            out, exact = compiled(tiles, *leaves), attend(tiles, *leaves).out
            torch.testing.assert_close(out, exact)
            grads = [torch.autograd.grad(o.square().sum(), leaves) for o in (out, exact)]
            torch.testing.assert_close(*grads)
            frames.append(counter.frame_count)
    assert frames == frames[:1] * 3


@pytest.mark.parametrize("made", ["tiles", "graph"])
def test_structures_are_arguments_of_compiled_functions(made):
    """Also whole graphs: their tiles are computed once, outside of the compiled shapes."""
    torch._dynamo.reset()
    graph = patterns.causal(80) & patterns.padded(80, [50, 0])
    structure = graph if made == "graph" else graph.tiles(32)
    leaves, _ = filled(graph, float("nan") if made == "graph" else 0.0)
    compiled = torch.compile(lambda s, *x: attend(s, *x).out, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(structure, *leaves), attend(structure, *leaves).out)


def test_operators_pass_opcheck():

    tiles = patterns.sliding_window(40, 5).tiles(16)
    q, k, v = (numbers(1, 40, 2, 4, seed=i).requires_grad_() for i in range(3))
    arguments = (tensors_of(tiles), q, k, v, None, None, None, None, None, 0.0, 0.5)
    torch.library.opcheck(torch.ops.hgraph.block_attend.default, arguments)


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"score": Additive()}, ArgumentError, "q: expected"),
        ({"score": Additive(torch.ones(H, D))}, ArgumentTypeError, r"score: expected Dot\(\) for token graphs"),
        ({"bias": torch.zeros(3)}, ArgumentTypeError, "bias: expected a Relative for token graphs, got Tensor"),
        ({"bias": Relative(torch.zeros(3, 5))}, ArgumentError, r"bias.table: expected shape \[4 or 1, L, ...\]"),
        ({"bias": Relative(torch.zeros(1, 5, 5))}, ArgumentError, r"bias.target_place: expected shape \[150, 2\]"),
        ({"q": torch.zeros(2, 9, H, D)}, ArgumentError, r"q: expected shape \[2, 150, 4, 6\]"),
        ({"adj": patterns.padded(150, [1, 2, 3])}, ArgumentError, "q: expected 3 examples, as in the structure"),
        ({"adj": patterns.sink_band(150, [4, 5])}, ArgumentError, "q: expected 2 heads, as in the structure, got 4"),
        ({"dropout": 1.0}, ArgumentError, "dropout: expected a probability"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    graph = GRAPHS["window"]
    given = dict(zip(("adj", "q", "k", "v"), (graph, *inputs(graph)), strict=True)) | change
    with pytest.raises(error, match=message):
        attend(given.pop("adj"), given.pop("q"), given.pop("k"), given.pop("v"), **given)


def test_relative_biases_need_token_graphs():
    adj = patterns.causal(4).adjacency()
    x = torch.zeros(4, 1, 2)
    with pytest.raises(ArgumentTypeError, match="bias: expected a tensor with the exact edges, got Relative"):
        attend(adj, x, x, x, bias=Relative(torch.zeros(1, 3)))


def test_rows_with_the_same_tokens_are_one_step():
    def steps(graph, wide):
        plan = plan_of(tensors_of(graph.tiles(64)))
        return [(s.rows, s.segments[0].columns) for s in (plan.wide if wide else plan.steps)]

    assert len(steps(patterns.full(200), wide=False)) == 4
    assert steps(patterns.full(200), wide=True) == [(slice(0, 200), slice(0, 200))]
    blocks = patterns.block_local(300, 128)
    assert steps(blocks, wide=True) == [(slice(a, min(a + 128, 300)),) * 2 for a in (0, 128, 256)]
    for graph in (patterns.causal(200), patterns.sliding_window(200, 30), patterns.block_local(200, 50)):
        assert steps(graph, wide=True) == steps(graph, wide=False)  # whether or not some rows have the same tokens
