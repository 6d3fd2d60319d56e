r"""The operators behind `hgraph.attend_groups`: attention within groups of tokens, weighted by the groups' handles.

For a query t in row r, a group c that r attends to, and the members p of that group:

.. math:: a_{tc} = s \, q_t \cdot h_c, \qquad \mathrm{lse}_t = \log \sum_c \exp a_{tc}, \qquad
          \beta_{tcp} = \operatorname{softmax}_p (s \, q_t \cdot k_{cp}), \qquad
          y_t = \sum_c \kappa_{tc} \exp(a_{tc} - \mathrm{lse}_t) \sum_p \beta_{tcp} \, v_{cp}

``group_attend(tiles, q, handle, k, v, seed, dropout, scale) -> (out, lse)``

========= ============================ =======================================================================
tiles     6 or 10 tensors              a `BlockAdjacency` of R rows and G groups, see `hgraph.ops.tiles.block_attend`
q         [B, R, Q, H, D]              Q queries per row, which attend to the same groups; any strides
handle    [B, G, K, D]                 K divides H
k, v      [B, G, P, K, D], [.., V]     P members per group
seed      [1] int64 or None            None: no dropout
dropout   p                            kappa = 0 or 1 / (1 - p), by `hgraph.ops.random.bits` at counter
..                                     ``(((b R + r) Q + t) G + c) H + h``; 1 without a seed
scale     s
out       [B, R, Q, H, V], q's dtype   0 for a query without groups
lse       [B, R, Q, H], float32 least  -inf for such a query
========= ============================ =======================================================================

``group_attend_grads(<as above>, lse, delta, grad) -> (grad_q, grad_handle, grad_k, grad_v)``

with delta = sum(grad * out) - (gradient of lse). With :math:`\mu_{tc} = \sum_p \beta_{tcp} \langle \mathrm{grad}_t,
v_{cp} \rangle` and :math:`g = \exp(a - \mathrm{lse})` the scores have the gradients

.. math:: d a_{tc} = g_{tc} (\kappa_{tc} \mu_{tc} - \delta_t), \qquad
          d s_{tcp} = \kappa_{tc} g_{tc} \beta_{tcp} (\langle \mathrm{grad}_t, v_{cp} \rangle - \mu_{tc})

The handles alone determine lse, so members are visited once, in chunks of groups, and no scores are stored.

There are no kernels: ``backend("auto")`` uses this on every device, and synchronizes with a GPU to read the lists of
tiles; ``backend("triton")`` raises an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hgraph.ops.dispatch.register import register
from hgraph.ops.random import bits
from hgraph.ops.sparse.linear import upcast
from hgraph.ops.tiles.plan import Plan, Segment, Step, plan_of
from hgraph.ops.tiles.scores import Given as Pairs
from hgraph.ops.tiles.scores import Heads, Place, add, head_groups, join_heads, put, shift, split_heads, spread, take

__all__ = ["group_attend"]

_INF = float("inf")
_SCORES = 1 << 19  # member scores per chunk


class Given(NamedTuple):
    """The arguments after the tiles, heads before tokens: q [B, R, H, Q, D], k and v [B, G, K, P, D]."""

    q: Tensor
    handle: Tensor
    k: Tensor
    v: Tensor
    seed: Tensor | None
    dropout: float
    scale: float


class At(NamedTuple):
    """A step of the plan for some heads."""

    given: Given
    plan: Plan
    step: Step
    heads: Heads

    def own(self, x: Tensor) -> Tensor:
        """[B', K, N, D] of x [B, R, H, Q, D]: all queries of the step; queries that share a key head are contiguous."""
        return join_heads(take(x, self.step, self.heads.query, self.step.rows).flatten(2, 3), self.heads.group)

    def back(self, x: Tensor) -> Tensor:
        """[B', H, rows, Q, D] of [B', K, N, D]."""
        return split_heads(x, self.heads.group).unflatten(2, (-1, self.given.q.shape[3]))


def _given(q: Tensor, handle: Tensor, k: Tensor, v: Tensor, *numbers: Any) -> Given:
    return Given(q.transpose(2, 3), handle, k.transpose(2, 3), v.transpose(2, 3), *numbers)


def _visits(tiles: list[Tensor], given: Given) -> Iterator[At]:
    if not given.q.numel() and not given.q.shape[:4].numel():
        return
    plan = plan_of(tiles, given.q.shape[3], given.k.shape[3])
    for step in plan.steps:
        for heads in head_groups(step, given.q.shape[2], given.handle.shape[2]):
            yield At(given, plan, step, heads)


def _parts(at: At, segment: Segment, queries: int) -> Iterator[tuple[slice, slice | Tensor]]:
    """Chunks of a segment's groups: their positions in the segment, and their ids."""
    columns = segment.columns
    low, high = (columns.start, columns.stop) if isinstance(columns, slice) else (0, columns.shape[-1])
    step = max(1, _SCORES // max(queries * at.given.k.shape[3], 1))
    for first in range(low, high, step):
        end = min(first + step, high)
        numbers = slice(first, end) if isinstance(columns, slice) else columns[..., first:end]
        yield slice(first - low, end - low), numbers


def _handle_scores(at: At, segment: Segment, q: Tensor) -> Tensor:
    """Scaled and masked scores [B', K, N, C] of the handles."""
    given = at.given
    key = upcast(take(given.handle, at.step, at.heads.key, segment.columns))
    score = (q * given.scale) @ key.transpose(-1, -2)
    pairs = Pairs(given.q, given.handle, given.v, None, None, None, None, None, 0.0, given.scale)
    more, _ = shift(Place(pairs, at.plan, at.step, at.heads), segment, score.dtype)
    if more is None:
        return score
    return score + spread(more.repeat_interleave(given.q.shape[3], 2), at.heads.group)


def _members(at: At, x: Tensor, groups: slice | Tensor) -> Tensor:
    """[B', K, C * P, D] of x [B, G, K, P, D]."""
    return upcast(take(x, at.step, at.heads.key, groups)).flatten(2, 3)


def _within(at: At, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Exponentiated scores [B', K, N, C, P] of members, shifted per group, and their sums [B', K, N, C].

    Written out, because torch's softmax takes ten times as long over a handful of members.
    """
    score = ((q * at.given.scale) @ k.transpose(-1, -2)).unflatten(-1, (-1, at.given.k.shape[3]))
    each = (score - score.detach().amax(-1, keepdim=True)).exp()
    return each, each.sum(-1)


def _dropout_mask(at: At, groups: slice | Tensor, like: Tensor) -> Tensor | None:
    """The dropout mask [B', K, N, C], or None."""
    given = at.given
    if given.seed is None:
        return None
    (batch, rows, heads, each), count = given.q.shape[:4], given.handle.shape[1]
    row, group = (_numbers(w, n, like.device) for w, n in ((at.step.rows, rows), (groups, count)))
    query = (row.unsqueeze(2) * each + torch.arange(each, device=like.device)).flatten(1)  # [n, rows * Q]
    example = torch.arange(*at.step.examples.indices(batch), device=like.device).view(-1, 1, 1, 1)
    pair = ((example * rows * each + query.unsqueeze(2)) * count + group.unsqueeze(1)) * heads  # [B, n, rows * Q, C]
    head = torch.arange(*at.heads.query.indices(heads), device=like.device).view(-1, 1, 1)
    number = bits(given.seed, pair.flatten(0, 1).unsqueeze(1) + head)
    factor = (number >= round(given.dropout * 2**32)).to(like.dtype) / (1 - given.dropout)
    return join_heads(factor, at.heads.group)


def _numbers(which: slice | Tensor, size: int, device: torch.device) -> Tensor:
    """[n, C] numbers; n = 1 for slices and lists."""
    if isinstance(which, slice):
        return torch.arange(*which.indices(size), device=device).unsqueeze(0)
    return which if which.dim() == 2 else which.unsqueeze(0)


# ---------------------------------------------------------------------- forward


def _kernel(tiles: list[Tensor], *arguments: Any) -> tuple[Tensor, Tensor]:
    given = _given(*arguments)
    batch, rows, heads, queries, _ = given.q.shape
    out = given.q.new_zeros(batch, rows, queries, heads, given.v.shape[4])
    lse = upcast(given.q.new_empty(0)).new_full((batch, rows, queries, heads), -_INF)
    for at in _visits(tiles, given):
        q = upcast(at.own(given.q))
        scores = [_handle_scores(at, segment, q) for segment in at.step.segments]
        top = torch.logsumexp(torch.cat(scores, -1), -1, keepdim=True)
        base = torch.where(top == -_INF, 0.0, top)
        total = q.new_zeros(*q.shape[:3], given.v.shape[4])
        for segment, score in zip(at.step.segments, scores, strict=True):
            for place, groups in _parts(at, segment, q.shape[:3].numel()):
                prob = torch.exp(score[..., place] - base)
                keep = _dropout_mask(at, groups, prob)
                prob = prob if keep is None else prob * keep
                each, whole = _within(at, q, _members(at, given.k, groups))
                total += each.mul_((prob / whole).unsqueeze(-1)).flatten(-2) @ _members(at, given.v, groups)
        put(out.transpose(2, 3), at.step, at.heads.query, at.step.rows, at.back(total).to(out.dtype))
        put(lse.unsqueeze(-1).transpose(2, 3), at.step, at.heads.query, at.step.rows, at.back(top))
    return out, lse


# ---------------------------------------------------------------------- backward


def _grads(tiles: list[Tensor], *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Differentiable; key gradients are accumulated in the fixed order of the steps."""
    given, (lse, delta, grad) = _given(*arguments[:7]), arguments[7:]
    grad_q, grad_handle, grad_k, grad_v = (upcast(x.new_empty(0)).new_zeros(x.shape) for x in arguments[:4])
    # A query without groups has lse = -inf; its exponentials must become 0, not NaN.
    finite = torch.where(lse == -_INF, 0.0, lse)
    rows = [x.transpose(2, 3) for x in (grad, delta.unsqueeze(-1), finite.unsqueeze(-1))]
    for at in _visits(tiles, given):
        step, key = at.step, at.heads.key
        q, own, from_out, base = (upcast(at.own(x)) for x in (given.q, *rows))
        flow_q = torch.zeros_like(q)
        for segment in step.segments:
            every = torch.exp(_handle_scores(at, segment, q) - base)
            for place, groups in _parts(at, segment, q.shape[:3].numel()):
                prob = every[..., place]
                keep = _dropout_mask(at, groups, prob)
                dropped = prob if keep is None else prob * keep
                k, v = _members(at, given.k, groups), _members(at, given.v, groups)
                each, whole = _within(at, q, k)
                reach = (own @ v.transpose(-1, -2)).unflatten(-1, each.shape[-2:])
                mean = (each * reach).sum(-1) / whole
                each = each * (dropped / whole).unsqueeze(-1)
                flow = ((reach - mean.unsqueeze(-1)) * each).flatten(-2) * given.scale
                flow_handle = (dropped * mean - prob * from_out) * given.scale
                handle = upcast(take(given.handle, step, key, groups))
                flow_q = flow_q + flow @ k + flow_handle @ handle
                back = flow.transpose(-1, -2) @ q, each.flatten(-2).transpose(-1, -2) @ own
                for total, value in zip((grad_k, grad_v), back, strict=True):
                    add(total.transpose(2, 3), step, key, groups, value.unflatten(2, (-1, given.k.shape[3])))
                add(grad_handle, step, key, groups, flow_handle.transpose(-1, -2) @ q)
        put(grad_q.transpose(2, 3), step, at.heads.query, step.rows, at.back(flow_q))
    return grad_q, grad_handle, grad_k, grad_v


# ---------------------------------------------------------------------- registration


def _fake(tiles: list[Tensor], q: Tensor, handle: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(*q.shape[:4], v.shape[4]), upcast(q.new_empty(q.shape[:4]))


def _grads_fake(tiles: list[Tensor], *arguments: Any) -> tuple[Tensor, ...]:
    return tuple(upcast(x.new_empty(0)).new_empty(x.shape) for x in arguments[:4])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    tiles, *tensors = inputs[:6]
    ctx.numbers, ctx.count = inputs[6:], len(tiles)
    ctx.save_for_backward(*tiles, *tensors, *output)


def _backward(ctx: Any, grad: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    tiles, tensors, (out, lse) = list(saved[: ctx.count]), saved[ctx.count : -2], saved[-2:]
    delta = (upcast(grad) * out).sum(-1).to(lse.dtype) - grad_lse
    compute = _grads if torch.is_grad_enabled() else torch.ops.hgraph.group_attend_grads.default
    grads = compute(tiles, *tensors, *ctx.numbers, lse, delta, grad)
    return None, *(g.to(t.dtype) for g, t in zip(grads, tensors[:4], strict=True)), *(None,) * 3


_GIVEN = "Tensor[] tiles, Tensor q, Tensor handle, Tensor k, Tensor v, Tensor? seed, float dropout, float scale"
group_attend = register(f"group_attend({_GIVEN}) -> (Tensor, Tensor)", _kernel, _fake, _save, _backward)
register(
    f"group_attend_grads({_GIVEN}, Tensor lse, Tensor delta, Tensor grad) -> (Tensor, Tensor, Tensor, Tensor)",
    _grads,
    _grads_fake,
)
