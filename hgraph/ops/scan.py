"""`scan`: a recurrent state along a sequence, computed with an associative operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hgraph import checks
from hgraph._torch import is_eager
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops.attend import AttendResult
from hgraph.ops.chain.affine import Segments, affine_scan, last, memory_scan, segment_of, starts
from hgraph.ops.sparse.linear import upcast

__all__ = ["Affine", "Memory", "Monoid", "ScanResult", "SoftmaxState", "scan"]


class ScanResult(NamedTuple):
    """The result of a scan: ``states`` after each element, ``final`` after the last element of each segment.

    >>> a, b = torch.tensor([0.5, 0.5]), torch.tensor([[1.0], [1.0]])
    >>> states, final = scan(Affine("scalar"), (a, b))
    >>> states.tolist(), final.tolist()
    ([[1.0], [1.5]], [1.5])
    """

    states: Any
    final: Any


@dataclass(frozen=True)
class Affine:
    r"""States :math:`h_t = a_t h_{t-1} + b_t`. Elements (a, b), b [..., T, D].

    Use it for linear recurrences, such as state space models.

    Args:
        decay: ``"scalar"``, a [..., T]; ``"diagonal"``, a [..., T, D]; ``"matrix"``, a [..., T, D, D].
        log: a is given as its logarithm (not for matrices).

    >>> a, b = torch.tensor([[0.5, 1.0], [0.5, 1.0]]), torch.ones(2, 2)
    >>> scan(Affine("diagonal"), (a, b)).final.tolist()
    [1.5, 2.0]
    """

    decay: Literal["scalar", "diagonal", "matrix"] = "diagonal"
    log: bool = False


@dataclass(frozen=True)
class Memory:
    r"""A matrix state with a readout per step: :math:`S_t = a_t S_{t-1} + k_t v_t^\top,\; y_t = q_t^\top S_t`.

    Use it for linear attention.

    Elements are (q [..., T, D], k [..., T, D], v [..., T, V], log a), with log a at most 0, and -inf for full decay
    (checked in eager mode on a CPU). ``states`` holds the readouts y [..., T, V]; the final state is S [..., D, V].
    With decays, this covers state-space layers of that form.

    Args:
        decay: ``"none"``, log a is None; ``"scalar"``, [..., T]; ``"diagonal"``, [..., T, D]: one per row of S.

    >>> q, k, v = torch.ones(3, 1), torch.ones(3, 1), torch.tensor([[1.0], [2.0], [3.0]])
    >>> scan(Memory(), (q, k, v, None)).states.flatten().tolist()
    [1.0, 3.0, 6.0]
    """

    decay: Literal["none", "scalar", "diagonal"] = "none"


@dataclass(frozen=True)
class SoftmaxState:
    r"""Softmax over all elements so far. Elements (s [..., T], v [..., T, D]); states are an `AttendResult`.

    Use it for a running softmax average with one score per element.

    .. math:: y_t = \sum_{j \le t} \exp(s_j - \mathrm{lse}_t)\, v_j, \quad \mathrm{lse}_t = \log \sum_{j \le t} \exp s_j

    >>> v = torch.tensor([[1.0], [2.0], [3.0]])
    >>> scan(SoftmaxState(), (torch.zeros(3), v)).states.out.flatten()  # means so far
    tensor([1.0000, 1.5000, 2.0000])
    """


@dataclass(frozen=True)
class Monoid:
    """Any other associative operation, run sequentially.

    Use it when none of the other elements fits; it is slower, because it runs one element at a time.

    Args:
        combine: (earlier, later) -> combined, on tuples of tensors.
        identity: the neutral element, a tuple of tensors without the time axis.

    Elements are a tuple of tensors with the time axis first.

    >>> largest = Monoid(lambda a, b: (torch.maximum(a[0], b[0]),), (torch.tensor(0.0),))
    >>> scan(largest, (torch.tensor([1.0, 3.0, 2.0]),)).states[0].tolist()
    [1.0, 3.0, 3.0]
    """

    combine: Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], tuple[Tensor, ...]]
    identity: tuple[Tensor, ...]


_CHUNK = 64


def scan(
    monoid: Affine | Memory | SoftmaxState | Monoid,
    elements: tuple[Tensor | None, ...],
    *,
    initial: Any = None,
    segments: Tensor | None = None,
    chunk: int | None = None,
    reverse: bool = False,
) -> ScanResult:
    r"""Combine each element of a sequence with all elements before it.

    Use it for recurrences, linear attention and running softmax over sequences.

    .. math:: h_t = h_0 \circ e_1 \circ \dots \circ e_t

    Args:
        monoid: the operation: `Affine`, `Memory`, `SoftmaxState` or any `Monoid`.
        elements: a tuple of tensors as documented by the monoid; leading dimensions are a batch.
        initial: the state before the first element, with the shape of ``final``; None is the identity.
        segments: [G + 1] offsets from 0 to T of independent packed sequences;
            empty ones are allowed. The initial and final states then have a dimension G:
            [..., G, state].
        chunk: elements per chunk between stored states (64). It affects rounding only.
        reverse: from the end to the start.

    Returns:
        `ScanResult` ``(states, final)``, differentiable twice in every element and in ``initial``.

    Raises:
        ArgumentError: inconsistent shapes, a chunk below 1, a log a of `Memory` above 0.
        ArgumentTypeError: not a monoid, elements that are not floating-point, segments that are not integers.

    >>> a, b = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([[1.0], [1.0], [1.0]])
    >>> scan(Affine("scalar"), (a, b)).states.flatten().tolist()
    [1.0, 1.5, 1.75]
    >>> scan(Affine("scalar"), (a, b), segments=torch.tensor([0, 1, 3])).final.flatten().tolist()
    [1.0, 1.5]
    """
    if chunk is not None and chunk < 1:
        raise ArgumentError("chunk", "a number >= 1", chunk)
    if not isinstance(elements, (tuple, list)):
        raise ArgumentTypeError("elements", "a tuple of tensors", type(elements).__name__)
    kinds: dict[type, Callable[..., ScanResult]] = {
        Affine: _affine, Memory: _memory, SoftmaxState: _softmax, Monoid: _sequential,
    }  # fmt: skip
    if type(monoid) not in kinds:
        raise ArgumentTypeError("monoid", "Affine(), Memory(), SoftmaxState() or a Monoid", type(monoid).__name__)
    if segments is not None:
        checks.integers("segments", segments, _device(elements))
        checks.shape("segments", segments, ["G + 1"])
    return kinds[type(monoid)](monoid, tuple(elements), initial, segments, chunk or _CHUNK, reverse)


def _device(elements: Any) -> torch.device:
    return next(e.device for e in elements if isinstance(e, Tensor))


def _parts(name: str, elements: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    if len(elements) != count:
        raise ArgumentError("elements", f"{count} tensors for {name}", len(elements))
    return elements


def _packed(segments: Tensor | None, length: int, like: Tensor) -> Segments:
    """The offsets; one segment if None."""
    if segments is None:
        return [torch.arange(2, device=like.device) * length]  # made on the device: a copy from the host would sync
    return [segments.long()]


class _Frame:
    """Flattens the batch to one dimension and reverses time if needed, and back."""

    def __init__(self, like: Tensor, segments: Tensor | None, reverse: bool) -> None:
        self.batch, self.length = like.shape[:-2], like.shape[-2]
        self.one, self.reverse = segments is None, reverse
        self.segments = _packed(segments, self.length, like)
        if reverse:
            self.segments = [self.length - self.segments[0].flip(0)]

    def fold(self, x: Tensor, trailing: int) -> Tensor:
        """[N, T, ...] of [..., T, ...]."""
        x = x.unsqueeze(0).flatten(0, -trailing - 2) if x.dim() > trailing else x.unsqueeze(0)
        return x.flip(1) if self.reverse else x

    def fold_state(self, x: Tensor | None, trailing: int) -> Tensor | None:
        """[N, G, ...] of [..., (G,) ...]."""
        if x is None:
            return None
        return self.fold(x.unsqueeze(-trailing - 1) if self.one else x, trailing)

    def unfold(self, x: Tensor) -> Tensor:
        """[..., T, ...] of [N, T, ...]."""
        x = x.flip(1) if self.reverse else x
        return x.view(*self.batch, *x.shape[1:])

    def unfold_state(self, x: Tensor) -> Tensor:
        """[..., (G,) ...] of [N, G, ...]."""
        x = self.unfold(x)
        return x.squeeze(len(self.batch)) if self.one else x


def _check_state(name: str, initial: Any, frame_batch: torch.Size, groups: int | None, state: tuple[int, ...]) -> None:
    if initial is not None:
        if not isinstance(initial, Tensor):
            raise ArgumentTypeError(name, "a tensor", type(initial).__name__)
        wanted = [*frame_batch, *(() if groups is None else (groups,)), *state]
        if wanted or initial.dim():
            checks.shape(name, initial, wanted or ["no dimension"])


def _affine(
    monoid: Affine, elements: tuple[Any, ...], initial: Any, segments: Tensor | None, chunk: int, reverse: bool
) -> ScanResult:
    a, b = _parts("Affine", elements, 2)
    for name, x in (("a", a), ("b", b)):
        checks.floating(f"elements ({name})", x, b.device if isinstance(b, Tensor) else a.device)
    if b.dim() < 2:
        raise ArgumentError("elements (b)", "shape [..., T, D]", f"shape {list(b.shape)}")
    own = {"scalar": (), "diagonal": (b.shape[-1],), "matrix": (b.shape[-1], b.shape[-1])}
    if monoid.decay not in own or (monoid.decay == "matrix" and monoid.log):
        raise ArgumentError("monoid", "a scalar or diagonal decay, or a matrix without log", repr(monoid))
    checks.shape("elements (a)", a, [*b.shape[:-1], *own[monoid.decay]])
    groups = None if segments is None else len(segments) - 1
    _check_state("initial", initial, b.shape[:-2], groups, b.shape[-1:])
    frame = _Frame(b, segments, reverse)
    a = a.exp() if monoid.log else a
    state = frame.fold_state(initial, 1)
    if monoid.decay == "matrix":
        states = _matrix(frame.segments, frame.fold(a, 2), frame.fold(b, 1), state)
    else:
        wide_a = frame.fold(a.unsqueeze(-1) if monoid.decay == "scalar" else a, 1)
        states = affine_scan(frame.segments, wide_a, frame.fold(b, 1), state, chunk)
    final = last(frame.segments, states, state)
    return ScanResult(frame.unfold(states), frame.unfold_state(final))


def _matrix(segments: Segments, a: Tensor, b: Tensor, initial: Tensor | None) -> Tensor:
    """Like `affine_scan`, with a [N, T, D, D]: log2(T) steps of matrix products."""
    length, step = b.shape[1], 1
    first = starts(segments, length).view(1, -1, 1)
    a, out = upcast(a), upcast(b).unsqueeze(-1)
    if initial is not None:
        spread = upcast(initial).index_select(1, segment_of(segments, length)).unsqueeze(-1)
        out = out + torch.where(first.unsqueeze(-1), a @ spread, 0.0)
    a = torch.where(first.unsqueeze(-1), 0.0, a)
    while step < length:
        joined = a[:, step:] @ torch.cat([out[:, :-step], a[:, :-step]], -1)
        out = torch.cat([out[:, :step], out[:, step:] + joined[..., :1]], 1)
        a = torch.cat([a[:, :step], joined[..., 1:]], 1)
        step *= 2
    return out.squeeze(-1).to(b.dtype)


def _memory(
    monoid: Memory, elements: tuple[Any, ...], initial: Any, segments: Tensor | None, chunk: int, reverse: bool
) -> ScanResult:
    q, k, v, log_a = _parts("Memory", elements, 4)
    for name, x in (("q", q), ("k", k), ("v", v), *((("log a", log_a),) if log_a is not None else ())):
        checks.floating(f"elements ({name})", x, q.device)
    if q.dim() < 2:
        raise ArgumentError("elements (q)", "shape [..., T, D]", f"shape {list(q.shape)}")
    checks.shape("elements (k)", k, q.shape)
    checks.shape("elements (v)", v, [*q.shape[:-1], "V"])
    own = {"none": (), "scalar": (), "diagonal": q.shape[-1:]}
    if monoid.decay not in own or (monoid.decay == "none") != (log_a is None):
        expected = "decay 'none' with log a None, 'scalar' or 'diagonal' with a tensor"
        raise ArgumentError("monoid", expected, f"{monoid!r} and {type(log_a).__name__}")
    if log_a is not None:
        checks.shape("elements (log a)", log_a, [*q.shape[:-1], *own[monoid.decay]])
        _check_decays(log_a)
    else:
        log_a = q.new_zeros(q.shape[:-1])
    groups = None if segments is None else len(segments) - 1
    _check_state("initial", initial, q.shape[:-2], groups, (q.shape[-1], v.shape[-1]))
    frame = _Frame(q, segments, reverse)
    wide_a = frame.fold(log_a if monoid.decay == "diagonal" else log_a.unsqueeze(-1), 1)
    folded = (frame.fold(x, 1) for x in (q, k, v))
    axis = 1 if monoid.decay == "diagonal" else 0
    y, final = memory_scan(frame.segments, *folded, wide_a, frame.fold_state(initial, 2), axis, chunk)
    return ScanResult(frame.unfold(y), frame.unfold_state(final))


def _seen(log_a: Tensor) -> bool:
    return log_a.is_cpu and type(log_a) in (Tensor, torch.nn.Parameter) and is_eager()


def _check_decays(log_a: Tensor) -> None:
    """Refuse states that grow. Only on a CPU, because elsewhere the check would synchronize."""
    if _seen(log_a) and bool((log_a > 0).any()):
        got = f"values up to {float(log_a.max()):.3g}"
        raise ArgumentError(
            "elements (log a)", "logarithms of decays, at most 0", got, "Use -softplus(x) or logsigmoid(x)"
        )


def _softmax(
    monoid: SoftmaxState, elements: tuple[Any, ...], initial: Any, segments: Tensor | None, chunk: int, reverse: bool
) -> ScanResult:
    """An affine scan of (weighted sum, sum), both scaled by exp(-running maximum)."""
    s, v = _parts("SoftmaxState", elements, 2)
    for name, x in (("s", s), ("v", v)):
        checks.floating(f"elements ({name})", x, s.device)
    if v.dim() < 2:
        raise ArgumentError("elements (v)", "shape [..., T, D]", f"shape {list(v.shape)}")
    checks.shape("elements (s)", s, v.shape[:-1])
    if initial is not None and not isinstance(initial, AttendResult):
        raise ArgumentTypeError("initial", "an AttendResult", type(initial).__name__)
    groups = None if segments is None else len(segments) - 1
    if initial is not None:
        _check_state("initial", initial.out, v.shape[:-2], groups, v.shape[-1:])
        _check_state("initial", initial.lse, v.shape[:-2], groups, ())
    frame = _Frame(v, segments, reverse)
    score, value = frame.fold(upcast(s).unsqueeze(-1), 1), frame.fold(upcast(v), 1)
    lse, out = (None, None) if initial is None else (initial.lse.unsqueeze(-1), initial.out)
    lse, out = frame.fold_state(lse, 1), frame.fold_state(out, 1)
    row_max = _largest_so_far(frame.segments, score.detach(), None if lse is None else lse.detach())
    first = starts(frame.segments, frame.length).view(1, -1, 1)
    before = torch.cat([row_max[:, :1], row_max[:, :-1]], 1)
    state = None
    if lse is not None and out is not None:
        shift = _finite(lse.detach())
        before = torch.where(first, lse.detach().index_select(1, segment_of(frame.segments, frame.length)), before)
        weight = torch.exp(lse - shift)
        state = torch.cat([weight * upcast(out), weight], -1)
    decay = torch.exp(torch.where(before == float("-inf"), float("-inf"), before - _finite(row_max)))
    weight = torch.exp(score - _finite(row_max))
    carried = affine_scan(frame.segments, decay, torch.cat([weight * value, weight], -1), state, chunk)
    states = _normalized(carried, row_max)
    ends = last(frame.segments, torch.cat([*states], -1), None if out is None else torch.cat([upcast(out), lse], -1))  # type: ignore[list-item]
    if initial is None:  # an empty segment has no elements
        ends = torch.cat([ends[..., :-1], _empty_is_minus_inf(frame.segments, ends[..., -1:])], -1)
    whole = AttendResult(frame.unfold(states[0]).to(v.dtype), frame.unfold(states[1]).squeeze(-1))
    final = AttendResult(frame.unfold_state(ends[..., :-1]).to(v.dtype), frame.unfold_state(ends[..., -1:]).squeeze(-1))
    return ScanResult(whole, final)


def _finite(x: Tensor) -> Tensor:
    return torch.where(x == float("-inf"), 0.0, x)


def _empty_is_minus_inf(segments: Segments, lse: Tensor) -> Tensor:
    return torch.where((segments[0].diff() == 0).view(1, -1, 1), float("-inf"), lse)


def _normalized(carried: Tensor, row_max: Tensor) -> tuple[Tensor, Tensor]:
    total = carried[..., -1:]
    none = total == 0
    total = torch.where(none, 1.0, total)
    return carried[..., :-1] / total, torch.where(none, float("-inf"), _finite(row_max) + total.log())


def _largest_so_far(segments: Segments, score: Tensor, initial: Tensor | None) -> Tensor:
    """[N, T, 1]: the running maximum of the scores in a segment; it only scales, so it has no gradient."""
    length = score.shape[1]
    if initial is not None and length:
        spread = initial.index_select(1, segment_of(segments, length)).to(score.dtype)
        score = torch.where(starts(segments, length).view(1, -1, 1), torch.maximum(score, spread), score)
    if len(segments[0]) == 2:
        return score.cummax(1).values if length else score
    # The running maximum of (segment, rank of the score), which is unique per position.
    rank = torch.sort(score, dim=1, stable=True).indices.argsort(1)
    order = segment_of(segments, length).view(1, -1, 1) * length + rank
    return score.gather(1, order.cummax(1).indices) if length else score


def _sequential(
    monoid: Monoid, elements: tuple[Any, ...], initial: Any, segments: Tensor | None, chunk: int, reverse: bool
) -> ScanResult:
    if segments is not None:
        raise ArgumentError("segments", "None for a custom Monoid", "a tensor", "Call once per segment")
    identity = tuple(monoid.identity)
    for i, (e, unit) in enumerate(zip(_parts("the identity", elements, len(identity)), identity, strict=True)):
        checks.shape(f"elements ({i})", e, ["T", *unit.shape])
    state = identity if initial is None else tuple(initial)
    length = elements[0].shape[0]
    states: list[tuple[Tensor, ...]] = [identity] * length
    for t in range(length - 1, -1, -1) if reverse else range(length):
        state = states[t] = tuple(monoid.combine(state, tuple(e[t] for e in elements)))
    if length == 0:
        return ScanResult(tuple(unit.new_zeros(0, *unit.shape) for unit in identity), state)
    return ScanResult(tuple(torch.stack(one) for one in zip(*states, strict=True)), state)
