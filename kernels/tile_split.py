"""How tile rows and tiles of sources that have far more to do than others are shared among programs.

- Tile rows: where an example has few programs, and these long, as those of global tokens, each is cut in pieces of
  equally many visits. What these find is kept in float32 and put together in their order (`join`), by lse or by a sum.
- Tiles of sources: one that many tile rows hear is cut in pieces of `visits_of_keys` visits. A list of the pieces of
  all tiles (`Work`) is made on the device; a tile's first piece goes where the gradient is, the others to slots of
  their own, which are added to it in order (`add_pieces`).

All sizes follow from shapes, so nothing is read back from the device; there are no atomics, and the order of every sum
is fixed by the structure alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels.edge_softmax import finite
from hgraph.kernels.split import launched

__all__ = [
    "FAR",
    "LEAST",
    "PROGRAMS",
    "Work",
    "add_pieces",
    "join",
    "rows_of",
    "visits_of_keys",
    "visits_of_rows",
    "work",
]

# An example with so many programs fills a GPU of some 130 multiprocessors, and is not cut. A batch of smaller ones that
# fills it together is cut all the same: by its size, an example's bits would depend on the examples it comes with.
PROGRAMS = 512
LEAST = 8  # visits that are worth a program of their own
FAR = 4  # tiles of sources that are heard so many times as often as the average are cut
_STEP = 16  # rows that a program puts together


def visits_of_rows(programs: int, most: int) -> int:
    """Visits a piece of a tile row, where an example has so many programs, with lists of ``most`` entries."""
    pieces = max(1, min(triton.cdiv(most, LEAST), triton.cdiv(PROGRAMS, programs)))
    return triton.cdiv(most, pieces)


def visits_of_keys(visits: int, tiles: int) -> int:
    """Visits a piece of a tile of sources, of which there are ``tiles`` with so many visits a list together."""
    return max(LEAST, FAR * triton.cdiv(visits, max(tiles, 1)))


@triton.jit
def rows_of(
    rows, num_rows, num_targets,
    OWN_B: tl.constexpr, OWN_H: tl.constexpr, H: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """(example, head, list, rows of its tile [ROWS], targets [ROWS], whether there are any, seats) of a program.

    Programs of one head follow each other, last rows first: under a causal rule these have most to do. Seats [ROWS]
    number the rows of all programs of a piece, of which there are num_programs(0) * ROWS.
    """
    SUBS: tl.constexpr = BLOCK // ROWS
    pid = tl.program_id(0)
    unit = num_rows * SUBS - 1 - pid % (num_rows * SUBS)
    head = pid // (num_rows * SUBS) % H
    example = pid // (num_rows * SUBS) // H
    place = unit // SUBS
    r = unit % SUBS * ROWS + tl.arange(0, ROWS)
    target = tl.load(rows + place) * BLOCK + r
    own = (((example if OWN_B else 0) * (H if OWN_H else 1)) + (head if OWN_H else 0)) * num_rows + place
    if WIDE:
        example, own, target = example.to(tl.int64), own.to(tl.int64), target.to(tl.int64)
    seat = ((example * H + head) * num_rows + place) * BLOCK + r
    return example, head, own, r, target, (tl.min(target, axis=0) < num_targets).to(tl.int32), seat


@launched
def _join(
    rows, partial, states, out, lse, num_rows, num_targets, pieces,
    MERGE: tl.constexpr, OWN_B: tl.constexpr, OWN_H: tl.constexpr, H: tl.constexpr, WIDTH: tl.constexpr,
    WIDE: tl.constexpr, BLOCK: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Put the pieces of a tile row together: with MERGE by their lse, else their sum."""
    example, head, _, _, target, _, seat = rows_of(rows, num_rows, num_targets, OWN_B, OWN_H, H, WIDE, BLOCK, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = (channel < WIDTH)[None, :]
    most = tl.full([ROWS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([ROWS], dtype=tl.float32)
    acc = tl.zeros([ROWS, CHANNELS], dtype=tl.float32)
    for _piece in range(0, pieces):
        found = tl.load(partial + seat[:, None] * WIDTH + channel[None, :], mask=inside, other=0)
        if MERGE:
            state = tl.load(states + seat)
            higher = tl.maximum(most, state)
            shift = finite(higher)
            fade, share = tl.exp(most - shift), tl.exp(state - shift)
            total = total * fade + share
            acc = acc * fade[:, None] + share[:, None] * found
            most = higher
        else:
            acc += found
        seat += tl.num_programs(0) * ROWS
    live = target < num_targets
    at_row = (example * num_targets + target) * H + head
    if MERGE:
        none = total == 0
        total = tl.where(none, 1.0, total)
        acc /= total[:, None]
        tl.store(lse + at_row, tl.where(none, float("-inf"), most + tl.log(total)), mask=live)
    here = live[:, None] & inside
    tl.store(out + at_row[:, None] * WIDTH + channel[None, :], acc.to(out.dtype.element_ty), mask=here)


def join(rows: Tensor, partial: Tensor, states: Tensor | None, out: Tensor, lse: Tensor | None, how: Any) -> None:
    """Fill in the rows of out [B, T, H, W], and of lse [B, T, H] if there are states, from their pieces.

    Args:
        rows: [R], the tile rows.
        partial: [pieces, B H R block, W].
        states: [pieces, B H R block], the lse of each piece; None adds up.
        out: [B, T, H, W].
        lse: [B, T, H].
        how: what the kernel that made the pieces was compiled for.
    """
    width, num_rows, pieces = out.shape[3], rows.shape[0], partial.shape[0]
    shared = {name: how[name] for name in ("OWN_B", "OWN_H", "H", "WIDE", "BLOCK")}
    _join[(partial.shape[1] // _STEP,)](
        rows, partial, partial if states is None else states, out, out if lse is None else lse, num_rows,
        out.shape[1], pieces, MERGE=states is not None, WIDTH=width, CHANNELS=triton.next_power_of_2(width),
        ROWS=_STEP, num_warps=4, enable_fp_fusion=True, **shared,
    )  # fmt: skip


class Work(NamedTuple):
    """The pieces of tiles of sources, for each of G lists of tiles."""

    tiles: Tensor  # [G, P], the tile of each piece; the number of tiles where there is no piece
    starts: Tensor  # [G, tiles + 1], the first piece of each tile
    visits: int  # those of a piece

    @property
    def extra(self) -> int:
        """Slots for pieces that are not their tile's first."""
        return self.tiles.shape[1] + 1 - self.starts.shape[1]


def work(counts: Tensor, visits: int, extra: int) -> Work:
    """The pieces of tiles that are heard counts [G, tiles] times; never more than ``extra`` beside the first ones."""
    pieces = ((counts + visits - 1) // visits).clamp(min=1)
    starts = F.pad(pieces.cumsum(1), (1, 0))
    each = torch.arange(counts.shape[1] + extra, device=counts.device).expand(counts.shape[0], -1).contiguous()
    tiles = torch.searchsorted(starts, each, right=True) - 1
    return Work(tiles.int(), starts.int(), visits)


@launched
def _add_pieces(
    starts, partial, out, num_tiles, num_sources, extra,
    OWN_B: tl.constexpr, OWN_H: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr, WIDE: tl.constexpr,
    BLOCK: tl.constexpr, CHANNELS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    SLICES: tl.constexpr = BLOCK // COLS
    pid = tl.program_id(0)
    tile = pid % (num_tiles * SLICES) // SLICES
    c = pid % SLICES * COLS + tl.arange(0, COLS)
    head = pid // (num_tiles * SLICES) % KEYS
    example = pid // (num_tiles * SLICES) // KEYS
    own = (((example if OWN_B else 0) * (KEYS if OWN_H else 1)) + (head if OWN_H else 0)) * (num_tiles + 1) + tile
    slot = tl.load(starts + own) - tile
    pieces = tl.load(starts + own + 1) - tile - 1 - slot
    source = tile * BLOCK + c
    if WIDE:
        example, slot, source = example.to(tl.int64), slot.to(tl.int64), source.to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    inside = (channel < WIDTH)[None, :]
    acc = tl.zeros([COLS, CHANNELS], dtype=tl.float32)
    for piece in range(0, pieces):
        at = (((example * KEYS + head) * extra + slot + piece) * BLOCK + c)[:, None] * WIDTH + channel[None, :]
        acc += tl.load(partial + at, mask=inside, other=0)
    at = ((example * num_sources + source) * KEYS + head)[:, None] * WIDTH + channel[None, :]
    here = (source < num_sources)[:, None] & inside & (pieces > 0)
    tl.store(out + at, tl.load(out + at, mask=here, other=0) + acc, mask=here)


def add_pieces(split: Work, partial: Tensor, out: Tensor, how: Any) -> None:
    """Add the later pieces [B, KEYS, extra, block, W] of tiles to out [B, S, KEYS, W]."""
    (batch, sources, keys, width), tiles = out.shape, split.starts.shape[1] - 1
    shared = {name: how[name] for name in ("OWN_B", "OWN_H", "KEYS", "WIDE", "BLOCK")}
    _add_pieces[(batch * keys * tiles * (how["BLOCK"] // _STEP),)](
        split.starts, partial, out, tiles, sources, split.extra, WIDTH=width,
        CHANNELS=triton.next_power_of_2(width), COLS=_STEP, num_warps=4, enable_fp_fusion=True, **shared,
    )  # fmt: skip
