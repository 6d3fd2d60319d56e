"""Softmax over each row's edges: alpha[e] = exp(s[e] - max) / sum, a head.

Rows are read once for their maximum and the sum of exponentials, kept together as they go (a larger maximum rescales
the sum), and the edges once more for their shares. Rows without edges, or with -inf alone, give 0.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels import split
from hgraph.kernels.csr_reduce import config
from hgraph.kernels.split import accumulator, blocks, first_part, launched, num_parts, num_stretches, part, wide

__all__ = ["edge_softmax", "finite", "row_states"]


@triton.jit
def finite(top):
    """A shift that is safe to subtract: 0 in place of -inf."""
    return tl.where(top == float("-inf"), 0.0, top)


@launched
def _state_parts(
    indptr, target, score, top, total, partial, num_rows, num_edges, parts,
    H: tl.constexpr, HEAD_BLOCKS: tl.constexpr, ACC: tl.constexpr, SPLIT: tl.constexpr, LONGEST: tl.constexpr,
    WIDE: tl.constexpr, ROWS: tl.constexpr, ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    head = (pid % HEAD_BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    v = (pid // HEAD_BLOCKS) * ROWS + tl.arange(0, ROWS)
    v, row, begin, end, active = part(v, indptr, target, num_rows, num_edges, SPLIT, LONGEST, WIDE)
    most = tl.full([ROWS, ENTRIES, BLOCK], float("-inf"), dtype=ACC)
    acc = tl.zeros([ROWS, ENTRIES, BLOCK], dtype=ACC)
    for step in range(0, tl.cdiv(tl.max(end - begin, axis=0), ENTRIES)):
        e = begin[:, None] + step * ENTRIES + tl.arange(0, ENTRIES)[None, :]
        here = (e < end[:, None])[:, :, None] & (head < H)[None, None, :]
        s = tl.load(score + e[:, :, None] * H + head[None, None, :], mask=here, other=float("-inf")).to(ACC)
        higher = tl.maximum(most, s)
        shift = finite(higher)
        acc = acc * tl.exp(most - shift) + tl.exp(s - shift)
        most = higher
    high = tl.max(most, axis=1)
    low = tl.sum(acc * tl.exp(most - finite(high)[:, None, :]), axis=1)
    write = active[:, None] & (head < H)[None, :]
    if SPLIT:
        at = (v - num_rows)[:, None] * (2 * H) + head[None, :]
        tl.store(partial + at, high, mask=write & (v >= num_rows)[:, None])
        tl.store(partial + at + H, low, mask=write & (v >= num_rows)[:, None])
        write = write & (v < num_rows)[:, None]
    at = row[:, None] * H + head[None, :]
    tl.store(top + at, high, mask=write)
    tl.store(total + at, low, mask=write)


@launched
def _state_combine(
    indptr, target, partial, top, total, num_edges,
    H: tl.constexpr, HEAD_BLOCKS: tl.constexpr, ACC: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr,
    ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    head = (pid % HEAD_BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    stretch = pid // HEAD_BLOCKS
    row, slot, count = first_part(stretch, indptr, target, num_edges, LONGEST)
    if WIDE:
        row, slot, stretch = row.to(tl.int64), slot.to(tl.int64), stretch.to(tl.int64)
    most = tl.full([ENTRIES, BLOCK], float("-inf"), dtype=ACC)
    acc = tl.zeros([ENTRIES, BLOCK], dtype=ACC)
    for first in range(0, count, ENTRIES):
        each = first + tl.arange(0, ENTRIES)
        at = tl.where(each == 0, slot, 2 * (stretch + each))[:, None] * (2 * H) + head[None, :]
        here = (each < count)[:, None] & (head < H)[None, :]
        s = tl.load(partial + at, mask=here, other=float("-inf"))
        higher = tl.maximum(most, s)
        shift = finite(higher)
        acc = acc * tl.exp(most - shift) + tl.load(partial + at + H, mask=here, other=0) * tl.exp(s - shift)
        most = higher
    high = tl.max(most, axis=0)
    write = (head < H) & (count > 0)
    tl.store(top + row * H + head, high, mask=write)
    tl.store(total + row * H + head, tl.sum(acc * tl.exp(most - finite(high)[None, :]), axis=0), mask=write)


@launched
def _shares(
    target, score, top, total, out, num_edges,
    H: tl.constexpr, HEAD_BLOCKS: tl.constexpr, ACC: tl.constexpr, WIDE: tl.constexpr,
    EDGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    head = (pid % HEAD_BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    block = pid // HEAD_BLOCKS
    if WIDE:
        block = block.to(tl.int64)
    e = block * EDGES + tl.arange(0, EDGES)
    t = tl.load(target + e, mask=e < num_edges, other=0)
    if WIDE:
        t = t.to(tl.int64)
    here = (e < num_edges)[:, None] & (head < H)[None, :]
    at, of_row = e[:, None] * H + head[None, :], t[:, None] * H + head[None, :]
    s = tl.load(score + at, mask=here, other=float("-inf")).to(ACC)
    high = tl.load(top + of_row, mask=here, other=0)
    low = tl.load(total + of_row, mask=here, other=1)
    share = tl.exp(s - finite(high)) / tl.where(low == 0, 1.0, low)
    tl.store(out + at, share.to(out.dtype.element_ty), mask=here)


def row_states(indptr: Tensor, target: Tensor, score: Tensor, longest: int | None = None) -> tuple[Tensor, Tensor]:
    """The largest score [T, H] of each row, -inf where there is none, and the sum of exp(score - largest), 0 there.

    Args:
        indptr: [T + 1].
        target: [E], the row of each edge.
        score: [E, H], contiguous.
        longest: that no row has more edges, where the caller knows it.
    """
    num_edges, heads = score.shape
    num_rows, acc = indptr.shape[0] - 1, accumulator(score.dtype)
    top = score.new_empty((num_rows, heads), dtype=split.torch_dtype(acc))
    total = score.new_empty((num_rows, heads), dtype=top.dtype)
    if num_edges == 0 or top.numel() == 0:
        return top.fill_(float("-inf")), total.zero_()
    how, stretches = config(heads, score.dtype), num_stretches(num_edges, longest)
    parts = num_parts(num_rows, stretches)
    partial = top.new_empty((2 * stretches, 2, heads))
    shared: dict[str, Any] = {
        "H": heads, "HEAD_BLOCKS": blocks(heads, how["BLOCK"]), "ACC": acc, "LONGEST": split.LONGEST,
        "WIDE": wide(score, partial),
    }  # fmt: skip
    _state_parts[(shared["HEAD_BLOCKS"] * triton.cdiv(parts, how["ROWS"]),)](
        indptr, target, score, top, total, partial, num_rows, num_edges, parts, SPLIT=stretches > 0, **shared, **how
    )
    if stretches:
        _state_combine[(shared["HEAD_BLOCKS"] * stretches,)](
            indptr, target, partial, top, total, num_edges, ENTRIES=8, BLOCK=how["BLOCK"],
            num_warps=how["num_warps"], enable_fp_fusion=True, **shared,
        )  # fmt: skip
    return top, total


def edge_softmax(indptr: Tensor, target: Tensor, score: Tensor, longest: int | None = None) -> Tensor:
    """[E, H] in the scores' dtype: each edge's share among its row's."""
    score = score.contiguous()
    out = score.new_empty(score.shape)
    if out.numel() == 0:
        return out
    top, total = row_states(indptr, target, score, longest)
    num_edges, heads = score.shape
    block = min(triton.next_power_of_2(heads), 64)
    edges, head_blocks = max(1024 // block, 1), blocks(heads, block)
    _shares[(head_blocks * triton.cdiv(num_edges, edges),)](
        target, score, top, total, out, num_edges, H=heads, HEAD_BLOCKS=head_blocks,
        ACC=accumulator(score.dtype), WIDE=wide(score), EDGES=edges, BLOCK=block, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return out
