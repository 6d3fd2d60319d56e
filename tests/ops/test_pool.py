"""`pool`: every layout against the exact edges, gradients, masks, empty regions."""

from __future__ import annotations

import pytest
import torch

from hgraph import propagate
from hgraph.errors import ArgumentError
from hgraph.ops.pool import pool
from hgraph.patterns import partitions

FAMILIES = {
    "segments": lambda n: partitions.fixed(n, 4).regions,
    "segments, both ways": lambda n: partitions.fixed(n, 4, causal=False).regions,
    "tree": lambda n: partitions.logsparse(n, causal=False).regions,
    "columns": lambda n: partitions.vertical(n, 4, causal=False).regions,
    "rows": lambda n: partitions.horizontal(n, 4, causal=False).regions,
    "others": lambda n: partitions.horizontal(n, 4).regions,
    "edges": lambda n: partitions.row_major(n, 4, causal=False).regions,
}


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def families(name, n):
    return FAMILIES[name](n)


@pytest.mark.parametrize("reduce", ["max", "mean", "sum"])
@pytest.mark.parametrize("n", [16, 19])
@pytest.mark.parametrize("name", FAMILIES)
def test_pool_is_propagation_over_the_edges(name, n, reduce):
    for regions in families(name, n):
        x = numbers(2, n, 3, 5).requires_grad_()
        expected = propagate(regions.members.adjacency(), x.flatten(-2), reduce=reduce).unflatten(-1, (3, 5))
        found = pool(regions, x, reduce=reduce)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        grad = numbers(*found.shape, seed=1)
        grads = [torch.autograd.grad(y, x, grad)[0] for y in (found, expected)]
        torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduce", ["max", "mean", "sum"])
@pytest.mark.parametrize("name", FAMILIES)
def test_masked_tokens_do_not_count(name, reduce):
    mask = torch.rand(3, 19, generator=torch.Generator().manual_seed(0)) < torch.tensor([[0.5], [0.0], [1.0]])
    for regions in families(name, 19):
        x = numbers(3, 19, 2, 2)
        found = pool(regions, torch.where(mask[..., None, None], x, float("nan")), reduce=reduce, present=mask)
        masked = regions.masked(mask)
        for b in range(3):
            edges = masked.members.adjacency(example=b)
            expected = propagate(edges, x[b].flatten(-2), reduce=reduce).unflatten(-1, (2, 2))
            torch.testing.assert_close(found[b], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients(name):
    for regions in families(name, 7):
        x = torch.randperm(7 * 4, generator=torch.Generator().manual_seed(0)).double().view(7, 2, 2).requires_grad_()
        for reduce in ("max", "mean"):
            assert torch.autograd.gradcheck(lambda x, r=regions, how=reduce: pool(r, x, reduce=how), (x,))
            assert torch.autograd.gradgradcheck(lambda x, r=regions, how=reduce: pool(r, x, reduce=how), (x,))


def test_ties_share_the_gradient():
    (segments,) = partitions.fixed(6, 3, causal=False).regions
    x = torch.ones(6, 1, 1, requires_grad=True)
    pool(segments, x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((6, 1, 1), 1 / 3))


def test_half_types_add_up_in_float32():
    (segments,) = partitions.fixed(4096, 2048, causal=False).regions
    x = torch.full((4096, 1, 1), 1.0, dtype=torch.bfloat16)
    assert pool(segments, x, reduce="sum").flatten().tolist() == [2048.0, 2048.0]


def test_wrong_arguments_are_named():
    (segments,) = partitions.fixed(6, 3).regions
    with pytest.raises(ArgumentError, match="reduce: expected 'max', 'mean' or 'sum'"):
        pool(segments, torch.zeros(6, 1, 1), reduce="min")
    with pytest.raises(ArgumentError, match=r"x: expected shape \[..., 6, H, D\]"):
        pool(segments, torch.zeros(5, 1, 1))
