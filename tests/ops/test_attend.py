"""`attend` and `attention_weights` against the oracle."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from hgraph import Additive, Adjacency, Dot, attend, attention_weights, patterns, propagate
from hgraph.ops.random import draw_seed
from hgraph.ops.random import dropout_mask as mask
from hgraph.testing import assert_close, attend_oracle, degenerate_adjacencies

STRUCTURES = degenerate_adjacencies()
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SCORES = ["dot", "additive", "vector"]
H, D, V = 4, 6, 3
INF = float("inf")


def numbers(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inputs(
    adj: Adjacency, kind: str, dtype: torch.dtype = torch.float64, kv_heads: int = H, batch: tuple[int, ...] = ()
) -> tuple[tuple[Tensor, Tensor, Tensor], Dot | Additive]:
    own = () if kind == "additive" else (D,)
    q = numbers(*batch, adj.num_targets, H, *own, dtype=dtype)
    k = numbers(*batch, adj.num_sources, kv_heads, *own, dtype=dtype, seed=1)
    v = numbers(*batch, adj.num_sources, kv_heads, V, dtype=dtype, seed=2)
    score = {"dot": Dot(), "additive": Additive(slope=0.3), "vector": Additive(numbers(H, D, dtype=dtype, seed=3))}
    return (q, k, v), score[kind]


def check(adj: Adjacency, qkv: tuple[Tensor, Tensor, Tensor], score: Dot | Additive, **options: object) -> None:
    """Check outputs and lse within the rounding errors of scores, exponentials and sums."""
    q, k, v = qkv
    result = attend(adj, q, k, v, score=score, **options)
    out, lse = attend_oracle(adj, q, k, v, score=score, **options)
    longest = int(adj.indptr.diff().max()) if adj.num_targets else 0
    width = q.shape[-1] if q.dim() == 3 else 2
    largest = _largest_score(q, k, score, **options)
    # A score is a sum of `width` products, off by (width + 4) u s; its exponential is off by as much, relatively.
    terms = math.ceil(longest + 2 * (width + 4) * largest) + 8
    assert result.out.dtype == v.dtype
    assert result.lse.dtype == (v.dtype if v.dtype == torch.float64 else torch.float32)
    assert_close(result.out, out, terms=terms, magnitude=float(v.double().abs().max()) if v.numel() else 0.0)
    assert_close(result.lse, lse, terms=terms, magnitude=1 + lse.abs().nan_to_num(posinf=0.0))


def _largest_score(
    q: Tensor, k: Tensor, score: Dot | Additive, bias: Tensor | None = None, scale: float | None = None
) -> float:
    if q.numel() == 0 or k.numel() == 0:
        return 0.0
    most_q, most_k = float(q.double().abs().max()), float(k.double().abs().max())
    if isinstance(score, Dot):
        size = most_q * most_k * q.shape[-1] * (q.shape[-1] ** -0.5 if scale is None else abs(scale))
    else:
        vector = 1.0 if score.a is None else float(score.a.double().abs().sum(-1).max())
        size = (most_q + most_k) * vector * (1.0 if scale is None else abs(scale))
    if bias is not None and bias.numel():
        size += float(bias.double().masked_fill(bias == -INF, 0.0).abs().max())
    return size


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_score_follows_the_oracle(name: str, dtype: torch.dtype, kind: str) -> None:
    adj = STRUCTURES[name]
    check(adj, *inputs(adj, kind, dtype, kv_heads=2))


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_heads(kv_heads: int, kind: str) -> None:
    adj = STRUCTURES["odd"]
    (q, k, v), score = inputs(adj, kind, kv_heads=kv_heads)
    check(adj, (q, k, v), score)
    wide = [t.repeat_interleave(H // kv_heads, dim=1) for t in (k, v)]
    assert torch.equal(attend(adj, q, k, v, score=score).out, attend(adj, q, *wide, score=score).out)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("scale", [None, 0.0, 0.7, -1.5])
def test_scale(scale: float | None, kind: str) -> None:
    adj = STRUCTURES["odd"]
    check(adj, *inputs(adj, kind), scale=scale)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("heads", [0, H])
@pytest.mark.parametrize("name", ["odd", "empty_rows", "hub", "no_edges", "duplicates"])
def test_bias_with_masked_edges_and_masked_targets(name: str, heads: int, kind: str) -> None:
    adj = STRUCTURES[name]
    bias = numbers(adj.num_edges, *([heads] if heads else []), seed=4)
    bias[::4] = -INF
    bias[adj.target == 1] = -INF
    for dtype in (torch.float32, torch.float64):
        check(adj, *inputs(adj, kind, dtype), bias=bias.to(dtype), scale=0.5)


@pytest.mark.parametrize("kind", SCORES)
def test_a_masked_edge_equals_a_missing_edge(kind: str) -> None:
    adj = STRUCTURES["odd"]
    (q, k, v), score = inputs(adj, kind)
    keep = torch.arange(61) % 3 != 0
    keep[adj.target == 2] = False
    less = Adjacency.from_coo(
        target=adj.target[keep], source=adj.indices[keep], num_targets=17, num_sources=13, duplicates="keep"
    )
    bias = torch.zeros(61, dtype=torch.float64).masked_fill(~keep, -INF)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    results = [attend(adj, q, k, v, score=score, bias=bias), attend(less, q, k, v, score=score)]
    grads = [torch.autograd.grad(r.out.square().sum() + r.lse.exp().square().sum(), leaves) for r in results]
    for a, b in zip((*results[0], *grads[0]), (*results[1], *grads[1]), strict=True):
        assert bool(a.isfinite().all()) or a is results[0].lse
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_batches_are_one_example_after_the_other(kv_heads: int, kind: str) -> None:
    adj = STRUCTURES["odd"]
    (q, k, v), score = inputs(adj, kind, kv_heads=kv_heads, batch=(2, 3))
    bias = numbers(61, H, seed=5)
    mask = numbers(2, 1, 17, H, seed=6) > -1
    result = attend(adj, q, k, v, score=score, bias=bias, head_mask=mask)
    for i, j in itertools.product(range(2), range(3)):
        own = attend(adj, q[i, j], k[i, j], v[i, j], score=score, bias=bias, head_mask=mask[i, 0])
        torch.testing.assert_close(result.out[i, j], own.out, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(result.lse[i, j], own.lse, rtol=1e-13, atol=1e-13)
    none = attend(adj, q[:0], k[:0], v[:0], score=score, bias=bias)
    assert (none.out.shape, none.lse.shape) == ((0, 3, 17, H, V), (0, 3, 17, H))


@pytest.mark.parametrize("kind", SCORES)
def test_memory_layout_does_not_matter(kind: str) -> None:
    adj = STRUCTURES["odd"]
    qkv, score = inputs(adj, kind, batch=(2,))
    turned = [t.transpose(0, 1).contiguous().transpose(0, 1) for t in qkv]
    bias = numbers(H, 61).T
    assert not any(t.is_contiguous() for t in (*turned, bias))
    packed = [t.contiguous().requires_grad_() for t in turned]
    loose = [t.requires_grad_() for t in turned]
    results = [attend(adj, *t, score=score, bias=b) for t, b in ((packed, bias.contiguous()), (loose, bias))]
    grads = [
        torch.autograd.grad((r.out, r.lse), t, [torch.ones_like(r.out), torch.ones_like(r.lse)])
        for r, t in zip(results, (packed, loose), strict=True)
    ]
    for a, b in zip((*results[0], *grads[0]), (*results[1], *grads[1]), strict=True):
        assert torch.equal(a, b)


def test_the_structures_weights_are_not_read() -> None:
    adj = STRUCTURES["odd"]
    (q, k, v), score = inputs(adj, "dot")
    assert torch.equal(attend(adj, q, k, v).out, attend(adj.with_weight(torch.zeros(61)), q, k, v, score=score).out)


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_half_values_that_only_their_sum_would_overflow(dtype: torch.dtype) -> None:
    adj = Adjacency.from_coo(target=[0] * 5000, source=range(5000), num_targets=1, num_sources=5000)
    q, k = torch.zeros(1, 1, 2, dtype=dtype), torch.zeros(5000, 1, 2, dtype=dtype)
    v = torch.full((5000, 1, 2), 100.0, dtype=dtype).requires_grad_()
    out, lse = attend(adj, q, k, v)
    assert bool((out == 100).all())
    assert_close(lse, torch.tensor([[math.log(5000)]], dtype=torch.float64), terms=5000, magnitude=10.0)
    (grad,) = torch.autograd.grad(out.sum(), v)
    assert bool((grad == torch.tensor(1 / 5000).to(dtype)).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", SCORES)
def test_half_gradients_are_those_of_the_rounded_inputs(kind: str, dtype: torch.dtype) -> None:
    adj = STRUCTURES["odd"]
    qkv, score = inputs(adj, kind, dtype)
    half = [t.requires_grad_() for t in qkv]
    exact = [t.detach().double().requires_grad_() for t in half]
    precise = Additive(score.a.double(), score.slope) if kind == "vector" else score
    grad = numbers(17, H, V, dtype=dtype, seed=7)
    got = torch.autograd.grad(attend(adj, *half, score=score).out, half, grad)
    wanted = torch.autograd.grad(attend(adj, *exact, score=precise).out, exact, grad.double())
    for g, w in zip(got, wanted, strict=True):
        # `out`, rounded to half, is read by the backward: an error of u, times its weight.
        unit = torch.finfo(dtype).eps / 2
        assert float((g.double() - w).abs().max()) <= 8 * unit * float(w.abs().max())


# ---------------------------------------------------------------------- head masks, dropout


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("rows", [1, 17])
def test_head_mask(rows: int, kind: str) -> None:
    adj = STRUCTURES["odd"]
    (q, k, v), score = inputs(adj, kind)
    mask = torch.rand(rows, H, generator=torch.Generator().manual_seed(0)) > 0.5
    leaves = [t.requires_grad_() for t in (q, k, v)]
    masked, plain = attend(adj, q, k, v, score=score, head_mask=mask), attend(adj, q, k, v, score=score)
    on = mask.expand(17, H)
    assert torch.equal(masked.out[on], plain.out[on])
    assert torch.equal(masked.lse[on], plain.lse[on])
    assert bool((masked.out[~on] == 0).all())
    assert bool((masked.lse[~on] == -INF).all())
    grads = torch.autograd.grad(masked.out.square().sum(), leaves)
    wanted = torch.autograd.grad((plain.out * on.unsqueeze(-1)).square().sum(), leaves)
    for g, w in zip(grads, wanted, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-13, atol=1e-13)
    weights = attention_weights(adj, q, k, masked.lse, score=score)
    assert bool((weights[~on[adj.target]] == 0).all())
    assert bool((weights[on[adj.target]] > 0).all())


def test_dropout_keeps_the_expectation_and_its_rate() -> None:
    targets, sources, p = 400, 50, 0.3
    adj = Adjacency.from_coo(target=torch.arange(targets).repeat_interleave(sources),
                             source=torch.arange(sources).repeat(targets),
                             num_targets=targets, num_sources=sources)  # fmt: skip
    q, k = torch.zeros(targets, 1, 1), torch.zeros(sources, 1, 1)
    v = torch.eye(sources).unsqueeze(1)  # so that `out` is the attention probability of each edge
    out, lse = attend(adj, q, k, v, dropout=p, generator=torch.Generator().manual_seed(0))
    kept = out[:, 0] != 0
    draws = targets * sources
    assert abs(float(kept.float().mean()) - (1 - p)) < 5 * math.sqrt(p * (1 - p) / draws)
    torch.testing.assert_close(out[:, 0][kept], torch.full((int(kept.sum()),), 1 / sources / (1 - p)))
    assert torch.equal(lse, attend(adj, q, k, v).lse)


def test_dropout_is_reproducible_from_its_generator() -> None:
    adj = STRUCTURES["odd"]
    (q, k, v), _ = inputs(adj, "dot", batch=(2,))
    outs = [attend(adj, q, k, v, dropout=0.5, generator=torch.Generator().manual_seed(s)).out for s in (0, 0, 1)]
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
    assert not torch.equal(outs[0][0] == 0, outs[0][1] == 0)  # examples have different masks
    torch.manual_seed(3)
    one = attend(adj, q, k, v, dropout=0.5).out
    torch.manual_seed(3)
    assert torch.equal(one, attend(adj, q, k, v, dropout=0.5).out)
    assert torch.equal(attend(adj, q, k, v, dropout=0.0).out, attend(adj, q, k, v).out)


@pytest.mark.parametrize("kind", SCORES)
def test_the_gradient_of_dropout_is_that_of_the_mask_drawn(kind: str) -> None:
    adj = STRUCTURES["odd"]
    (q, k, v), score = inputs(adj, kind)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    dropped = attend(adj, q, k, v, score=score, dropout=0.4, generator=torch.Generator().manual_seed(0))
    seed = draw_seed(torch.Generator().manual_seed(0), adj.device)
    probability = attention_weights(adj, q, k, attend(adj, q, k, v, score=score).lse, score=score)
    kept = probability * mask(seed, probability, 0.4)
    by_hand = propagate(adj, v.flatten(1), weight=kept).unflatten(1, (H, V))
    torch.testing.assert_close(dropped.out, by_hand, rtol=1e-13, atol=1e-13)
    weight = numbers(17, H, V, seed=8)
    for g, w in zip(
        torch.autograd.grad(dropped.out, leaves, weight), torch.autograd.grad(by_hand, leaves, weight), strict=True
    ):
        torch.testing.assert_close(g, w, rtol=1e-11, atol=1e-12)


# ---------------------------------------------------------------------- attention_weights


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STRUCTURES)
def test_attention_weights_are_the_probabilities_of_attend(name: str, dtype: torch.dtype, kind: str) -> None:
    adj = STRUCTURES[name]
    (q, k, _), score = inputs(adj, kind, dtype, kv_heads=2)
    bias = numbers(adj.num_edges, H, dtype=dtype, seed=4)
    bias[::5] = -INF
    # With one-hot values the output is the probabilities, summed over parallel edges.
    v = torch.eye(adj.num_sources, dtype=dtype).unsqueeze(1).expand(-1, 2, -1)
    out, lse = attend(adj, q, k, v, score=score, bias=bias, scale=0.4)
    probability = attention_weights(adj, q, k, lse, score=score, bias=bias, scale=0.4)
    assert probability.shape == (adj.num_edges, H)
    dense = torch.zeros(adj.num_targets, H, adj.num_sources, dtype=torch.float64)
    for e, (t, s) in enumerate(zip(adj.target.tolist(), adj.indices.tolist(), strict=True)):
        dense[t, :, s] += probability[e].double()
    assert_close(out, dense, terms=300)
    total = dense.sum(-1)
    torch.testing.assert_close(total, (lse > -INF).double(), rtol=0, atol=2e-5 if dtype != torch.float64 else 1e-13)


# ---------------------------------------------------------------------- one token that is not finite

WINDOW = patterns.sliding_window(37, 5)
SEEN, TILES = WINDOW.adjacency(), WINDOW.tiles(8)


def over_edges(q, k, v):
    return attend(SEEN, q, k, v).out


def over_tiles(q, k, v):
    return attend(TILES, q, k, v).out


@pytest.mark.parametrize(
    ("place", "value", "compiled"),
    [*itertools.product("qkv", [float("nan"), INF], [False]), ("k", float("nan"), True), ("v", INF, True)],
)
@pytest.mark.parametrize("call", [over_edges, over_tiles])
def test_a_token_that_is_not_finite_reaches_its_edges_or_its_tiles_and_no_further(call, place, value, compiled):
    tensors = {name: numbers(2, 37, 2, 4, dtype=torch.float32, seed=i) for i, name in enumerate("qkv")}
    tensors[place][0, 18, 1] = value
    run = torch.compile(call, backend="aot_eager", fullgraph=True) if compiled else call
    bad = ~run(*tensors.values()).isfinite().all(-1)
    assert not bad[1].any()
    assert not bad[0, :, 0].any()  # other examples and heads
    found = set(bad[0, :, 1].nonzero().flatten().tolist())
    expected = {18} if place == "q" else set(SEEN.target[SEEN.indices == 18].tolist())
    tiles = set(SEEN.target[SEEN.indices // 8 == 18 // 8].div(8, rounding_mode="floor").tolist())
    shares = place != "q" and call is over_tiles
    within = {t for t in range(37) if t // 8 in tiles} if shares else expected
    assert expected <= found <= within
    assert len(found) < 37
