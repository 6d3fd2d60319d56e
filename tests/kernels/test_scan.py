"""Scans on the Triton backend against the reference in float64, which tests/ops/test_scan.py compares with loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hgraph import Affine, AttendResult, Memory, SoftmaxState, backend, scan
from hgraph.kernels import split
from hgraph.testing import pairwise

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
OFFSETS = [None, [0, 11], [0, 3, 3, 4, 11], [0, 0, 11, 11]]
T, B = 11, 2


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 2


def run(kind: str, given: list[Tensor], initial: bool, offsets: list[int] | None, chunk: int, reverse: bool, flow: list[Tensor]) -> list[Tensor]:  # fmt: skip  # noqa: E501
    """States, final state and the gradients of all inputs, through both."""
    leaves = [t.detach().requires_grad_() for t in given]
    name, decay = kind.split()
    start = leaves.pop() if initial else None
    elements = (*leaves, None) if decay == "none" else tuple(leaves)
    monoid = {"affine": Affine, "memory": Memory}[name](decay)
    segments = None if offsets is None else torch.tensor(offsets, device=given[0].device)
    result = scan(monoid, elements, initial=start, segments=segments, chunk=chunk, reverse=reverse)
    wanted = [*leaves, *([start] if initial else [])]
    return [t.detach() for t in result] + list(torch.autograd.grad([*result], wanted, flow))


def inputs(kind: str, width: tuple[int, int], initial: bool, offsets: list[int] | None) -> list[Tensor]:
    name, decay = kind.split()
    (d, v), groups = width, () if offsets is None else (len(offsets) - 1,)
    own = {"none": None, "scalar": (), "diagonal": (d,)}[decay]
    if name == "affine":
        given = [draw(B, T, *own, seed=1), draw(B, T, d, seed=2)]
    else:
        given = [draw(B, T, d, seed=0), draw(B, T, d, seed=1), draw(B, T, v, seed=2)]
        given += [] if own is None else [-draw(B, T, *own, seed=3).abs()]
    return given + ([draw(B, *groups, d, *((v,) if name == "memory" else ()), seed=4)] if initial else [])


def close(got: Tensor, want: Tensor, dtype: torch.dtype) -> None:
    """Sums of at most T terms on which T decays were multiplied; half types round products' factors and the result.

    Taken against the largest number of the tensor or 1: terms are of that size.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    size = max(1.0, float(want.abs().max())) if want.numel() else 1.0
    units = 4 * T * torch.finfo(wide).eps + (8 * torch.finfo(dtype).eps if dtype != wide else 0)
    assert got.shape == want.shape
    off = (got.double() - want).abs()
    assert (off <= units * size).all(), f"off by {off.max():.3g}, bound {units * size:.3g}"


@pytest.mark.parametrize(
    ("kind", "dtype", "width", "initial", "offsets", "chunk", "reverse"),
    pairwise(
        kind=["memory none", "memory scalar", "memory diagonal", "affine scalar", "affine diagonal"],
        dtype=DTYPES, width=[(3, 5), (16, 2), (1, 33)], initial=[False, True], offsets=OFFSETS, chunk=[5, 64],
        reverse=[False, True],
    ),
)  # fmt: skip
def test_pairs(
    kind: str, dtype: torch.dtype, width: tuple[int, int], initial: bool, offsets: list[int] | None, chunk: int,
    reverse: bool, device: str,
) -> None:  # fmt: skip
    given = [t.to(dtype) for t in inputs(kind, width, initial, offsets)]
    with backend("torch"):
        result = scan_shapes(kind, given, initial, offsets)
        flow = [draw(*t.shape, seed=5 + i).to(t.dtype) for i, t in enumerate(result)]
        want = run(kind, [t.double() for t in given], initial, offsets, chunk, reverse, [t.double() for t in flow])
    here, flow = [t.to(device) for t in given], [t.to(device) for t in flow]
    got = run(kind, here, initial, offsets, chunk, reverse, flow)
    if device != "cpu" or initial:  # the interpreter is quick enough for some
        again = run(kind, here, initial, offsets, chunk, reverse, flow)
        assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))  # bit for bit
    for a, b in zip(got, want, strict=True):
        close(a.cpu(), b, dtype)


def scan_shapes(kind: str, given: list[Tensor], initial: bool, offsets: list[int] | None) -> list[Tensor]:
    name, decay = kind.split()
    elements = list(given[:-1] if initial else given)
    elements = (*elements, None) if decay == "none" else tuple(elements)
    segments = None if offsets is None else torch.tensor(offsets)
    start = given[-1] if initial else None
    return list(scan({"affine": Affine, "memory": Memory}[name](decay), elements, initial=start, segments=segments))


@pytest.mark.parametrize("reverse", [False, True])
def test_softmax_states(reverse: bool, device: str) -> None:
    """Packed segments (one is empty) with initial states and masked positions, against softmax."""
    offsets, at = [0, 3, 3, 4, 11], [slice(0, 3), slice(3, 3), slice(3, 4), slice(4, 11)]
    s, v, out, lse = draw(T, seed=0) * 8, draw(T, 3, seed=1), draw(4, 3, seed=2), draw(4, seed=3)
    s[2], lse[3] = -float("inf"), -float("inf")
    leaves = [t.to(device).requires_grad_() for t in (s, v, out, lse)]
    result = scan(
        SoftmaxState(), (leaves[0], leaves[1]), initial=AttendResult(leaves[2], leaves[3]), chunk=4, reverse=reverse,
        segments=torch.tensor(offsets, device=device),
    )  # fmt: skip
    plain = [t.double().requires_grad_() for t in (s, v, out, lse)]
    states, ends = [torch.empty(0)] * T, []
    for g, own in enumerate(at):
        scores, values = plain[3][g : g + 1], plain[2][g : g + 1]
        for t in reversed(range(T)[own]) if reverse else range(T)[own]:
            scores, values = torch.cat([scores, plain[0][t : t + 1]]), torch.cat([values, plain[1][t : t + 1]])
            states[t] = torch.softmax(scores, 0) @ values
        ends.append(torch.softmax(scores, 0) @ values)
    want = torch.stack(states), torch.stack(ends)
    got = result.states.out, result.final.out
    torch.testing.assert_close([t.cpu().double() for t in got], [*want], rtol=1e-5, atol=1e-5)
    flows = draw(T, 3, seed=4), draw(4, 3, seed=5)
    grads = torch.autograd.grad(got, leaves, [f.to(device) for f in flows])
    exact = torch.autograd.grad(want, plain, [f.double() for f in flows])
    torch.testing.assert_close([t.cpu().double() for t in grads], [*exact], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["memory scalar", "memory diagonal", "affine diagonal"])
def test_addresses_in_int64_give_the_same_bits(kind: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [t.to(device) for t in inputs(kind, (3, 5), True, OFFSETS[2])]
    with backend("torch"):
        flow = [torch.ones_like(t) for t in scan_shapes(kind, [t.cpu() for t in given], True, OFFSETS[2])]
    flow = [t.to(device) for t in flow]
    narrow = run(kind, given, True, OFFSETS[2], 64, False, flow)
    monkeypatch.setattr(split, "WIDE_FROM", 0)
    assert split.wide(given[0])
    assert all(
        torch.equal(a, b) for a, b in zip(narrow, run(kind, given, True, OFFSETS[2], 64, False, flow), strict=True)
    )


def test_strong_decays_do_not_overflow(device: str) -> None:
    q, k, v = (draw(70, n, seed=i).to(device) for i, n in enumerate((4, 4, 3)))
    for decay, shape in (("scalar", (70,)), ("diagonal", (70, 4))):
        log_a = torch.full(shape, -30.0, device=device)
        y = scan(Memory(decay), (q, k, v, log_a)).states
        torch.testing.assert_close(y, (q * k).sum(-1, keepdim=True) * v)


def looped(log_a: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """y [T, V] and the last state [D, V], position by position."""
    y = []
    for t in range(len(q)):
        state = log_a[t].exp().unsqueeze(-1) * state + k[t].unsqueeze(-1) * v[t]
        y.append(q[t] @ state)
    return torch.stack(y), state


STRENGTHS = [[0.0], [-30.0, 0.0], [-30.0, -1.0, -0.01, -1e-4, 0.0]]
STRENGTHS += [[-1e4, -0.01], [-1e30, -0.01], [-3e38, -0.01], [-float("inf"), -0.01, -1.0]]


@pytest.mark.parametrize(
    ("decay", "decays", "width", "values"),
    pairwise(decay=["scalar", "diagonal"], decays=STRENGTHS, width=[5, 40], values=[3, 70]),
)
def test_decays_of_every_strength(decay: str, decays: list[float], width: int, values: int, device: str) -> None:
    """Over three chunks, weak decays after strong ones; values, last state and all gradients against a float64 loop."""
    generator, length = torch.Generator().manual_seed(0), 150
    own = (length, width) if decay == "diagonal" else (length,)
    log_a = torch.tensor(decays)[torch.randint(len(decays), own, generator=generator)]
    given = [log_a, *(draw(length, n, seed=n) for n in (width, width + 1, values)), draw(width, values, seed=9)]
    given[2] = given[2][:, 1:]
    leaves = [t.to(device).contiguous().requires_grad_() for t in given]
    exact = [t.double().requires_grad_() for t in given]
    result = scan(Memory(decay), (*leaves[1:4], leaves[0]), initial=leaves[4])
    want = looped(*exact)
    flows = draw(length, values, seed=7), draw(width, values, seed=8)
    grads = torch.autograd.grad([*result], leaves, [f.to(device) for f in flows])
    wanted = torch.autograd.grad(want, exact, [f.double() for f in flows])
    for got, right in zip([*result, *grads], [*want, *wanted], strict=True):
        # sums of up to T D numbers of at most the largest size, each a product with few roundings
        off = (got.detach().cpu().double() - right).abs().max() / right.abs().max().clamp(min=1)
        assert off <= 64 * torch.finfo(torch.float32).eps, off
