r"""The operators behind `hgraph.attend` over tiles of tokens.

``block_attend(tiles, q, k, v, table, target_place, source_place, mask, seed, dropout, scale) -> (out, lse)``

============= ========================= ===========================================================================
tiles         6 or 10 tensors, 9 or 16  mask, extent, then index, rule, count, row of a `BlockAdjacency` and, if
present,
..            with the transpose        t_index, t_rule, t_count; then the same for its ``wide`` if it has one
q             [B, T, H, D]              any strides; the structure's B and H are those or 1
k, v          [B, S, K, D], [.., V]     K divides H; head h reads key head h // (H / K)
table         [H or 1, L1, .., Ld]      a bias by relative position, or None: along each axis entry
..                                      ``clamp(target_place[t] - source_place[s] + (L - 1) // 2, 0, L - 1)``
target_place  [T, d] int64 or None
source_place  [S, d] int64 or None
mask          [B, S] bool or None       False at sources that no target attends to
seed          [1] int64 or None         None: no dropout
dropout       p                         weights times 0 or 1 / (1 - p), by `hgraph.ops.random.bits` at counter
..                                      ``((b T + t) S + s) H + h``
scale         c
out           [B, T, H, V], q's dtype   0 for a target without sources
lse           [B, T, H], float32 least  -inf for such a target
============= ========================= ===========================================================================

``block_attend_grads(<as above>, out, lse, delta, grad, direct, of_table) -> (grad_q, grad_k, grad_v, grad_table)``

with delta [B, T, H] = sum(grad * out) - (gradient of lse). With ``direct``, lse has no gradient, the table's is not
needed, and delta is not passed; without ``of_table`` the gradient of the table is not needed. Gradients are at least
float32; one that is not needed may be an empty tensor.

The reference computes each step (see `plan`) as one dense attention over slices, with torch's fused kernel where
possible (CPUs, no dropout, no gradient of a table, V = D), else with matrix products. Key gradients are accumulated in
the fixed order of the steps, in place: no tensor has the size of all pairs, and the same inputs give the same
bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hgraph._torch import private_operator
from hgraph.ops.dispatch.register import register
from hgraph.ops.sparse.linear import upcast
from hgraph.ops.tiles.plan import Plan, Segment, is_diagonal, plan_of
from hgraph.ops.tiles.scores import (
    Given,
    Place,
    accumulate,
    add,
    dropout_mask,
    entries,
    head_groups,
    join_heads,
    put,
    scores,
    shift,
    split_heads,
    spread,
    take,
)

__all__ = ["attended", "block_attend", "flows", "is_fused"]

_INF = float("inf")
_FLASH = "_scaled_dot_product_flash_attention_for_cpu"
_CALLED = ["query", "key", "value"], ["dropout_p", "is_causal", "attn_mask", "scale"]


_fused = private_operator(_FLASH, [*_CALLED[0], *_CALLED[1]], 2)
_fused_grads = private_operator(f"{_FLASH}_backward", ["grad_out", *_CALLED[0], "out", "logsumexp", *_CALLED[1]], 3)


def _dense_rows(*tensors: Tensor) -> list[Tensor]:
    """Make rows contiguous and non-overlapping, by copying if needed.

    torch's fused operator assumes stride 1 in the last dimension (else wrong values, or reads out of bounds),
    and its bfloat16 products reject overlapping rows.
    """
    return [x if x.stride(-1) == 1 and x.stride(-2) >= x.shape[-1] else x.contiguous() for x in tensors]


# ---------------------------------------------------------------------- forward


def _kernel(tiles: list[Tensor], *arguments: Any) -> tuple[Tensor, Tensor]:
    return attended(plan_of(tiles), Given(*arguments))


def attended(plan: Plan, given: Given) -> tuple[Tensor, Tensor]:
    """``out`` and ``lse`` over the steps of a plan; other targets get 0 and -inf."""
    q, v = given.q, given.v
    out = q.new_zeros(*q.shape[:3], v.shape[3])
    lse = upcast(q.new_empty(0)).new_full((*q.shape[:3], 1), -_INF)
    plain = given.table is None and given.mask is None
    steps = plan.wide if plain and is_fused(given) else plan.steps
    for step in steps if q.numel() else ():
        for heads in head_groups(step, q.shape[2], v.shape[2]):
            at = Place(given, plan, step, heads)
            own = join_heads(take(q, step, heads.query, step.rows), heads.group)
            total, top = _attended(at, step.segments[0], own)
            for segment in step.segments[1:]:
                total, top = _joined(total, top, *_attended(at, segment, own))
            put(out, step, heads.query, step.rows, split_heads(total, heads.group).to(out.dtype))
            put(lse, step, heads.query, step.rows, split_heads(top.unsqueeze(-1), heads.group))
    return out, lse.squeeze(-1)


def _attended(at: Place, segment: Segment, q: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of q [B', K, G * rows, D] over one segment: [B', K, G * rows, V] and lse [B', K, G * rows]."""
    given, group = at.given, at.heads.group
    k, v = (take(x, at.step, at.heads.key, segment.columns) for x in (given.k, given.v))
    if is_fused(given):
        causal = _is_triangle(at, segment, q, k)
        more, dead = (None, None) if causal else shift(at, segment, q.dtype)
        more = None if more is None else spread(more, group)
        out, lse = _fused(*_dense_rows(q, k, v), 0.0, causal, attn_mask=more, scale=given.scale)
        return out, lse if dead is None else lse.masked_fill(spread(dead.unsqueeze(-1), group).squeeze(-1), -_INF)
    score = scores(at, segment, upcast(q), upcast(k))
    lse = torch.logsumexp(score, -1)
    prob = torch.exp(score - torch.where(lse == -_INF, 0.0, lse).unsqueeze(-1))
    keep = dropout_mask(at, segment, prob)
    return (prob if keep is None else prob * keep) @ upcast(v), lse


def is_fused(given: Given) -> bool:
    """Whether torch's kernel applies: only on CPUs, without dropout, with equal widths of keys and values."""
    if _fused is None or _fused_grads is None:
        return False
    return given.q.is_cpu and given.seed is None and given.q.shape[3] == given.v.shape[3] > 0


def _is_triangle(at: Place, segment: Segment, q: Tensor, k: Tensor) -> bool:
    square = q.shape[2] == k.shape[2]
    plain = at.given.table is None and at.given.mask is None
    return square and plain and at.heads.group == 1 and is_diagonal(segment.rules)


def _joined(a: Tensor, log_a: Tensor, b: Tensor, log_b: Tensor) -> tuple[Tensor, Tensor]:
    """Merge the attention results of two segments."""
    lse = torch.logaddexp(log_a, log_b)
    base = torch.where(lse == -_INF, 0.0, lse)
    return torch.exp(log_a - base).unsqueeze(-1) * a + torch.exp(log_b - base).unsqueeze(-1) * b, lse


# ---------------------------------------------------------------------- backward


def _grads(tiles: list[Tensor], *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return flows(plan_of(tiles), Given(*arguments[:10]), *arguments[10:])


def flows(
    plan: Plan,
    given: Given,
    out: Tensor,
    lse: Tensor,
    delta: Tensor,
    grad: Tensor,
    direct: bool,
    of_table: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and the table over the steps of a plan (see ``block_attend_grads`` above)."""
    q, k, v = given.q, given.k, given.v
    table = given.table if of_table and given.table is not None else q.new_empty(0)
    grad_q, grad_k, grad_v, grad_table = (upcast(x.new_empty(0)).new_zeros(x.shape) for x in (q, k, v, table))
    # A target without sources has lse = -inf; its exponentials must become 0, not NaN.
    finite = torch.where(lse == -_INF, 0.0, lse).unsqueeze(-1)
    rows = (q, grad, delta.unsqueeze(-1), finite, out)
    compute = _fused_step if direct else _plain_step
    steps = plan.wide if given.table is None and given.mask is None and direct else plan.steps
    for step in steps if q.numel() else ():
        for heads in head_groups(step, q.shape[2], v.shape[2]):
            at = Place(given, plan, step, heads)
            own = [join_heads(take(x, step, heads.query, step.rows), heads.group) for x in rows]
            own_flows = []
            for segment in step.segments:
                key, value = (take(x, step, heads.key, segment.columns) for x in (k, v))
                flow_q, flow_k, flow_v = compute(at, segment, own, key, value, grad_table)
                own_flows.append(flow_q)
                add(grad_k, step, heads.key, segment.columns, flow_k)
                add(grad_v, step, heads.key, segment.columns, flow_v)
            own_q = own_flows[0] if len(own_flows) == 1 else torch.stack(own_flows).sum(0)
            put(grad_q, step, heads.query, step.rows, split_heads(own_q, heads.group).to(grad_q.dtype))
    return grad_q, grad_k, grad_v, grad_table


_Flows = tuple[Tensor, Tensor, Tensor]


def _fused_step(at: Place, segment: Segment, own: list[Tensor], k: Tensor, v: Tensor, grad_table: Tensor) -> _Flows:
    """With torch's kernel, which computes delta from grad and out."""
    q, grad, _, lse, out = own
    causal = _is_triangle(at, segment, q, k)
    more = None if causal else shift(at, segment, q.dtype)[0]
    more = None if more is None else spread(more, at.heads.group)
    own = _dense_rows(grad.to(q.dtype), q, k, v, out)
    return _fused_grads(*own, lse.squeeze(-1), 0.0, causal, attn_mask=more, scale=at.given.scale)


def _plain_step(at: Place, segment: Segment, own: list[Tensor], k: Tensor, v: Tensor, grad_table: Tensor) -> _Flows:
    """With matrix products; differentiable."""
    q, grad, delta, lse, _ = own
    q, grad, k, v = upcast(q), upcast(grad), upcast(k), upcast(v)
    alpha = torch.exp(scores(at, segment, q, k) - lse)
    keep = dropout_mask(at, segment, alpha)
    prob = alpha if keep is None else alpha * keep
    flow = prob * (grad @ v.transpose(-1, -2)) - alpha * delta
    if grad_table.numel():
        _add_table(grad_table, at, segment, split_heads(flow, at.heads.group))
    scaled = flow * at.given.scale
    return scaled @ k, scaled.transpose(-1, -2) @ q, prob.transpose(-1, -2) @ grad


def _add_table(grad_table: Tensor, at: Place, segment: Segment, flow: Tensor) -> None:
    """Scatter gradients [B', H', rows, C] of scores into the table."""
    place = entries(at, segment)  # [n, rows, C]
    flow = flow.unflatten(0, (-1, place.shape[0])).sum(0).transpose(0, 1)  # [H', n, rows, C]
    own = grad_table.flatten(1)
    if len(own) > 1:
        own = own[at.heads.query]
    else:
        flow = flow.sum(0, keepdim=True)
    accumulate(own, place.flatten(), flow.flatten(1).to(own.dtype))


# ---------------------------------------------------------------------- registration


def _fake(tiles: list[Tensor], q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(*q.shape[:3], v.shape[3]), upcast(q.new_empty(q.shape[:3]))


def _grads_fake(
    tiles: list[Tensor], q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, *rest: Any
) -> tuple[Tensor, ...]:
    table = table if rest[-1] and table is not None else q.new_empty(0)
    return tuple(upcast(x.new_empty(0)).new_empty(x.shape) for x in (q, k, v, table))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    tiles, *tensors = inputs[:9]
    ctx.numbers, ctx.count = inputs[9:], len(tiles)
    ctx.save_for_backward(*tiles, *tensors, *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    tiles, tensors, (out, lse) = list(saved[: ctx.count]), saved[ctx.count : -2], saved[-2:]
    grad = torch.zeros_like(out) if grad is None else grad
    again, of_table = torch.is_grad_enabled(), ctx.needs_input_grad[4]
    direct = grad_lse is None and not of_table and not again and is_fused(Given(*tensors, *ctx.numbers))
    delta = lse if direct else (upcast(grad) * out).sum(-1).to(lse.dtype)
    delta = delta if grad_lse is None else delta - grad_lse
    compute = _grads if again else torch.ops.hgraph.block_attend_grads.default
    grads = compute(tiles, *tensors, *ctx.numbers, out, lse, delta, grad, direct, of_table)
    wanted = (*tensors[:3], tensors[3] if of_table else None)
    given = (None if t is None else g.to(t.dtype) for g, t in zip(grads, wanted, strict=True))
    return None, *given, *(None,) * 6


_GIVEN = (
    "Tensor[] tiles, Tensor q, Tensor k, Tensor v, Tensor? table, Tensor? target_place, Tensor? source_place, "
    "Tensor? mask, Tensor? seed, float dropout, float scale"
)
block_attend = register(f"block_attend({_GIVEN}) -> (Tensor, Tensor)", _kernel, _fake, _save, _backward)
register(
    f"block_attend_grads({_GIVEN}, Tensor out, Tensor lse, Tensor delta, Tensor grad, bool direct, bool of_table)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _grads,
    _grads_fake,
)
