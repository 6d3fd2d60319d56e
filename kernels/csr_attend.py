"""Softmax attention over each row's edges in one pass: score, softmax and weighted sum, nothing stored per edge.

A program handles ROWS parts of the structure (`split`) for one head. Each of its ENTRIES slots runs a separate online
softmax over every ENTRIES-th edge, (maximum, sum, weighted sum), rescaled when the maximum grows; the slots are merged
at the end, and so are the parts of a long row. Only the output and lse = maximum + log(sum) are stored. The gradients
(`csr_attend_grads`) recompute the scores.

Arguments are those of the operator ``attend`` of hgraph.ops.sparse.attention; dropout matches hgraph.ops.random.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels import split
from hgraph.kernels.edge_softmax import finite
from hgraph.kernels.random import NONE_DROPPED, dropout_mask, limit
from hgraph.kernels.split import accumulator, edges, first_part, launched, num_chunks, num_parts, part, wide

__all__ = ["WIDEST", "Inputs", "config", "csr_attend", "gathered", "held", "scored"]

# Channels per head -> (ROWS, ENTRIES, warps): 16 numbers per lane, because sums, keys and values are held together.
TABLE = {
    1: (64, 8, 1),
    2: (32, 8, 1),
    4: (32, 4, 1),
    8: (16, 4, 1),
    16: (8, 4, 1),
    32: (4, 4, 1),
    64: (2, 8, 2),
    128: (1, 8, 2),
    256: (1, 8, 4),
    512: (1, 4, 4),
    1024: (1, 4, 8),
}
WIDEST = 1024


class Inputs(NamedTuple):
    """The common arguments of the forward and the gradients.

    ``scored`` is the score: 0 the bias only, 1 the inner product, 2 LeakyReLU(q + k).
    """

    q: Tensor | None  # [T, H, D], or [T, H] for 2
    k: Tensor | None  # [S, K, D], or [S, K]
    v: Tensor  # [S, K, V]
    bias: Tensor | None  # [E, B]
    seed: Tensor | None  # [1]
    dropout: float
    scale: float
    slope: float | None

    @property
    def score(self) -> int:
        """The kind of score."""
        return 0 if self.q is None else 1 if self.slope is None else 2

    @property
    def first(self) -> Tensor:
        """The tensor that defines H (second dimension) and the dtype of scores (at least float32)."""
        given = self.bias if self.q is None else self.q
        assert given is not None  # noqa: S101 - something must be there to take a softmax of
        return given

    @property
    def heads(self) -> int:
        """H."""
        return self.first.shape[1]

    @property
    def wide_dtype(self) -> torch.dtype:
        """The dtype of the computation."""
        return split.torch_dtype(accumulator(torch.promote_types(self.first.dtype, self.v.dtype)))

    @property
    def widths(self) -> tuple[int, int]:
        """Channels of a key and of a value."""
        return self.q.shape[2] if self.score == 1 and self.q is not None else 1, self.v.shape[2]

    def contiguous(self) -> Inputs:
        """Contiguous copies, as the kernels require."""
        q, k, bias = (None if t is None else t.contiguous() for t in (self.q, self.k, self.bias))
        return self._replace(q=q, k=k, v=self.v.contiguous(), bias=bias)

    def pointers(self, none: Tensor) -> tuple[Tensor, ...]:
        """q, k, v, bias and seed; placeholders for missing ones are never read."""
        return tuple(none if t is None else t for t in self[:5])

    def constants(self) -> dict[str, Any]:
        """Compile-time parameters of all kernels."""
        (width, values), heads, dtype = self.widths, self.heads, self.wide_dtype
        how = config(max(width, values), dtype)
        if self.seed is not None and max(width, values) <= 8:
            how["ENTRIES"] = 2  # random numbers need registers
        return {
            "SCORE": self.score, "SLOPE": self.slope or 0.0, "EXACT": self.scale if dtype == torch.float64 else None,
            "H": heads, "GROUP": heads // self.v.shape[1], "BIASES": 0 if self.bias is None else self.bias.shape[1],
            "D": width, "V": values, "BLOCK_D": triton.next_power_of_2(max(width, 1)),
            "BLOCK_V": triton.next_power_of_2(max(values, 1)), "ACC": accumulator(dtype),
            "LONGEST": split.LONGEST, **how, **(NONE_DROPPED if self.seed is None else limit(self.dropout)),
        }  # fmt: skip


def config(channels: int, dtype: torch.dtype) -> dict[str, Any]:
    """Launch parameters for a head width and a dtype."""
    rows, entries, warps = TABLE[triton.next_power_of_2(max(channels, 1))]
    if dtype == torch.float64:
        entries = entries // 2
    return {"ROWS": rows, "ENTRIES": entries, "num_warps": warps, "enable_fp_fusion": True}


@triton.jit
def gathered(x, at, channel, live, WIDTH: tl.constexpr, ACC: tl.constexpr):
    """Gather rows of x [., WIDTH] at positions [R, E]: [R, E, channels]."""
    here = live[:, :, None] & (channel < WIDTH)[None, None, :]
    return tl.load(x + at[:, :, None] * WIDTH + channel[None, None, :], mask=here, other=0).to(ACC)


@triton.jit
def held(x, own, channel, active, SCORE: tl.constexpr, D: tl.constexpr, ACC: tl.constexpr):
    """The row side of the scores for a program's rows [R]: vectors [R, 1, D], or numbers [R, 1]."""
    if SCORE == 1:
        mine = gathered(x, own[:, None], channel, active[:, None], D, ACC)
    elif SCORE == 2:
        mine = tl.load(x + own, mask=active, other=0).to(ACC)[:, None]
    else:
        mine = tl.zeros([own.shape[0], 1], dtype=ACC)
    return mine


@triton.jit
def scored(
    mine, x, at, bias, e, head, channel, live, scale,
    SCORE: tl.constexpr, SLOPE: tl.constexpr, EXACT: tl.constexpr, BIASES: tl.constexpr, D: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """(scores [R, E], -inf beyond a row's edges; the other side, x at [R, E]; the sums under the LeakyReLU)."""
    theirs = tl.zeros(at.shape, dtype=ACC)
    reach = theirs
    score = theirs
    if SCORE == 1:
        theirs = gathered(x, at, channel, live, D, ACC)
        score = tl.sum(mine * theirs, axis=2)
    elif SCORE == 2:
        theirs = tl.load(x + at, mask=live, other=0).to(ACC)
        reach = mine + theirs
        score = tl.where(reach > 0, reach, reach * SLOPE)
    score *= EXACT if EXACT is not None else scale  # assigning the float to a variable would make it float32
    if BIASES > 0:
        score += tl.load(bias + e * BIASES + head % BIASES, mask=live, other=0).to(ACC)
    return tl.where(live, score, float("-inf")), theirs, reach


@launched
def _attend_parts(
    indptr, indices, target, q, k, v, bias, seed, out, lse, partial, states, scale, num_rows, num_edges, parts,
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
    mine = held(q, row * H + head, channel, active, SCORE, D, ACC)
    row_max = tl.full([ROWS, ENTRIES], float("-inf"), dtype=ACC)
    row_sum = tl.zeros([ROWS, ENTRIES], dtype=ACC)
    acc = tl.zeros([ROWS, ENTRIES, BLOCK_V], dtype=ACC)
    for step in range(0, tl.cdiv(tl.max(end - begin, axis=0), ENTRIES)):
        e, s, live = edges(step, begin, end, indices, ENTRIES, WIDE)
        of_key = s * KEYS + head // GROUP
        values = gathered(v, of_key, value, live, V, ACC)
        score, _, _ = scored(mine, k, of_key, bias, e, head, channel, live, scale, SCORE, SLOPE, EXACT, BIASES, D, ACC)
        higher = tl.maximum(row_max, score)
        shift = finite(higher)
        rescale, share = tl.exp(row_max - shift), tl.exp(score - shift)
        row_sum = row_sum * rescale + share
        if LIMIT >= 0:
            share *= dropout_mask(seed, e.to(tl.int64) * H + head, LIMIT, KEPT, ACC)
        acc = acc * rescale[:, :, None] + share[:, :, None] * values
        row_max = higher
    top = tl.max(row_max, axis=1)
    rescale = tl.exp(row_max - finite(top)[:, None])
    whole = tl.sum(row_sum * rescale, axis=1)
    result = tl.sum(acc * rescale[:, :, None], axis=1)
    inside = (value < V)[None, :]
    if SPLIT:
        of_part = active & (v_part >= num_rows)
        slot = (v_part - num_rows) * H + head
        tl.store(states + slot * 2, top, mask=of_part)
        tl.store(states + slot * 2 + 1, whole, mask=of_part)
        tl.store(partial + slot[:, None] * V + value[None, :], result, mask=of_part[:, None] & inside)
        active = active & (v_part < num_rows)
    at = row * H + head
    tl.store(lse + at, tl.where(whole == 0, float("-inf"), top + tl.log(tl.where(whole == 0, 1.0, whole))), mask=active)
    result = result / tl.where(whole == 0, 1.0, whole)[:, None]
    tl.store(out + at[:, None] * V + value[None, :], result.to(out.dtype.element_ty), mask=active[:, None] & inside)


@launched
def _attend_combine(
    indptr, target, partial, states, out, lse, num_edges,
    H: tl.constexpr, V: tl.constexpr, ACC: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_V: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    head, chunk = pid % H, pid // H
    row, slot, count = first_part(chunk, indptr, target, num_edges, LONGEST)
    if WIDE:
        row, slot, chunk = row.to(tl.int64), slot.to(tl.int64), chunk.to(tl.int64)
    value = tl.arange(0, BLOCK_V)
    row_max = tl.full([ENTRIES], float("-inf"), dtype=ACC)
    row_sum = tl.zeros([ENTRIES], dtype=ACC)
    acc = tl.zeros([ENTRIES, BLOCK_V], dtype=ACC)
    for first in range(0, count, ENTRIES):
        each = first + tl.arange(0, ENTRIES)
        live = each < count
        at = tl.where(each == 0, slot, 2 * (chunk + each)) * H + head
        higher = tl.maximum(row_max, tl.load(states + at * 2, mask=live, other=float("-inf")))
        shift = finite(higher)
        rescale = tl.exp(row_max - shift)
        share = tl.exp(tl.load(states + at * 2, mask=live, other=float("-inf")) - shift)
        row_sum = row_sum * rescale + share * tl.load(states + at * 2 + 1, mask=live, other=0)
        here = live[:, None] & (value < V)[None, :]
        values = tl.load(partial + at[:, None] * V + value[None, :], mask=here, other=0)
        acc = acc * rescale[:, None] + share[:, None] * values
        row_max = higher
    top = tl.max(row_max, axis=0)
    rescale = tl.exp(row_max - finite(top))
    whole = tl.sum(row_sum * rescale, axis=0)
    result = tl.sum(acc * rescale[:, None], axis=0) / tl.where(whole == 0, 1.0, whole)
    at = row * H + head
    tl.store(
        lse + at, tl.where(whole == 0, float("-inf"), top + tl.log(tl.where(whole == 0, 1.0, whole))), mask=count > 0
    )
    tl.store(out + at * V + value, result.to(out.dtype.element_ty), mask=(value < V) & (count > 0))


def csr_attend(
    indptr: Tensor, indices: Tensor, target: Tensor, given: Inputs, longest: int | None = None
) -> tuple[Tensor, Tensor]:
    """(out [T, H, V] in v's dtype, lse [T, H], at least float32); 0 and -inf for a row without unmasked edges.

    If the caller knows that no row has more edges than ``longest``, there is no launch to combine long rows.
    """
    num_rows, num_edges, heads, values = indptr.shape[0] - 1, indices.shape[0], given.heads, given.v.shape[2]
    given = given.contiguous()
    dtype = given.wide_dtype
    out = given.v.new_empty((num_rows, heads, values))
    lse = out.new_empty((num_rows, heads), dtype=split.torch_dtype(accumulator(given.first.dtype)))
    if num_edges == 0 or lse.numel() == 0:
        return out.zero_(), lse.fill_(float("-inf"))
    chunks = num_chunks(num_edges, longest)
    parts = num_parts(num_rows, chunks)
    partial = out.new_empty((2 * chunks, heads, values), dtype=dtype)
    states = partial.new_empty((2 * chunks, heads, 2))
    how = given.constants() | {"WIDE": wide(*given[:4], out, partial, lse)}
    _attend_parts[(heads * triton.cdiv(parts, how["ROWS"]),)](
        indptr, indices, target, *given.pointers(indptr), out, lse, partial, states, given.scale,
        num_rows, num_edges, parts, SPLIT=chunks > 0, **how,
    )  # fmt: skip
    if chunks:
        shared = {name: how[name] for name in ("H", "V", "ACC", "LONGEST", "WIDE", "BLOCK_V", "num_warps")}
        _attend_combine[(heads * chunks,)](
            indptr, target, partial, states, out, lse, num_edges, ENTRIES=8, enable_fp_fusion=True, **shared
        )
    return out, lse
