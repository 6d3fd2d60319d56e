"""The additive score with an attention vector, s[e, h] = a[h] . LeakyReLU(q[t, h] + k[s, h]), and its gradients.

Nothing of size E x D is stored: the gradients recompute the sums under the LeakyReLU. The gradient of q runs over
the rows, that of k over the transposed lists; that of a is summed per program, then over the programs.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels import score_dot, split
from hgraph.kernels.csr_reduce import config, edge_weight, reduce_combine
from hgraph.kernels.split import accumulator, blocks, edges, launched, num_chunks, num_parts, part, wide

__all__ = ["additive_flow", "additive_score"]


@launched
def _score(
    indices, target, q, k, a, out, num_edges,
    SLOPE: tl.constexpr, H: tl.constexpr, WIDTH: tl.constexpr, HEAD_BLOCKS: tl.constexpr, ACC: tl.constexpr,
    WIDE: tl.constexpr,
    EDGES: tl.constexpr, HEADS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    head = (pid % HEAD_BLOCKS) * HEADS + tl.arange(0, HEADS)
    block = pid // HEAD_BLOCKS
    if WIDE:
        block = block.to(tl.int64)
    e = block * EDGES + tl.arange(0, EDGES)
    t = tl.load(target + e, mask=e < num_edges, other=0)
    s = tl.load(indices + e, mask=e < num_edges, other=0)
    if WIDE:
        t, s = t.to(tl.int64), s.to(tl.int64)
    here = (e < num_edges)[:, None] & (head < H)[None, :]
    acc = tl.zeros([EDGES, HEADS, BLOCK], dtype=ACC)
    for first in tl.static_range(0, WIDTH, BLOCK):
        channel = first + tl.arange(0, BLOCK)
        at = head[:, None] * WIDTH + channel[None, :]
        inside = (head < H)[:, None] & (channel < WIDTH)[None, :]
        mask = here[:, :, None] & (channel < WIDTH)[None, None, :]
        left = tl.load(q + t[:, None, None] * (H * WIDTH) + at[None, :, :], mask=mask, other=0).to(ACC)
        right = tl.load(k + s[:, None, None] * (H * WIDTH) + at[None, :, :], mask=mask, other=0).to(ACC)
        vector = tl.load(a + at, mask=inside, other=0).to(ACC)
        reach = left + right
        acc += tl.where(reach > 0, reach, reach * SLOPE) * vector[None, :, :]
    at = e[:, None] * H + head[None, :]
    tl.store(out + at, tl.sum(acc, axis=2).to(out.dtype.element_ty), mask=here)


@launched
def _flow_parts(
    indptr, indices, target, grad, own, other, a, out, partial, of_vector, num_rows, num_edges, parts,
    SLOPE: tl.constexpr, VECTOR: tl.constexpr, WEIGHTS: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr,
    FEATURE_BLOCKS: tl.constexpr, ACC: tl.constexpr, SPLIT: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of the rows' own side; with VECTOR also this program's contribution to the gradient of a."""
    pid = tl.program_id(0)
    feature = (pid % FEATURE_BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    inside = feature < D
    program = pid // FEATURE_BLOCKS
    v = program * ROWS + tl.arange(0, ROWS)
    v, row, begin, end, active = part(v, indptr, target, num_rows, num_edges, SPLIT, LONGEST, WIDE)
    at = row[:, None] * D + feature[None, :]
    write = active[:, None] & inside[None, :]
    mine = tl.load(own + at, mask=write, other=0).to(ACC)[:, None, :]
    vector = tl.load(a + feature, mask=inside, other=0).to(ACC)[None, :]
    acc = tl.zeros([ROWS, ENTRIES, BLOCK], dtype=ACC)
    acc_vector = tl.zeros([ROWS, ENTRIES, BLOCK], dtype=ACC)
    for step in range(0, tl.cdiv(tl.max(end - begin, axis=0), ENTRIES)):
        e, s, live = edges(step, begin, end, indices, ENTRIES, WIDE)
        here = live[:, :, None] & inside[None, None, :]
        reach = mine + tl.load(other + s[:, :, None] * D + feature[None, None, :], mask=here, other=0).to(ACC)
        g = edge_weight(grad, e, feature, live, WEIGHTS, WIDTH, D).to(ACC)
        acc += tl.where(here, tl.where(reach > 0, g, g * SLOPE), 0.0)
        if VECTOR:
            acc_vector += tl.where(here, g * tl.where(reach > 0, reach, reach * SLOPE), 0.0)
    total = tl.sum(acc, axis=1) * vector
    if VECTOR:
        tl.store(of_vector + program * D + feature, tl.sum(tl.sum(acc_vector, axis=1), axis=0), mask=inside)
    if SPLIT:
        slots = (v - num_rows)[:, None] * D + feature[None, :]
        tl.store(partial + slots, total, mask=write & (v >= num_rows)[:, None])
        write = write & (v < num_rows)[:, None]
    tl.store(out + at, total, mask=write)


def additive_score(indices: Tensor, target: Tensor, q: Tensor, k: Tensor, a: Tensor, slope: float) -> Tensor:
    """[E, H] in q's dtype, from q [T, H, D], k [S, H, D] and a [H, D]."""
    heads, width = a.shape
    num_edges = indices.shape[0]
    out = q.new_empty((num_edges, heads))
    if out.numel() == 0 or width == 0:
        return out.zero_()
    how = score_dot.config(heads, width, q.dtype)
    head_blocks = blocks(heads, how["HEADS"])
    _score[(head_blocks * triton.cdiv(num_edges, how["EDGES"]),)](
        indices, target, q.contiguous(), k.contiguous(), a.contiguous(), out, num_edges,
        SLOPE=slope, H=heads, WIDTH=width, HEAD_BLOCKS=head_blocks, ACC=accumulator(q.dtype),
        WIDE=wide(q, k, out), **how,
    )  # fmt: skip
    return out


def additive_flow(
    indptr: Tensor, indices: Tensor, target: Tensor, grad: Tensor, own: Tensor, other: Tensor, a: Tensor, slope: float,
    *, vector: bool, longest: int | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The gradient [T, H, D] of the rows' own side and, if needed, that of a [H, D]; at least float32.

    Args:
        indptr: [T + 1]; for the gradient of the other side pass the transposed lists.
        indices: [E].
        target: [E].
        grad: [E, H], gradient of the scores, in the order of the lists.
        own: [T, H, D].
        other: [S, H, D].
        a: [H, D].
        slope: negative slope of the LeakyReLU.
        vector: whether to return the gradient of a too.
        longest: an upper bound on the edges of a row, if known.
    """
    heads, width = a.shape
    features, num_rows, num_edges = heads * width, own.shape[0], indices.shape[0]
    acc = accumulator(own.dtype)
    out = own.new_empty(own.shape, dtype=split.torch_dtype(acc))
    if num_edges == 0 or out.numel() == 0:
        return out.zero_(), torch.zeros_like(a, dtype=out.dtype) if vector else None
    how, chunks = config(features, own.dtype), num_chunks(num_edges, longest)
    parts = num_parts(num_rows, chunks)
    how["ENTRIES"] = max(how["ENTRIES"] // 2, 1)  # two sums per entry
    programs = triton.cdiv(parts, how["ROWS"])
    partial = out.new_empty((2 * chunks, features))
    of_vector = out.new_empty((programs if vector else 0, heads, width))
    shared: dict[str, Any] = {
        "D": features, "FEATURE_BLOCKS": blocks(features, how["BLOCK"]), "LONGEST": split.LONGEST,
        "WIDE": wide(own, other, grad, partial),
    }  # fmt: skip
    _flow_parts[(shared["FEATURE_BLOCKS"] * programs,)](
        indptr, indices, target, grad.contiguous(), own.contiguous(), other.contiguous(), a.contiguous(), out, partial,
        of_vector, num_rows, num_edges, parts, SLOPE=slope, VECTOR=vector, WEIGHTS=heads, WIDTH=width, ACC=acc,
        SPLIT=chunks > 0, **shared, **how,
    )  # fmt: skip
    if chunks:
        reduce_combine[(shared["FEATURE_BLOCKS"] * chunks,)](
            indptr, target, partial, out, num_rows, num_edges, chunks, KIND="sum",
            ENTRIES=8, BLOCK=how["BLOCK"], num_warps=how["num_warps"], **shared,
        )  # fmt: skip
    return out, of_vector.sum(0) if vector else None
