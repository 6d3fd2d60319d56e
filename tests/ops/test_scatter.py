"""`gather`, `scatter`, `segment_reduce` against loops, their derivatives, and against torch_scatter where it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from hgraph import errors, gather, scatter, segment_reduce

REDUCTIONS = ["sum", "mean", "max", "min"]
INDEX = torch.tensor([2, 0, 2, 5, 2, 0])
SIZE = 7


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def loops(src: Tensor, index: Tensor, size: int, reduce: str) -> Tensor:
    out = torch.zeros(size, *src.shape[1:], dtype=src.dtype)
    for i in range(size):
        heard = src[index == i]
        if len(heard):
            how = {"sum": heard.sum(0), "mean": heard.mean(0), "max": heard.amax(0), "min": heard.amin(0)}
            out[i] = how[reduce]
    return out


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize(("shape", "dim"), [((6,), -1), ((6, 3), 0), ((2, 6), 1), ((2, 6, 3), -2), ((0, 6), 1)])
def test_scatter(shape: tuple[int, ...], dim: int, reduce: str) -> None:
    src = draw(*shape)
    out = scatter(src, INDEX, dim, dim_size=SIZE, reduce=reduce)
    torch.testing.assert_close(out.movedim(dim, 0), loops(src.movedim(dim, 0), INDEX, SIZE, reduce))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_segments(reduce: str) -> None:
    src, indptr = draw(6, 2), torch.tensor([0, 0, 3, 3, 6])
    index = torch.tensor([1, 1, 1, 3, 3, 3])
    torch.testing.assert_close(segment_reduce(src, indptr, reduce=reduce), loops(src, index, 4, reduce))


def test_gather() -> None:
    src = draw(3, 7, 2)
    assert torch.equal(gather(src, INDEX, 1), src[:, INDEX])
    assert torch.equal(gather(src[0, :, 0], INDEX), src[0, INDEX, 0])


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_nothing(reduce: str) -> None:
    none = torch.tensor([], dtype=torch.long)
    assert scatter(torch.zeros(0, 3), none, 0, dim_size=2, reduce=reduce).tolist() == [[0.0] * 3] * 2
    assert scatter(torch.zeros(0), none, dim_size=0, reduce=reduce).shape == (0,)
    assert segment_reduce(torch.zeros(0), torch.tensor([0, 0]), reduce=reduce).tolist() == [0.0]
    assert gather(torch.zeros(4), none).shape == (0,)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_derivatives(reduce: str) -> None:
    src = draw(6, 2).requires_grad_()
    for run in (
        lambda x: scatter(x, INDEX, 0, dim_size=SIZE, reduce=reduce),
        lambda x: segment_reduce(x, torch.tensor([0, 2, 2, 6]), reduce=reduce),
        lambda x: gather(x, INDEX, 0),
    ):
        assert gradcheck(run, src, nondet_tol=0)
        assert gradgradcheck(run, src, nondet_tol=0, fast_mode=True)


def test_ties_share() -> None:
    src = torch.ones(6, requires_grad=True)
    scatter(src, INDEX, dim_size=SIZE, reduce="max").sum().backward()
    torch.testing.assert_close(src.grad, torch.tensor([1 / 3, 0.5, 1 / 3, 1.0, 1 / 3, 0.5]))


def test_a_half_mean_does_not_overflow() -> None:
    src = torch.full((4,), 6e4, dtype=torch.float16)
    out = scatter(src, torch.zeros(4, dtype=torch.long), dim_size=1, reduce="mean")
    assert out.tolist() == src[:1].tolist()


def test_the_order_of_entries_is_free() -> None:
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    src = draw(6, 2)
    one, two = scatter(src, INDEX, 0, dim_size=SIZE), scatter(src[order], INDEX[order], 0, dim_size=SIZE)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("reduce", ["sum", "max"])
def test_compiles_once_for_all_sizes(reduce: str) -> None:
    torch._dynamo.reset()
    run = torch.compile(
        lambda x, i, n: scatter(x, i, 0, dim_size=n, reduce=reduce), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for n, index in ((7, INDEX), (9, INDEX.flip(0).repeat(2))):
        x = draw(len(index), 2).requires_grad_()
        torch.testing.assert_close(run(x, index, n), scatter(x, index, 0, dim_size=n, reduce=reduce))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_as_torch_scatter(reduce: str) -> None:
    torch_scatter = pytest.importorskip("torch_scatter")
    src = draw(2, 6)
    torch.testing.assert_close(
        scatter(src, INDEX, dim_size=SIZE, reduce=reduce),
        torch_scatter.scatter(src, INDEX, -1, dim_size=SIZE, reduce=reduce),
    )


def test_wrong_arguments_are_answered() -> None:
    src = draw(6)
    with pytest.raises(errors.ArgumentError, match="index: expected entries in 0 .. 4, got 5 at position 3"):
        scatter(src, INDEX, dim_size=5)
    with pytest.raises(errors.ArgumentError, match="reduce: expected"):
        scatter(src, INDEX, dim_size=SIZE, reduce="mul")
    with pytest.raises(errors.ArgumentError, match=r"index: expected shape \[6\]"):
        scatter(src, INDEX[:3], dim_size=SIZE)
    with pytest.raises(errors.ArgumentError, match="dim: expected"):
        scatter(src, INDEX, 1, dim_size=SIZE)
    with pytest.raises(errors.ArgumentTypeError, match="index: expected an integer tensor"):
        gather(src, src)
