"""``mask`` means the same in every layer: padding has no effect, whatever it contains, and its output is 0."""

from __future__ import annotations

import pytest
import torch

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import (
    AxialAttention,
    CombinerAttention,
    LandmarkAttention,
    MixtureOfHeadAttention,
    MoAAttention,
    PowerAttention,
    RoutingAttention,
    SelfAttention,
    SparseQueryAttention,
    record_attention,
)
from hgraph.nn.attention import CombinerState, KVState, LandmarkState, SpanRule
from tests.nn.cases import ATTENTION, BY_POSITION, DIM, SLOW_TO_COMPILE, SOFT, attention, two_sequences

N, LENGTHS = 13, (9, 13)


def combiner(**options):
    return attention(lambda: CombinerAttention(DIM, 2, bias=True, columns=4, **options))


def moa():
    return MoAAttention(DIM, 2, [SpanRule(2, 0.0), SpanRule(4, 0.0)], num_sink=1, block_size=2)


# Spans of a mixture grow with the length, padding included: here they do not.
CASES = {
    name: case
    for name, case in (ATTENTION | BY_POSITION | SOFT).items()
    if name not in ("MoAAttention", "SoftHyperedges")
} | {
    "MoAAttention": attention(moa),
    "all tokens": attention(lambda: SelfAttention(DIM, 2, rotary=10.0)),
    "sequence": attention(lambda: AxialAttention(DIM, 2, ndim=1, reduce="sum")),
    "routing by claim": attention(
        lambda: RoutingAttention(DIM, 4, num_clusters=2, cluster_size=4, local_heads=1, local_window=2, causal=False)
    ),
    "mixture by norms": attention(lambda: MixtureOfHeadAttention(DIM, 4, shared_heads=1, top_k=1, router="query_norm")),
    "combiner, row major": combiner(plan="row_major", causal=False, size_bias=True),
    "combiner, log sparse": combiner(plan="logsparse", pool="mean", size_bias=True),
    "combiner, mixture": combiner(plan="mixture"),
    "combiner, clusters": combiner(plan="clusters", num_clusters=3, size_bias=True),
}


def masked_call(name, case):
    """(layer, its padded inputs with NaN, the inputs of each example without padding, the masks)."""
    layer, (x, *rest) = case.module(dtype=torch.float64), case.inputs(N)
    lengths = torch.tensor(LENGTHS).view(2, *(1,) * (x.dim() - 2))
    mask = (torch.arange(x.shape[1]).view(-1, *(1,) * (x.dim() - 3)) < lengths).expand(x.shape[:-1])
    arguments, tensors = {"mask": mask}, [x]
    if case.inputs is two_sequences:
        tensors, arguments["context_mask"] = [x, rest[0]], torch.arange(N + 2) < torch.tensor([[N + 2], [5]])
    masks = list(arguments.values())
    padded = [torch.where(m.unsqueeze(-1), t, float("nan")) for t, m in zip(tensors, masks, strict=True)]
    sizes = [LENGTHS, (N + 2, 5)]
    unpadded = [[t[b : b + 1, : sizes[i][b]] for i, t in enumerate(tensors)] for b in (0, 1)]
    return layer, padded, unpadded, arguments


def flows(out, leaves):
    weight = torch.linspace(-1, 1, out[0].numel(), dtype=out.dtype).view(out.shape[1:])
    return torch.autograd.grad((out * weight).sum(), leaves, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("name", CASES)
def test_padding_has_no_effect(name):
    layer, padded, unpadded, arguments = masked_call(name, CASES[name])
    parameters, mask = list(layer.parameters()), arguments["mask"]
    padded = [t.requires_grad_() for t in padded]
    out = layer(*padded, **arguments)
    assert not out[~mask].any()
    found = flows(out, [*parameters, *padded])
    expected = [torch.zeros_like(p) for p in parameters]
    for b, inputs in enumerate(unpadded):
        inputs = [t.detach().requires_grad_() for t in inputs]
        one = layer(*inputs) if name not in SOFT else layer(*inputs, torch.ones(inputs[0].shape[:-1]).bool())
        torch.testing.assert_close(out[b : b + 1, : one.shape[1]], one, rtol=1e-11, atol=1e-11)
        full = torch.zeros_like(out[:1]).index_copy(1, torch.arange(one.shape[1]), one)
        own = flows(full, [*parameters, *inputs])
        expected = [a + c for a, c in zip(expected, own, strict=False)]
        for flow, of_alone in zip(found[len(parameters) :], own[len(parameters) :], strict=True):
            count = of_alone.shape[1]
            torch.testing.assert_close(flow[b : b + 1, :count], of_alone, rtol=1e-10, atol=1e-10)
            assert not flow[b, count:].any()
    torch.testing.assert_close(list(found[: len(parameters)]), expected, rtol=1e-10, atol=1e-10)


# Clusters of content have sizes that depend on data, so that plan does not compile, masked or not.
def is_slow(name):
    return name in {*SLOW_TO_COMPILE, "AxialAttention"} or name not in (ATTENTION | SOFT)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * is_slow(name)) for name in CASES if "clusters" not in name]
)
def test_masked_layers_compile_as_one_graph(name):
    torch._dynamo.reset()
    layer, padded, _, arguments = masked_call(name, CASES[name])
    expected = layer(*padded, **arguments)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*padded, **arguments), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CASES
        # PositionalAttention has one weight matrix for all examples, `weights`, and no records
        if name not in (*SOFT, "PositionalAttention") and "clusters" not in name and "row major" not in name
    ],
)
def test_records_give_padding_no_weight(name):
    layer, padded, _, arguments = masked_call(name, CASES[name])
    with record_attention(layer) as records:
        layer(*padded, **arguments)
    last = list(records.values())[-1][-1]
    sources = arguments.get("context_mask", arguments["mask"])[0].flatten()
    adj, weight = last.weights(example=0, head=0)
    if adj.num_sources == len(sources):
        assert not weight[~sources[adj.indices.long()]].any()
    assert weight.isfinite().all()


def test_one_mask_for_all_examples():
    layer, x = SelfAttention(DIM, 2), torch.randn(2, 3, 5, DIM)
    mask = torch.arange(5) < 3
    assert torch.equal(layer(x, mask=mask), layer(x, mask=mask.expand(2, 3, 5)))


@pytest.mark.parametrize("name", CASES)
def test_masks_that_do_not_fit_are_refused(name):
    layer, padded, _, arguments = masked_call(name, CASES[name])
    with pytest.raises(ArgumentError, match="mask: expected shape"):
        layer(*padded, **arguments | {"mask": arguments["mask"][:, :-1]})
    with pytest.raises(ArgumentTypeError, match="mask: expected"):
        layer(*padded, **arguments | {"mask": arguments["mask"].double()})


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (lambda: SelfAttention(DIM, 2, causal=True), lambda layer: KVState(9)),
        (lambda: PowerAttention(DIM, 2), lambda layer: KVState(9)),
        (lambda: SparseQueryAttention.variant("sqa", DIM, 4, causal=True), lambda layer: KVState(9)),
        (moa, lambda layer: layer.span_state(9)),
        (lambda: LandmarkAttention(DIM, 2), lambda layer: LandmarkState(2, 2)),
        (lambda: CombinerAttention(DIM, 2), lambda layer: CombinerState(9)),
        (lambda: RoutingAttention(DIM, 2, num_clusters=2, cluster_size=2), lambda layer: KVState(9)),
    ],
)
def test_no_mask_with_a_state(make, state):
    layer = make()
    with pytest.raises(ArgumentError, match="mask|state"):
        layer(torch.zeros(2, 3, DIM), state=state(layer), mask=torch.ones(2, 3).bool())
