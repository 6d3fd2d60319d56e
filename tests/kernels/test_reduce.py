"""Sums, means, maxima and minima on the Triton backend against the oracle, and their gradients against float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hgraph import Adjacency, backend, propagate
from hgraph.kernels import split
from hgraph.ops.sparse.linear import flatten_batch, rows, sddmm
from hgraph.testing import assert_close, covering, degenerate_adjacencies, pairwise, propagate_oracle

STRUCTURES = degenerate_adjacencies()
REDUCTIONS = ["sum", "mean", "max", "min"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
CHOICES: dict[str, list[Any]] = {
    "name": list(STRUCTURES),
    "reduce": REDUCTIONS,
    "dtype": DTYPES,
    "weight": [None, "edge", "heads", "channels"],
    "width": [6, 1, 16, 37],
    "layout": ["plain", "batch", "strided"],
    "cut": [True, False],
}
PAIRS = pairwise(**CHOICES)
MORE = [pytest.param(*case, marks=pytest.mark.slow) for case in covering(4, **CHOICES) if case not in PAIRS]
CUT_MEAN = ("hub", "mean", torch.float32, None, 6, "plain", True)  # pairwise tests do not cover these three together


def inputs(adj: Adjacency, weight: str | None, width: int, layout: str, dtype: torch.dtype, exact: bool) -> Any:
    """x, weight and the gradient of the output; few different numbers, to get ties."""
    generator = torch.Generator().manual_seed(adj.num_edges + width)

    def draw(*shape: int) -> Tensor:
        if exact:
            return torch.randint(-2, 3, shape, generator=generator).to(dtype)
        return torch.randn(shape, generator=generator).to(dtype)

    batch = (2,) if layout == "batch" else ()
    x = (
        draw(*batch, adj.num_sources, 2 * width)[..., ::2]
        if layout == "strided"
        else draw(*batch, adj.num_sources, width)
    )
    columns = {None: None, "edge": (), "heads": (2 if width % 2 == 0 else 1,), "channels": (width,)}[weight]
    return x, None if columns is None else draw(adj.num_edges, *columns), draw(*batch, adj.num_targets, width)


def gradients(adj: Adjacency, x: Tensor, weight: Tensor | None, grad: Tensor, reduce: str) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in (x, weight) if t is not None]
    out = propagate(adj, leaves[0], weight=leaves[1] if weight is not None else None, reduce=reduce)
    return (out.detach(), *torch.autograd.grad(out, leaves, grad))


def check(name: str, reduce: str, dtype: torch.dtype, weight: str | None, width: int, layout: str, device: str) -> None:
    adj, exact = STRUCTURES[name], reduce in ("max", "min")
    x, w, grad = inputs(adj, weight, width, layout, dtype, exact)
    given = [None if t is None else t.to(device) for t in (x, w, grad)]
    out, *grads = gradients(adj.to(device), *given, reduce)
    if device != "cpu" or split.LONGEST == 8:  # the interpreter is quick enough for where rows are cut
        again = gradients(adj.to(device), *given, reduce)
        assert all(torch.equal(a, b) for a, b in zip((out, *grads), again, strict=True))  # bit for bit

    wide = [None if t is None else t.double() for t in (x, w, grad)]
    size = [None if t is None else t.abs() for t in wide]
    examples = zip(flatten_batch(x), flatten_batch(out.cpu()), strict=True)
    terms = adj.num_edges + 1
    for x_one, out_one in examples:
        oracle = propagate_oracle(adj, x_one, w, reduce)
        most = propagate_oracle(adj, x_one.abs(), None if w is None else w.abs(), "sum")
        assert_close(out_one, oracle, terms=terms, magnitude=most)
    with backend("torch"):
        _, *wanted = gradients(adj, *wide, reduce)
        _, *most = gradients(adj, *size, "sum")  # every gradient is a sum of some of these
    units = 3 if reduce == "mean" else 2 if reduce in ("max", "min") else 1  # roundings before the last sum
    for got, want, bound in zip(grads, wanted, most, strict=True):
        # float16 and bfloat16 round the gradient of a mean before it flows back, and the fraction of a tie
        assert_close(got.cpu(), want, terms=terms * units, magnitude=bound * units)


@pytest.mark.parametrize(tuple(CHOICES), [*PAIRS, CUT_MEAN, *MORE])
def test_cover(
    name: str, reduce: str, dtype: torch.dtype, weight: str | None, width: int, layout: str, cut: bool,
    device: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Combinations that cover all pairs of options and, in slow tests, all sets of four."""
    if cut:
        monkeypatch.setattr(split, "LONGEST", 8)
    check(name, reduce, dtype, weight, width, layout, device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rounded_messages_tie(dtype: torch.dtype, device: str) -> None:
    """Their products have more digits than the output, but are compared with its digits."""
    adj = Adjacency.from_coo(target=[0, 0], source=[0, 1], num_targets=1, num_sources=2).to(device)
    value = 1 + torch.finfo(dtype).eps
    x = torch.full((2, 3), value, dtype=dtype, device=device).requires_grad_()
    weight = torch.full((2,), value, dtype=dtype, device=device)
    assert value**2 != float(torch.tensor(value**2, dtype=dtype))
    (grad,) = torch.autograd.grad(propagate(adj, x, weight=weight, reduce="max").sum(), x)
    torch.testing.assert_close(grad.cpu(), torch.full((2, 3), value / 2, dtype=dtype))


@pytest.mark.parametrize("width", [1, 2, 3, 7, 9, 31, 65, 129, 255, 257, 511, 1000, 1024])
def test_widths(width: int, device: str) -> None:
    adj = STRUCTURES["duplicates"]
    x, w, _ = inputs(adj, "edge", width, "plain", torch.float32, exact=False)
    for reduce in ("sum", "max"):
        out = propagate(adj.to(device), x.to(device), weight=w.to(device), reduce=reduce).cpu()
        most = propagate_oracle(adj, x.abs(), w.abs(), "sum")
        assert_close(out, propagate_oracle(adj, x, w, reduce), terms=5, magnitude=most)


@pytest.mark.parametrize(
    ("width", "reduce", "weight"),
    [(129, "sum", "edge"), (257, "max", "channels"), (1024, "sum", "heads"), (1024, "max", "edge")],
)
def test_gradients_of_wide_rows(width: int, reduce: str, weight: str, device: str) -> None:
    check("duplicates", reduce, torch.float32, weight, width, "plain", device)


@pytest.mark.parametrize("reduce", ["sum", "max"])
@pytest.mark.parametrize("weight", [None, "heads"])
def test_addresses_in_int64_give_the_same_bits(
    reduce: str, weight: str | None, device: str, monkeypatch: pytest.MonkeyPatch, short_stretches: None
) -> None:
    adj = STRUCTURES["odd"].to(device)
    given = [None if t is None else t.to(device) for t in inputs(adj, weight, 6, "batch", torch.float32, exact=False)]
    narrow = gradients(adj, *given, reduce)
    monkeypatch.setattr(split, "WIDE_FROM", 0)
    assert split.wide(given[0])
    assert all(torch.equal(a, b) for a, b in zip(narrow, gradients(adj, *given, reduce), strict=True))


def test_more_numbers_than_int32_counts(device: str) -> None:
    """Read the last rows of a table of 4 GB, of which only these pages are allocated."""
    from hgraph.kernels.csr_reduce import csr_reduce
    from hgraph.kernels.score_dot import score_dot

    width, last = 64, 2**25 + 1
    x = torch.empty((1, last + 1, width), dtype=torch.bfloat16, device=device)
    x[0, last], x[0, 1] = 3.0, 5.0  # 2**31 + 64 would wrap to row 1 of nothing
    indptr, indices, target = (torch.tensor(v, dtype=torch.int32, device=device) for v in ([0, 1], [last], [0]))
    assert csr_reduce(indptr, indices, target, None, x).unique().tolist() == [3.0]
    assert score_dot(indices, target, x[:, last:], x, 1, torch.float32).tolist() == [[9.0 * width]]


@pytest.mark.parametrize("reduce", ["max", "min"])
def test_nan_is_not_hidden(reduce: str, device: str, short_stretches: None) -> None:
    adj = Adjacency.from_coo(target=[0] * 20 + [1], source=[*range(20), 0], num_targets=2, num_sources=20).to(device)
    x = torch.arange(40.0).view(20, 2)
    x[13, 0] = float("nan")
    out = propagate(adj, x.to(device), reduce=reduce)
    assert out.isnan().tolist() == [[True, False], [False, False]]


def test_an_example_has_the_same_bits_in_a_batch(device: str, short_stretches: None) -> None:
    adj = STRUCTURES["hub"].to(device)
    x = torch.randn(3, 37, 5, generator=torch.Generator().manual_seed(0)).to(device)
    assert torch.equal(propagate(adj, x)[2], propagate(adj, x[2]))


def test_weights_of_a_batch_of_extrema_get_their_gradients(device: str) -> None:
    check("odd", "max", torch.float32, "heads", 6, "batch", device)


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dots(heads: int, dtype: torch.dtype, device: str) -> None:
    adj = STRUCTURES["odd"]
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 17, 5 * heads, generator=generator).to(dtype)
    b = torch.randn(2, 13, 5 * heads, generator=generator).to(dtype)
    out = sddmm(rows(adj.to(device)), a.to(device), b.to(device), heads).cpu()
    products = a.double()[:, adj.target] * b.double()[:, adj.indices]
    by_head = products.unflatten(-1, (heads, 5))
    assert_close(out, by_head.sum((0, -1)), terms=10, magnitude=by_head.abs().sum((0, -1)))


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [(torch.float16, 6e4), (torch.bfloat16, 1.5e38), (torch.float32, 3e38), (torch.float64, 1.5e308)],
)
def test_a_mean_in_range_is_finite_even_if_its_sum_is_not(dtype, value, cut, monkeypatch):
    monkeypatch.setattr(split, "LONGEST", 4 if cut else 64)
    sizes = [20, 3, 1, 0, 33]
    target = [t for t, size in enumerate(sizes) for _ in range(size)]
    adj = Adjacency.from_coo(target=target, source=range(57), num_targets=5, num_sources=57)
    x = torch.full((57, 3), value, dtype=dtype)
    x[20:23] = torch.tensor([1, 2, 4], dtype=dtype).unsqueeze(1)
    for weight in (None, torch.ones(57, 3, dtype=dtype)):
        with backend("triton"):
            out = propagate(adj, x, weight=weight, reduce="mean")
        expected = propagate(adj, x, weight=weight, reduce="mean")
        torch.testing.assert_close(out, expected, atol=0, rtol=33 * torch.finfo(dtype).eps)  # two sums of 33 terms
        assert bool(out.isfinite().all())
