"""`propagate` against its oracle: every reduction, kind of weight, dtype and degenerate structure."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from hgraph import Adjacency, SoftAdjacency, propagate
from hgraph.ops import scatter
from hgraph.testing import assert_close, degenerate_adjacencies, propagate_oracle, random_adjacency

STRUCTURES = degenerate_adjacencies()
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
HALF = DTYPES[:2]
REDUCTIONS = ["sum", "mean", "max", "min"]
WEIGHTS = ["none", "own", "edge", "heads"]


def longest(adj: Adjacency) -> int:
    return int(adj.indptr.diff().max()) if adj.num_targets else 0


def numbers(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def weighted(adj: Adjacency, kind: str, dtype: torch.dtype) -> tuple[Adjacency, Tensor | None, Tensor | None]:
    """The structure, the argument `weight` and the weights that should count."""
    if kind == "none":
        return adj, None, None
    weight = numbers(adj.num_edges, *([3] if kind == "heads" else []), dtype=dtype, seed=1)
    if kind == "own":
        return adj.with_weight(weight.double()), None, weight
    decoy = torch.full((adj.num_edges,), 7.0)  # an argument replaces the structure's own weights
    return adj.with_weight(decoy), weight, weight


def magnitude(adj: Adjacency, x: Tensor, weight: Tensor | None, reduce: str) -> Tensor:
    if adj.num_edges == 0:
        return torch.tensor(0.0)
    reduce = reduce if reduce in ("sum", "mean") else "max"
    return propagate_oracle(adj.with_weight(None), x.abs(), None if weight is None else weight.abs(), reduce)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_reduction_and_weight_follows_the_oracle(name: str, dtype: torch.dtype) -> None:
    adj = STRUCTURES[name]
    x = numbers(adj.num_sources, 6, dtype=dtype)
    for reduce, kind in itertools.product(REDUCTIONS, WEIGHTS):
        structure, argument, weight = weighted(adj, kind, dtype)
        out = propagate(structure, x, weight=argument, reduce=reduce)
        assert out.dtype == dtype
        expected = propagate_oracle(adj, x, weight, reduce)
        assert_close(out, expected, terms=longest(adj), magnitude=magnitude(adj, x, weight, reduce))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STRUCTURES)
def test_gradients_of_the_sum_are_the_transposed_sum_and_inner_products(name: str, dtype: torch.dtype) -> None:
    adj = STRUCTURES[name]
    x = numbers(adj.num_sources, 6, dtype=dtype).requires_grad_()
    weight = numbers(adj.num_edges, 3, dtype=dtype, seed=1).requires_grad_()
    grad = numbers(adj.num_targets, 6, dtype=dtype, seed=2)
    got_x, got_weight = torch.autograd.grad(propagate(adj, x, weight=weight), [x, weight], grad)
    back, moved = adj.transpose(), weight.detach()[adj.perm]
    expected_x = propagate_oracle(back, grad, moved)
    assert_close(got_x, expected_x, terms=longest(back), magnitude=magnitude(back, grad, moved, "sum"))
    pairs = (grad.double()[adj.target] * x.detach().double()[adj.indices]).unflatten(1, (3, 2))
    assert_close(got_weight, pairs.sum(-1), terms=2, magnitude=pairs.abs().sum(-1))


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_cached_weights_in_transposed_order_are_recomputed_after_writes(reduce: str) -> None:
    adj = random_adjacency(7, 5, 20).with_weight(torch.rand(20) + 0.5)
    x = torch.randn(5, 3, requires_grad=True)
    for factor in (1.0, 2.0, 0.5):
        adj.weight.mul_(factor)
        other = adj.with_weight(adj.weight.clone())
        for _ in range(2):
            grads = [torch.autograd.grad(propagate(a, x, reduce=reduce).square().sum(), x)[0] for a in (adj, other)]
            assert grads[0].equal(grads[1])


def test_weights_permuted_in_inference_mode_work_in_second_derivatives() -> None:
    adj = random_adjacency(5, 6, 14, seed=2)
    adj = adj.with_weight(torch.rand(adj.num_edges) + 0.5)
    x = torch.randn(6, 3, requires_grad=True)
    out = propagate(adj, x).square().sum()
    with torch.inference_mode():
        torch.autograd.grad(out, x)
    (grad,) = torch.autograd.grad(propagate(adj, x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), x)
    dense = propagate(adj, torch.eye(6))
    torch.testing.assert_close(second, 2 * dense.T @ dense @ torch.ones_like(x))


@pytest.mark.parametrize("reduce", ["max", "min"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ties_share_the_gradient(dtype: torch.dtype, reduce: str) -> None:
    adj = Adjacency.from_coo(target=[0, 0, 0, 1], source=[0, 1, 2, 2], num_targets=3, num_sources=3)
    x = torch.tensor([[2.0, 1.0], [2.0, 0.0], [0.0, 1.0]], dtype=dtype).requires_grad_()
    sign = 1.0 if reduce == "max" else -1.0
    weight = torch.full((4,), sign, dtype=dtype).requires_grad_()
    grad = torch.tensor([[8.0, 4.0], [1.0, 2.0], [9.0, 9.0]], dtype=dtype)
    grad_x, grad_weight = torch.autograd.grad(propagate(adj, x, weight=weight, reduce=reduce), [x, weight], grad)
    assert torch.equal(grad_x, sign * torch.tensor([[4, 2], [4, 0], [1, 4]], dtype=dtype))
    assert torch.equal(grad_weight, torch.tensor([10, 8, 2, 2], dtype=dtype))


@pytest.mark.parametrize("kind", ["none", "edge", "heads"])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_batches_are_one_example_after_the_other(reduce: str, kind: str) -> None:
    adj, argument, _ = weighted(STRUCTURES["odd"], kind, torch.float32)
    x = numbers(2, 3, adj.num_sources, 6, dtype=torch.float32)
    out = propagate(adj, x, weight=argument, reduce=reduce)
    for i, j in itertools.product(range(2), range(3)):
        assert torch.equal(out[i, j], propagate(adj, x[i, j], weight=argument, reduce=reduce))
    assert propagate(adj, x[:, :0], weight=argument, reduce=reduce).shape == (2, 0, adj.num_targets, 6)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_memory_layout_does_not_matter(reduce: str) -> None:
    adj = STRUCTURES["odd"]
    x = numbers(6, 2, adj.num_sources, dtype=torch.float32).permute(1, 2, 0).requires_grad_()
    weight = numbers(3, adj.num_edges * 2, dtype=torch.float32).T[::2].requires_grad_()
    assert not x.is_contiguous()
    assert not weight.is_contiguous()
    packed = [t.detach().contiguous().requires_grad_() for t in (x, weight)]
    out, same = (
        propagate(adj, x, weight=weight, reduce=reduce),
        propagate(adj, packed[0], weight=packed[1], reduce=reduce),
    )
    assert torch.equal(out, same)
    grad = numbers(6, adj.num_targets, 2, dtype=torch.float32).permute(2, 1, 0)
    pairs = zip(torch.autograd.grad(out, [x, weight], grad), torch.autograd.grad(same, packed, grad), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("others", [1, 200_000], ids=["most entries", "few entries"])
@pytest.mark.parametrize("weight", [False, True])
def test_hubs_are_summed_more_accurately_than_one_after_the_other(weight: bool, others: int) -> None:
    size = 60_000
    spread = torch.arange(others) % 199 + 3  # rows of about 1000, too short to be cut
    adj = Adjacency.from_coo(
        target=torch.cat([torch.zeros(size, dtype=torch.long), torch.ones(1, dtype=torch.long), spread]),
        source=torch.cat([torch.arange(size), torch.tensor([3]), torch.arange(others) % size]),
        num_targets=202,
        num_sources=size,
        duplicates="keep",
    )
    x = torch.rand(size, 1, generator=torch.Generator().manual_seed(0))
    w = torch.rand(adj.num_edges, generator=torch.Generator().manual_seed(1)) if weight else None
    message = x[adj.indices, 0] if w is None else x[adj.indices, 0] * w
    exact = x[adj.indices, 0].double() * (1.0 if w is None else w.double())
    naive = float(np.cumsum(message[:size].numpy(), dtype=np.float32)[-1])  # torch.cumsum carries more digits
    out = propagate(adj, x, weight=w)[:, 0].double()
    runs = 2048 + size // 2048 + 1  # no number is part of more additions than this
    assert abs(out[0] - exact[:size].sum()) <= runs * 2**-24 * exact[:size].sum()
    assert abs(out[0] - exact[:size].sum()) < abs(naive - exact[:size].sum()) / 4
    assert out[1] == message[size].double()
    assert out[2] == 0
    rest = torch.zeros(202, dtype=torch.double).index_add(0, adj.target, message.double())
    torch.testing.assert_close(out[3:], rest[3:], rtol=2048 * 2**-24, atol=0.0)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_five_thousand_ones_add_up_in_half_types(dtype: torch.dtype) -> None:
    adj = Adjacency.from_coo(target=[0] * 5000, source=range(5000), num_targets=1, num_sources=5000)
    x = torch.ones(5000, 2, dtype=dtype)
    nearest = torch.tensor(5000.0).to(dtype)
    assert bool((propagate(adj, x) == nearest).all())
    assert bool((propagate(adj, x, weight=torch.ones(5000, 2)) == nearest).all())
    assert bool((propagate(adj, x, reduce="mean") == 1).all())
    back = adj.transpose()
    y = torch.ones(1, 2, dtype=dtype).requires_grad_()
    (grad,) = torch.autograd.grad(propagate(back, y).sum(), y)
    assert bool((grad == nearest).all())


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_a_half_mean_survives_where_its_sum_overflows(reduce: str) -> None:
    adj = Adjacency.from_coo(target=[0] * 5000, source=range(5000), num_targets=1, num_sources=5000)
    out = propagate(adj, torch.full((5000, 1), 100.0, dtype=torch.float16), reduce=reduce)
    assert float(out) == (100.0 if reduce == "mean" else float("inf"))


LARGE = {torch.float16: 6e4, torch.bfloat16: 1.5e38, torch.float32: 3e38, torch.float64: 1.5e308}


def summed(dtype: torch.dtype) -> float:
    """Bound of the relative error of a sum of 1,000 equal signs, rounded to the dtype."""
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    return 500 * torch.finfo(wide).eps + torch.finfo(dtype).eps


def check_large_mean(dtype: torch.dtype, weighted: bool) -> None:
    """A mean in range whose sum is not; the tiny mean beside it has all its bits, and what is infinite stays so."""
    sizes = [1000, 3, 1, 0, 2, 2]
    target = [t for t, size in enumerate(sizes) for _ in range(size)]
    adj = Adjacency.from_coo(target=target, source=range(1008), num_targets=6, num_sources=1008)
    x = torch.full((1008, 3), LARGE[dtype], dtype=dtype)
    x[1000:1004] = torch.tensor([1, 2, 4, 3], dtype=dtype).unsqueeze(1)
    x[1006:] = torch.tensor([float("inf"), 1.0], dtype=dtype).unsqueeze(1)
    weight = torch.ones(1008, 3, dtype=dtype) if weighted else None
    out = propagate(adj, x, weight=weight, reduce="mean")
    expected = x[[0, 1000, 1003, 0, 0, 1006]].double()
    expected[1], expected[3] = 7 / 3, 0
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, rtol=summed(dtype), atol=0)
    assert torch.equal(out[1], propagate(adj, x.clamp(max=5), weight=weight, reduce="mean")[1])  # the usual path


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", LARGE, ids=str)
def test_a_mean_in_range_is_finite_even_if_its_sum_is_not(dtype: torch.dtype, weighted: bool) -> None:
    check_large_mean(dtype, weighted)


@pytest.mark.parametrize("dtype", LARGE, ids=str)
def test_large_means_of_a_scatter_and_under_transforms(dtype: torch.dtype) -> None:
    x = torch.full((1000, 2), LARGE[dtype], dtype=dtype)
    out = scatter(x, torch.zeros(1000, dtype=torch.long), 0, dim_size=2, reduce="mean")
    torch.testing.assert_close(out[0], x[0], rtol=summed(dtype), atol=0)
    adj = Adjacency.from_coo(target=[0] * 1000, source=range(1000), num_targets=1, num_sources=1000)
    mapped = torch.func.vmap(lambda one: propagate(adj, one, reduce="mean"))(torch.stack([x, x / 2]))
    torch.testing.assert_close(mapped[:, 0], torch.stack([x[0], x[0] / 2]), rtol=summed(dtype), atol=0)
    soft = propagate(SoftAdjacency.from_weight(torch.ones(1, 1000, dtype=dtype)), x, reduce="mean")
    torch.testing.assert_close(soft[0], x[0], rtol=summed(dtype), atol=0)


def test_the_mean_counts_edges_not_weights() -> None:
    adj = Adjacency.from_coo(target=[0, 0], source=[0, 1], weight=[3.0, 1.0], num_targets=1, num_sources=2)
    assert float(propagate(adj, torch.tensor([[1.0], [2.0]]), reduce="mean")) == 2.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_a_soft_structure_is_the_dense_one(reduce: str, dtype: torch.dtype) -> None:
    weight, x = numbers(2, 5, 4, dtype=dtype), numbers(2, 4, 3, dtype=dtype, seed=1)
    full = Adjacency.from_coo(target=[t for t in range(5) for _ in range(4)], source=list(range(4)) * 5,
                              num_targets=5, num_sources=4)  # fmt: skip
    out = propagate(SoftAdjacency.from_weight(weight), x, reduce=reduce)
    for b in range(2):
        expected = propagate_oracle(full, x[b], weight[b].flatten(), reduce)
        size = magnitude(full, x[b], weight[b].flatten(), reduce)
        extra = 2 if reduce == "mean" and dtype == torch.bfloat16 else 1  # the product is rounded before the division
        assert_close(out[b], expected, terms=4, magnitude=extra * size)


def test_a_soft_structure_is_cast_to_the_messages_dtype() -> None:
    weight, x = numbers(3, 4, dtype=torch.float32), numbers(4, 2, dtype=torch.bfloat16)
    out = propagate(SoftAdjacency.from_weight(weight), x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, propagate(SoftAdjacency.from_weight(weight.bfloat16()), x))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_int64_structures_give_the_same(reduce: str) -> None:
    adj = random_adjacency(9, 7, 40, seed=5)
    long = Adjacency(**{k: None if v is None else v.long() for k, v in vars(adj).items() if isinstance(v, Tensor)})
    x = numbers(7, 4, dtype=torch.float32).requires_grad_()
    weight = numbers(40, 2, dtype=torch.float32).requires_grad_()
    outs = [propagate(a, x, weight=weight, reduce=reduce) for a in (adj, long)]
    assert torch.equal(*outs)
    first, second = (torch.autograd.grad(o.square().sum(), [x, weight]) for o in outs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_reaches_the_targets_of_its_edges_only(reduce, value):
    adj = Adjacency.from_coo(target=[0, 0, 1, 3], source=[0, 1, 1, 2], num_targets=5, num_sources=3)
    x = torch.ones(3, 2)
    x[0, 1] = value
    found = propagate(adj, x, reduce=reduce)
    x[0, 1] = 1.0
    expected = propagate(adj, x, reduce=reduce)
    differs = (found != expected) | found.isnan()
    hidden = reduce == "min" and value == float("inf")  # the other edge of target 0 has a smaller value
    assert differs.nonzero().tolist() == ([] if hidden else [[0, 1]])
