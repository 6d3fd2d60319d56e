"""Load balancing of rows of very different lengths: long rows are split, without atomics and without a sync.

A launch works on `parts`. Part v < T is row v. A row longer than LONGEST is skipped there; it is processed in the
chunks of LONGEST edges that it overlaps, two parts per chunk: one for the row of its first edge, one for the row of
its last (no third long row fits into a chunk). Their partial results are then combined in the order of the edges, by
the chunk in which the row begins. All sizes follow from shapes, so nothing is read back from the device, and the order
of every sum depends only on the structure. If the caller knows that no row is long, the parts are the rows, and
nothing is combined: results have the same bits. If that is wrong, a launch processes a long row as a whole: slow, and
in another order, but correct.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = [
    "LONGEST",
    "SIZES",
    "WIDE_FROM",
    "accumulator",
    "blocks",
    "edges",
    "first_part",
    "launched",
    "num_chunks",
    "num_parts",
    "part",
    "torch_dtype",
    "wide",
]

LONGEST = 512  # a row of a million edges takes 2000 chunks; their partial sums are 1/512 of E x D
WIDE_FROM = 2**31 - 1  # from this many elements on, addresses are computed in int64

SIZES = [
    "num_rows", "num_other", "num_edges", "num_targets", "num_sources", "num_tiles", "num_groups", "num_chunks",
    "parts", "chunks", "batch", "length", "most_tiles", "visits", "pieces",
    "num_units", "extra", "table_step", "size_0", "size_1", "size_2",
]  # fmt: skip
# Decorator for kernels. Triton would specialize on numbers of edges that are 1 or a multiple of 16.
launched = triton.jit(do_not_specialize=SIZES)


def num_chunks(num_edges: int, longest: int | None = None) -> int:
    """Number of chunks that may hold parts of long rows; 0 if ``longest`` shows that there are none."""
    return triton.cdiv(num_edges, LONGEST) if (num_edges if longest is None else longest) > LONGEST else 0


def num_parts(num_rows: int, chunks: int) -> int:
    """Number of parts of a launch over all rows."""
    return num_rows + 2 * chunks


def wide(*tensors: Tensor | None) -> bool:
    """Whether an offset in one of the tensors, or in its padding, may exceed int32."""
    return any(t is not None and t.numel() > WIDE_FROM - 2**16 for t in tensors)


def accumulator(dtype: torch.dtype) -> tl.dtype:
    """The accumulation dtype for numbers of this dtype."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def torch_dtype(dtype: tl.dtype) -> torch.dtype:
    """The same dtype in torch."""
    return torch.float64 if dtype == tl.float64 else torch.float32


def blocks(number: int, block_size: int) -> int:
    """The number of blocks that cover ``number`` items, at least one."""
    return max(1, triton.cdiv(number, block_size))


@triton.jit
def part(v, indptr, target, num_rows, num_edges, SPLIT: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr):
    """(v, row, first edge, end, whether its result is to be stored) of the parts v, in int64 if WIDE."""
    whole = v < num_rows
    row = tl.where(whole, v, 0)
    begin = tl.load(indptr + row, mask=whole, other=0)
    end = tl.load(indptr + row + 1, mask=whole, other=0)
    active = whole
    if SPLIT:
        active = whole & (end - begin <= LONGEST)
        slot = tl.where(whole, 0, v - num_rows)
        low = (slot // 2) * LONGEST
        piece = (v >= num_rows) & (low < num_edges)
        high = tl.minimum(low + LONGEST, num_edges)
        first = tl.load(target + low, mask=piece, other=0)
        last = tl.load(target + high - 1, mask=piece, other=0)
        of_last = slot % 2 == 1
        own = tl.where(of_last, last, first)
        own_begin = tl.load(indptr + own, mask=piece, other=0)
        own_end = tl.load(indptr + own + 1, mask=piece, other=0)
        piece = piece & (own_end - own_begin > LONGEST) & ((first != last) | (slot % 2 == 0))
        row = tl.where(piece, own.to(row.dtype), row)
        begin = tl.where(piece, tl.maximum(own_begin, low.to(own_begin.dtype)), begin)
        end = tl.where(piece, tl.minimum(own_end, high.to(own_end.dtype)), end)
        active = active | piece
    end = tl.where(active, end, begin)
    if WIDE:
        v, row, begin, end = v.to(tl.int64), row.to(tl.int64), begin.to(tl.int64), end.to(tl.int64)
    return v, row, begin, end, active


@triton.jit
def edges(step, begin, end, indices, ENTRIES: tl.constexpr, WIDE: tl.constexpr):
    """(edge, other end, whether it exists) of the ENTRIES edges [R, E] that parts process in a step."""
    e = begin[:, None] + step * ENTRIES + tl.arange(0, ENTRIES)[None, :]
    live = e < end[:, None]
    other = tl.load(indices + e, mask=live, other=0)
    if WIDE:
        other = other.to(tl.int64)
    return e, other, live


@triton.jit
def first_part(chunk, indptr, target, num_edges, LONGEST: tl.constexpr):
    """(row, slot of its first part, its number of parts) for the long row that begins in a chunk; no parts if none.

    The slots of the row's other parts are those of its later chunks, 2 * chunk each.
    """
    low = chunk * LONGEST
    high = tl.minimum(low + LONGEST, num_edges)
    row = tl.load(target + high - 1)
    begin = tl.load(indptr + row)
    end = tl.load(indptr + row + 1)
    begins_here = (end - begin > LONGEST) & (begin >= low)
    slot = 2 * chunk + tl.where(tl.load(target + low) == row, 0, 1)
    count = tl.where(begins_here, (end - 1) // LONGEST - chunk + 1, 0)
    return row, slot, count
