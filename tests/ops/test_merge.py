"""`merge`: the softmax over the union of edge sets, empty ones included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from hgraph import Adjacency, AttendResult, attend, attention_weights, merge
from hgraph.testing import degenerate_adjacencies

STRUCTURES = degenerate_adjacencies()
H, D = 2, 3
INF = float("inf")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def split(adj: Adjacency, first: Tensor) -> list[Adjacency]:
    return [
        Adjacency.from_coo(
            target=adj.target[half],
            source=adj.indices[half],
            num_targets=adj.num_targets,
            num_sources=adj.num_sources,
            duplicates="keep",
        )
        for half in (first, ~first)
    ]


def close(a: AttendResult, b: AttendResult, tolerance: float = 1e-13) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("parts", ["all to one side", "none", "alternating", "by target"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_merge_is_the_attention_over_the_union(name: str, parts: str) -> None:
    adj = STRUCTURES[name]
    edge = torch.arange(adj.num_edges)
    first = {"all to one side": edge >= 0, "none": edge < 0, "alternating": edge % 2 == 0, "by target": adj.target < 1}
    leaves = [
        numbers(n, H, D, seed=i).requires_grad_() for i, n in enumerate([adj.num_targets, *[adj.num_sources] * 2])
    ]
    union = attend(adj, *leaves)
    merged = merge(*(attend(half, *leaves) for half in split(adj, first[parts])))
    close(merged, union)
    assert bool((merged.out[merged.lse == -INF] == 0).all())
    weights = [numbers(*t.shape, seed=7 + i) for i, t in enumerate(union)]
    grads = [torch.autograd.grad(r, leaves, weights) for r in (merged, union)]
    for g, w in zip(*grads, strict=True):
        assert bool(g.isfinite().all())
        torch.testing.assert_close(g, w, rtol=1e-11, atol=1e-12)


def results() -> tuple[AttendResult, AttendResult, AttendResult]:
    """Three sides: (finite, -inf) x (finite, -inf) in all eight combinations, one per target."""
    bits = torch.arange(8).unsqueeze(1).bitwise_right_shift(torch.arange(3)) % 2 == 1
    made = []
    for i in range(3):
        empty = bits[:, i : i + 1].expand(8, H)
        lse = (3 * numbers(8, H, seed=i)).masked_fill(empty, -INF)
        made.append(AttendResult(numbers(8, H, D, seed=10 + i).masked_fill(empty.unsqueeze(-1), 0.0), lse))
    return tuple(made)


def test_order_and_grouping_do_not_matter() -> None:
    a, b, c = results()
    close(merge(a, b), merge(b, a))
    close(merge(merge(a, b), c), merge(a, merge(b, c)))


def test_the_empty_set_is_neutral() -> None:
    a, *_ = results()
    nothing = AttendResult(torch.zeros_like(a.out), torch.full_like(a.lse, -INF))
    for merged in (merge(a, nothing), merge(nothing, a)):
        close(merged, a, 1e-15)


def test_first_and_second_derivatives_with_empty_sides() -> None:
    a, b, _ = results()
    full = [t.masked_fill(t == -INF, 0.0).requires_grad_() for t in (*a, *b)]
    empty = [a.lse == -INF, b.lse == -INF]

    def run(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> tuple[Tensor, Tensor]:
        out, lse = merge(
            AttendResult(out_a, lse_a.masked_fill(empty[0], -INF)),
            AttendResult(out_b, lse_b.masked_fill(empty[1], -INF)),
        )
        return out, lse.masked_fill(empty[0] & empty[1], 0.0)

    assert gradcheck(run, full, nondet_tol=0)
    assert gradgradcheck(run, full, nondet_tol=0)


def test_gradients_are_finite_at_minus_infinity() -> None:
    a, b, _ = results()
    leaves = [t.clone().requires_grad_() for t in (*a, *b)]
    out, lse = merge(AttendResult(*leaves[:2]), AttendResult(*leaves[2:]))
    grads = torch.autograd.grad((out, lse), leaves, [torch.ones_like(out), torch.ones_like(lse)], create_graph=True)
    assert all(bool(g.isfinite().all()) for g in grads)
    assert bool((grads[1][a.lse == -INF] == 0).all())
    second = torch.autograd.grad(sum(g.square().sum() for g in grads), leaves)
    assert all(bool(g.isfinite().all()) for g in second)


def test_probabilities_of_the_union_from_the_merged_lse() -> None:
    adj = STRUCTURES["odd"]
    q, k, v = numbers(17, H, D), numbers(13, H, D, seed=1), numbers(13, H, D, seed=2)
    halves = split(adj, torch.arange(61) % 2 == 0)
    lse = merge(*(attend(half, q, k, v) for half in halves)).lse
    total = torch.zeros(17, H, dtype=torch.float64)
    for half in halves:
        total.index_add_(0, half.target, attention_weights(half, q, k, lse))
    torch.testing.assert_close(total, (lse > -INF).double(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_results_stay_half_and_their_lse_float32(dtype: torch.dtype) -> None:
    a, b, _ = results()
    half = [AttendResult(r.out.to(dtype), r.lse.float()) for r in (a, b)]
    merged = merge(*half)
    assert (merged.out.dtype, merged.lse.dtype) == (dtype, torch.float32)
    wanted = merge(*(AttendResult(r.out.double(), r.lse.double()) for r in half))
    unit = torch.finfo(dtype).eps / 2
    bound = (unit + 16 * 2**-24) * max(float(r.out.abs().max()) for r in half)
    assert float((merged.out.double() - wanted.out).abs().max()) <= bound


def test_extreme_scores() -> None:
    out = torch.ones(1, 1, 1)
    high, low = AttendResult(out, torch.tensor([[1e4]])), AttendResult(-out, torch.tensor([[-1e4]]))
    merged = merge(high, low)
    assert (float(merged.out), float(merged.lse)) == (1.0, 1e4)
