"""The gradient of a maximum or minimum with respect to x, from the saved output; split equally among ties.

- `tie_count`: the number of edges of a target that reach its extremum, per channel
- `tie_flow`: the gradient of each source, a sum over the transposed lists

An edge reaches the extremum if w[e] x[s], rounded to x's dtype, equals it: the forward rounds in the same way.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels import split
from hgraph.kernels.csr_reduce import config, edge_weight, reduce_combine
from hgraph.kernels.split import accumulator, edges, launched, num_chunks, num_parts, part, wide

__all__ = ["tie_count", "tie_flow"]


@launched
def _tie_parts(
    indptr, indices, target, weight, own, other, share, out, partial, num_rows, num_other, num_edges, parts,
    FLOW: tl.constexpr, WEIGHTS: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr, FEATURE_BLOCKS: tl.constexpr,
    ACC: tl.constexpr, SPLIT: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Counting: own is the extremum, other is x. Gradient, over the transpose: own is x, other the extremum."""
    pid = tl.program_id(0)
    feature = (pid % FEATURE_BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    row_blocks = tl.cdiv(parts, ROWS)
    batch = pid // FEATURE_BLOCKS // row_blocks
    v = (pid // FEATURE_BLOCKS % row_blocks) * ROWS + tl.arange(0, ROWS)
    v, row, begin, end, active = part(v, indptr, target, num_rows, num_edges, SPLIT, LONGEST, WIDE)
    if WIDE:
        batch = batch.to(tl.int64)
    other += batch * num_other * D
    share += batch * num_other * D
    inside = feature < D
    at = (batch * num_rows + row)[:, None] * D + feature[None, :]
    mine = tl.load(own + at, mask=active[:, None] & inside[None, :], other=0)[:, None, :]

    acc = tl.zeros([ROWS, ENTRIES, BLOCK], dtype=ACC)
    for step in range(0, tl.cdiv(tl.max(end - begin, axis=0), ENTRIES)):
        e, s, live = edges(step, begin, end, indices, ENTRIES, WIDE)
        here = live[:, :, None] & inside[None, None, :]
        there = s[:, :, None] * D + feature[None, None, :]
        theirs = tl.load(other + there, mask=here, other=0)
        message = mine.to(ACC) if FLOW else theirs.to(ACC)
        if WEIGHTS > 0:
            scale = edge_weight(weight, e, feature, live, WEIGHTS, WIDTH, D).to(ACC)
            message *= scale
        reached = message.to(mine.dtype).to(ACC) == (theirs if FLOW else mine).to(ACC)
        if FLOW:
            gain = tl.load(share + there, mask=here, other=0).to(ACC)
            if WEIGHTS > 0:
                gain *= scale
            acc += tl.where(here & reached, gain, 0.0)
        else:
            acc += tl.where(here & reached, 1.0, 0.0)

    total = tl.sum(acc, axis=1)
    write = active[:, None] & inside[None, :]
    if SPLIT:
        slots = (parts - num_rows) * batch + v - num_rows
        tl.store(partial + slots[:, None] * D + feature[None, :], total, mask=write & (v >= num_rows)[:, None])
        write = write & (v < num_rows)[:, None]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=write)


def _launch(rows: tuple[Tensor, Tensor, Tensor], weight: Tensor | None, own: Tensor, other: Tensor, *,
            share: Tensor | None, out: Tensor, longest: int | None) -> Tensor:  # fmt: skip
    indptr, indices, target = rows
    (batch, num_rows, features), num_edges = own.shape, indices.shape[0]
    if num_edges == 0 or own.numel() == 0:
        return out.zero_()
    own, other = own.contiguous(), other.contiguous()
    weight = None if weight is None else weight.contiguous()
    columns = 0 if weight is None else weight.numel() // num_edges
    chunks, how = num_chunks(num_edges, longest), config(features, own.dtype)
    parts = num_parts(num_rows, chunks)
    how["ROWS"] = max(how["ROWS"] // 2, 1)  # two numbers are read per entry
    acc = accumulator(own.dtype)
    partial = own.new_empty((batch, 2 * chunks, features), dtype=split.torch_dtype(acc))
    shared: dict[str, Any] = {
        "D": features, "FEATURE_BLOCKS": split.blocks(features, how["BLOCK"]),
        "LONGEST": split.LONGEST, "WIDE": wide(own, other, weight, partial),
    }  # fmt: skip
    _tie_parts[(shared["FEATURE_BLOCKS"] * triton.cdiv(parts, how["ROWS"]) * batch,)](
        indptr, indices, target, own if weight is None else weight, own, other,
        own if share is None else share.contiguous(), out, partial,
        num_rows, other.shape[1], num_edges, parts, FLOW=share is not None, WEIGHTS=columns,
        WIDTH=features // max(columns, 1), ACC=acc, SPLIT=chunks > 0, **shared, **how,
    )  # fmt: skip
    if chunks:
        reduce_combine[(shared["FEATURE_BLOCKS"] * chunks * batch,)](
            indptr, target, partial, out, num_rows, num_edges, chunks, KIND="sum",
            ENTRIES=8, BLOCK=how["BLOCK"], num_warps=how["num_warps"], **shared,
        )  # fmt: skip
    return out


def tie_count(
    indptr: Tensor, indices: Tensor, target: Tensor, weight: Tensor | None, x: Tensor, extreme: Tensor,
    longest: int | None = None,
) -> Tensor:  # fmt: skip
    """[B, T, D], at least float32: the number of edges that reach the extremum [B, T, D] of x [B, S, D]."""
    out = extreme.new_empty(extreme.shape, dtype=split.torch_dtype(accumulator(x.dtype)))
    return _launch((indptr, indices, target), weight, extreme, x, share=None, out=out, longest=longest)


def tie_flow(
    t_indptr: Tensor,
    t_indices: Tensor,
    source: Tensor,
    weight: Tensor | None,
    x: Tensor,
    extreme: Tensor,
    share: Tensor,
    longest: int | None = None,
) -> Tensor:
    """The gradient [B, S, D] of x, in its dtype.

    Args:
        t_indptr: [S + 1], the transposed lists, as are t_indices and source.
        t_indices: [E].
        source: [E].
        weight: None, [E] or [E, K] in the transpose's order.
        x: [B, S, D].
        extreme: [B, T, D], the forward's output.
        share: [B, T, D], its gradient divided by the number of ties.
        longest: an upper bound on the edges of a source, if known.
    """
    out = x.new_empty(x.shape)
    return _launch((t_indptr, t_indices, source), weight, x, extreme, share=share, out=out, longest=longest)
