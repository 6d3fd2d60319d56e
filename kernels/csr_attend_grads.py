"""The gradients of `csr_attend`: one pass over rows for q and the bias, one over the transposed lists for k and v.

Both recompute the scores with lse, alpha = exp(s - lse), and the gradient of a score with delta,

    ds = dropout_mask alpha <grad, v> - alpha delta,

which includes the gradient through lse, so these kernels do not need it.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels import split
from hgraph.kernels.csr_attend import Inputs, gathered, held, scored
from hgraph.kernels.csr_reduce import config as reduce_config
from hgraph.kernels.csr_reduce import reduce_combine
from hgraph.kernels.edge_softmax import finite
from hgraph.kernels.random import dropout_mask
from hgraph.kernels.split import edges, launched, num_chunks, num_parts, part, wide

__all__ = ["csr_attend_grads"]


@triton.jit
def _put(out, partial, own, slot, channel, total, active, of_part, WIDTH: tl.constexpr, SPLIT: tl.constexpr):
    """Store sums [R, channels] of complete rows in out, those of parts of long rows in partial."""
    inside = (channel < WIDTH)[None, :]
    if SPLIT:
        at = slot[:, None] * WIDTH + channel[None, :]
        tl.store(partial + at, total, mask=(active & of_part)[:, None] & inside)
        active = active & (of_part == 0)
    tl.store(out + own[:, None] * WIDTH + channel[None, :], total, mask=active[:, None] & inside)


@launched
def _row_parts(
    indptr, indices, target, q, k, v, bias, seed, lse, delta, grad, grad_q, grad_bias, partial, scale,
    num_rows, num_edges, parts,
    SCORE: tl.constexpr, SLOPE: tl.constexpr, EXACT: tl.constexpr, LIMIT: tl.constexpr, KEPT: tl.constexpr,
    H: tl.constexpr, GROUP: tl.constexpr, BIASES: tl.constexpr, D: tl.constexpr, V: tl.constexpr, ACC: tl.constexpr,
    SPLIT: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, ROWS: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    KEYS: tl.constexpr = H // GROUP
    pid = tl.program_id(0)
    head = pid % H
    v_part = (pid // H) * ROWS + tl.arange(0, ROWS)
    v_part, row, begin, end, active = part(v_part, indptr, target, num_rows, num_edges, SPLIT, LONGEST, WIDE)
    channel, value = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    own = row * H + head
    flow = gathered(grad, own[:, None], value, active[:, None], V, ACC)
    log_sum = finite(tl.load(lse + own, mask=active, other=0).to(ACC))[:, None]
    shift = tl.load(delta + own, mask=active, other=0).to(ACC)[:, None]
    mine = held(q, own, channel, active, SCORE, D, ACC)
    acc = tl.zeros([ROWS, ENTRIES, BLOCK_D], dtype=ACC)
    for step in range(0, tl.cdiv(tl.max(end - begin, axis=0), ENTRIES)):
        e, s, live = edges(step, begin, end, indices, ENTRIES, WIDE)
        of_key = s * KEYS + head // GROUP
        inner = tl.sum(flow * gathered(v, of_key, value, live, V, ACC), axis=2)
        score, theirs, reach = scored(
            mine, k, of_key, bias, e, head, channel, live, scale, SCORE, SLOPE, EXACT, BIASES, D, ACC
        )
        alpha = tl.exp(score - log_sum)
        if LIMIT >= 0:
            inner *= dropout_mask(seed, e.to(tl.int64) * H + head, LIMIT, KEPT, ACC)
        change = alpha * (inner - shift)
        if BIASES > 0:
            tl.store(grad_bias + e * H + head, change, mask=live)
        change *= EXACT if EXACT is not None else scale
        if SCORE == 1:
            acc += change[:, :, None] * theirs
        elif SCORE == 2:
            acc += tl.where(reach > 0, change, change * SLOPE)[:, :, None]
    if SCORE > 0:
        slot = (v_part - num_rows) * H + head
        _put(grad_q, partial, own, slot, channel, tl.sum(acc, axis=1), active, v_part >= num_rows, D, SPLIT)


@launched
def _column_parts(
    indptr, indices, target, perm, q, k, v, bias, seed, lse, delta, grad, grad_k, grad_v, partial_k, partial_v, scale,
    num_rows, num_edges, parts,
    SCORE: tl.constexpr, SLOPE: tl.constexpr, EXACT: tl.constexpr, LIMIT: tl.constexpr, KEPT: tl.constexpr,
    H: tl.constexpr, GROUP: tl.constexpr, BIASES: tl.constexpr, D: tl.constexpr, V: tl.constexpr, ACC: tl.constexpr,
    SPLIT: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, ROWS: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """Over the transposed lists: a row is a source with one key head, its entries are its targets."""
    KEYS: tl.constexpr = H // GROUP
    pid = tl.program_id(0)
    key = pid % KEYS
    v_part = (pid // KEYS) * ROWS + tl.arange(0, ROWS)
    v_part, row, begin, end, active = part(v_part, indptr, target, num_rows, num_edges, SPLIT, LONGEST, WIDE)
    channel, value = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    own = row * KEYS + key
    values = gathered(v, own[:, None], value, active[:, None], V, ACC)
    mine = held(k, own, channel, active, SCORE, D, ACC)
    acc_v = tl.zeros([ROWS, ENTRIES, BLOCK_V], dtype=ACC)
    acc = tl.zeros([ROWS, ENTRIES, BLOCK_D], dtype=ACC)
    for step in range(0, tl.cdiv(tl.max(end - begin, axis=0), ENTRIES) * GROUP):
        head = key * GROUP + step % GROUP
        place = begin[:, None] + (step // GROUP) * ENTRIES + tl.arange(0, ENTRIES)[None, :]
        live = place < end[:, None]
        t = tl.load(indices + place, mask=live, other=0)
        e = tl.load(perm + place, mask=live, other=0)
        if WIDE:
            t, e = t.to(tl.int64), e.to(tl.int64)
        at_target = t * H + head
        flow = gathered(grad, at_target, value, live, V, ACC)
        score, theirs, reach = scored(
            mine, q, at_target, bias, e, head, channel, live, scale, SCORE, SLOPE, EXACT, BIASES, D, ACC
        )
        log_sum = finite(tl.load(lse + at_target, mask=live, other=0).to(ACC))
        alpha = tl.exp(score - log_sum)
        share = alpha
        if LIMIT >= 0:
            share *= dropout_mask(seed, e.to(tl.int64) * H + head, LIMIT, KEPT, ACC)
        acc_v += share[:, :, None] * flow
        if SCORE > 0:
            shift = tl.load(delta + at_target, mask=live, other=0).to(ACC)
            change = share * tl.sum(flow * values, axis=2) - alpha * shift
            change *= EXACT if EXACT is not None else scale
            if SCORE == 1:
                acc += change[:, :, None] * theirs
            else:
                acc += tl.where(reach > 0, change, change * SLOPE)[:, :, None]
    slot, of_part = (v_part - num_rows) * KEYS + key, v_part >= num_rows
    _put(grad_v, partial_v, own, slot, value, tl.sum(acc_v, axis=1), active, of_part, V, SPLIT)
    if SCORE > 0:
        _put(grad_k, partial_k, own, slot, channel, tl.sum(acc, axis=1), active, of_part, D, SPLIT)


def _combine(indptr: Tensor, target: Tensor, partial: Tensor, out: Tensor, num_edges: int, is_wide: bool) -> None:
    """Combine the sums of long rows; out [T, ...] and partial [slots, ...] have equal rows."""
    features, chunks = out[:1].numel(), partial.shape[0] // 2
    how = reduce_config(features, out.dtype)
    feature_blocks = split.blocks(features, how["BLOCK"])
    if chunks and features:
        reduce_combine[(feature_blocks * chunks,)](
            indptr, target, partial, out, out.shape[0], num_edges, chunks, KIND="sum", D=features,
            FEATURE_BLOCKS=feature_blocks, LONGEST=split.LONGEST, WIDE=is_wide, ENTRIES=8, BLOCK=how["BLOCK"],
            num_warps=how["num_warps"], enable_fp_fusion=True,
        )  # fmt: skip


def csr_attend_grads(
    rows: tuple[Tensor, Tensor, Tensor],
    columns: tuple[Tensor, Tensor, Tensor],
    perm: Tensor,
    given: Inputs,
    lse: Tensor,
    delta: Tensor,
    grad: Tensor,
    longest: tuple[int | None, int | None] = (None, None),
) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
    """Gradients of q, k, v and the bias, at least float32; the bias gradient is per head, [E, H].

    Args:
        rows: indptr, indices and target.
        columns: the same for the transpose.
        perm: [E], the edge at each position of the transpose.
        given: the inputs of the forward.
        lse: [T, H].
        delta: [T, H], sum(grad * out) minus the gradient of lse.
        grad: [T, H, V], gradient of the output.
        longest: upper bounds on the edges of rows and of columns, if known.
    """
    given, lse, delta, grad = given.contiguous(), lse.contiguous(), delta.contiguous(), grad.contiguous()
    q, k, v, bias, *_ = given
    heads, dtype, num_edges = given.heads, given.wide_dtype, perm.shape[0]
    grad_q, grad_k, grad_v = (None if t is None else t.new_empty(t.shape, dtype=dtype) for t in (q, k, v))
    assert grad_v is not None  # noqa: S101 - v is always there
    grad_bias = None if bias is None else bias.new_empty((num_edges, heads), dtype=dtype)
    if num_edges == 0 or heads == 0:
        made = (grad_q, grad_k, grad_v, grad_bias)
        return tuple(None if t is None else t.zero_() for t in made)  # type: ignore[return-value]
    row_chunks, column_chunks = (num_chunks(num_edges, most) for most in longest)
    partial_q, partial_k, partial_v = (
        grad_v.new_empty((2 * n, *t.shape[1:]) if t is not None else 0)
        for n, t in ((row_chunks, grad_q), (column_chunks, grad_k), (column_chunks, grad_v))
    )
    is_wide = wide(*given[:4], grad, partial_q, partial_k, partial_v, grad_bias, lse)
    how = given.constants() | {"WIDE": is_wide}
    num_rows, num_columns = rows[0].shape[0] - 1, columns[0].shape[0] - 1
    parts, pointers = num_parts(num_rows, row_chunks), given.pointers(perm)
    if grad_q is not None or grad_bias is not None:
        _row_parts[(heads * triton.cdiv(parts, how["ROWS"]),)](
            *rows, *pointers, lse, delta, grad, grad_v if grad_q is None else grad_q,
            grad_v if grad_bias is None else grad_bias, partial_q, given.scale, num_rows, num_edges, parts,
            SPLIT=row_chunks > 0, **how,
        )  # fmt: skip
    parts = num_parts(num_columns, column_chunks)
    _column_parts[(v.shape[1] * triton.cdiv(parts, how["ROWS"]),)](
        *columns, perm, *pointers, lse, delta, grad, grad_v if grad_k is None else grad_k, grad_v,
        partial_k, partial_v, given.scale, num_columns, num_edges, parts, SPLIT=column_chunks > 0, **how,
    )  # fmt: skip
    if grad_q is not None and grad_k is not None:
        _combine(rows[0], rows[2], partial_q, grad_q, num_edges, is_wide)
        _combine(columns[0], columns[2], partial_k, grad_k, num_edges, is_wide)
    _combine(columns[0], columns[2], partial_v, grad_v, num_edges, is_wide)
    return grad_q, grad_k, grad_v, grad_bias
