"""Parity of the plain attention layers with loops and with torch; graphs, masks, records and kinds of all of them."""

from __future__ import annotations

import copy
import functools
import inspect
import math

import pytest
import torch

from hgraph import BlockAdjacency, Relative, TokenGraph, attend, patterns
from hgraph.cache import traced_as_constant
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import (
    CrossAttention,
    PowerAttention,
    SelfAttention,
    SparseQueryAttention,
    record_attention,
)
from hgraph.nn.attention import AttentionKind, KVState, apply_rotary_emb, require_kind, supported_kinds
from tests.nn.cases import ATTENTION

DIM = 8
WINDOW = functools.partial(patterns.sliding_window, window=3)


def double(layer, seed=0):
    torch.manual_seed(seed)
    layer = layer.double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return layer


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention_loops(layer, x, context, attends, turn=None):
    """The layer's sums by loops over heads and tokens, for one example."""
    q, k, v = layer.query(x), layer.key(context), layer.value(context)
    d, group = layer.head_dim, layer.query_heads // layer.kv_heads
    out = torch.zeros(len(x), layer.query_heads * d, dtype=torch.float64)
    for h in range(layer.query_heads):
        own, other = slice(h * d, h * d + d), slice(h // group * d, h // group * d + d)
        for t in range(len(x)):
            attended = [s for s in range(len(context)) if attends(t, s)]
            query = q[t, own] if turn is None else turn(q[t, own], t)
            keys = [k[s, other] if turn is None else turn(k[s, other], s) for s in attended]
            score = torch.stack([query @ key / math.sqrt(d) for key in keys]).exp()
            for s, prob in zip(attended, score / score.sum(), strict=True):
                out[t, own] += prob * v[s, other]
    return out @ layer.out.weight.T + layer.out.bias


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize("kv", [4, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
def test_selfattention_parity(kv, causal):
    layer, x = double(SelfAttention(DIM, 4, pattern=WINDOW, num_kv_heads=kv, causal=causal)), numbers(2, 9, DIM)
    for b in range(2):
        expected = attention_loops(layer, x[b], x[b], lambda t, s: abs(t - s) < 3 and (not causal or s <= t))
        torch.testing.assert_close(layer(x)[b], expected, rtol=1e-12, atol=1e-12)


def test_selfattention_is_torchs_multihead_attention():
    layer, x = double(SelfAttention(DIM, 4)), numbers(2, 9, DIM)
    theirs = torch.nn.MultiheadAttention(DIM, 4, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.query.weight, layer.key.weight, layer.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([layer.query.bias, layer.key.bias, layer.value.bias]))
        theirs.out_proj.load_state_dict(layer.out.state_dict())
    torch.testing.assert_close(layer(x), theirs(x, x, x, need_weights=False)[0], rtol=1e-12, atol=1e-12)


def test_crossattention_parity():
    layer = double(CrossAttention(DIM, 4, context_dim=5, num_kv_heads=2))
    x, context = numbers(6, DIM), numbers(11, 5, seed=1)
    torch.testing.assert_close(
        layer(x, context), attention_loops(layer, x, context, lambda t, s: True), rtol=1e-12, atol=1e-12
    )
    some = patterns.random(11, 2, seed=0).select(range(6))
    edges = some.adjacency().dense().bool()
    expected = attention_loops(layer, x, context, lambda t, s: bool(edges[t, s]))
    torch.testing.assert_close(layer(x, context, some), expected, rtol=1e-12, atol=1e-12)


def test_rotary_embedding_rotates_pairs():
    def turn(x, p):
        out = torch.empty_like(x)
        for i in range(len(x) // 2):
            a = p * 50.0 ** (-2 * i / len(x))
            out[2 * i] = x[2 * i] * math.cos(a) - x[2 * i + 1] * math.sin(a)
            out[2 * i + 1] = x[2 * i] * math.sin(a) + x[2 * i + 1] * math.cos(a)
        return out

    layer, x = double(SelfAttention(DIM, 2, causal=True, rotary=50.0)), numbers(7, DIM)
    expected = attention_loops(layer, x, x, lambda t, s: s <= t, turn)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(ArgumentError, match="even number"):
        apply_rotary_emb(torch.zeros(2, 1, 3), torch.arange(2))


# ---------------------------------------------------------------------- causality and decoding


def chosen_tiles(q, k, block=2, budget=2):
    """For each tile row of each head the best tiles for its first query, of those up to its own."""
    n = q.shape[-3]
    score = torch.einsum("...thd,...shd->...hts", q[..., ::block, :, :], k[..., ::block, :, :])
    visible = torch.arange(1, n // block + 1).expand(score.shape[:-1])
    index = patterns.tree_topk(lambda leaf: score.gather(-1, leaf), visible, budget, size=n // block)
    return BlockAdjacency.trusted(index, block_size=block, num_targets=n, num_sources=n, causal=True)


def test_causality_of_values_and_of_the_selection():
    """By perturbation in both modes: only values with a fixed selection, and values with the selection."""
    q, k, v = (numbers(2, 20, 3, 4, seed=i) for i in range(3))
    tiles = chosen_tiles(q, k)
    before = attend(tiles, q, k, v).out
    for t in (2, 9, 18):
        other = [x.clone() for x in (q, k, v)]
        for x in other:
            x[:, t:] = numbers(2, 20 - t, 3, 4, seed=9)
        values = attend(tiles, q, k, other[2]).out  # the same structure
        again = chosen_tiles(*other[:2])
        both = attend(again, *other).out
        rows = t // 2
        assert torch.equal(again.index[:, :, :rows], tiles.index[:, :, :rows])
        assert not torch.equal(again.index, tiles.index) or t == 18
        for after in (values, both):
            assert torch.equal(after[:, : 2 * rows], before[:, : 2 * rows])
            assert not torch.equal(after[:, t:], before[:, t:])


def test_a_step_only_uses_the_edges_of_its_token():
    layer, x = double(PowerAttention(DIM, 2, block_size=1, window=0)), numbers(1, 40, DIM)
    state = KVState(40)
    layer(x[:, :39], state=state)
    attended = layer.graph_of(40).select([39]).adjacency().indices.long()
    unattended = torch.tensor([j for j in range(39) if j not in attended.tolist()])
    for stored in state._stored:
        stored[:, unattended] = float("nan")
    torch.testing.assert_close(layer(x[:, 39:], state=state), layer(x)[:, 39:], rtol=1e-12, atol=1e-12)


def test_wrong_states():
    layer, x = double(SelfAttention(DIM, 2, causal=True)), numbers(1, 5, DIM)
    state = KVState(4)
    with pytest.raises(ArgumentError, match="state: expected a capacity of at least 5 tokens, got a capacity of 4"):
        layer(x, state=state)
    with pytest.raises(ArgumentError, match="graph: expected a causal graph of at least 4 tokens for decoding"):
        double(SelfAttention(DIM, 2))(x[:, :1], state=KVState(4))


# ---------------------------------------------------------------------- graphs of the caller, masks, records, kinds


def test_packed_and_padded_documents():
    layer, x = double(SelfAttention(DIM, 2, causal=True)), numbers(2, 9, DIM)
    packed = layer(x, patterns.packed([4, 5], causal=True))
    torch.testing.assert_close(packed, torch.cat([layer(x[:, :4]), layer(x[:, 4:])], 1), rtol=1e-12, atol=1e-12)
    padded = layer(x, patterns.causal(9) & patterns.padded(9, [3, 9]))
    torch.testing.assert_close(padded[0, :3], layer(x[:1, :3])[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(padded[1], layer(x)[1], rtol=1e-12, atol=1e-12)
    assert torch.equal(padded[0, 3:], layer.out.bias.expand(6, -1))  # padding has no sources


def test_head_mask_disables_heads():
    layer, x = double(SelfAttention(DIM, 4)), numbers(2, 6, DIM)
    mask = torch.tensor([[True, False, True, False]])
    half = copy.deepcopy(layer)
    with torch.no_grad():
        half.out.weight.unflatten(1, (4, 2))[:, [1, 3]] = 0
    torch.testing.assert_close(layer(x, head_mask=mask), half(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", ATTENTION.values(), ids=ATTENTION)
def test_every_layer_takes_a_head_mask(case):
    layer, (x, *rest) = case.module(dtype=torch.float64), case.inputs(9)
    heads = next(getattr(m, n) for m in layer.modules() for n in ("query_heads", "num_heads") if hasattr(m, n))
    cells = (*x.shape[:-1], heads)
    torch.testing.assert_close(layer(x, *rest, head_mask=torch.ones(cells).bool()), layer(x, *rest))
    mask = torch.arange(heads).expand(1, *cells[1:-1], heads) > 0
    with record_attention(layer) as records:
        out = layer(x, *rest, head_mask=mask)
    last = list(records.values())[-1][-1]  # records within regions have no targets
    assert [float(last.weights(head=h)[1].sum()) > 0 for h in range(heads)] == [h > 0 for h in range(heads)]
    assert (out - layer(x, *rest)).abs().amax() > 1e-6
    silent = layer(x, *rest, head_mask=torch.zeros((*cells[1:-1], heads)).bool())
    assert (silent == silent.flatten(0, -2)[0]).all()  # the bias of the output projection
    for wrong in (mask[..., :1].expand(*mask.shape[:-1], heads + 1), mask.expand(3, *mask.shape[1:])):
        with pytest.raises(ArgumentError, match="head_mask: expected shape"):
            layer(x, *rest, head_mask=wrong)
    with pytest.raises(ArgumentTypeError, match="head_mask: expected a boolean tensor"):
        layer(x, *rest, head_mask=mask.float())


@pytest.mark.parametrize("relative", [False, True])
def test_records_have_the_weights(relative):
    layer, x = double(SelfAttention(DIM, 4, pattern=WINDOW, num_kv_heads=2)), numbers(2, 6, DIM)
    bias = Relative(numbers(4, 5)) if relative else None
    model = torch.nn.ModuleDict({"first": layer, "second": double(CrossAttention(DIM, 2))})
    with record_attention(model) as records:
        out = model["first"](x, bias=bias)
        model["second"](x, x)
    layer(x)
    assert {name: len(calls) for name, calls in records.items()} == {"first": 1, "second": 1}
    value = layer.value(x).unflatten(-1, (2, 2))
    attended = torch.zeros(2, 6, 4, 2, dtype=torch.float64)
    for b in range(2):
        for h in range(4):
            adj, prob = records["first"][0].weights(example=b, head=h)
            dense = adj.with_weight(prob).dense()
            torch.testing.assert_close(dense.sum(1), torch.ones(6, dtype=torch.float64))
            attended[b, :, h] = dense @ value[b, :, h // 2]
    torch.testing.assert_close(layer.out(attended.flatten(-2)), out, rtol=1e-12, atol=1e-12)


def test_kinds_are_declared():
    assert supported_kinds(SelfAttention) == {AttentionKind.NONCAUSAL_SELF, AttentionKind.CAUSAL_SELF}
    assert supported_kinds(CrossAttention(DIM, 2)) == {AttentionKind.NONCAUSAL_CROSS, AttentionKind.CAUSAL_CROSS}
    assert supported_kinds(SparseQueryAttention) == set(AttentionKind)
    assert supported_kinds(PowerAttention) == {AttentionKind.CAUSAL_SELF}
    require_kind(PowerAttention, AttentionKind.CAUSAL_SELF)
    with pytest.raises(ArgumentError, match="kind: expected causal self for PowerAttention, got noncausal self"):
        require_kind(PowerAttention, AttentionKind.NONCAUSAL_SELF)
    with pytest.raises(ArgumentTypeError, match="an attention layer"):
        supported_kinds(torch.nn.Linear)


def test_cross_attention_with_queries_one_by_one():
    layer, x, context = double(CrossAttention(DIM, 2)), numbers(1, 6, DIM), numbers(1, 9, DIM, seed=1)
    steps = torch.cat([layer(x[:, t : t + 1], context) for t in range(6)], 1)
    torch.testing.assert_close(steps, layer(x, context), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SelfAttention(DIM, 3), ArgumentError, "num_heads: expected a divisor of the width 8, got 3"),
        (lambda: SelfAttention(DIM, 4, num_kv_heads=3), ArgumentError, "num_kv_heads: expected a divisor of the 4"),
        (lambda: SelfAttention(DIM, 2, pattern=3), ArgumentTypeError, "pattern: expected a function from a length"),
        (lambda: SelfAttention(DIM, 2)(torch.zeros(5, 7)), ArgumentError, r"x: expected shape \[..., N, 8\]"),
        (lambda: CrossAttention(DIM, 2)(torch.zeros(5, 8), torch.zeros(8)), ArgumentError, "context: expected shape"),
        (lambda: SelfAttention(DIM, 2)(torch.zeros(5, 8), patterns.full(4)), ArgumentError, "graph: expected a graph"),
        (lambda: SparseQueryAttention.variant("abc", 8, 4), ArgumentError, "name: expected one of mha"),
        (lambda: SparseQueryAttention(8, 4, num_query_heads=3, num_kv_heads=1), ArgumentError, "num_query_heads"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_signatures_of_constructors():
    parameters = inspect.signature(SparseQueryAttention).parameters
    assert list(parameters) == [
        *("dim", "num_heads", "num_query_heads", "num_kv_heads"),
        *("pattern", "causal", "bias", "out_bias", "dropout", "rotary"),
    ]
    assert (parameters["bias"].default, parameters["out_bias"].default) == (False, True)
    for make in (lambda: CrossAttention(DIM, 2, causal=True), lambda: PowerAttention(DIM, 2, pattern=WINDOW)):
        with pytest.raises(TypeError, match="unexpected keyword argument '(causal|pattern)'"):
            make()

    class Narrow(SelfAttention):
        def __init__(self):
            super().__init__(DIM, 2, head_dim=3)

    assert copy.deepcopy(Narrow())(torch.zeros(1, 4, DIM)).shape == (1, 4, DIM)


def test_graphs_are_cached_per_length():
    made = []

    def pattern(n):
        made.append(n)
        return TokenGraph.from_runs(row=range(n), start=[0] * n, stop=range(1, n + 1), num_targets=n, num_sources=n)

    layer = SelfAttention(DIM, 2, pattern=pattern)
    for n in (4, 5, 4, 5):
        layer(torch.zeros(1, n, DIM))
    assert made == [4, 5]


def test_constants_are_marked_for_the_compiler():
    def one() -> None: ...
    def two() -> None: ...

    assert vars(traced_as_constant(one)) == vars(torch.compiler.assume_constant_result(two))
    assert vars(one)
