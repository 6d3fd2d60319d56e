"""`edge_score` and `edge_softmax` against their oracles."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph import Additive, Adjacency, Dot, edge_score, edge_softmax
from hgraph.testing import assert_close, degenerate_adjacencies, softmax_oracle

STRUCTURES = degenerate_adjacencies()
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
H, D = 3, 5


def numbers(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STRUCTURES)
def test_scores_follow_their_formulas(name: str, dtype: torch.dtype) -> None:
    adj = STRUCTURES[name]
    q, k = numbers(adj.num_targets, H, D, dtype=dtype), numbers(adj.num_sources, H, D, dtype=dtype, seed=1)
    a = numbers(H, D, dtype=dtype, seed=2)
    q_edge, k_edge = q.double()[adj.target], k.double()[adj.indices]
    assert_close(edge_score(adj, q, k), (q_edge * k_edge).sum(-1), terms=D, magnitude=(q_edge * k_edge).abs().sum(-1))
    both = q_edge + k_edge
    size = q_edge.abs() + k_edge.abs()
    scalar = edge_score(adj, q[..., 0], k[..., 0], score=Additive(slope=0.3))
    # In half types the sum is rounded before the LeakyReLU is, so two roundings more than one.
    assert_close(scalar, F.leaky_relu(both[..., 0], 0.3), terms=2, magnitude=2 * size[..., 0])
    vector = edge_score(adj, q, k, score=Additive(a, slope=0.3))
    products = F.leaky_relu(both, 0.3) * a.double()
    assert_close(vector, products.sum(-1), terms=D + 2, magnitude=(size * a.double().abs()).sum(-1))
    for score in (scalar, vector):
        assert score.dtype == dtype
        assert score.shape == (adj.num_edges, H)


def test_the_default_score_is_the_unscaled_product() -> None:
    adj = STRUCTURES["odd"]
    q, k = numbers(17, H, D), numbers(13, H, D, seed=1)
    assert torch.equal(edge_score(adj, q, k), edge_score(adj, q, k, score=Dot()))
    assert torch.equal(edge_score(adj, q, k), edge_score(adj.with_weight(torch.zeros(61)), q, k))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STRUCTURES)
def test_softmax_follows_the_oracle(name: str, dtype: torch.dtype, computed_by: str) -> None:
    adj = STRUCTURES[name]
    score = 4 * numbers(adj.num_edges, H, dtype=dtype)
    score[::3, 0] = float("-inf")
    score[:, 1] = float("-inf")
    longest = int(adj.indptr.diff().max()) if adj.num_targets else 0
    finite = score.double().masked_fill(score == float("-inf"), 0.0)
    spread = 2 * float(finite.abs().max()) if score.numel() else 0.0  # score - shift is rounded
    out = edge_softmax(adj, score)
    assert out.dtype == dtype
    assert_close(out, softmax_oracle(adj, score), terms=int(longest + 2 * spread) + 4)
    single = edge_softmax(adj, score[:, 0])  # native kernels may sum one head in another order than several
    assert torch.equal(single, out[:, 0]) or (computed_by == "native" and torch.allclose(single, out[:, 0], rtol=1e-6))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_groups_are_normalized_across_targets(dtype: torch.dtype) -> None:
    adj = STRUCTURES["odd"]
    group = torch.randint(-4, 5, (61,), generator=torch.Generator().manual_seed(0))
    score = numbers(61, H, dtype=dtype)
    ids, row = group.unique(return_inverse=True)
    order = torch.argsort(row, stable=True)
    by_group = Adjacency.from_coo(target=row, source=torch.arange(61), num_targets=len(ids), num_sources=61)
    expected = torch.empty(61, H, dtype=torch.float64)
    expected[order] = softmax_oracle(by_group, score[order])
    for integers in (torch.int64, torch.int32, torch.int8):
        out = edge_softmax(adj, score, group=group.to(integers))
        assert_close(out, expected, terms=61 + 16)
    assert torch.equal(edge_softmax(adj, score, group=adj.target), edge_softmax(adj, score))


@pytest.mark.parametrize("name", STRUCTURES)
def test_groups_on_degenerate_structures(name: str) -> None:
    adj = STRUCTURES[name]
    score = numbers(adj.num_edges, H).requires_grad_()
    out = edge_softmax(adj, score, group=torch.zeros(adj.num_edges, dtype=torch.long))
    assert_close(out.detach(), score.detach().softmax(0), terms=adj.num_edges + 16)
    (grad,) = torch.autograd.grad(out.square().sum(), score)
    assert bool(grad.isfinite().all())


def test_scores_far_apart_and_far_from_zero_are_safe() -> None:
    adj = Adjacency.from_coo(target=[0, 0, 1, 1], source=[0, 1, 0, 1], num_targets=2, num_sources=2)
    score = torch.tensor([3e4, 3e4, -3e4, 3e4]).requires_grad_()
    out = edge_softmax(adj, score)
    assert out.tolist() == [0.5, 0.5, 0.0, 1.0]
    (grad,) = torch.autograd.grad(out, score, torch.tensor([1.0, 0.0, 1.0, 0.0]))
    assert grad.tolist() == [0.25, -0.25, 0.0, 0.0]


def test_memory_layout_does_not_matter() -> None:
    adj = STRUCTURES["odd"]
    score = numbers(H, 61).T
    assert torch.equal(edge_softmax(adj, score), edge_softmax(adj, score.contiguous()))
    q, k = numbers(H, D, 17).permute(2, 0, 1), numbers(D, 13, H).permute(1, 2, 0)
    for kind in (Dot(), Additive(numbers(D, H).T)):
        assert torch.equal(
            edge_score(adj, q, k, score=kind), edge_score(adj, q.contiguous(), k.contiguous(), score=kind)
        )


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_five_thousand_equal_scores_in_half_types(dtype: torch.dtype) -> None:
    adj = Adjacency.from_coo(target=[0] * 5000, source=range(5000), num_targets=1, num_sources=5000)
    out = edge_softmax(adj, torch.zeros(5000, dtype=dtype))
    assert bool((out == torch.tensor(1 / 5000).to(dtype)).all())
