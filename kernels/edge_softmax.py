"""Softmax over each row's edges: alpha[e] = exp(s[e] - max) / sum, per head.

Rows are read once for their maximum and the sum of exponentials (online: a larger maximum rescales the sum),
and edges once more for their weights. Rows without edges, or with only -inf, give 0.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels import split
from hgraph.kernels.csr_reduce import config
from hgraph.kernels.split import accumulator, blocks, first_part, launched, num_chunks, num_parts, part, wide

__all__ = ["edge_softmax", "finite", "row_states"]


@triton.jit
def finite(top):
    """A shift that is safe to subtract: replaces -inf by 0."""
    return tl.where(top == float("-inf"), 0.0, top)


@launched
def _state_parts(
    indptr, target, score, top, row_sum, partial, num_rows, num_edges, parts,
    H: tl.constexpr, HEAD_BLOCKS: tl.constexpr, ACC: tl.constexpr, SPLIT: tl.constexpr, LONGEST: tl.constexpr,
    WIDE: tl.constexpr, ROWS: tl.constexpr, ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    head = (pid % HEAD_BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    v = (pid // HEAD_BLOCKS) * ROWS + tl.arange(0, ROWS)
    v, row, begin, end, active = part(v, indptr, target, num_rows, num_edges, SPLIT, LONGEST, WIDE)
    row_max = tl.full([ROWS, ENTRIES, BLOCK], float("-inf"), dtype=ACC)
    acc = tl.zeros([ROWS, ENTRIES, BLOCK], dtype=ACC)
    for step in range(0, tl.cdiv(tl.max(end - begin, axis=0), ENTRIES)):
        e = begin[:, None] + step * ENTRIES + tl.arange(0, ENTRIES)[None, :]
        here = (e < end[:, None])[:, :, None] & (head < H)[None, None, :]
        s = tl.load(score + e[:, :, None] * H + head[None, None, :], mask=here, other=float("-inf")).to(ACC)
        higher = tl.maximum(row_max, s)
        shift = finite(higher)
        acc = acc * tl.exp(row_max - shift) + tl.exp(s - shift)
        row_max = higher
    high = tl.max(row_max, axis=1)
    low = tl.sum(acc * tl.exp(row_max - finite(high)[:, None, :]), axis=1)
    write = active[:, None] & (head < H)[None, :]
    if SPLIT:
        at = (v - num_rows)[:, None] * (2 * H) + head[None, :]
        tl.store(partial + at, high, mask=write & (v >= num_rows)[:, None])
        tl.store(partial + at + H, low, mask=write & (v >= num_rows)[:, None])
        write = write & (v < num_rows)[:, None]
    at = row[:, None] * H + head[None, :]
    tl.store(top + at, high, mask=write)
    tl.store(row_sum + at, low, mask=write)


@launched
def _state_combine(
    indptr, target, partial, top, row_sum, num_edges,
    H: tl.constexpr, HEAD_BLOCKS: tl.constexpr, ACC: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr,
    ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    head = (pid % HEAD_BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    chunk = pid // HEAD_BLOCKS
    row, slot, count = first_part(chunk, indptr, target, num_edges, LONGEST)
    if WIDE:
        row, slot, chunk = row.to(tl.int64), slot.to(tl.int64), chunk.to(tl.int64)
    row_max = tl.full([ENTRIES, BLOCK], float("-inf"), dtype=ACC)
    acc = tl.zeros([ENTRIES, BLOCK], dtype=ACC)
    for first in range(0, count, ENTRIES):
        each = first + tl.arange(0, ENTRIES)
        at = tl.where(each == 0, slot, 2 * (chunk + each))[:, None] * (2 * H) + head[None, :]
        here = (each < count)[:, None] & (head < H)[None, :]
        s = tl.load(partial + at, mask=here, other=float("-inf"))
        higher = tl.maximum(row_max, s)
        shift = finite(higher)
        acc = acc * tl.exp(row_max - shift) + tl.load(partial + at + H, mask=here, other=0) * tl.exp(s - shift)
        row_max = higher
    high = tl.max(row_max, axis=0)
    write = (head < H) & (count > 0)
    tl.store(top + row * H + head, high, mask=write)
    tl.store(row_sum + row * H + head, tl.sum(acc * tl.exp(row_max - finite(high)[None, :]), axis=0), mask=write)


@launched
def _shares(
    target, score, top, row_sum, out, num_edges,
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
    low = tl.load(row_sum + of_row, mask=here, other=1)
    share = tl.exp(s - finite(high)) / tl.where(low == 0, 1.0, low)
    tl.store(out + at, share.to(out.dtype.element_ty), mask=here)


def row_states(indptr: Tensor, target: Tensor, score: Tensor, longest: int | None = None) -> tuple[Tensor, Tensor]:
    """The maximum score [T, H] of each row, -inf for empty rows, and the sum of exp(score - maximum), 0 for empty rows.

    Args:
        indptr: [T + 1].
        target: [E], the row of each edge.
        score: [E, H], contiguous.
        longest: an upper bound on the edges of a row, if known.
    """
    num_edges, heads = score.shape
    num_rows, acc = indptr.shape[0] - 1, accumulator(score.dtype)
    top = score.new_empty((num_rows, heads), dtype=split.torch_dtype(acc))
    row_sum = score.new_empty((num_rows, heads), dtype=top.dtype)
    if num_edges == 0 or top.numel() == 0:
        return top.fill_(float("-inf")), row_sum.zero_()
    how, chunks = config(heads, score.dtype), num_chunks(num_edges, longest)
    parts = num_parts(num_rows, chunks)
    partial = top.new_empty((2 * chunks, 2, heads))
    shared: dict[str, Any] = {
        "H": heads, "HEAD_BLOCKS": blocks(heads, how["BLOCK"]), "ACC": acc, "LONGEST": split.LONGEST,
        "WIDE": wide(score, partial),
    }  # fmt: skip
    _state_parts[(shared["HEAD_BLOCKS"] * triton.cdiv(parts, how["ROWS"]),)](
        indptr, target, score, top, row_sum, partial, num_rows, num_edges, parts, SPLIT=chunks > 0, **shared, **how
    )
    if chunks:
        _state_combine[(shared["HEAD_BLOCKS"] * chunks,)](
            indptr, target, partial, top, row_sum, num_edges, ENTRIES=8, BLOCK=how["BLOCK"],
            num_warps=how["num_warps"], enable_fp_fusion=True, **shared,
        )  # fmt: skip
    return top, row_sum


def edge_softmax(indptr: Tensor, target: Tensor, score: Tensor, longest: int | None = None) -> Tensor:
    """[E, H] in the scores' dtype: softmax over each row."""
    score = score.contiguous()
    out = score.new_empty(score.shape)
    if out.numel() == 0:
        return out
    top, row_sum = row_states(indptr, target, score, longest)
    num_edges, heads = score.shape
    block = min(triton.next_power_of_2(heads), 64)
    edges, head_blocks = max(1024 // block, 1), blocks(heads, block)
    _shares[(head_blocks * triton.cdiv(num_edges, edges),)](
        target, score, top, row_sum, out, num_edges, H=heads, HEAD_BLOCKS=head_blocks,
        ACC=accumulator(score.dtype), WIDE=wide(score), EDGES=edges, BLOCK=block, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return out
