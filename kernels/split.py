"""How rows of very different length are shared among programs: long ones are cut, without atomics and without a sync.

A launch works on `parts`. Part v < T is row v. A row longer than LONGEST is left out there; it is worked off in the
stretches of LONGEST edges that it touches, two parts a stretch: one for the row at its first edge, one for the row at
its last (a stretch meets no third long row). Their partial results are then combined in the order of the edges, by the
stretch in which the row begins. All sizes follow from shapes, so nothing is read back from the device, and the order
of every sum is fixed by the structure alone. Where the caller knows that no row is long, the parts are the rows, and
nothing is left to combine: rows get the same bits. Told so wrongly, a launch works a long row off as a whole: slow, and
in another order, but right.
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
    "num_parts",
    "num_stretches",
    "part",
    "torch_dtype",
    "wide",
]

LONGEST = 512  # a hub of a million edges is worked off in 2000 stretches; their partial sums are 1/512 of E x D
WIDE_FROM = 2**31 - 1  # from this many numbers on, addresses are computed in int64

SIZES = [
    "num_rows", "num_other", "num_edges", "num_targets", "num_sources", "num_tiles", "num_groups", "num_chunks",
    "parts", "stretches", "batch", "length", "most_tiles", "visits", "pieces",
    "num_units", "extra", "table_step", "size_0", "size_1", "size_2",
]  # fmt: skip
# What makes a kernel of a function. Triton would compile it again where a number of edges is 1 or a multiple of 16.
launched = triton.jit(do_not_specialize=SIZES)


def num_stretches(num_edges: int, longest: int | None = None) -> int:
    """Stretches that may hold parts of long rows: none where no row can be, having ``longest`` edges at most."""
    return triton.cdiv(num_edges, LONGEST) if (num_edges if longest is None else longest) > LONGEST else 0


def num_parts(num_rows: int, stretches: int) -> int:
    """Parts of a launch over all rows."""
    return num_rows + 2 * stretches


def wide(*tensors: Tensor | None) -> bool:
    """Whether a position in one of the tensors, or in the padding behind it, may leave int32."""
    return any(t is not None and t.numel() > WIDE_FROM - 2**16 for t in tensors)


def accumulator(dtype: torch.dtype) -> tl.dtype:
    """What numbers of this dtype are added up in."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def torch_dtype(dtype: tl.dtype) -> torch.dtype:
    """The same dtype to torch."""
    return torch.float64 if dtype == tl.float64 else torch.float32


def blocks(number: int, block_size: int) -> int:
    """Blocks that cover so many numbers, one at least."""
    return max(1, triton.cdiv(number, block_size))


@triton.jit
def part(v, indptr, target, num_rows, num_edges, SPLIT: tl.constexpr, LONGEST: tl.constexpr, WIDE: tl.constexpr):
    """(v, row, first edge, end, whether its result is to be written) of the parts v, in int64 if WIDE."""
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
    """(number, other end, whether there is one) of the ENTRIES edges [R, E] that parts work off in a step."""
    e = begin[:, None] + step * ENTRIES + tl.arange(0, ENTRIES)[None, :]
    live = e < end[:, None]
    other = tl.load(indices + e, mask=live, other=0)
    if WIDE:
        other = other.to(tl.int64)
    return e, other, live


@triton.jit
def first_part(stretch, indptr, target, num_edges, LONGEST: tl.constexpr):
    """(row, slot of its first part, its number of parts) for the long row that begins in a stretch; no parts if none.

    The slots of the row's other parts are those of its later stretches, 2 * stretch each.
    """
    low = stretch * LONGEST
    high = tl.minimum(low + LONGEST, num_edges)
    row = tl.load(target + high - 1)
    begin = tl.load(indptr + row)
    end = tl.load(indptr + row + 1)
    begins_here = (end - begin > LONGEST) & (begin >= low)
    slot = 2 * stretch + tl.where(tl.load(target + low) == row, 0, 1)
    count = tl.where(begins_here, (end - 1) // LONGEST - stretch + 1, 0)
    return row, slot, count
