"""One dense product of attention over tiles: reading and writing tokens, and scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.ops.random import bits
from hgraph.ops.tiles.plan import Plan, Segment, Step, additive

__all__ = [
    "Given",
    "Heads",
    "Place",
    "accumulate",
    "add",
    "dropout_mask",
    "entries",
    "head_groups",
    "put",
    "scores",
    "shift",
]
__all__ += ["dropout_mask", "join_heads", "split_heads", "spread", "take"]


class Given(NamedTuple):
    """The arguments of `block_attend` after the tiles."""

    q: Tensor
    k: Tensor
    v: Tensor
    table: Tensor | None
    target_place: Tensor | None
    source_place: Tensor | None
    mask: Tensor | None  # [B, S], False at sources that no target attends to
    seed: Tensor | None
    dropout: float
    scale: float


class Heads(NamedTuple):
    """Query heads of a step, their key heads, and the number of query heads per key head."""

    query: slice
    key: slice
    group: int


class Place(NamedTuple):
    """The context of a product: the arguments, the plan with its masks, a step, and its heads."""

    given: Given
    plan: Plan
    step: Step
    heads: Heads


def head_groups(step: Step, heads: int, key_heads: int) -> Iterator[Heads]:
    """The heads of a step: together if they cover complete groups of key heads, else one by one."""
    group = heads // max(key_heads, 1)
    low, high, _ = step.heads.indices(heads)
    if low % group == 0 and high % group == 0:
        yield Heads(slice(low, high), slice(low // group, high // group), group)
        return
    for h in range(low, high):
        yield Heads(slice(h, h + 1), slice(h // group, h // group + 1), 1)


# ---------------------------------------------------------------------- reading and writing tokens


def take(x: Tensor, step: Step, heads: slice, tokens: slice | Tensor) -> Tensor:
    """[B', H', tokens, D] of x [B, N, H, D]; lists [n, C] of tokens become B * n examples."""
    x = x[step.examples, :, heads]
    if isinstance(tokens, slice):
        return x[:, tokens].transpose(1, 2)
    # index_select would first copy everything that is not contiguous.
    found = x.index_select(1, tokens.flatten()) if x.is_contiguous() else x[:, tokens.flatten()]
    if tokens.dim() == 1:
        return found.transpose(1, 2)
    return found.unflatten(1, tokens.shape).flatten(0, 1).transpose(1, 2)


def put(x: Tensor, step: Step, heads: slice, tokens: slice | Tensor, value: Tensor) -> None:
    """Write [B', H', tokens, D] into x [B, N, H, D]; each token is in one step of a head."""
    own, value = _where(x, step, heads, tokens, value)
    if isinstance(tokens, slice):
        own[:, tokens].copy_(value)
    else:
        own.index_copy_(1, tokens.flatten(), value)


def add(x: Tensor, step: Step, heads: slice, tokens: slice | Tensor, value: Tensor) -> None:
    """Add [B', H', tokens, D] to x [B, N, H, D]."""
    own, value = _where(x, step, heads, tokens, value)
    if isinstance(tokens, slice):
        own[:, tokens].add_(value)
    else:
        accumulate(own, tokens.flatten(), value.to(own.dtype))


def accumulate(total: Tensor, index: Tensor, value: Tensor) -> None:
    """Add to the given indices of the second dimension, in a deterministic order."""
    if total.is_cuda:  # index_add is atomic there
        torch.ops.aten.index_put_(total, [None, index], value, True)
    else:
        total.index_add_(1, index, value)


def _where(x: Tensor, step: Step, heads: slice, tokens: slice | Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    own, value = x[step.examples, :, heads], value.transpose(1, 2)
    if isinstance(tokens, Tensor) and tokens.dim() == 2:
        value = value.unflatten(0, (own.shape[0], -1)).flatten(1, 2)
    return own, value


def join_heads(x: Tensor, group: int) -> Tensor:
    """[B', K, G * rows, D] of [B', H, rows, D]: heads that share a key head become additional rows."""
    return x if group == 1 else x.unflatten(1, (-1, group)).flatten(2, 3)


def split_heads(x: Tensor, group: int) -> Tensor:
    """[B', H, rows, D] of [B', K, G * rows, D]."""
    return x if group == 1 else x.unflatten(2, (group, -1)).flatten(1, 2)


def spread(x: Tensor, group: int) -> Tensor:
    """[B', 1 or K, G * rows, C] of [B', 1 or H, rows, C]."""
    if group == 1:
        return x
    return x.repeat(1, 1, group, 1) if x.shape[1] == 1 else join_heads(x, group)


def _numbers(which: slice | Tensor, x: Tensor) -> Tensor:
    """[n, C] token numbers of x [B, N, H, D]; n = 1 for slices and lists."""
    if isinstance(which, slice):
        return torch.arange(*which.indices(x.shape[1]), device=x.device).unsqueeze(0)
    return which if which.dim() == 2 else which.unsqueeze(0)


# ---------------------------------------------------------------------- scores


def scores(at: Place, segment: Segment, q: Tensor, k: Tensor) -> Tensor:
    """Scaled, biased and masked scores [B', K, G * rows, C] of join_heads q and k."""
    score = (q * at.given.scale) @ k.transpose(-1, -2)
    more, _ = shift(at, segment, score.dtype)
    return score if more is None else score + spread(more, at.heads.group)


def shift(at: Place, segment: Segment, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    """The addend of the scores, [B' or 1, H' or 1, rows, C], and the fully masked rows [.., .., rows]. Or None."""
    given, step = at.given, at.step
    examples = given.q[step.examples].shape[0]
    more = dead = None
    if isinstance(segment.rules, Tensor):
        more, dead = (t.unsqueeze(1).repeat(examples, *(1,) * t.dim()) for t in additive(segment.rules, dtype))
    elif segment.rules:
        rows = _numbers(step.rows, given.q).shape[1]
        columns = _numbers(segment.columns, given.k).shape[1]
        more, dead = (t[None, None] for t in at.plan.mask(segment.rules, rows, columns, dtype))
    for term in (_padding(at, segment, dtype), _bias(at, segment, dtype, examples)):
        if term is not None:
            more = term if more is None else term + more
            dead = (more == float("-inf")).all(-1)
    return more, dead


def _padding(at: Place, segment: Segment, dtype: torch.dtype) -> Tensor | None:
    """[B', 1, rows, C]: -inf at sources that are masked."""
    if at.given.mask is None:
        return None
    there = at.given.mask[at.step.examples][:, _numbers(segment.columns, at.given.k)].flatten(0, 1)
    rows = _numbers(at.step.rows, at.given.q).shape[1]
    return (
        torch.zeros_like(there, dtype=dtype).masked_fill(~there, float("-inf"))[:, None, None].expand(-1, 1, rows, -1)
    )


def _bias(at: Place, segment: Segment, dtype: torch.dtype, examples: int) -> Tensor | None:
    """[n, H' or 1, rows, C] of the table."""
    table = at.given.table
    if table is None:
        return None
    place = entries(at, segment)
    own = table[at.heads.query] if table.shape[0] > 1 else table
    bias = own.flatten(1)[:, place].transpose(0, 1).to(dtype)
    return bias.repeat(examples, 1, 1, 1) if place.shape[0] > 1 else bias


def entries(at: Place, segment: Segment) -> Tensor:
    """[n, rows, C]: the entry of the flat table for each pair."""
    given = at.given
    if given.table is None or given.target_place is None or given.source_place is None:
        raise RuntimeError("a table needs positions")
    target = given.target_place[_numbers(at.step.rows, given.q)].unsqueeze(2)
    source = given.source_place[_numbers(segment.columns, given.k)].unsqueeze(1)
    place = torch.zeros((), dtype=torch.long, device=target.device)
    for axis, size in enumerate(given.table.shape[1:]):
        apart = target[..., axis] - source[..., axis] + (size - 1) // 2
        place = place * size + apart.clamp(0, size - 1)
    return place


def dropout_mask(at: Place, segment: Segment, like: Tensor) -> Tensor | None:
    """The dropout mask [B', K, G * rows, C], or None."""
    given = at.given
    if given.seed is None:
        return None
    (batch, targets, heads, _), sources = given.q.shape, given.k.shape[1]
    target = _numbers(at.step.rows, given.q).unsqueeze(2)
    source = _numbers(segment.columns, given.k).unsqueeze(1)
    example = torch.arange(*at.step.examples.indices(batch), device=like.device).view(-1, 1, 1, 1)
    pair = ((example * targets + target) * sources + source) * heads  # [B, n, rows, C]
    head = torch.arange(*at.heads.query.indices(heads), device=like.device).view(-1, 1, 1)
    number = bits(given.seed, pair.flatten(0, 1).unsqueeze(1) + head)
    factor = (number >= round(given.dropout * 2**32)).to(like.dtype) / (1 - given.dropout)
    return join_heads(factor, at.heads.group)
