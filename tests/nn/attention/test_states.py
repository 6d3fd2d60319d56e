"""Decode states, graphs of the caller, and masks of wrong shapes."""

from __future__ import annotations

import pytest
import torch

from hgraph import alibi, patterns
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import (
    CombinerAttention,
    CrossAttention,
    LandmarkAttention,
    MixtureOfHeadAttention,
    MoAAttention,
    PowerAttention,
    SelfAttention,
    SparseQueryAttention,
)
from hgraph.nn.attention import CombinerState, KVState, LandmarkState, SpanRule, insert_landmarks
from hgraph.nn.recurrent import StackState
from tests.nn.cases import DECODERS

DIM, N = 8, 20
PATTERNS = {
    "windows of a grid": lambda n: patterns.sliding_window((4, 5), 2),
    "windows of a cube": lambda n: patterns.sliding_window((2, 2, 5), 2),
    "line of a grid": lambda n: patterns.axial((4, 5), 0),
    "hilbert": lambda n: patterns.hilbert_windows((4, 5), 3),
    "clusters by both": lambda n: patterns.clusters(torch.arange(4 * n).view(2, 2, n) * 7 % 3),
    "random": lambda n: patterns.random(n, 3, seed=1),
    "top k": lambda n: patterns.top_k(torch.arange(n).unsqueeze(1) * torch.tensor([1, 3]) % n, num_sources=n),
    "documents": lambda n: patterns.packed([5, 0, 7, n - 12]),
    "padded": lambda n: patterns.padded(n, [n - 4, n]),
    "longnet": lambda n: patterns.longnet(n, [4, 8], [1, 2]),
    "landmarks": lambda n: patterns.landmark_blocks(n, 3),
    "algebra": lambda n: (patterns.full(n) - patterns.sliding_window(n, 3)) | patterns.sinks(n, 30),
    "two steps": lambda n: patterns.dilated(n, 2, 3) @ patterns.sliding_window(n, 2),
    "prefix": lambda n: patterns.prefix_lm(n, 4),
    "none": patterns.none,
}


def double(layer, seed=0):
    torch.manual_seed(seed)
    layer = layer.double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return layer


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------------- decoding


@pytest.mark.parametrize("name", PATTERNS)
def test_causal_patterns_decode_like_the_full_forward(name):
    """With rotary embeddings, shared keys and ALiBi at once; a prompt in inference mode, the rest without gradients."""
    layer = double(SelfAttention(DIM, 2, pattern=PATTERNS[name], causal=True, num_kv_heads=1, rotary=50.0))
    x, bias, state = numbers(2, N, DIM), alibi(torch.tensor([0.3, 0.7], dtype=torch.float64), N), KVState(N)
    with torch.inference_mode():
        parts = [layer(x[:, :9], bias=bias, state=state)]
    with torch.no_grad():
        parts += [layer(x[:, a:b], bias=bias, state=state) for a, b in ((9, 10), (10, 10), (10, 19), (19, 20))]
    torch.testing.assert_close(torch.cat(parts, 1), layer(x, bias=bias), rtol=1e-12, atol=1e-12)


def test_the_tokens_of_a_step_get_their_gradients():
    layer, x = double(SelfAttention(DIM, 2, causal=True)), numbers(1, 6, DIM).requires_grad_()
    state = KVState(6)
    with torch.no_grad():
        layer(x[:, :2], state=state)
    weight = numbers(1, 4, DIM, seed=1)
    one, other = (layer(x[:, 2:], state=state) * weight).sum(), (layer(x)[:, 2:] * weight).sum()
    ours, whole = (torch.autograd.grad(loss, x)[0] for loss in (one, other))
    torch.testing.assert_close(ours[:, 2:], whole[:, 2:], rtol=1e-12, atol=1e-12)
    assert (ours[:, :2] == 0).all()  # older tokens are stored without gradients


def spans():
    return MoAAttention(DIM, 2, [SpanRule(4, 0.0), SpanRule(0, 0.5)], num_sink=2, block_size=2)


@pytest.mark.parametrize("make", [lambda: (SelfAttention(DIM, 2, causal=True), KVState(8)), None])
@pytest.mark.parametrize("sizes", [(2, 1), (1, 2)])
def test_a_state_belongs_to_its_examples(make, sizes):
    layer, state = make() if make else (spans(), None)
    state = layer.span_state(8) if state is None else state
    layer(torch.zeros(sizes[0], 2, DIM), state=state)
    with pytest.raises(ArgumentError, match=rf"x: expected examples \[{sizes[0]}\] as before, got \[{sizes[1]}"):
        layer(torch.zeros(sizes[1], 1, DIM), state=state)


@pytest.mark.parametrize("name", DECODERS)
def test_a_state_belongs_to_its_device(name):
    kind, case = DECODERS[name]
    layer = case.module(dtype=torch.float64)
    state = case.state(layer, 8)
    layer(torch.zeros(2, 2, DIM, dtype=torch.float64), state=state)
    inner = state.layers[0] if kind is StackState else state
    with pytest.raises(ArgumentError, match="x: expected tokens on cpu as before, got meta"):
        inner._fit([2], 1, torch.device("meta"))


# ---------------------------------------------------------------------- cached graphs and graphs of the caller


@pytest.mark.parametrize("make", [lambda: SelfAttention(DIM, 2), lambda: PowerAttention(DIM, 2, block_size=2), spans])
def test_graphs_made_in_inference_mode_cache_their_tiles(make):
    layer = make()
    with torch.inference_mode():
        layer(torch.zeros(1, 40, DIM))
    assert layer.graph_of(40).tiles(64) is layer.graph_of(40).tiles(64)


def test_compiles_in_one_graph_after_a_length_was_cached():
    torch._dynamo.reset()
    layer, x = double(SelfAttention(DIM, 2, causal=True, num_kv_heads=1)), numbers(2, 12, DIM)
    graph = patterns.packed([5, 7], causal=True)
    expected = layer(x), layer(x, graph)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close((compiled(x), compiled(x, graph)), expected, rtol=1e-12, atol=1e-12)


def test_a_causal_layer_needs_causal_graphs():
    layer, graph = SelfAttention(DIM, 2, causal=True), patterns.padded(5, [3, 5])
    x = torch.zeros(2, 5, DIM)
    with pytest.raises(
        ArgumentError, match=r"graph: expected a causal graph, since the layer is causal, .* patterns.causal\(n\)"
    ):
        layer(x, graph)
    layer(x, graph & patterns.causal(5))
    PowerAttention(DIM, 2, block_size=2)(x, graph)  # intersects a graph with its pattern


def test_the_intersection_with_the_pattern_is_cached_per_graph():
    layer, graph = PowerAttention(DIM, 2, block_size=2), patterns.packed([5, 7])
    assert layer.within(graph) is layer.within(graph)
    assert layer.within(graph).equal(layer.graph_of(12) & graph)
    assert PowerAttention(DIM, 2, block_size=3).within(graph).equal(patterns.power(12, 3, window=5, num_sink=3) & graph)


@pytest.mark.parametrize("kv", [4, 1])
def test_padding_may_contain_anything(kv):
    layer, x = double(MixtureOfHeadAttention(DIM, 4, shared_heads=1, top_k=2, num_kv_heads=kv)), numbers(2, 9, DIM)
    graph, there = patterns.padded(9, [4, 9]), torch.arange(9) < torch.tensor([[4], [9]])
    before, balance = layer(x, graph, mask=there), layer.aux["balance"]
    x[0, 4:] = float("nan")
    assert torch.equal(layer(x, graph, mask=there)[there], before[there])
    assert layer.aux["balance"] == balance


# ---------------------------------------------------------------------- errors

ONES = torch.ones(2, 4, 4, dtype=torch.bool)
MOH = {"shared_heads": 1, "top_k": 2}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: SelfAttention(DIM, 2, dropout=1.0), ArgumentError, "dropout: expected a probability in"),
        (lambda x: SelfAttention(6, 2, rotary=9.0), ArgumentError, "rotary: expected a positive base and an even"),
        (lambda x: SelfAttention(DIM, 2, rotary=0.0), ArgumentError, "rotary: expected a positive base"),
        (lambda x: SelfAttention(DIM, 2, head_dim=0), ArgumentError, "head_dim: expected a whole number, 1 or more"),
        (lambda x: CrossAttention(DIM, 2, context_dim=0), ArgumentError, "context_dim: expected a whole number"),
        (lambda x: SelfAttention(DIM, 2)(x, "all"), ArgumentTypeError, "graph: expected a TokenGraph, got str"),
        (lambda x: SelfAttention(DIM, 2, pattern=str)(x), ArgumentTypeError, "pattern: expected a TokenGraph, got str"),
        (lambda x: SelfAttention(DIM, 2, causal=True)(x, state={}), ArgumentTypeError, "state: expected a KVState"),
        (
            lambda x: SparseQueryAttention.variant("sqa", DIM, 4, causal=True)(x, x, state=KVState(9)),
            ArgumentTypeError, "state: expected a KVState, or None for cross-attention, got a state with a context",
        ),
        (
            lambda x: MixtureOfHeadAttention(DIM, 4, **MOH)(x, head_mask=ONES),
            ArgumentError, r"head_mask: expected shape \[2, 5, 4\], or 1 for any but the last, got shape \[2, 4, 4\]",
        ),
        (
            lambda x: MixtureOfHeadAttention(DIM, 4, **MOH)(x, mask=ONES[..., 0]),
            ArgumentError, r"mask: expected shape \[2, 5\]",
        ),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.zeros(2, 5, DIM))


# ---------------------------------------------------------------------- errors before any work


def combiner(**options):
    return CombinerAttention(DIM, 2, **options).eval()


@pytest.mark.parametrize(
    ("make", "state", "needed"),
    [
        (lambda: combiner(block_size=4), KVState(8), "CombinerState"),
        (lambda: LandmarkAttention(DIM, 2, block_size=3), KVState(8), "LandmarkState"),
        (lambda: SelfAttention(DIM, 2, causal=True), CombinerState(8), "KVState"),
    ],
)
def test_a_state_of_another_kind_is_refused(make, state, needed):
    with pytest.raises(ArgumentTypeError, match=f"state: expected a {needed}"):
        make()(torch.zeros(1, 2, DIM), state=state)


@pytest.mark.parametrize("make", [lambda: combiner(block_size=4), lambda: combiner(plan="clusters", num_clusters=2)])
def test_a_combiner_state_belongs_to_its_examples_and_layer(make):
    state = CombinerState(8)
    make()(torch.zeros(2, 2, DIM), state=state)
    with pytest.raises(ArgumentError, match=r"x: expected examples \[2\] as before"):
        make()(torch.zeros(1, 1, DIM), state=state)
    with pytest.raises(ArgumentError, match="Use one state per layer"):
        make().double()(torch.zeros(2, 1, DIM, dtype=torch.float64), state=state)
    assert len(state) == 2


def test_a_kv_state_belongs_to_its_layer():
    state = KVState(8)
    SelfAttention(DIM, 2, causal=True)(torch.zeros(2, 2, DIM), state=state)
    for other in (SelfAttention(DIM, 1, causal=True), SelfAttention(DIM, 2, causal=True).double()):
        with pytest.raises(ArgumentError, match="Use one state per layer"):
            other(torch.zeros(2, 1, DIM, dtype=other.out.weight.dtype), state=state)
    assert repr(state) == "KVState(2 of 8 tokens)"


@pytest.mark.parametrize(
    "make", [lambda: SelfAttention(DIM, 2), combiner, lambda: LandmarkAttention(DIM, 2, block_size=3)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_tokens_of_another_dtype_are_refused(make, dtype):
    with pytest.raises(ArgumentTypeError, match="x: expected torch.float32, the dtype of the weights"):
        make()(torch.zeros(1, 4, DIM, dtype=dtype))


def test_autocast_takes_half_tokens():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert SelfAttention(DIM, 2)(torch.zeros(1, 4, DIM, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("rotary", [True, 0, -1.0, "yes"])
def test_rotary_is_a_base(rotary):
    with pytest.raises((ArgumentError, ArgumentTypeError), match="rotary"):
        SelfAttention(DIM, 2, rotary=rotary)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LandmarkState(max_blocks=4, topk=9), "topk: expected at most max_blocks = 4"),
        (lambda: LandmarkState(max_blocks=4, topk=2, offload="gpu"), "offload: expected a device"),
        (lambda: insert_landmarks(torch.zeros(5), 2, 0), "ids: expected integers"),
        (lambda: SelfAttention(DIM, 2)(torch.zeros(2, 4, DIM), torch.ones(2, 4).bool()), r"graph: .* patterns.present"),
        (
            lambda: SelfAttention(DIM, 2)(torch.zeros(2, 4, DIM), patterns.full(5)),
            "graph: expected a graph of 4 x 4 tokens",
        ),
    ],
)
def test_unsupported_options_are_refused(call, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        call()
