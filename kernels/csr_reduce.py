"""Sum, mean, maximum or minimum of gathered rows: y[t] = reduce over e: t <- s of w[e] x[s].

The same kernel over the transposed lists is the gradient of a sum with respect to x. A program handles ROWS parts of
the structure (`split`) x ENTRIES edges at a time x BLOCK features. Each of the ENTRIES has its own running sum; they
are added once at the end, so the loop has no exchange between lanes; the BLOCK features of an edge are loaded with 16
bytes per lane. Sums use float32 (float64 for float64) in an order that depends only on the structure.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels import split
from hgraph.kernels.split import accumulator, edges, first_part, launched, num_chunks, num_parts, part, wide

__all__ = ["config", "csr_reduce", "edge_weight", "reduce_combine"]

# Features per block -> (ROWS, ENTRIES, warps): 32 numbers per lane, so eight loads of 16 bytes are in flight at once.
TABLE = {
    1: (64, 8, 1),
    2: (64, 8, 1),
    4: (64, 4, 1),
    8: (32, 4, 1),
    16: (16, 4, 1),
    32: (8, 4, 1),
    64: (4, 8, 2),
    128: (2, 8, 2),
    256: (1, 8, 2),
}
WIDEST = 256


def config(features: int, dtype: torch.dtype) -> dict[str, Any]:
    """Launch parameters that depend only on the feature width and dtype, so results of one width are reproducible."""
    block = min(triton.next_power_of_2(max(features, 1)), WIDEST)
    rows, entries, warps = TABLE[block]
    if dtype == torch.float64:
        entries = max(entries // (4 if block == 8 else 2), 1)
    elif block == WIDEST and features % 4:  # rows are read number by number: addresses need registers
        entries //= 2
    return {"ROWS": rows, "ENTRIES": entries, "BLOCK": block, "num_warps": warps, "enable_fp_fusion": True}


@triton.jit
def edge_weight(weight, e, feature, live, WEIGHTS: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr):
    """Weights of edges e [R, E] at features [F]: [R, E, 1] for one per edge, else [R, E, F], from WEIGHTS columns."""
    if WEIGHTS == 1:
        value = tl.load(weight + e, mask=live, other=0)[:, :, None]
    else:
        at = e[:, :, None] * WEIGHTS + (feature // WIDTH)[None, None, :]
        value = tl.load(weight + at, mask=live[:, :, None] & (feature < D)[None, None, :], other=0)
    return value


@triton.jit
def _below_inverse(count):
    """A power of two between 1 / (2 count) and 1 / count: messages times it have a sum that cannot overflow."""
    exponent = (count.to(tl.float32).to(tl.int32, bitcast=True) >> 23) & 255
    return ((253 - exponent) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _with_nan(value, axis: tl.constexpr, LARGEST: tl.constexpr):
    """Extremum along an axis; propagates NaN."""
    nan = tl.max((value != value).to(tl.int32), axis=axis) > 0
    if LARGEST:
        best = tl.max(tl.where(value != value, float("-inf"), value), axis=axis)
    else:
        best = tl.min(tl.where(value != value, float("inf"), value), axis=axis)
    return tl.where(nan, float("nan"), best)


@launched
def _reduce_parts(
    indptr, indices, target, weight, x, out, partial, num_rows, num_sources, num_edges, parts,
    KIND: tl.constexpr, WEIGHTS: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr, FEATURE_BLOCKS: tl.constexpr,
    ACC: tl.constexpr, SPLIT: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    feature = (pid % FEATURE_BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    row_blocks = tl.cdiv(parts, ROWS)
    batch = pid // FEATURE_BLOCKS // row_blocks
    v = (pid // FEATURE_BLOCKS % row_blocks) * ROWS + tl.arange(0, ROWS)
    v, row, begin, end, active = part(v, indptr, target, num_rows, num_edges, SPLIT, LONGEST, WIDE)
    if WIDE:
        batch = batch.to(tl.int64)
    x += batch * num_sources * D
    inside = (feature < D)[None, None, :]
    if KIND == "mean":
        count = tl.load(indptr + row + 1, mask=active, other=1) - tl.load(indptr + row, mask=active, other=0)
        scale = _below_inverse(tl.maximum(count, 1)).to(ACC)

    if KIND == "max":
        acc = tl.full([ROWS, ENTRIES, BLOCK], float("-inf"), dtype=ACC)
    elif KIND == "min":
        acc = tl.full([ROWS, ENTRIES, BLOCK], float("inf"), dtype=ACC)
    else:
        acc = tl.zeros([ROWS, ENTRIES, BLOCK], dtype=ACC)
    for step in range(0, tl.cdiv(tl.max(end - begin, axis=0), ENTRIES)):
        e, s, live = edges(step, begin, end, indices, ENTRIES, WIDE)
        here = live[:, :, None] & inside
        message = tl.load(x + s[:, :, None] * D + feature[None, None, :], mask=here, other=0).to(ACC)
        if KIND == "mean":
            message *= scale[:, None, None]
        if WEIGHTS > 0:
            message *= edge_weight(weight, e, feature, live, WEIGHTS, WIDTH, D).to(ACC)
        if KIND == "max":
            acc = tl.where(here, tl.maximum(acc, message, propagate_nan=tl.PropagateNan.ALL), acc)
        elif KIND == "min":
            acc = tl.where(here, tl.minimum(acc, message, propagate_nan=tl.PropagateNan.ALL), acc)
        else:
            acc += tl.where(here, message, 0.0)

    if KIND == "max" or KIND == "min":
        total = _with_nan(acc, 1, KIND == "max")
        total = tl.where((end > begin)[:, None], total, 0.0)
    else:
        total = tl.sum(acc, axis=1)
    write = active[:, None] & (feature < D)[None, :]
    if SPLIT:
        slots = (parts - num_rows) * batch + v - num_rows
        tl.store(partial + slots[:, None] * D + feature[None, :], total, mask=write & (v >= num_rows)[:, None])
        write = write & (v < num_rows)[:, None]
    if KIND == "mean":  # read again: held during the loop, they would need registers
        count = tl.load(indptr + row + 1, mask=active, other=1) - tl.load(indptr + row, mask=active, other=0)
        total /= (tl.maximum(count, 1).to(ACC) * scale)[:, None]
    at = (batch * num_rows + row)[:, None] * D + feature[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=write)


@launched
def reduce_combine(
    indptr, target, partial, out, num_rows, num_edges, chunks,
    KIND: tl.constexpr, D: tl.constexpr, FEATURE_BLOCKS: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr,
    ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Combine the parts of the long row that begins in a chunk, in order."""
    pid = tl.program_id(0)
    feature = (pid % FEATURE_BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    chunk = pid // FEATURE_BLOCKS % chunks
    batch = pid // FEATURE_BLOCKS // chunks
    row, slot, count = first_part(chunk, indptr, target, num_edges, LONGEST)
    if WIDE:
        batch, row, slot, chunk = batch.to(tl.int64), row.to(tl.int64), slot.to(tl.int64), chunk.to(tl.int64)
    partial += batch * 2 * chunks * D
    if KIND == "max":
        acc = tl.full([ENTRIES, BLOCK], float("-inf"), dtype=partial.dtype.element_ty)
    elif KIND == "min":
        acc = tl.full([ENTRIES, BLOCK], float("inf"), dtype=partial.dtype.element_ty)
    else:
        acc = tl.zeros([ENTRIES, BLOCK], dtype=partial.dtype.element_ty)
    for first in range(0, count, ENTRIES):
        each = first + tl.arange(0, ENTRIES)
        at = tl.where(each == 0, slot, 2 * (chunk + each))
        here = (each < count)[:, None] & (feature < D)[None, :]
        value = tl.load(partial + at[:, None] * D + feature[None, :], mask=here, other=0)
        if KIND == "max":
            acc = tl.where(here, tl.maximum(acc, value, propagate_nan=tl.PropagateNan.ALL), acc)
        elif KIND == "min":
            acc = tl.where(here, tl.minimum(acc, value, propagate_nan=tl.PropagateNan.ALL), acc)
        else:
            acc += value
    if KIND == "max" or KIND == "min":
        total = _with_nan(acc, 0, KIND == "max")
    else:
        total = tl.sum(acc, axis=0)
    if KIND == "mean":
        edges_of_row = tl.load(indptr + row + 1) - tl.load(indptr + row)
        total /= edges_of_row.to(total.dtype) * _below_inverse(edges_of_row).to(total.dtype)
    at = (batch * num_rows + row) * D + feature
    tl.store(out + at, total.to(out.dtype.element_ty), mask=(feature < D) & (count > 0))


def csr_reduce(
    indptr: Tensor, indices: Tensor, target: Tensor, weight: Tensor | None, x: Tensor, kind: str = "sum",
    longest: int | None = None,
) -> Tensor:  # fmt: skip
    """[B, T, D] in x's dtype: the sum, mean, max or min of w[e] x[s] over each row; 0 for an empty row.

    Args:
        indptr: [T + 1].
        indices: [E], the row of x for each entry.
        target: [E], the row of each entry.
        weight: None, [E], or [E, K] for K equal channel blocks.
        x: [B, S, D].
        kind: ``"sum"``, ``"mean"``, ``"max"`` or ``"min"``.
        longest: an upper bound on the edges of a row, if known: without long rows there is only one launch.
    """
    batch, num_sources, features = x.shape
    num_rows, num_edges = indptr.shape[0] - 1, indices.shape[0]
    if num_edges == 0 or batch * num_rows * features == 0:
        return x.new_zeros((batch, num_rows, features))
    x, weight = x.contiguous(), None if weight is None else weight.contiguous()
    columns = 0 if weight is None else weight.numel() // num_edges
    out = x.new_empty((batch, num_rows, features))
    chunks, acc = num_chunks(num_edges, longest), accumulator(x.dtype)
    partial = x.new_empty((batch, 2 * chunks, features), dtype=split.torch_dtype(acc))
    how = config(features, x.dtype)
    shared: dict[str, Any] = {
        "KIND": kind, "D": features, "FEATURE_BLOCKS": split.blocks(features, how["BLOCK"]),
        "LONGEST": split.LONGEST, "WIDE": wide(x, weight, out, partial),
    }  # fmt: skip
    parts = num_parts(num_rows, chunks)
    grid = (shared["FEATURE_BLOCKS"] * triton.cdiv(parts, how["ROWS"]) * batch,)
    _reduce_parts[grid](
        indptr, indices, target, x if weight is None else weight, x, out, partial,
        num_rows, num_sources, num_edges, parts, WEIGHTS=columns, WIDTH=features // max(columns, 1),
        ACC=acc, SPLIT=chunks > 0, **shared, **how,
    )  # fmt: skip
    if chunks:
        grid = (shared["FEATURE_BLOCKS"] * chunks * batch,)
        reduce_combine[grid](
            indptr, target, partial, out, num_rows, num_edges, chunks,
            ENTRIES=8, BLOCK=how["BLOCK"], num_warps=how["num_warps"], **shared,
        )  # fmt: skip
    return out
