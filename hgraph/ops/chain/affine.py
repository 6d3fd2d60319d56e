r"""The operators behind `hgraph.scan`: affine recurrences over packed segments, with or without all states.

- ``affine_scan``: :math:`h_t = a_t h_{t-1} + b_t`, all states. a [N, T, 1 or D], b [N, T, D], initial [N, G, D] or
  None.
- ``memory_scan``: :math:`S_t = a_t S_{t-1} + k_t v_t^\top,\; y_t = q_t^\top S_t`, stores only the last state of each
  segment. q, k [N, T, D], v [N, T, V], log a [N, T, 1], [N, T, D] (``axis`` 1: decays along the keys) or [N, T, V]
  (``axis`` 2), initial [N, G, D, V] or None; y [N, T, V] and the last states [N, G, D, V].

``segments`` is the list [offsets [G + 1]] of where each segment starts; a segment may be empty. Half inputs are
computed in float32. The gradients are scans of the same kind over reversed time, so every order exists.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph.ops.dispatch.register import register
from hgraph.ops.sparse.linear import upcast

Segments = list[Tensor]
_PIECE = 1 << 21  # bytes of the largest tensor of one piece of a sequence, which then fits the cache of a core

__all__ = ["Segments", "affine_scan", "chunks", "last", "memory_scan", "segment_of", "starts"]


def segment_of(segments: Segments, length: int) -> Tensor:
    """[T]: the segment of each position."""
    place = torch.arange(length, device=segments[0].device)
    return torch.searchsorted(segments[0], place, right=True) - 1


def starts(segments: Segments, length: int) -> Tensor:
    """[T] booleans: where a segment begins."""
    offsets = segments[0]
    marks = torch.zeros(length + 1, dtype=torch.bool, device=offsets.device)
    return marks.index_fill(0, offsets[:-1].long(), True)[:length]


def last(segments: Segments, states: Tensor, initial: Tensor | None) -> Tensor:
    """[N, G, ...]: the last state of each segment of states [N, T, ...]; the initial state, or 0, for empty ones."""
    offsets = segments[0]
    if states.shape[1] == 0:
        shape = (states.shape[0], len(offsets) - 1, *states.shape[2:])
        return states.new_zeros(shape) if initial is None else initial.expand(shape)
    at = states.index_select(1, (offsets[1:] - 1).clamp(min=0))
    empty = (offsets.diff() == 0).view(1, -1, *[1] * (states.dim() - 2))
    return torch.where(empty, 0.0 if initial is None else initial.to(at.dtype), at)


def _reversed(segments: Segments, length: int) -> Segments:
    """The segments in reversed time."""
    return [length - segments[0].flip(0)]


def _later(segments: Segments, a: Tensor, end: float) -> Tensor:
    """a shifted by one position, with ``end`` at the end of a segment."""
    ends = starts(_reversed(segments, a.shape[1]), a.shape[1]).flip(0)
    return torch.where(ends.view(1, -1, 1), end, F.pad(a[:, 1:], (0, 0, 0, 1)))


def _spread(initial: Tensor, segments: Segments, length: int) -> Tensor:
    """[N, T, ...]: the initial state of the segment at each position."""
    return initial.index_select(1, segment_of(segments, length))


# ---------------------------------------------------------------------- states kept


def _affine_kernel(segments: Segments, a: Tensor, b: Tensor, initial: Tensor | None, chunk: int) -> Tensor:
    """Pieces that fit a CPU's cache, in log2 steps, each combining every position with the one 2**i earlier."""
    length = b.shape[1]
    first = starts(segments, length).view(1, -1, 1)
    wide_a, wide_b = upcast(a), upcast(b)
    if initial is not None:
        wide_b = wide_b + torch.where(first, wide_a * _spread(upcast(initial), segments, length), 0.0)
    wide_a = torch.where(first, 0.0, wide_a)
    piece = max(_PIECE // (8 * max(wide_b[:, :1].numel(), 1)), 1) if b.is_cpu else length
    if length <= piece:
        return _doubling(wide_a, wide_b).to(b.dtype)
    out = [_doubling(wide_a[:, :piece], wide_b[:, :piece])]
    for at in range(piece, length, piece):
        a_some, b_some = wide_a[:, at : at + piece], wide_b[:, at : at + piece]
        begin = b_some[:, :1] + a_some[:, :1] * out[-1][:, -1:]  # the decay is 0 where a segment begins
        out.append(_doubling(a_some, torch.cat([begin, b_some[:, 1:]], 1)))
    return torch.cat(out, 1).to(b.dtype)


def _doubling(a: Tensor, b: Tensor) -> Tensor:
    """All states of one piece, from 0."""
    step = 1
    while step < b.shape[1]:
        b = b + F.pad(a[:, step:] * b[:, :-step], (0, 0, step, 0))
        a = torch.cat([a[:, :step], a[:, step:] * a[:, :-step]], 1)
        step *= 2
    return b


def _save_affine(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    segments, a, _, initial, ctx.chunk = inputs
    ctx.save_for_backward(*segments, a, initial, output)


def _backward_affine(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    offsets, a, initial, states = ctx.saved_tensors
    segments, length = [offsets], states.shape[1]
    later = _later(segments, a, 0.0).flip(1)
    flow = affine_scan(_reversed(segments, length), later, grad.flip(1), None, ctx.chunk).flip(1)
    first = starts(segments, length).view(1, -1, 1)
    before = F.pad(states[:, :-1], (0, 0, 1, 0)) if length else states
    before = torch.where(first, 0.0 if initial is None else _spread(initial, segments, length), before)
    grad_a = flow * before
    grad_a = grad_a.sum(-1, keepdim=True) if a.shape[2] == 1 and states.shape[2] != 1 else grad_a
    grad_initial = None
    if initial is not None:
        grad_initial = _at_starts(segments, a * flow).to(initial.dtype)
    return None, grad_a.to(a.dtype), flow, grad_initial, None


def _at_starts(segments: Segments, x: Tensor) -> Tensor:
    """[N, G, D]: x [N, T, D] where each segment begins, 0 for an empty one."""
    offsets = segments[0]
    if x.shape[1] == 0:
        return x.new_zeros((x.shape[0], len(offsets) - 1, *x.shape[2:]))
    at = x.index_select(1, offsets[:-1].clamp(max=x.shape[1] - 1))
    return torch.where((offsets.diff() == 0).view(1, -1, 1), 0.0, at)


affine_scan = register(
    "affine_scan(Tensor[] segments, Tensor a, Tensor b, Tensor? initial, int chunk) -> Tensor",
    _affine_kernel,
    lambda segments, a, b, initial, chunk: torch.empty_like(b, memory_format=torch.contiguous_format),
    _save_affine,
    _backward_affine,
)


# ---------------------------------------------------------------------- states read


def chunks(segments: Segments, length: int, chunk: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(start [C], end [C], segment [C], each segment's first chunk [G + 1]) of chunks that never cross segments.

    Unused chunks at the end are empty.
    There are T // chunk + G chunks whatever the lengths, so nothing synchronizes.
    """
    offsets = segments[0]
    pointer = F.pad(((offsets.diff() + chunk - 1) // chunk).cumsum(0), (1, 0))
    each = torch.arange(length // chunk + len(offsets) - 1, device=offsets.device)
    segment = torch.searchsorted(pointer, each, right=True) - 1
    inside = segment.clamp(max=len(offsets) - 2)
    first = offsets[inside] + (each - pointer[inside]) * chunk
    end = torch.minimum(first + chunk, offsets[inside + 1])
    beyond = each >= pointer[-1]
    segment = torch.where(beyond, len(offsets) - 1, inside)
    return torch.where(beyond, 0, first), torch.where(beyond, 0, end), segment, pointer


def _memory_kernel(
    segments: Segments, q: Tensor, k: Tensor, v: Tensor, log_a: Tensor, initial: Tensor | None, axis: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """Dense within chunks, sequential between them; one segment is computed in pieces that fit a CPU's cache."""
    examples, length, width = q.shape
    groups, values = len(segments[0]) - 1, v.shape[2]
    chunk = min(chunk, 16) if axis else chunk  # a decay per channel needs one number per pair and channel
    chunk = max(min(chunk, length), 1)  # a decoded token is not padded to a chunk
    state = upcast(q).new_zeros((examples, groups + 1, width, values))  # the last one is for unused chunks
    if initial is not None:
        state[:, :groups] = upcast(initial)
    if length == 0 or groups == 0:
        return torch.zeros_like(v), state[:, :groups]
    each = 8 * max(examples, 1) * max(width, values, chunk if axis == 0 else chunk * width)
    piece = max(_PIECE // each // chunk, 1) * chunk
    if groups > 1 or length <= piece or not q.is_cpu:
        y, state = _memory_piece(segments, q, k, v, log_a, state, axis, chunk)
        return y, state[:, :groups].contiguous()
    out = []
    for at in range(0, length, piece):
        q_some, k_some, v_some, log_some = (x[:, at : at + piece] for x in (q, k, v, log_a))
        y, state = _memory_piece(segments, q_some, k_some, v_some, log_some, state, axis, chunk)
        out.append(y)
    return torch.cat(out, 1), state[:, :1].contiguous()


def _memory_piece(
    segments: Segments, q: Tensor, k: Tensor, v: Tensor, log_a: Tensor, state: Tensor, axis: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """[N, T, V], and the states [N, G + 1, D, V] after the segments."""
    length, groups = q.shape[1], len(segments[0]) - 1
    segment, place = _cuts(segments, length, chunk)
    q_cut, k_cut, v_cut, log = (_cut(x, place, length, groups) for x in (q, k, v, log_a))
    decay = log.cumsum(2)  # log of the remaining fraction of the state before the chunk
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).tril().view(1, 1, chunk, chunk, 1)
    # The contribution of j decays by exp(sum of log a over j + 1 .. i) until i: summed separately for each j, because
    # differences of two prefix sums have the rounding error of every strong decay before j.
    since = torch.where(causal.transpose(2, 3), 0.0, log.unsqueeze(3)).cumsum(2)
    pair = torch.where(causal, since.exp_(), 0.0)
    remain, own = pair[:, :, -1], decay.exp()
    if axis == 2:
        y = torch.einsum("ncij,ncijv,ncjv->nciv", q_cut @ k_cut.mT, pair, v_cut)
        gain, read = k_cut.mT @ (v_cut * remain), q_cut
    else:
        # a single decay for all channels multiplies the inner products; one per channel multiplies their terms
        score = (q_cut @ k_cut.mT) * pair.squeeze(-1) if axis == 0 else _channel_scores(q_cut, pair, k_cut)
        y, gain, read = score @ v_cut, (k_cut * remain).mT @ v_cut, q_cut * own
    factor = own[:, :, -1:] if axis == 2 else own[:, :, -1].unsqueeze(-1)  # [N, C, 1, V] or [N, C, 1 or D, 1]
    held, state = _states_before(segment, factor, gain, state)
    y = y + ((read @ held) * own if axis == 2 else read @ held)
    return _uncut(y, place, length, groups).to(v.dtype), state


def _cuts(segments: Segments, length: int, chunk: int) -> tuple[Tensor | None, Tensor]:
    """The segment of each chunk [C], None if there is one, and the positions [C, chunk], ``length`` where unused."""
    slot = torch.arange(chunk, device=segments[0].device)
    if len(segments[0]) == 2:
        place = slot + torch.arange(-(-length // chunk), device=slot.device).unsqueeze(1) * chunk
        return None, place.clamp(max=length)
    first, end, segment, _ = chunks(segments, length, chunk)
    place = first.unsqueeze(1) + slot
    return segment, torch.where(place < end.unsqueeze(1), place, length)


def _cut(x: Tensor, place: Tensor, length: int, groups: int) -> Tensor:
    """[N, C, chunk, ...] of x [N, T, ...], 0 at unused positions."""
    if groups == 1:
        return F.pad(upcast(x), (0, 0, 0, place.numel() - length)).unflatten(1, place.shape)
    return F.pad(upcast(x), (0, 0, 0, 1))[:, place]


def _uncut(y: Tensor, place: Tensor, length: int, groups: int) -> Tensor:
    """[N, T, ...] of y [N, C, chunk, ...]."""
    if groups == 1:
        return y.flatten(1, 2)[:, :length].contiguous()
    out = y.new_zeros((y.shape[0], length + 1, *y.shape[3:]))
    out[:, place.flatten()] = y.flatten(1, 2)
    return out[:, :length].contiguous()


def _channel_scores(q: Tensor, pair: Tensor, k: Tensor) -> Tensor:
    """[N, C, i, j]: products of queries and keys with one decay per channel."""
    return torch.einsum("ncid,ncijd,ncjd->ncij", q, pair, k)


def _states_before(segment: Tensor | None, factor: Tensor, gain: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The states before the chunks [N, C, D, V], and the last states of the segments [N, G + 1, D, V]."""
    held = torch.empty_like(gain)
    if segment is None:
        now = state[:, 0]
        for c in range(gain.shape[1]):
            held[:, c] = now
            now = now * factor[:, c] + gain[:, c]
        return held, now.unsqueeze(1)
    for c in range(gain.shape[1]):
        at = segment[c : c + 1]
        now = state.index_select(1, at)
        held[:, c : c + 1] = now
        state = state.index_copy(1, at, now * factor[:, c : c + 1] + gain[:, c : c + 1])
    return held, state


def _memory_fake(
    segments: Segments, q: Tensor, k: Tensor, v: Tensor, log_a: Tensor, initial: Tensor | None, axis: int, chunk: int
) -> tuple[Tensor, Tensor]:
    shape = (q.shape[0], segments[0].shape[0] - 1, q.shape[2], v.shape[2])
    return torch.empty_like(v, memory_format=torch.contiguous_format), upcast(q.new_empty(shape))


def _save_memory(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    segments, q, k, v, log_a, initial, ctx.axis, ctx.chunk = inputs
    ctx.save_for_backward(*segments, q, k, v, log_a, initial)


def _backward_memory(ctx: Any, grad: Tensor, grad_final: Tensor) -> tuple[Tensor | None, ...]:
    offsets, q, k, v, log_a, initial = ctx.saved_tensors
    segments, length, axis = [offsets], q.shape[1], ctx.axis
    other = {0: 0, 1: 2, 2: 1}[axis]
    backward = _reversed(segments, length)
    # Decay from each position to the next. The last position gets the gradient of the final state undecayed.
    later = _later(segments, log_a, 0.0).flip(1)
    flipped = [t.flip(1) for t in (q, k, v, grad)]
    carried = grad_final.flip(1)
    q_back, k_back, v_back, grad_back = flipped
    start = None if initial is None else initial.mT
    grad_q, _ = memory_scan(segments, grad, v, k, log_a, start, other, ctx.chunk)
    grad_k, _ = memory_scan(backward, v_back, grad_back, q_back, later, carried.mT, other, ctx.chunk)
    grad_v, flow = memory_scan(backward, k_back, q_back, grad_back, later, carried, axis, ctx.chunk)
    grad_k, grad_v = grad_k.flip(1), grad_v.flip(1)
    grad_log = None
    if ctx.needs_input_grad[4]:
        every = segments, q, k, v, log_a, initial, grad, grad_final, axis, ctx.chunk
        grad_log = _decay_gradient(*every).to(log_a.dtype)
    grad_initial = None
    if initial is not None:
        kept = torch.where((offsets.diff() == 0).view(1, -1, 1), 1.0, _at_starts(segments, upcast(log_a).exp()))
        kept = kept.unsqueeze(2) if axis == 2 else kept.unsqueeze(3)
        grad_initial = (flow.flip(1) * kept).to(initial.dtype)
    return None, grad_q.to(q.dtype), grad_k.to(k.dtype), grad_v, grad_log, grad_initial, None, None


def _decay_gradient(
    segments: Segments,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_a: Tensor,
    initial: Tensor | None,
    grad: Tensor,
    grad_final: Tensor,
    axis: int,
    chunk: int,
) -> Tensor:
    """The gradient of log a at t: the sum of all contributions from positions j before t to positions i from t on.

    Each term is a product that includes the decay at t. As a difference of prefix sums it
    would have the rounding error of large numbers under strong decay. Pairs within a chunk are summed directly,
    others through the states before (``held``) and the gradients of the states after (``due``) each chunk.
    """
    length, chunk = q.shape[1], min(chunk, 16) if axis else chunk
    first, end, _, pointer = chunks(segments, length, chunk)
    if length == 0 or len(first) == 0:
        return torch.zeros_like(upcast(log_a))
    slot = torch.arange(chunk, device=q.device)
    place = first.unsqueeze(1) + slot
    live, at = (place < end.unsqueeze(1)).unsqueeze(-1), place.clamp(max=length - 1)
    q, k, v, g, log = (torch.where(live, upcast(x)[:, at], 0.0) for x in (q, k, v, grad, log_a))  # [N, C, chunk, .]
    lower = (slot.unsqueeze(1) >= slot).unsqueeze(-1)
    since = torch.where(lower.transpose(0, 1), 0.0, log.unsqueeze(3)).cumsum(2)  # sum of log a over j + 1 .. i
    pair = torch.where(lower, since.exp(), 0.0)
    decay, remain = log.cumsum(2).exp(), pair[:, :, -1]
    total = decay[:, :, -1:].mT if axis != 2 else decay[:, :, -1:]  # [N, C, D or 1, 1] or [N, C, 1, V]
    gain = (k * remain).mT @ v if axis != 2 else k.mT @ (v * remain)
    back = (q * decay).mT @ g if axis != 2 else q.mT @ (g * decay)
    held, due = _chunk_states(pointer, total, gain, back, initial, grad_final, chunk)

    def by_channel(x: Tensor, state: Tensor, y: Tensor) -> Tensor:
        """The contribution of each decay to the sum of x_d S_dv y_v: [N, C, chunk, 1 or D or V]."""
        if axis == 1:
            return x * (y @ state.mT)
        found = (x @ state) * y
        return found if axis == 2 else found.sum(-1, keepdim=True)

    if axis == 2:
        inside = g.unsqueeze(3) * v.unsqueeze(2) * (q @ k.mT).unsqueeze(-1)
    else:
        inside = q.unsqueeze(3) * k.unsqueeze(2) if axis else (q @ k.mT).unsqueeze(-1)
        inside = inside * (g @ v.mT).unsqueeze(-1)
    before = F.pad((inside * pair).cumsum(3)[:, :, :, :-1], (0, 0, 1, 0))  # [N, C, i, t, .]: sum over all j before t
    out = torch.where(lower, before, 0.0).sum(2)
    out = out + (by_channel(q, held, g) * decay).flip(2).cumsum(2).flip(2)
    out = out + F.pad((by_channel(k, due, v) * remain).cumsum(2)[:, :, :-1], (0, 0, 1, 0))
    across = held * due * total
    across = across.sum((2, 3)).unsqueeze(-1) if axis == 0 else across.sum(3 if axis == 1 else 2)
    out = out + across.unsqueeze(2)
    each = (
        torch.searchsorted(torch.where(end > first, first, length), torch.arange(length, device=q.device), right=True)
        - 1
    )
    at = each * chunk + torch.arange(length, device=q.device) - first.index_select(0, each)
    return out.flatten(1, 2).index_select(1, at)


def _chunk_states(
    pointer: Tensor,
    total: Tensor,
    gain: Tensor,
    back: Tensor,
    initial: Tensor | None,
    grad_final: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """[N, C, D, V] each: the states before chunks, and the gradients of the states after them.

    Args:
        pointer: [G + 1], the first chunk of each segment.
        total: the decay over a chunk, [N, C, D or 1, V or 1].
        gain: [N, C, D, V], the contribution of a chunk to the state.
        back: [N, C, D, V], the contribution to the gradient of the state before the chunk.
        initial: [N, G, D, V] or None.
        grad_final: [N, G, D, V].
        chunk: as in `affine_scan`.
    """
    count, shape = gain.shape[1], gain.shape[2:]
    forward = [F.pad(pointer, (0, 1), value=count)]  # the last segment holds the unused chunks
    factor = total.flatten(2) if total.shape[2:].numel() == 1 else total.expand_as(gain).flatten(2)

    def carried(segments: Segments, factor: Tensor, new: Tensor, start: Tensor) -> Tensor:
        """The state at the beginning of each chunk."""
        states = affine_scan(segments, factor, new, start, chunk)
        first = starts(segments, count).view(1, -1, 1)
        return torch.where(first, _spread(start, segments, count), F.pad(states[:, :-1], (0, 0, 1, 0)))

    def of_segments(x: Tensor) -> Tensor:
        return F.pad(upcast(x).flatten(2), (0, 0, 0, 1))

    initial = torch.zeros_like(grad_final) if initial is None else initial
    held = carried(forward, factor, gain.flatten(2), of_segments(initial))
    back, factor = back.flatten(2).flip(1), factor.flip(1)
    due = carried(_reversed(forward, count), factor, back, of_segments(grad_final).flip(1)).flip(1)
    return held.reshape(*held.shape[:2], *shape), due.reshape(*due.shape[:2], *shape)


memory_scan = register(
    "memory_scan(Tensor[] segments, Tensor q, Tensor k, Tensor v, Tensor log_a, Tensor? initial, int axis, int chunk)"
    " -> (Tensor, Tensor)",
    _memory_kernel,
    _memory_fake,
    _save_memory,
    _backward_memory,
)
