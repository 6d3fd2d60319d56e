"""Two-level attention: against loops over groups and members, its gradients against derivatives, for any tiles."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import BlockAdjacency, attend, attend_groups, merge, patterns
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops import AttendResult
from hgraph.ops.random import draw_seed, dropout_mask
from hgraph.ops.tiles import group_attend as operators

H, D = 4, 6
GRAPHS = {
    "earlier": patterns.summaries(7, 1).crop(6),
    "all": patterns.full(1, 5),
    "by head": patterns.sink_band(9, [3, 5, 9, 1], num_sink=1, block_size=1),
    "by example": patterns.padded(6, [2, 6]),
    "none": patterns.none(3, 4),
    "no groups": patterns.full(3, 0),
    "no rows": patterns.full(0, 3),
}


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inputs(graph, queries=3, members=2, kv=2, width=5, batch=2):
    r, g = graph.num_targets, graph.num_sources
    shapes = ((batch, r, queries, H, D), (batch, g, kv, D), (batch, g, members, kv, D), (batch, g, members, kv, width))
    return [numbers(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes)]


def loops(graph, q, handle, k, v):
    """The definition, one query and head at a time."""
    out, lse = q.new_zeros(*q.shape[:-1], v.shape[-1]), q.new_full(q.shape[:-1], -math.inf)
    for b in range(q.shape[0]):
        for h in range(H):
            adj = graph.adjacency(example=b if graph.batch > 1 else 0, head=h if graph.num_heads > 1 else 0)
            own = h * handle.shape[2] // H
            for r in range(q.shape[1]):
                groups = adj.indices[adj.target == r].tolist()
                for t in range(q.shape[2] if groups else 0):
                    score = torch.stack([q[b, r, t, h] @ handle[b, c, own] for c in groups]) / D**0.5
                    lse[b, r, t, h] = score.logsumexp(0)
                    for c, probability in zip(groups, score.softmax(0), strict=True):
                        inner = (k[b, c, :, own] @ q[b, r, t, h] / D**0.5).softmax(0)
                        out[b, r, t, h] = out[b, r, t, h] + probability * (inner @ v[b, c, :, own])
    return out, lse


def finite(result):
    out, lse = result
    return out, torch.where(lse > -math.inf, lse, 0.0)


def close(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("queries", "members", "kv"), [(1, 3, 4), (3, 2, 2), (9, 1, 1)])
@pytest.mark.parametrize("name", GRAPHS)
def test_values_and_gradients_are_those_of_the_loops(name, queries, members, kv):
    graph = GRAPHS[name]
    leaves = inputs(graph, queries, members, kv, batch=2 if graph.batch > 1 else 1)
    ours, exact = attend_groups(graph, *leaves), loops(graph, *leaves)
    close(ours, exact)
    weight, log_weight = numbers(*exact[0].shape, seed=7), numbers(*exact[1].shape, seed=8)
    losses = [(o * weight).sum() + (log * log_weight).sum() for o, log in map(finite, (ours, exact))]
    losses[1] = losses[1] + 0 * sum(x.sum() for x in leaves)  # without terms, the loss would depend on no leaf
    close(*(torch.autograd.grad(loss, leaves) for loss in losses))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("name", ["earlier", "by head"])
def test_every_derivative(name, dropout):
    graph = GRAPHS[name].select(range(4))
    leaves = inputs(graph, queries=2, width=4, batch=1)

    def call(*x):
        drawn = torch.Generator().manual_seed(3) if dropout else None
        return finite(attend_groups(graph, *x, dropout=dropout, generator=drawn))

    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9), st.integers(0, 6), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.randoms())
def test_any_structure_in_any_tiles(rows, groups, queries, members, block, chance):
    pairs = [(r, c) for r in range(rows) for c in range(groups) if chance.random() < 0.4]
    graph = patterns.none(rows, groups)
    if pairs:
        row, start = zip(*pairs, strict=True)
        graph = type(graph).from_runs(
            row=row, start=start, stop=[s + 1 for s in start], num_targets=rows, num_sources=groups
        )
    leaves = inputs(graph, queries, members, batch=1)
    expected = loops(graph, *leaves)
    close(attend_groups(graph, *leaves), expected)
    close(attend_groups(graph.tiles(block), *leaves), expected)


def test_groups_in_chunks(monkeypatch):
    graph = patterns.full(2, 11)
    leaves = inputs(graph, queries=4)
    whole = attend_groups(graph, *leaves, dropout=0.3, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(whole.out.square().sum(), leaves)
    monkeypatch.setattr(operators, "_SCORES", 100)
    parts = attend_groups(graph, *leaves, dropout=0.3, generator=torch.Generator().manual_seed(1))
    close(parts, whole)
    close(torch.autograd.grad(parts.out.square().sum(), leaves), grads)


def test_dropout_is_counter_based():
    """Number (((b R + r) Q + t) G + c) H + h determines the dropout of one group for one query and head."""
    graph = patterns.full(3, 5)
    q, handle, k, v = inputs(graph)
    keep = dropout_mask(
        draw_seed(torch.Generator().manual_seed(1), q.device), torch.zeros(2, 3, 3, 5, H, dtype=q.dtype), 0.4
    )
    group = [x.repeat_interleave(2, -2) for x in (handle, k, v)]
    probability = torch.einsum("brthd,bchd->brtch", q, group[0]).div(D**0.5).softmax(3)
    inner = torch.einsum("brthd,bcphd->brtchp", q, group[1]).div(D**0.5).softmax(-1)
    expected = torch.einsum("brtch,brtchp,bcphv->brthv", probability * keep, inner, group[2])
    drawn = attend_groups(graph, q, handle, k, v, dropout=0.4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.out, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(drawn.lse, attend_groups(graph, q, handle, k, v).lse)


def test_dropout_does_not_depend_on_the_tiles():
    graph, leaves = GRAPHS["earlier"], inputs(GRAPHS["earlier"])
    drawn = [
        attend_groups(graph.tiles(b), *leaves, dropout=0.5, generator=torch.Generator().manual_seed(1))
        for b in (1, 2, 64)
    ]
    close(drawn[0], drawn[1])
    close(drawn[0], drawn[2])
    assert (drawn[0].out != attend_groups(graph, *leaves).out).any()


def test_handles_that_sum_their_groups_give_plain_attention():
    """Handles [0, L] and queries [q, 1] with one query per row: L is the log of the group's sum for that query."""
    groups, members = 4, 3
    q, k, v = numbers(H, D), numbers(groups, members, H, D, seed=1), numbers(groups, members, H, 5, seed=2)
    score = torch.einsum("hd,gphd->gph", q, k)
    handle = torch.cat([torch.zeros(groups, H, D, dtype=q.dtype), score.logsumexp(1).unsqueeze(2)], 2)
    q = torch.cat([q, torch.ones(H, 1, dtype=q.dtype)], 1)
    k = torch.cat([k, torch.zeros(groups, members, H, 1, dtype=q.dtype)], 3)
    ours = attend_groups(patterns.full(1, groups), q.view(1, 1, H, D + 1), handle, k, v, scale=1.0)
    plain = attend(patterns.full(1, groups * members), q.unsqueeze(0), k.flatten(0, 1), v.flatten(0, 1), scale=1.0)
    close((ours.out[0], ours.lse[0]), plain)


def test_merge_combines_disjoint_sets_of_groups():
    graph, leaves = patterns.full(3, 6), [x.detach() for x in inputs(patterns.full(3, 6))]
    q, *rest = leaves
    first = attend_groups(patterns.full(3, 2), q, *(x[:, :2] for x in rest))
    second = attend_groups(patterns.full(3, 4), q, *(x[:, 2:] for x in rest))
    close(merge(first, second), attend_groups(graph, *leaves))


def test_lists_built_from_content_and_head_masks():
    index = torch.rand(2, H, 5, 7, generator=torch.Generator().manual_seed(0)).argsort(-1)[..., :3]
    tiles = BlockAdjacency.from_index(index, block_size=1, num_targets=5, num_sources=7)
    leaves = inputs(tiles)
    close(attend_groups(tiles, *leaves), loops(tiles, *leaves))
    mask = torch.tensor([True, False, True, True]).view(1, 1, H)
    silent = attend_groups(tiles, *leaves, head_mask=mask)
    assert not silent.out[:, :, :, 1].any()
    assert (silent.lse[:, :, :, 1] == -math.inf).all()
    assert torch.equal(silent.out[:, :, :, 2], attend_groups(tiles, *leaves).out[:, :, :, 2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_float32(dtype):
    leaves = [x.detach().to(dtype) for x in inputs(GRAPHS["earlier"], queries=20)]
    ours, exact = (attend_groups(GRAPHS["earlier"], *x) for x in (leaves, [x.double() for x in leaves]))
    assert (ours.out.dtype, ours.lse.dtype) == (dtype, torch.float32)
    assert (ours.out.double() - exact.out).abs().max() <= torch.finfo(dtype).eps * exact.out.abs().max()


def test_same_inputs_same_bits():
    leaves = [x.detach().float().requires_grad_() for x in inputs(GRAPHS["by head"], queries=30)]
    runs = []
    for _ in range(2):
        out = attend_groups(GRAPHS["by head"], *leaves).out
        runs.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_no_tensor_of_all_pairs_is_allocated(largest):
    """4096 tokens in blocks of 128, one head: all pairs need 64 MiB, but the largest tensor has only a few tiles."""
    graph = patterns.summaries(32, 1).crop(31)
    shapes = ((32, 128, 1, 16), (31, 1, 16), (31, 127, 1, 16), (31, 127, 1, 16))
    leaves = [numbers(*shape, dtype=torch.float32).requires_grad_() for shape in shapes]
    attend_groups(graph, *leaves)
    with largest:
        torch.autograd.grad(attend_groups(graph, *leaves).out.square().sum(), leaves)
    assert largest.bytes <= 4 * operators._SCORES


def test_compiles_as_one_graph_and_passes_opcheck():
    from hgraph.ops.tiles.plan import tensors_of

    tiles, leaves = GRAPHS["earlier"].tiles(2), inputs(GRAPHS["earlier"])
    torch.library.opcheck(torch.ops.hgraph.group_attend.default, (tensors_of(tiles), *leaves, None, 0.0, 0.5))
    torch._dynamo.reset()
    compiled = torch.compile(lambda t, *x: attend_groups(t, *x).out, fullgraph=True, backend="aot_eager")
    close(compiled(tiles, *leaves), attend_groups(tiles, *leaves).out)


@pytest.mark.parametrize("batch", [(), (1,), (3, 2), (0,)])
def test_batch_dimensions(batch):
    graph = GRAPHS["earlier"]
    leaves = [x.detach()[0].expand(*batch, *x.shape[1:]) for x in inputs(graph)]
    result = attend_groups(graph, *leaves)
    assert isinstance(result, AttendResult)
    assert result.out.shape == (*batch, 7, 3, H, 5)
    assert result.lse.shape == (*batch, 7, 3, H)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"graph": patterns.full(3, 6).adjacency()}, ArgumentTypeError, "adj: expected TokenGraph or BlockAdjacency"),
        ({"graph": patterns.dilated(6, 3, 2)}, ArgumentError, "graph: expected rows and groups in natural order"),
        ({"q": torch.zeros(3, H, D)}, ArgumentError, r"q: expected shape \[..., R, Q, H, D\]"),
        ({"q": torch.zeros(2, 4, 3, H, D)}, ArgumentError, "q: expected shape"),
        ({"handle": torch.zeros(2, 5, 2, D)}, ArgumentError, "handle: expected shape"),
        ({"k": torch.zeros(2, 6, 2, 1, D)}, ArgumentError, "k: expected shape"),
        ({"v": torch.zeros(2, 6, 3, 2, D)}, ArgumentError, "v: expected shape"),
        ({"v": torch.zeros(2, 6, 2, 2, D, dtype=torch.long)}, ArgumentTypeError, "v: expected a floating-point"),
        ({"k": torch.zeros(2, 6, 0, 2, D), "v": torch.zeros(2, 6, 0, 2, D)}, ArgumentError,
         "k: expected at least one member"),
        ({"dropout": 1.0}, ArgumentError, r"dropout: expected a probability in \[0, 1\)"),
        ({"head_mask": torch.ones(2, H).bool()}, ArgumentError, "head_mask: expected shape"),
        ({"graph": patterns.sink_band(3, [1, 2], num_sink=1, block_size=1)}, ArgumentError,
         "q: expected 1 examples and 2"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(change, error, message):
    names = ("q", "handle", "k", "v")
    graph = patterns.full(3, 6)
    options = {**dict(zip(names, (x.detach().float() for x in inputs(graph)), strict=True)), "graph": graph, **change}
    if change.get("graph") is not None and change["graph"].num_sources != 6:
        options |= dict(zip(names, (x.detach() for x in inputs(change["graph"])), strict=True))
    with pytest.raises(error, match=message):
        attend_groups(options.pop("graph"), *(options.pop(n) for n in names), **options)
