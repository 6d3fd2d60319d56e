"""`scan` against loops in float64, its derivatives against finite differences, its limits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from hgraph import Affine, AttendResult, Memory, Monoid, SoftmaxState, attend, errors, patterns, scan
from hgraph.ops.chain import affine

INF = float("inf")
OFFSETS = [None, [0, 7], [0, 3, 3, 4, 7], [0, 0, 7, 7]]
T, D, V = 7, 3, 2


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cuts(offsets: list[int] | None, length: int) -> list[tuple[int, int]]:
    return [(0, length)] if offsets is None else list(itertools.pairwise(offsets))


def walk(offsets: list[int] | None, length: int, reverse: bool) -> list[tuple[int, list[int]]]:
    """(segment, its places in the order of the scan)."""
    places = [list(range(*cut)) for cut in cuts(offsets, length)]
    return [(g, p[::-1] if reverse else p) for g, p in enumerate(places)]


def state_of(x: Tensor | None, g: int, offsets: list[int] | None, shape: tuple[int, ...]) -> Tensor:
    if x is None:
        return torch.zeros(shape, dtype=torch.float64)
    return x if offsets is None else x[g]


def affine_inputs(decay: str, offsets: list[int] | None, *batch: int) -> tuple[Tensor, Tensor, Tensor]:
    own = {"scalar": (), "diagonal": (D,), "matrix": (D, D)}[decay]
    groups = () if offsets is None else (len(offsets) - 1,)
    return draw(*batch, T, *own), draw(*batch, T, D, seed=1), draw(*batch, *groups, D, seed=2)


def tensor(offsets: list[int] | None) -> Tensor | None:
    return None if offsets is None else torch.tensor(offsets)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("decay", ["scalar", "diagonal", "matrix"])
@pytest.mark.parametrize("start", [False, True])
def test_affine_is_the_recurrence(decay: str, offsets: list[int] | None, reverse: bool, start: bool) -> None:
    a, b, initial = affine_inputs(decay, offsets, 2)
    result = scan(
        Affine(decay), (a, b), initial=initial if start else None, segments=tensor(offsets), reverse=reverse, chunk=2
    )
    for n in range(2):
        for g, places in walk(offsets, T, reverse):
            h = state_of(initial[n] if start else None, g, offsets, (D,))
            for t in places:
                h = (a[n, t] @ h if decay == "matrix" else a[n, t] * h) + b[n, t]
                torch.testing.assert_close(result.states[n, t], h)
            torch.testing.assert_close(state_of(result.final[n], g, offsets, ()), h)


def test_affine_in_logarithms() -> None:
    a, b, _ = affine_inputs("diagonal", None)
    one, two = scan(Affine(log=True), (a, b)), scan(Affine(), (a.exp(), b))
    torch.testing.assert_close(one.states, two.states)


def memory_inputs(decay: str, offsets: list[int] | None, length: int = T) -> tuple[list[Tensor | None], Tensor]:
    groups = () if offsets is None else (len(offsets) - 1,)
    log_a = {"none": None, "scalar": -draw(2, length, seed=3).abs(), "diagonal": -draw(2, length, D, seed=3).abs()}
    elements = [draw(2, length, D), draw(2, length, D, seed=1), draw(2, length, V, seed=2), log_a[decay]]
    return elements, draw(2, *groups, D, V, seed=4)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("decay", ["none", "scalar", "diagonal"])
@pytest.mark.parametrize(("start", "chunk"), [(False, 64), (True, 2), (True, 3)])
def test_memory_is_the_recurrence(
    decay: str, offsets: list[int] | None, reverse: bool, start: bool, chunk: int
) -> None:
    (q, k, v, log_a), initial = memory_inputs(decay, offsets)
    given = initial if start else None
    result = scan(
        Memory(decay), (q, k, v, log_a), initial=given, segments=tensor(offsets), reverse=reverse, chunk=chunk
    )
    for n in range(2):
        for g, places in walk(offsets, T, reverse):
            state = state_of(initial[n] if start else None, g, offsets, (D, V))
            for t in places:
                a = {"none": 1.0}.get(decay)
                a = log_a[n, t].exp().reshape(-1, 1) if a is None else a
                state = a * state + torch.outer(k[n, t], v[n, t])
                torch.testing.assert_close(result.states[n, t], q[n, t] @ state)
            torch.testing.assert_close(state_of(result.final[n], g, offsets, ()), state)


STRENGTHS = [[-30.0, 0.0], [-30.0, -1.0, -0.01, -1e-4, 0.0], [-1e4, -0.01]]
STRENGTHS += [[-1e30, -0.01], [-3e38, -0.01], [-INF, -0.01, -1.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decays", STRENGTHS)
@pytest.mark.parametrize("decay", ["scalar", "diagonal"])
def test_memory_of_decays_of_every_strength(decay: str, decays: list[float], dtype: torch.dtype) -> None:
    """Weak ones after strong ones, over three chunks: values, last state and all gradients against a float64 loop."""
    length, generator = 70, torch.Generator().manual_seed(0)
    own = (length, D) if decay == "diagonal" else (length,)
    log_a = torch.tensor(decays)[torch.randint(len(decays), own, generator=generator)]
    given = [draw(length, n, seed=i).float() for i, n in enumerate((D, D, V))] + [log_a, draw(D, V, seed=4).float()]
    leaves = [t.to(dtype).requires_grad_() for t in given]
    q, k, v, log, state = exact = [t.double().requires_grad_() for t in given]
    result = scan(Memory(decay), tuple(leaves[:4]), initial=leaves[4], chunk=32)
    y = []
    for t in range(length):
        state = log[t].exp().unsqueeze(-1) * state + torch.outer(k[t], v[t])
        y.append(q[t] @ state)
    want = torch.stack(y), state
    flows = draw(length, V, seed=5), draw(D, V, seed=6)
    grads = torch.autograd.grad([*result], leaves, [f.to(dtype) for f in flows])
    wanted = torch.autograd.grad(want, exact, flows)
    for got, right in zip([*result, *grads], [*want, *wanted], strict=True):
        off = (got.double() - right).abs().max() / right.abs().max().clamp(min=1)
        assert off <= 64 * torch.finfo(dtype).eps, off
    assert (grads[3][log_a < -800] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("closed", [-5.0, -20.0, -60.0])
@pytest.mark.parametrize("offsets", [None, [0, 3, 3, 50, 70]])
@pytest.mark.parametrize("decay", ["scalar", "diagonal"])
def test_gradients_of_nearly_closed_gates(
    decay: str, offsets: list[int] | None, closed: float, dtype: torch.dtype
) -> None:
    """Each gradient is within its rounding error: sums of positive numbers do not cancel, however small a gate is."""
    length, generator = 70, torch.Generator().manual_seed(0)
    own = (length, D) if decay == "diagonal" else (length,)
    log_a = torch.tensor([closed, -0.1, -0.2])[torch.randint(3, own, generator=generator)]
    given = [draw(length, n, seed=i).abs().float() for i, n in enumerate((D, D, V))] + [log_a]
    states = draw(*([] if offsets is None else [len(offsets) - 1]), D, V, seed=4).abs().float()
    leaves = [t.to(dtype).requires_grad_() for t in [*given, states]]
    q, k, v, log, initial = [t.double().requires_grad_() for t in [*given, states]]
    result = scan(Memory(decay), tuple(leaves[:4]), initial=leaves[4], segments=tensor(offsets), chunk=32)
    y, finals = [], []
    for g, (start, stop) in enumerate(itertools.pairwise(offsets or [0, length])):
        state = initial if offsets is None else initial[g]
        for t in range(start, stop):
            state = log[t].exp().unsqueeze(-1) * state + torch.outer(k[t], v[t])
            y.append(q[t] @ state)
        finals.append(state)
    want = torch.stack(y), finals[0] if offsets is None else torch.stack(finals)
    flows = [draw(*x.shape, seed=5 + i).abs() for i, x in enumerate(want)]
    got = torch.autograd.grad([*result], leaves[3], [f.to(dtype) for f in flows])[0].double()
    right = torch.autograd.grad(want, log, flows)[0]
    assert ((got - right).abs() <= 256 * torch.finfo(dtype).eps * right.abs()).all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("start", [False, True])
def test_softmax_states_are_prefix_attention(offsets: list[int] | None, reverse: bool, start: bool) -> None:
    s, v = draw(T) * 3, draw(T, V, seed=1)
    s[0], s[4] = -INF, -INF
    groups = () if offsets is None else (len(offsets) - 1,)
    before = AttendResult(draw(*groups, V, seed=2), draw(*groups, seed=3))
    result = scan(
        SoftmaxState(), (s, v), initial=before if start else None, segments=tensor(offsets), reverse=reverse, chunk=2
    )
    for g, places in walk(offsets, T, reverse):
        terms = [(float(state_of(before.lse, g, offsets, ())), state_of(before.out, g, offsets, (V,)))] if start else []
        for t in places:
            terms += [(float(s[t]), v[t])] if s[t] > -INF else []
            total = math.fsum(math.exp(score) for score, _ in terms)
            out = sum((math.exp(score) / total * value for score, value in terms), torch.zeros(V, dtype=torch.float64))
            torch.testing.assert_close(result.states.out[t], out)
            torch.testing.assert_close(float(result.states.lse[t]), math.log(total) if total else -INF)
        if terms:
            torch.testing.assert_close(state_of(result.final.out, g, offsets, ()), out if places else terms[0][1])
        else:
            assert float(state_of(result.final.lse, g, offsets, ())) == -INF


def test_softmax_states_equal_attend_over_everything_so_far() -> None:
    s, v = draw(T), draw(T, V, seed=1)
    adj = patterns.causal(T).adjacency()
    q, k = torch.ones(T, 1, 1, dtype=torch.float64), s.view(T, 1, 1)
    wanted = attend(adj, q, k, v.unsqueeze(1), scale=1.0)
    result = scan(SoftmaxState(), (s, v))
    torch.testing.assert_close(result.states.out, wanted.out.squeeze(1))
    torch.testing.assert_close(result.states.lse, wanted.lse.squeeze(1))


def test_softmax_states_of_large_scores() -> None:
    s = torch.tensor([-1e4, 1e4, -1e4, 2e4])
    result = scan(SoftmaxState(), (s, torch.arange(4.0).unsqueeze(1)))
    assert result.states.out.flatten().tolist() == [0.0, 1.0, 1.0, 3.0]
    assert result.states.lse.tolist() == [-1e4, 1e4, 1e4, 2e4]


def test_other_monoids_are_computed_step_by_step() -> None:
    top = Monoid(lambda x, y: (torch.maximum(x[0], y[0]),), (torch.full((2,), -INF),))
    x = torch.tensor([[1.0, 5.0], [3.0, 2.0], [2.0, 9.0]])
    assert torch.equal(scan(top, (x,)).states[0], x.cummax(0).values)
    assert torch.equal(scan(top, (x,), reverse=True).states[0], x.flip(0).cummax(0).values.flip(0))
    assert scan(top, (x[:0],)).final[0].tolist() == [-INF, -INF]
    assert scan(top, (x,), initial=(torch.tensor([4.0, 0.0]),)).states[0][0].tolist() == [4.0, 5.0]


@pytest.mark.parametrize("offsets", [None, [0, 3, 3, 5]])
@pytest.mark.parametrize("kind", ["scalar", "diagonal", "matrix", "memory none", "memory scalar", "memory diagonal"])
def test_derivatives(kind: str, offsets: list[int] | None) -> None:
    """First and second, in every element and the initial state, through the states and the final state."""
    length, groups = 5, () if offsets is None else (len(offsets) - 1,)
    segments = tensor(offsets)
    if kind.startswith("memory"):
        decay = kind.split()[1]
        own = {"scalar": (), "diagonal": (2,)}.get(decay)
        inputs = [draw(length, 2), draw(length, 2, seed=1), draw(length, 1, seed=2), draw(*groups, 2, 1, seed=3)]
        inputs += [] if own is None else [-draw(length, *own, seed=4).abs()]

        def run(q: Tensor, k: Tensor, v: Tensor, initial: Tensor, *log_a: Tensor) -> tuple[Tensor, Tensor]:
            elements = (q, k, v, log_a[0] if log_a else None)
            return tuple(scan(Memory(decay), elements, initial=initial, segments=segments, chunk=2))
    else:
        own = {"scalar": (), "diagonal": (2,), "matrix": (2, 2)}[kind]
        inputs = [draw(length, *own), draw(length, 2, seed=1), draw(*groups, 2, seed=2)]

        def run(a: Tensor, b: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
            return tuple(scan(Affine(kind), (a, b), initial=initial, segments=segments))

    inputs = [x.requires_grad_() for x in inputs]
    assert gradcheck(run, inputs, nondet_tol=0)
    assert gradgradcheck(run, inputs, nondet_tol=0, fast_mode=True)


def test_derivatives_of_softmax_states() -> None:
    segments = torch.tensor([0, 3, 3, 5])

    def run(s: Tensor, v: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, ...]:
        result = scan(SoftmaxState(), (s, v), initial=AttendResult(out, lse), segments=segments)
        return (*result.states, *result.final)

    inputs = [x.requires_grad_() for x in (draw(5), draw(5, 2, seed=1), draw(3, 2, seed=2), draw(3, seed=3))]
    assert gradcheck(run, inputs, nondet_tol=0)
    assert gradgradcheck(run, inputs, nondet_tol=0, fast_mode=True)


@pytest.mark.parametrize("length", [0, 1, 2, 65])
def test_lengths(length: int) -> None:
    a, b = draw(length, D).clamp(-1, 1), draw(length, D, seed=1)
    result = scan(Affine(), (a, b))
    assert result.states.shape == (length, D)
    assert result.final.shape == (D,)
    q, k, v = draw(length, D), draw(length, D, seed=1), draw(length, V, seed=2)
    one = scan(Memory(), (q, k, v, None), chunk=64)
    two = scan(Memory(), (q, k, v, None), chunk=5)
    torch.testing.assert_close(one.states, two.states)
    torch.testing.assert_close(one.final, k.T @ v)


@pytest.mark.parametrize("decay", ["none", "scalar", "diagonal"])
@pytest.mark.parametrize("length", [8, 31])
def test_pieces_of_a_sequence_are_the_whole(decay: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    elements, initial = memory_inputs(decay, None, length)
    elements = [None if x is None else x.requires_grad_() for x in elements]

    def run() -> list[Tensor]:
        whole = scan(Memory(decay), elements, initial=initial, chunk=4)
        grads = torch.autograd.grad(
            whole.states.square().sum() + whole.final.sum(), [x for x in elements if x is not None]
        )
        return [*whole, *grads]

    one = run()
    monkeypatch.setattr(affine, "_PIECE", 1)
    torch.testing.assert_close(run(), one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("decay", ["scalar", "diagonal"])
def test_pieces_of_affine_recurrences_are_the_whole(
    decay: str, offsets: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, initial = (x.requires_grad_() for x in affine_inputs(decay, offsets, 2))

    def run() -> list[Tensor]:
        whole = scan(Affine(decay), (a, b), initial=initial, segments=tensor(offsets))
        return [*whole, *torch.autograd.grad(whole.states.square().sum() + whole.final.sum(), [a, b, initial])]

    one = run()
    for tokens in (1, 2, 3):
        monkeypatch.setattr(affine, "_PIECE", 8 * 2 * D * tokens)
        torch.testing.assert_close(run(), one, rtol=1e-12, atol=1e-12)


def test_one_decay_per_token_stores_no_number_per_pair_and_channel(largest) -> None:
    length, width = 512, 32
    x = draw(1, length, width)
    with largest:  # the kernel itself: within an operator, einsum would hide what it stores
        affine._memory_kernel([torch.tensor([0, length])], x, x, x, -x[..., :1].abs(), None, 0, 32)
    assert largest.bytes <= 8 * 2 * length * width


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    a, b = torch.ones(5000), torch.ones(5000, 1, dtype=dtype)
    assert scan(Affine("scalar"), (a.to(dtype), b)).final.item() == torch.tensor(5000.0).to(dtype).item()
    ones = torch.ones(300, 1, dtype=dtype)
    result = scan(Memory(), (ones, ones, ones, None))
    assert result.states.dtype == dtype
    assert result.final.dtype == torch.float32
    assert result.final.item() == 300


def test_the_same_bits_and_no_leak_between_segments() -> None:
    (q, k, v, log_a), _ = memory_inputs("diagonal", None)
    segments = torch.tensor([0, 4, 7])
    one = scan(Memory("diagonal"), (q, k, v, log_a), segments=segments, chunk=2)
    assert torch.equal(one.states, scan(Memory("diagonal"), (q, k, v, log_a), segments=segments, chunk=2).states)
    other = v.clone()
    other[:, :4] = float("nan")
    assert torch.equal(
        scan(Memory("diagonal"), (q, k, other, log_a), segments=segments, chunk=2).states[:, 4:], one.states[:, 4:]
    )


@pytest.mark.parametrize("kind", ["affine", "memory", "softmax"])
def test_compiles(kind: str) -> None:
    torch._dynamo.reset()

    def run(x: Tensor, segments: Tensor) -> Tensor:
        if kind == "affine":
            return scan(Affine(), (x, x), segments=segments).states
        if kind == "memory":
            return scan(Memory("scalar"), (x, x, x, -x[:, 0].abs()), segments=segments).states
        return scan(SoftmaxState(), (x[:, 0], x), segments=segments).states.out

    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    for length, cut in ((9, [0, 4, 9]), (12, [0, 5, 12])):
        x = draw(length, 3).requires_grad_()
        out = compiled(x, torch.tensor(cut))
        torch.testing.assert_close(out, run(x, torch.tensor(cut)))
        out.sum().backward()


def test_wrong_arguments_are_named() -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(errors.ArgumentError, match="elements: expected 2 tensors for Affine"):
        scan(Affine(), (x,))
    with pytest.raises(errors.ArgumentError, match=r"elements \(a\): expected shape \[3\]"):
        scan(Affine("scalar"), (x, x))
    with pytest.raises(errors.ArgumentError, match=r"initial: expected shape \[2\]"):
        scan(Affine(), (x, x), initial=torch.zeros(3))
    with pytest.raises(errors.ArgumentError, match="chunk: expected a number >= 1"):
        scan(Affine(), (x, x), chunk=0)
    with pytest.raises(errors.ArgumentTypeError, match="monoid: expected"):
        scan("sum", (x, x))
    with pytest.raises(errors.ArgumentError, match="monoid: expected a scalar or diagonal"):
        scan(Affine("matrix", log=True), (x.unsqueeze(-1).expand(3, 2, 2), x))
    with pytest.raises(errors.ArgumentError, match="monoid: expected decay 'none'"):
        scan(Memory("scalar"), (x, x, x, None))
    with pytest.raises(errors.ArgumentError, match=r"log a\): expected .* at most 0, got values up to 176"):
        scan(Memory("scalar"), (x, x, x, torch.tensor([-1.0, 176.0, 0.0])))
    with pytest.raises(errors.ArgumentTypeError, match="segments: expected an integer tensor"):
        scan(Affine(), (x, x), segments=torch.tensor([0.0, 3.0]))
