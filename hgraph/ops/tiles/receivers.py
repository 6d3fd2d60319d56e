"""Attention where a token uses only some of the heads: the others are not computed.

On a CPU, over tiles: in each step of the plan (see `plan`) only rows that use a head take part in its
products. Keys and values are not reduced, because every token remains a source.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hgraph._torch import may_cache
from hgraph.ops.sparse.linear import upcast
from hgraph.ops.tiles.block_attend import attended, flows, is_fused
from hgraph.ops.tiles.plan import Plan, Segment, Step, is_gathered, plan_of, tensors_of
from hgraph.ops.tiles.scores import Given
from hgraph.structure import BlockAdjacency

__all__ = ["attend_receivers", "is_skipping"]

_PAIRS_A_CALL = 150_000  # small products are slower: pairs to save per step before skipping pays off


def is_skipping(tiles: BlockAdjacency, head_mask: Tensor) -> bool:
    """Whether skipping rows saves more than smaller products cost; reads the mask, so only on CPUs."""
    if not head_mask.is_cpu or not head_mask.numel():
        return False
    if not may_cache() or type(head_mask) is not Tensor:  # fake tensors have no values
        return False
    if any(is_gathered(part) for part in tiles.parts()):
        return False
    share = float(head_mask.sum()) / head_mask.numel()
    a_row = tiles.num_tiles * tiles.block_size**2 / max(len(tiles.row) * tiles.batch * tiles.num_heads, 1)
    return (1 - share) * a_row > _PAIRS_A_CALL


def attend_receivers(
    tiles: BlockAdjacency, q: Tensor, k: Tensor, v: Tensor, head_mask: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """``out`` [B, T, H, V] and ``lse`` [B, T, H], 0 and -inf where head_mask [B, T, H] is False."""
    plan = _ActiveRows(plan_of(tensors_of(tiles)), head_mask)
    return _Attend.apply(plan, q, k, v, scale)


class _ActiveRows(Plan):
    """The steps of a plan restricted to the active rows, and its masks."""

    def __init__(self, plan: Plan, head_mask: Tensor) -> None:
        self.tiles, self._masks = plan.tiles, plan._masks
        self.steps = [own for step in plan.steps for own in _active_steps(plan, step, head_mask)]
        self.wide = self.steps


def _active_steps(plan: Plan, step: Step, head_mask: Tensor) -> Iterator[Step]:
    """One step for the heads that all rows use, and one for each other head of an example."""
    if not isinstance(step.rows, slice):
        raise RuntimeError("gathered steps cannot skip rows")
    own = head_mask[step.examples, step.rows, step.heads]  # [B', rows, H']
    first, low = step.examples.indices(len(head_mask))[0], step.heads.indices(head_mask.shape[2])[0]
    count = own.sum(1).tolist()
    whole = [all(c[h] == own.shape[1] for c in count) for h in range(own.shape[2])]
    for h, everybody in enumerate(whole):
        if everybody and (h == 0 or not whole[h - 1]):
            end = next((i for i in range(h, len(whole)) if not whole[i]), len(whole))
            yield step._replace(heads=slice(low + h, low + end))
        for b in range(0 if everybody else own.shape[0]):
            if count[b][h]:
                rows = own[b, :, h].nonzero().flatten()
                segments = [Segment(s.columns, _meets(plan, s, own.shape[1], rows)) for s in step.segments]
                yield Step(
                    slice(first + b, first + b + 1),
                    slice(low + h, low + h + 1),
                    (rows + step.rows.start).unsqueeze(0),
                    segments,
                )


def _meets(plan: Plan, segment: Segment, size: int, rows: Tensor) -> tuple[int, ...] | Tensor:
    """Booleans [1, rows, C] of some rows of a segment, or () if all pairs are allowed."""
    if isinstance(segment.rules, Tensor) or not segment.rules:
        return segment.rules
    columns = segment.columns
    width = columns.stop - columns.start if isinstance(columns, slice) else len(columns)
    return (plan.mask(segment.rules, size, width, torch.float32)[0][rows] == 0).unsqueeze(0)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        out, lse = attended(plan, _given(q, k, v, scale))
        ctx.plan, ctx.scale = plan, scale
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        given = _given(q, k, v, ctx.scale)
        grad = torch.zeros_like(out) if grad is None else grad
        direct = grad_lse is None and not torch.is_grad_enabled() and is_fused(given)
        delta = lse if direct else (upcast(grad) * out).sum(-1).to(lse.dtype)
        delta = delta if grad_lse is None else delta - grad_lse
        of_q, of_k, of_v, _ = flows(ctx.plan, given, out, lse, delta, grad, direct)
        return None, of_q.to(q.dtype), of_k.to(k.dtype), of_v.to(v.dtype), None


def _given(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Given:
    return Given(q, k, v, None, None, None, None, None, 0.0, scale)
