"""Inner products per edge and head of the rows at both ends: g[e, h] = <a[t], b[s]> over the channels of head h.

This is the gradient of a sum's weights. With `ties` only channels count where the edge's message is the extremum
of its target, which is the gradient of a maximum's weights. Programs get equal numbers of edges, whatever the rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels.split import accumulator, blocks, launched, wide

__all__ = ["Ties", "config", "score_dot"]

_NUMBERS = 2048  # per program: 32 per lane of two warps, for both ends of the edges; narrow heads spill and use four


class Ties(NamedTuple):
    """The edges that reach an extremum, given by weights (None, [E] or [E, K]) and the extremum [B, T, D]."""

    weight: Tensor | None
    extreme: Tensor


def config(heads: int, width: int, dtype: torch.dtype) -> dict[str, Any]:
    """Launch parameters for a number of heads and their width."""
    channels = min(triton.next_power_of_2(max(width, 1)), 128)
    own_heads = min(triton.next_power_of_2(heads), max(1, 128 // channels))
    numbers = _NUMBERS // 2 if dtype == torch.float64 else _NUMBERS
    edges = min(numbers // (channels * own_heads), 128)
    warps = 4 if channels <= 16 else 2
    return {"EDGES": edges, "HEADS": own_heads, "BLOCK": channels, "num_warps": warps, "enable_fp_fusion": True}


@launched
def _dot(
    indices, target, weight, a, b, extreme, out, num_edges, num_rows, num_sources, batch,
    WEIGHTS: tl.constexpr, TIES: tl.constexpr, H: tl.constexpr, WIDTH: tl.constexpr, HEAD_BLOCKS: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr,
    EDGES: tl.constexpr, HEADS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    head = (pid % HEAD_BLOCKS) * HEADS + tl.arange(0, HEADS)
    block = pid // HEAD_BLOCKS
    if WIDE:
        block = block.to(tl.int64)
    e = block * EDGES + tl.arange(0, EDGES)
    live = e < num_edges
    t = tl.load(target + e, mask=live, other=0)
    s = tl.load(indices + e, mask=live, other=0)
    if WIDE:
        t, s = t.to(tl.int64), s.to(tl.int64)
    D: tl.constexpr = H * WIDTH
    here = live[:, None] & (head < H)[None, :]
    if TIES and WEIGHTS > 0:
        scale = tl.load(weight + e[:, None] * WEIGHTS + (head if WEIGHTS > 1 else head * 0)[None, :], here, other=0)
        scale = scale.to(ACC)[:, :, None]
    acc = tl.zeros([EDGES, HEADS, BLOCK], dtype=ACC)
    for _ in range(batch):
        for first in tl.static_range(0, WIDTH, BLOCK):
            channel = first + tl.arange(0, BLOCK)
            at = (head[:, None] * WIDTH + channel[None, :])[None, :, :]
            mask = here[:, :, None] & (channel < WIDTH)[None, None, :]
            left = tl.load(a + t[:, None, None] * D + at, mask=mask, other=0).to(ACC)
            right = tl.load(b + s[:, None, None] * D + at, mask=mask, other=0).to(ACC)
            product = left * right
            if TIES:
                reached = tl.load(extreme + t[:, None, None] * D + at, mask=mask, other=0)
                message = right * scale if WEIGHTS > 0 else right
                product = tl.where(message.to(reached.dtype).to(ACC) == reached.to(ACC), product, 0.0)
            acc += tl.where(mask, product, 0.0)
        a += num_rows * D
        b += num_sources * D
        extreme += num_rows * D
    at = e[:, None] * H + head[None, :]
    tl.store(out + at, tl.sum(acc, axis=2).to(out.dtype.element_ty), mask=here)


def score_dot(
    indices: Tensor, target: Tensor, a: Tensor, b: Tensor, heads: int, dtype: torch.dtype, ties: Ties | None = None
) -> Tensor:
    """[E, H] in the given dtype: inner products of a [B, T, D] and b [B, S, D] along the edges, summed over the batch.

    With ``ties`` a channel counts only where w[e] b[s], rounded to the extremum's dtype, equals the extremum of t.
    """
    (batch, num_rows, features), num_edges = a.shape, indices.shape[0]
    out = a.new_empty((num_edges, heads), dtype=dtype)
    if out.numel() == 0 or batch * features == 0:
        return out.zero_()
    a, b = a.contiguous(), b.contiguous()
    weight = None if ties is None or ties.weight is None else ties.weight.contiguous()
    extreme = a if ties is None else ties.extreme.contiguous()
    how = config(heads, features // heads, b.dtype)
    head_blocks = blocks(heads, how["HEADS"])
    _dot[(head_blocks * triton.cdiv(num_edges, how["EDGES"]),)](
        indices, target, a if weight is None else weight, a, b, extreme, out,
        num_edges, num_rows, b.shape[1], batch,
        WEIGHTS=0 if weight is None else weight.numel() // num_edges, TIES=ties is not None,
        H=heads, WIDTH=features // heads, HEAD_BLOCKS=head_blocks, ACC=accumulator(b.dtype),
        WIDE=wide(a, b, out), **how,
    )  # fmt: skip
    return out
