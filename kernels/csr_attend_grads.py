"""The gradients of `csr_attend`: a pass over the rows for q and the bias, one over the transposed lists for k and v.

Both form the scores again from lse, alpha = exp(s - lse), and the gradient of a score from delta,

    ds = kept alpha <grad, v> - alpha delta,

in which the gradient through lse is contained: these kernels never meet it.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels import split
from hgraph.kernels.csr_attend import Inputs, dropped, scored
from hgraph.kernels.csr_reduce import config as reduce_config
from hgraph.kernels.csr_reduce import reduce_combine
from hgraph.kernels.edge_softmax import finite
from hgraph.kernels.split import num_parts, num_stretches, part, wide

__all__ = ["csr_attend_grads"]


@triton.jit
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
    row, begin, end, active = part(v_part, indptr, target, num_rows, num_edges, SPLIT, LONGEST)
    if WIDE:
        row, v_part, begin, end = row.to(tl.int64), v_part.to(tl.int64), begin.to(tl.int64), end.to(tl.int64)
    channel, value = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    own = row * H + head
    at = own[:, None] * V + value[None, :]
    flow = tl.load(grad + at, mask=active[:, None] & (value < V)[None, :], other=0).to(ACC)[:, None, :]
    log_sum = finite(tl.load(lse + own, mask=active, other=0).to(ACC))[:, None]
    shift = tl.load(delta + own, mask=active, other=0).to(ACC)[:, None]
    if SCORE == 1:
        at = own[:, None] * D + channel[None, :]
        mine = tl.load(q + at, mask=active[:, None] & (channel < D)[None, :], other=0).to(ACC)[:, None, :]
        acc = tl.zeros([ROWS, ENTRIES, BLOCK_D], dtype=ACC)
    elif SCORE == 2:
        mine = tl.load(q + own, mask=active, other=0).to(ACC)[:, None]
        acc = tl.zeros([ROWS, ENTRIES], dtype=ACC)
    for step in range(0, tl.cdiv(tl.max(end - begin, axis=0), ENTRIES)):
        e = begin[:, None] + step * ENTRIES + tl.arange(0, ENTRIES)[None, :]
        live = e < end[:, None]
        s = tl.load(indices + e, mask=live, other=0)
        if WIDE:
            s = s.to(tl.int64)
        of_key = s * KEYS + head // GROUP
        at_value = of_key[:, :, None] * V + value[None, None, :]
        values = tl.load(v + at_value, mask=live[:, :, None] & (value < V)[None, None, :], other=0).to(ACC)
        inner = tl.sum(flow * values, axis=2)
        score = tl.zeros([ROWS, ENTRIES], dtype=ACC)
        if SCORE == 1:
            at_key = of_key[:, :, None] * D + channel[None, None, :]
            theirs = tl.load(k + at_key, mask=live[:, :, None] & (channel < D)[None, None, :], other=0).to(ACC)
            score, reach = scored(mine, theirs, SCORE, SLOPE)
        elif SCORE == 2:
            score, reach = scored(mine, tl.load(k + of_key, mask=live, other=0).to(ACC), SCORE, SLOPE)
        score *= EXACT if EXACT is not None else scale
        if BIASES > 0:
            score += tl.load(bias + e * BIASES + head % BIASES, mask=live, other=0).to(ACC)
        alpha = tl.exp(tl.where(live, score, float("-inf")) - log_sum)
        if LIMIT >= 0:
            inner *= dropped(seed, e, head, H, LIMIT, KEPT, ACC)
        change = alpha * (inner - shift)
        if BIASES > 0:
            tl.store(grad_bias + e * H + head, change, mask=live)
        change *= EXACT if EXACT is not None else scale
        if SCORE == 1:
            acc += change[:, :, None] * theirs
        elif SCORE == 2:
            acc += tl.where(reach > 0, change, change * SLOPE)
    if SCORE == 1:
        total = tl.sum(acc, axis=1)
        write = active[:, None] & (channel < D)[None, :]
        if SPLIT:
            slot = ((v_part - num_rows) * H + head)[:, None] * D + channel[None, :]
            tl.store(partial + slot, total, mask=write & (v_part >= num_rows)[:, None])
            write = write & (v_part < num_rows)[:, None]
        tl.store(grad_q + own[:, None] * D + channel[None, :], total, mask=write)
    elif SCORE == 2:
        total = tl.sum(acc, axis=1)
        if SPLIT:
            tl.store(partial + (v_part - num_rows) * H + head, total, mask=active & (v_part >= num_rows))
            active = active & (v_part < num_rows)
        tl.store(grad_q + own, total, mask=active)


@triton.jit
def _column_parts(
    indptr, indices, target, perm, q, k, v, bias, seed, lse, delta, grad, grad_k, grad_v, partial_k, partial_v, scale,
    num_rows, num_edges, parts,
    SCORE: tl.constexpr, SLOPE: tl.constexpr, EXACT: tl.constexpr, LIMIT: tl.constexpr, KEPT: tl.constexpr,
    H: tl.constexpr, GROUP: tl.constexpr, BIASES: tl.constexpr, D: tl.constexpr, V: tl.constexpr, ACC: tl.constexpr,
    SPLIT: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, ROWS: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """Over the transposed lists: a row is a source with one key head, its entries the targets that hear it."""
    KEYS: tl.constexpr = H // GROUP
    pid = tl.program_id(0)
    key = pid % KEYS
    v_part = (pid // KEYS) * ROWS + tl.arange(0, ROWS)
    row, begin, end, active = part(v_part, indptr, target, num_rows, num_edges, SPLIT, LONGEST)
    if WIDE:
        row, v_part, begin, end = row.to(tl.int64), v_part.to(tl.int64), begin.to(tl.int64), end.to(tl.int64)
    channel, value = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    own = row * KEYS + key
    at = own[:, None] * V + value[None, :]
    values = tl.load(v + at, mask=active[:, None] & (value < V)[None, :], other=0).to(ACC)[:, None, :]
    acc_v = tl.zeros([ROWS, ENTRIES, BLOCK_V], dtype=ACC)
    if SCORE == 1:
        at = own[:, None] * D + channel[None, :]
        mine = tl.load(k + at, mask=active[:, None] & (channel < D)[None, :], other=0).to(ACC)[:, None, :]
        acc = tl.zeros([ROWS, ENTRIES, BLOCK_D], dtype=ACC)
    elif SCORE == 2:
        mine = tl.load(k + own, mask=active, other=0).to(ACC)[:, None]
        acc = tl.zeros([ROWS, ENTRIES], dtype=ACC)
    for step in range(0, tl.cdiv(tl.max(end - begin, axis=0), ENTRIES) * GROUP):
        head = key * GROUP + step % GROUP
        place = begin[:, None] + (step // GROUP) * ENTRIES + tl.arange(0, ENTRIES)[None, :]
        live = place < end[:, None]
        t = tl.load(indices + place, mask=live, other=0)
        e = tl.load(perm + place, mask=live, other=0)
        if WIDE:
            t, e = t.to(tl.int64), e.to(tl.int64)
        heard = t * H + head
        at_value = heard[:, :, None] * V + value[None, None, :]
        flow = tl.load(grad + at_value, mask=live[:, :, None] & (value < V)[None, None, :], other=0).to(ACC)
        score = tl.zeros([ROWS, ENTRIES], dtype=ACC)
        if SCORE == 1:
            at_query = heard[:, :, None] * D + channel[None, None, :]
            theirs = tl.load(q + at_query, mask=live[:, :, None] & (channel < D)[None, None, :], other=0).to(ACC)
            score, reach = scored(mine, theirs, SCORE, SLOPE)
        elif SCORE == 2:
            score, reach = scored(mine, tl.load(q + heard, mask=live, other=0).to(ACC), SCORE, SLOPE)
        score *= EXACT if EXACT is not None else scale
        if BIASES > 0:
            score += tl.load(bias + e * BIASES + head % BIASES, mask=live, other=0).to(ACC)
        log_sum = finite(tl.load(lse + heard, mask=live, other=0).to(ACC))
        alpha = tl.exp(tl.where(live, score, float("-inf")) - log_sum)
        share = alpha
        if LIMIT >= 0:
            share *= dropped(seed, e, head, H, LIMIT, KEPT, ACC)
        acc_v += share[:, :, None] * flow
        if SCORE > 0:
            shift = tl.load(delta + heard, mask=live, other=0).to(ACC)
            change = share * tl.sum(flow * values, axis=2) - alpha * shift
            change *= EXACT if EXACT is not None else scale  # a float that is given a name would be float32
            if SCORE == 1:
                acc += change[:, :, None] * theirs
            else:
                acc += tl.where(reach > 0, change, change * SLOPE)
    total_v = tl.sum(acc_v, axis=1)
    write = active
    if SPLIT:
        of_part = active & (v_part >= num_rows)
        slot = (v_part - num_rows) * KEYS + key
        at = slot[:, None] * V + value[None, :]
        tl.store(partial_v + at, total_v, mask=of_part[:, None] & (value < V)[None, :])
        write = active & (v_part < num_rows)
    tl.store(grad_v + own[:, None] * V + value[None, :], total_v, mask=write[:, None] & (value < V)[None, :])
    if SCORE == 1:
        total = tl.sum(acc, axis=1)
        if SPLIT:
            at = slot[:, None] * D + channel[None, :]
            tl.store(partial_k + at, total, mask=of_part[:, None] & (channel < D)[None, :])
        tl.store(grad_k + own[:, None] * D + channel[None, :], total, mask=write[:, None] & (channel < D)[None, :])
    elif SCORE == 2:
        total = tl.sum(acc, axis=1)
        if SPLIT:
            tl.store(partial_k + slot, total, mask=of_part)
        tl.store(grad_k + own, total, mask=write)


def _combine(indptr: Tensor, target: Tensor, partial: Tensor, out: Tensor, num_edges: int, is_wide: bool) -> None:
    """Put the sums of long rows together; out [T, ...] and partial [slots, ...] of equal rows."""
    features, stretches = out[0].numel(), num_stretches(num_edges)
    how = reduce_config(features, out.dtype)
    feature_blocks = split.blocks(features, how["BLOCK"])
    if stretches and features:
        reduce_combine[(feature_blocks * stretches,)](
            indptr, target, partial, out, out.shape[0], num_edges, stretches, KIND="sum", D=features,
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
) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
    """Gradients of q, k, v and the bias, float32 at least; that of the bias a head, [E, H].

    Args:
        rows: indptr, indices and target.
        columns: the same of the transpose.
        perm: [E], the edge at each place of the transpose.
        given: the forward's inputs.
        lse: [T, H].
        delta: [T, H], the sum of grad and the output, less the gradient of lse.
        grad: [T, H, V] of the output.
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
    slots = 2 * num_stretches(num_edges)
    partial_q, partial_k, partial_v = (
        grad_v.new_empty((slots, *t.shape[1:]) if t is not None else 0) for t in (grad_q, grad_k, grad_v)
    )
    is_wide = wide(*given[:4], grad, partial_q, partial_k, partial_v, grad_bias, lse)
    how = given.constants() | {"WIDE": is_wide, "SPLIT": slots > 0}
    num_rows, num_columns = rows[0].shape[0] - 1, columns[0].shape[0] - 1
    parts, pointers = num_parts(num_rows, num_edges), given.pointers(perm)
    if grad_q is not None or grad_bias is not None:
        _row_parts[(heads * triton.cdiv(parts, how["ROWS"]),)](
            *rows, *pointers, lse, delta, grad, grad_v if grad_q is None else grad_q,
            grad_v if grad_bias is None else grad_bias, partial_q, given.scale, num_rows, num_edges, parts, **how,
        )  # fmt: skip
    parts = num_parts(num_columns, num_edges)
    _column_parts[(v.shape[1] * triton.cdiv(parts, how["ROWS"]),)](
        *columns, perm, *pointers, lse, delta, grad, grad_v if grad_k is None else grad_k, grad_v,
        partial_k, partial_v, given.scale, num_columns, num_edges, parts, **how,
    )  # fmt: skip
    if grad_q is not None and grad_k is not None:
        _combine(rows[0], rows[2], partial_q, grad_q, num_edges, is_wide)
        _combine(columns[0], columns[2], partial_k, grad_k, num_edges, is_wide)
    _combine(columns[0], columns[2], partial_v, grad_v, num_edges, is_wide)
    return grad_q, grad_k, grad_v, grad_bias
