"""Squared distances of all pairs of rows, by loops."""

from __future__ import annotations

import pytest
import torch

from hgraph.nn.distances import squared_distances


def rows(n, shift, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, 5, generator=generator, dtype=torch.float64) + shift).to(dtype)


@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [(torch.float64, 1e-10), (torch.float32, 6e-8), (torch.bfloat16, 4e-3), (torch.float16, 5e-4)],
)
@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("sizes", [(4, 6), (0, 6), (4, 0)])
def test_squared_distances_parity(sizes, shift, dtype, rounding):
    """The error is only the rounding of the result, not of the sums."""
    a, b = (rows(n, shift, seed, dtype).requires_grad_() for seed, n in enumerate(sizes))
    found = squared_distances(a, b)
    exact = [[sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) for q in b.tolist()] for p in a.tolist()]
    exact = torch.tensor(exact, dtype=torch.float64).view(sizes)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=rounding, atol=rounding)
    found.sum().backward()
    grad = 2 * (sizes[1] * a.detach().double() - b.detach().double().sum(0))
    torch.testing.assert_close(a.grad.double(), grad, rtol=2 * rounding, atol=2 * rounding)
    assert b.grad.isfinite().all()


def test_derivatives():
    a, b = (rows(3, 10.0, seed, torch.float64).requires_grad_() for seed in range(2))
    assert torch.autograd.gradcheck(squared_distances, (a, b))
    assert torch.autograd.gradgradcheck(squared_distances, (a, b))
    assert (squared_distances(a, a).diagonal().abs() < 1e-13).all()
