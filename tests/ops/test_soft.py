"""The verbs over a `SoftAdjacency` are those over the complete `Adjacency` without its masked edges."""

from __future__ import annotations

import pytest
import torch

from hgraph import Additive, Adjacency, Dot, SoftAdjacency, attend, edge_score, edge_softmax, propagate
from hgraph.errors import ArgumentError

T, S, H, D = 5, 4, 2, 3


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


MASK = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 0], [1, 0, 1, 0]], dtype=torch.bool)


def both(mask):
    """The soft structure and the sparse one of the same edges."""
    soft = SoftAdjacency.from_weight(numbers(T, S), mask=mask)
    target, source = (torch.ones(T, S) if mask is None else mask.expand(T, S)).nonzero().T
    weight = soft.weight[target, source]
    return soft, Adjacency.from_coo(target=target, source=source, weight=weight, num_targets=T, num_sources=S)


def dense(adj, values):
    """Values of edges [E, ...] as a dense tensor [T, S, ...], 0 elsewhere."""
    out = values.new_zeros(T, S, *values.shape[1:])
    out[adj.target.long(), adj.indices.long()] = values
    return out


masks = pytest.mark.parametrize("mask", [None, MASK, MASK[2:3], MASK[:1]], ids=["all", "edges", "none off", "padding"])
scores = pytest.mark.parametrize("score", [Dot(), Additive(), Additive(numbers(H, D, seed=9), slope=0.1)], ids=str)


def ends(score):
    tail = (H,) if isinstance(score, Additive) and score.a is None else (H, D)
    return numbers(T, *tail, seed=1), numbers(S, *tail, seed=2)


@masks
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_propagate(mask, reduce):
    soft, adj = both(mask)
    x = numbers(S, D, seed=3)
    torch.testing.assert_close(propagate(soft, x, reduce=reduce), propagate(adj, x, reduce=reduce))


@masks
def test_softmax(mask):
    soft, adj = both(mask)
    score = numbers(T, S, seed=4)
    score[2, :3] = float("-inf")
    expected = dense(adj, edge_softmax(adj, score[adj.target.long(), adj.indices.long()]))
    torch.testing.assert_close(edge_softmax(soft, score), expected)


@scores
def test_score(score):
    soft, adj = both(None)
    q, k = ends(score)
    torch.testing.assert_close(edge_score(soft, q, k, score=score), dense(adj, edge_score(adj, q, k, score=score)))


@masks
@scores
@pytest.mark.parametrize("biased", [False, True])
def test_attend(mask, score, biased):
    soft, adj = both(mask)
    q, k = ends(score)
    v, bias = numbers(S, H, D, seed=5), numbers(T, S, H, seed=6) if biased else None
    flat = None if bias is None else bias[adj.target.long(), adj.indices.long()]
    own = attend(soft, q, k, v, score=score, bias=bias, scale=0.7)
    other = attend(adj, q, k, v, score=score, bias=flat, scale=0.7)
    torch.testing.assert_close(own.out, other.out)
    torch.testing.assert_close(own.lse, other.lse)


def test_batches_grouped_heads_and_masks_a_sample():
    mask = torch.stack([MASK, ~MASK])
    soft = SoftAdjacency.from_weight(numbers(2, T, S), mask=mask)
    q, k, v = numbers(2, T, 4, D, seed=1), numbers(2, S, 2, D, seed=2), numbers(2, S, 2, D, seed=3)
    out, lse = attend(soft, q, k, v)
    assert (out.shape, lse.shape) == ((2, T, 4, D), (2, T, 4))
    for b in range(2):
        single = attend(SoftAdjacency.from_weight(soft.weight[b], mask=mask[b]), q[b], k[b], v[b])
        torch.testing.assert_close(out[b], single.out)
        torch.testing.assert_close(lse[b], single.lse)
    head_mask = torch.tensor([True, False, True, True])
    some = attend(soft, q, k, v, head_mask=head_mask[None])
    assert not some.out[:, :, 1].any()
    assert torch.equal(some.out[:, :, 0], out[:, :, 0])
    dropped = attend(soft, q, k, v, dropout=0.5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dropped.lse, lse)
    assert not torch.equal(dropped.out, out)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_no_targets_or_no_sources(shape):
    soft = SoftAdjacency.from_weight(numbers(*shape))
    t, s = shape
    assert edge_softmax(soft, numbers(*shape)).shape == shape
    out, lse = attend(soft, numbers(t, H, D), numbers(s, H, D), numbers(s, H, D))
    assert not out.any()
    assert (out.shape, lse.shape) == ((t, H, D), (t, H))
    assert s or bool((lse == float("-inf")).all())


@scores
def test_gradients_of_first_and_second_order(score):
    soft = SoftAdjacency.from_weight(numbers(T, S), mask=MASK)  # row 1 has no edges
    q, k = ends(score)
    v = numbers(S, H, D, seed=5)
    inputs = tuple(t.requires_grad_() for t in (q, k, v))

    def out_and_finite_lse(q, k, v):
        out, lse = attend(soft, q, k, v, score=score)
        return out, lse[[0, 2, 3, 4]]

    assert torch.autograd.gradcheck(out_and_finite_lse, inputs)
    assert torch.autograd.gradgradcheck(out_and_finite_lse, inputs)
    grads = torch.autograd.grad(attend(soft, q, k, v, score=score).lse.clamp(min=-9).sum(), (q, k))
    assert all(g.isfinite().all() for g in grads)


def test_softmax_gradients():
    soft, score = SoftAdjacency.from_weight(numbers(T, S), mask=MASK), numbers(T, S, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: edge_softmax(soft, s), (score,))
    assert torch.autograd.gradgradcheck(lambda s: edge_softmax(soft, s), (score,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_scores_are_normalized_in_float32(dtype):
    """Ten thousand equal sources: sums in half would stop growing at 2,048 or 256."""
    soft = SoftAdjacency.from_weight(torch.zeros(1, 10_000))
    probability = edge_softmax(soft, torch.zeros(1, 10_000, dtype=dtype))
    assert probability.dtype == dtype
    assert abs(float(probability[0, 0]) - 1e-4) < 1e-6
    q, v = torch.zeros(1, 1, 4, dtype=dtype), torch.ones(10_000, 1, 4, dtype=dtype)
    out, lse = attend(soft, q, torch.zeros(10_000, 1, 4, dtype=dtype), v)
    assert out.dtype == dtype
    assert lse.dtype == torch.float32
    torch.testing.assert_close(out, torch.ones_like(out))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: edge_softmax(s, numbers(T, S), group=torch.zeros(1).long()), "group: expected None with a Soft"),
        (lambda s: edge_softmax(s, numbers(S, T)), r"score: expected shape \[..., 5, 4\], got shape \[4, 5\]"),
        (
            lambda s: attend(s, *(numbers(n, H, D) for n in (T, S, S)), bias=numbers(T, S, 3)),
            "bias: expected 1 or 2 heads, the last dimension, got 3",
        ),
        (lambda s: attend(s, *(numbers(n, H, D) for n in (S, S, S))), r"q: expected shape \[5, 2, 3\], got shape"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(SoftAdjacency.from_weight(numbers(T, S)))


def test_compiles_with_and_without_a_mask():
    def run(soft, score, x):
        return propagate(SoftAdjacency(edge_softmax(soft, score), soft.mask), x)

    for mask in (None, MASK):
        soft = SoftAdjacency.from_weight(numbers(T, S), mask=mask)
        compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
        args = (soft, numbers(T, S, seed=1), numbers(S, D, seed=2))
        torch.testing.assert_close(compiled(*args), run(*args))
