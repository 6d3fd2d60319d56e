"""`gather`, `scatter`, `segment_reduce` against loops, their derivatives, and against torch_scatter, if installed."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from hgraph import errors, gather, scatter, segment_reduce

REDUCTIONS = ["sum", "mean", "max", "min"]
INDEX = torch.tensor([2, 0, 2, 5, 2, 0])
SIZE = 7


NUMBERS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
# Shapes of src and of the index, and the dimension: separate lists for some dimensions, one list for others.
SHAPES = [
    ((6,), (6,), 0), ((6, 3), (6,), 0), ((2, 6), (6,), -1), ((2, 6, 3), (6,), 1), ((2, 6, 3), (6,), -2),
    ((2, 6, 3), (2, 6, 3), 1), ((2, 6, 3), (2, 6), 1), ((2, 6, 3), (2, 6, 1), -2), ((2, 6, 3), (1, 6, 3), 1),
    ((2, 6, 3), (1, 6), 1), ((6, 2, 3), (6, 2), 0), ((2, 3, 6), (2, 1, 6), -1), ((2, 3, 6), (1, 3, 6), 2),
    ((0, 3), (0,), 0), ((0, 3), (0, 3), 0), ((6, 0), (6,), 0), ((2, 0), (2, 0), 1), ((0, 6), (0, 6), 1),
    ((0,), (0,), 0),
]  # fmt: skip


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def loops(src: Tensor, index: Tensor, size: int, reduce: str) -> Tensor:
    out = torch.zeros(size, *src.shape[1:], dtype=src.dtype)
    for i in range(size):
        rows = src[index == i]
        if len(rows):
            how = {"sum": rows.sum(0), "mean": rows.mean(0), "max": rows.amax(0), "min": rows.amin(0)}
            out[i] = how[reduce]
    return out


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize(("shape", "dim"), [((6,), -1), ((6, 3), 0), ((2, 6), 1), ((2, 6, 3), -2), ((0, 6), 1)])
def test_scatter(shape: tuple[int, ...], dim: int, reduce: str) -> None:
    src = draw(*shape)
    out = scatter(src, INDEX, dim, dim_size=SIZE, reduce=reduce)
    torch.testing.assert_close(out.movedim(dim, 0), loops(src.movedim(dim, 0), INDEX, SIZE, reduce))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_separate_lists(reduce: str) -> None:
    """An index of more dimensions: every line of src along dim against loops."""
    for shape, of_index, dim in SHAPES:
        index = torch.randint(0, SIZE, of_index, generator=torch.Generator().manual_seed(1))
        src = draw(*shape)
        out = scatter(src, index, dim, dim_size=SIZE, reduce=reduce)
        if len(of_index) == 1:
            wide = index.view([-1 if d == dim % len(shape) else 1 for d in range(len(shape))])
        else:
            wide = index.view(*of_index, *[1] * (len(shape) - len(of_index)))
        lines = (t.movedim(dim, -1).unsqueeze(0).flatten(0, -2) for t in (src, wide.expand(shape), out))
        for given, own, got in zip(*lines, strict=True):
            torch.testing.assert_close(got, loops(given, own, SIZE, reduce))


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
def test_empty_inputs(reduce: str) -> None:
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


@pytest.mark.parametrize("dtype", INTEGERS)
def test_sums_of_integers_do_not_wrap(dtype: torch.dtype) -> None:
    """They are int64, as in `torch.sum`; a maximum keeps the dtype."""
    src = torch.full((6,), torch.iinfo(dtype).max // 2, dtype=dtype)
    each = int(src[0])
    total = scatter(src, INDEX, dim_size=SIZE)
    assert total.dtype == torch.int64
    assert total[[0, 1, 5]].tolist() == [2 * each, 0, each]
    segments = segment_reduce(src, torch.tensor([0, 2, 2, 3, 6]))
    assert segments.dtype == torch.int64
    assert segments[:3].tolist() == [2 * each, 0, each]
    assert scatter(src, INDEX, dim_size=SIZE, reduce="max").dtype == dtype
    assert scatter(torch.tensor([200, 200, 200], dtype=torch.uint8), torch.zeros(3).long(), dim_size=1).item() == 600


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


@pytest.mark.parametrize("dtype", NUMBERS + INTEGERS, ids=str)
def test_as_torch_scatter(dtype: torch.dtype) -> None:
    """Values over every shape of an index; dim, negative or not, dim_size beyond what is named, nothing to reduce."""
    torch_scatter = pytest.importorskip("torch_scatter")
    generator = torch.Generator().manual_seed(0)
    for (shape, of_index, dim), reduce in itertools.product(SHAPES, REDUCTIONS):
        if reduce == "mean" and dtype in INTEGERS:
            continue  # refused
        src = torch.randint(0, 5, shape, generator=generator).to(dtype)  # sums are exact, ties are there
        index = torch.randint(0, SIZE - 1, of_index, generator=generator)
        want = torch_scatter.scatter(src, index, dim, dim_size=SIZE, reduce=reduce)
        for given in (index, index.to(torch.int32), index.to(torch.uint8)):
            torch.testing.assert_close(scatter(src, given, dim, dim_size=SIZE, reduce=reduce), want)


@pytest.mark.parametrize(
    ("dtype", "reduce"), [*((torch.float32, r) for r in REDUCTIONS), *((torch.int64, r) for r in ("sum", "max", "min"))]
)
def test_segments_as_torch_scatter(dtype: torch.dtype, reduce: str) -> None:
    torch_scatter = pytest.importorskip("torch_scatter")
    for shape in ((6,), (6, 2), (6, 2, 3), (6, 0)):
        src = torch.randint(-3, 3, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        for indptr in (torch.tensor([0, 0, 3, 3, 6]), torch.tensor([0, 6])):
            want = torch_scatter.segment_csr(src, indptr, reduce=reduce)
            torch.testing.assert_close(segment_reduce(src, indptr, reduce=reduce), want)


def test_gathers_as_torch_scatter() -> None:
    torch_scatter = pytest.importorskip("torch_scatter")
    for dtype in (torch.float32, torch.int32):
        src = torch.arange(21).view(7, 3).to(dtype)
        index = INDEX.sort().values  # gather_coo asks for that
        assert torch.equal(gather(src, index, 0), torch_scatter.gather_coo(src, index))
        assert torch.equal(gather(src.T, index, -1), src.T[:, index])


def test_gradients_as_torch_scatter() -> None:
    """Without ties."""
    torch_scatter = pytest.importorskip("torch_scatter")
    index = torch.randint(0, SIZE, (2, 6), generator=torch.Generator().manual_seed(1))
    for reduce in REDUCTIONS:
        ours, theirs = draw(2, 6, 3).requires_grad_(), draw(2, 6, 3).requires_grad_()
        flow = draw(2, SIZE, 3)
        scatter(ours, index, 1, dim_size=SIZE, reduce=reduce).backward(flow)
        torch_scatter.scatter(theirs, index, 1, dim_size=SIZE, reduce=reduce).backward(flow)
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_unlike_torch_scatter_on_purpose() -> None:
    """What the docstring of `scatter` lists."""
    torch_scatter = pytest.importorskip("torch_scatter")
    index = torch.tensor([0, 0, 0, 1])
    src = torch.tensor([1.0, 4.0, 4.0, 7.0], requires_grad=True)
    (ours,) = torch.autograd.grad(scatter(src, index, dim_size=2, reduce="max").sum(), src)
    (theirs,) = torch.autograd.grad(torch_scatter.scatter(src, index, dim_size=2, reduce="max").sum(), src)
    assert ours.tolist() == [0.0, 0.5, 0.5, 1.0]
    assert sorted(theirs.tolist()) == [0.0, 0.0, 1.0, 1.0]
    broken = torch.tensor([1.0, float("nan"), 4.0, 7.0])
    assert scatter(broken, index, dim_size=2, reduce="max").isnan().tolist() == [True, False]
    assert torch_scatter.scatter(broken, index, dim_size=2, reduce="max").tolist() == [4.0, 7.0]
    whole = torch.tensor([1, 2, -4, 7])
    assert torch_scatter.scatter(whole, index, dim_size=2, reduce="mean").tolist() == [-1, 7]
    with pytest.raises(errors.ArgumentTypeError, match="src: expected floating-point numbers to take a mean of"):
        scatter(whole, index, dim_size=2, reduce="mean")


def test_integers_are_reduced_exactly() -> None:
    src = torch.tensor([2**60 + 1, -5, -7, 3, 4, 2])
    assert scatter(src, INDEX, dim_size=SIZE).tolist() == [-3, 0, 2**60 - 2, 0, 0, 3, 0]
    assert scatter(src, INDEX, dim_size=SIZE, reduce="max").tolist() == [2, 0, 2**60 + 1, 0, 0, 3, 0]
    assert segment_reduce(-src.abs(), torch.tensor([0, 0, 2, 6]), reduce="max").tolist() == [0, -5, -2]
    assert gather(src, torch.tensor([0, 0, 3])).tolist() == [2**60 + 1, 2**60 + 1, 3]


def test_wrong_arguments_are_named() -> None:
    src = draw(6)
    with pytest.raises(errors.ArgumentError, match="index: expected entries in 0 .. 4, got 5 at position 3"):
        scatter(src, INDEX, dim_size=5)
    with pytest.raises(errors.ArgumentError, match="reduce: expected"):
        scatter(src, INDEX, dim_size=SIZE, reduce="mul")
    with pytest.raises(errors.ArgumentError, match=r"index: expected shape \[6\]"):
        scatter(src, INDEX[:3], dim_size=SIZE)
    with pytest.raises(errors.ArgumentError, match="dim: expected"):
        scatter(src, INDEX, 1, dim_size=SIZE)
    with pytest.raises(errors.ArgumentError, match="'add' is 'sum'"):
        scatter(src, INDEX, dim_size=SIZE, reduce="add")
    for index in (INDEX.view(1, 6).expand(2, 6), torch.zeros(2, 6, 3, dtype=torch.long)):
        with pytest.raises(errors.ArgumentError, match=r"index: expected shape \[6\] or \[3, 6\]"):
            scatter(draw(3, 6), index, dim_size=SIZE)
    with pytest.raises(errors.ArgumentTypeError, match="src: expected a tensor of"):
        scatter(src > 0, INDEX, dim_size=SIZE)
    with pytest.raises(errors.ArgumentTypeError, match="index: expected an integer tensor"):
        gather(src, src)
    with pytest.raises(errors.ArgumentError, match="dim: expected"):
        gather(src, INDEX, 1)
    with pytest.raises(errors.ArgumentError, match=r"index: expected shape \[J\]"):
        gather(src, INDEX.view(2, 3))
    for wrong in ([1, 6], [0, 5], [0, 4, 3, 6]):
        with pytest.raises(errors.ArgumentError, match="indptr: expected numbers ascending from 0 to 6"):
            segment_reduce(src, torch.tensor(wrong))


def test_pointers_do_not_wrap() -> None:
    """In uint8 no difference is below 0."""
    src = draw(6)
    for dtype in (torch.uint8, torch.int8, torch.int32):
        good, bad = (torch.tensor(p, dtype=dtype) for p in ([0, 4, 4, 6], [0, 5, 4, 6]))
        torch.testing.assert_close(
            segment_reduce(src, good), torch.stack([src[:4].sum(), src[:0].sum(), src[4:].sum()])
        )
        with pytest.raises(errors.ArgumentError, match="not ascending"):
            segment_reduce(src, bad)
    assert segment_reduce(src[:0], torch.tensor([0])).shape == (0,)
    for given in (src[:0], src, src.long()):
        with pytest.raises(
            errors.ArgumentError, match="indptr: expected numbers ascending from 0 to ., got an empty list"
        ):
            segment_reduce(given, torch.tensor([], dtype=torch.long))
    wide = torch.arange(300.0)
    assert gather(wide, torch.tensor([50, 255], dtype=torch.uint8)).tolist() == [50.0, 255.0]


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint64, torch.float8_e4m3fn, torch.complex64])
def test_dtypes_that_torch_cannot_sum_are_rejected(dtype: torch.dtype) -> None:
    src, pointers = torch.ones(6).to(dtype), torch.tensor([0, 6])
    for call in (
        lambda: scatter(src, INDEX, dim_size=SIZE),
        lambda: scatter(src, INDEX, dim_size=SIZE, reduce="max"),
        lambda: gather(src, INDEX),
        lambda: segment_reduce(src, pointers),
    ):
        with pytest.raises(errors.ArgumentTypeError, match="src: expected a tensor of .* got .*torch"):
            call()
    if not dtype.is_floating_point:
        for call in (lambda: gather(draw(6), src), lambda: segment_reduce(draw(6), src)):
            with pytest.raises(errors.ArgumentTypeError, match=r"(index|indptr): expected an integer tensor"):
                call()


def test_a_dimension_is_a_number() -> None:
    for dim in (None, "x", 1.0, True):
        with pytest.raises(errors.ArgumentTypeError, match="dim: expected an integer"):
            scatter(draw(6), INDEX, dim, dim_size=SIZE)
        with pytest.raises(errors.ArgumentTypeError, match="dim: expected an integer"):
            gather(draw(6), INDEX, dim)
