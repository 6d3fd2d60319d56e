"""Edge scores and edge softmax on the Triton backend against the oracles, and their gradients against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hgraph import Additive, Adjacency, Dot, backend, edge_score, edge_softmax
from hgraph.kernels import split
from hgraph.testing import assert_close, degenerate_adjacencies, pairwise, softmax_oracle

STRUCTURES = degenerate_adjacencies()
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
INF = float("inf")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unit(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2


@pytest.mark.parametrize(
    ("name", "dtype", "heads", "masked", "cut"),
    pairwise(name=list(STRUCTURES), dtype=DTYPES, heads=[1, 3, 8, 70], masked=[False, True], cut=[True, False]),
)
def test_softmax(
    name: str, dtype: torch.dtype, heads: int, masked: bool, cut: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cut:
        monkeypatch.setattr(split, "LONGEST", 8)
    adj = STRUCTURES[name]
    score = (draw(adj.num_edges, heads) * 4).to(dtype)
    if masked:
        score[::3] = -INF
        score[adj.target == 0] = -INF
    leaf = score.to(device).requires_grad_()
    probability = edge_softmax(adj.to(device), leaf)
    # The argument of an exponential has the rounding error of a difference of at most 2^5; then the exponential rounds.
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    oracle = softmax_oracle(adj, score)
    bound = oracle * ((adj.num_edges + 4 + 2**6) * unit(wide) + 2 * unit(dtype)) + torch.finfo(dtype).smallest_normal
    assert ((probability.detach().cpu().double() - oracle).abs() <= bound).all()
    assert torch.equal(probability, edge_softmax(adj.to(device), leaf))

    grad = draw(adj.num_edges, heads, seed=1).to(dtype)
    (got,) = torch.autograd.grad(probability, leaf, grad.to(device))
    inner = torch.zeros(adj.num_targets, heads, dtype=torch.float64).index_add_(0, adj.target, oracle * grad)
    want = oracle * (grad - inner[adj.target])
    size = torch.zeros_like(inner).index_add_(0, adj.target, oracle * grad.abs().double())
    bound = 4 * unit(dtype) * oracle * (grad.abs() + 2 * size[adj.target])  # four roundings to the dtype on the way
    slack = (adj.num_edges + 70) * unit(wide) * oracle * (grad.abs() + 2 * size[adj.target])
    assert ((got.cpu().double() - want).abs() <= bound + slack + torch.finfo(dtype).smallest_normal).all()


def test_softmax_over_groups(device: str, short_stretches: None) -> None:
    adj = STRUCTURES["odd"]
    score, group = draw(adj.num_edges, 2), adj.indices % 3
    probability = edge_softmax(adj.to(device), score.to(device), group=group.to(device)).cpu()
    for g in range(3):
        torch.testing.assert_close(probability[group == g], torch.softmax(score[group == g], 0))


@pytest.mark.parametrize("score", [80.0, 3e4, -3e4])
def test_softmax_of_large_scores(score: float, device: str, short_stretches: None) -> None:
    adj = Adjacency.from_coo(target=[0] * 20, source=range(20), num_targets=2, num_sources=20).to(device)
    probability = edge_softmax(adj, torch.full((20,), score, device=device))
    assert (probability == 1 / 20).all()


@pytest.mark.parametrize(
    ("name", "dtype", "kind", "width", "cut"),
    pairwise(
        name=list(STRUCTURES), dtype=DTYPES, kind=["dot", "additive", "vector"], width=[1, 5, 16, 40], cut=[True, False]
    ),
)
def test_scores(
    name: str, dtype: torch.dtype, kind: str, width: int, cut: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cut:
        monkeypatch.setattr(split, "LONGEST", 8)
    if kind == "additive" and width > 5:
        width = 5  # the scalar score has no width
    adj, heads = STRUCTURES[name], 3
    own = () if kind == "additive" else (width,)
    leaves = [draw(adj.num_targets, heads, *own).to(dtype), draw(adj.num_sources, heads, *own, seed=1).to(dtype)]
    if kind == "vector":
        leaves.append(draw(heads, width, seed=2).to(dtype))
    grad = draw(adj.num_edges, heads, seed=3).to(dtype)

    def run(adj: Adjacency, grad: Tensor, *leaves: Tensor) -> list[Tensor]:
        leaves = tuple(t.detach().requires_grad_() for t in leaves)
        how = Dot() if kind == "dot" else Additive(*leaves[2:])
        out = edge_score(adj, leaves[0], leaves[1], score=how)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad)]

    got = run(adj.to(device), *(t.to(device) for t in (grad, *leaves)))
    with backend("torch"):
        want = run(adj, *(t.double() for t in (grad, *leaves)))
        # every result is a sum of products of these
        most = run(adj, *(t.double().abs() for t in (grad, *leaves)))
    for i, (a, b, size) in enumerate(zip(got, want, most, strict=True)):
        terms = width if i == 0 else adj.num_edges
        rounded = 2 if kind == "additive" else 1  # q, k and their sum are rounded on the way
        assert_close(a.cpu(), b, terms=rounded * (terms + 4), magnitude=rounded * size)
