"""Load balancing of tile rows and tiles of sources that have far more visits than others.

- Tile rows: if an example has few programs, and these are long, as for global tokens, each is split into pieces of
  equally many visits. Their partial results are stored in float32 and combined in order (`join`), by lse or by a sum.
- Tiles of sources: one that many tile rows visit is split into pieces of `visits_of_keys` visits. A list of the pieces
  of all tiles (`Work`) is made on the device; a tile's first piece is stored in the gradient, the others in separate
  slots, which are added to it in order (`add_pieces`).

All sizes follow from shapes, so nothing is read back from the device; there are no atomics, and the order of every sum
depends only on the structure.
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

# An example with this many programs fills a GPU of about 130 multiprocessors, and is not split. A batch of smaller
# ones that fills it together is split anyway: otherwise the bits of an example would depend on the batch size.
PROGRAMS = 512
LEAST = 8  # minimum number of visits per program
FAR = 4  # tiles of sources with this many times the average number of visits are split
_STEP = 16  # rows that a program combines


def visits_of_rows(programs: int, most: int) -> int:
    """Visits per piece of a tile row, for a number of programs per example and lists of ``most`` entries."""
    pieces = max(1, min(triton.cdiv(most, LEAST), triton.cdiv(PROGRAMS, programs)))
    return triton.cdiv(most, pieces)


def visits_of_keys(visits: int, tiles: int) -> int:
    """Visits per piece of a tile of sources, for ``tiles`` tiles with ``visits`` visits per list in total."""
    return max(LEAST, FAR * triton.cdiv(visits, max(tiles, 1)))


@triton.jit
def rows_of(
    rows, num_rows, num_targets,
    OWN_B: tl.constexpr, OWN_H: tl.constexpr, H: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """(example, head, list, rows of its tile [ROWS], targets [ROWS], whether they exist, seats) of a program.

    Programs of one head are consecutive, last rows first: under a causal rule these have the most work. Seats [ROWS]
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
    """Combine the pieces of a tile row: with MERGE by their lse, else as a sum."""
    example, head, _, _, target, _, seat = rows_of(rows, num_rows, num_targets, OWN_B, OWN_H, H, WIDE, BLOCK, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = (channel < WIDTH)[None, :]
    row_max = tl.full([ROWS], float("-inf"), dtype=tl.float32)
    row_sum = tl.zeros([ROWS], dtype=tl.float32)
    acc = tl.zeros([ROWS, CHANNELS], dtype=tl.float32)
    for _piece in range(0, pieces):
        found = tl.load(partial + seat[:, None] * WIDTH + channel[None, :], mask=inside, other=0)
        if MERGE:
            state = tl.load(states + seat)
            higher = tl.maximum(row_max, state)
            shift = finite(higher)
            rescale, share = tl.exp(row_max - shift), tl.exp(state - shift)
            row_sum = row_sum * rescale + share
            acc = acc * rescale[:, None] + share[:, None] * found
            row_max = higher
        else:
            acc += found
        seat += tl.num_programs(0) * ROWS
    live = target < num_targets
    at_row = (example * num_targets + target) * H + head
    if MERGE:
        none = row_sum == 0
        row_sum = tl.where(none, 1.0, row_sum)
        acc /= row_sum[:, None]
        tl.store(lse + at_row, tl.where(none, float("-inf"), row_max + tl.log(row_sum)), mask=live)
    here = live[:, None] & inside
    tl.store(out + at_row[:, None] * WIDTH + channel[None, :], acc.to(out.dtype.element_ty), mask=here)


def join(rows: Tensor, partial: Tensor, states: Tensor | None, out: Tensor, lse: Tensor | None, how: Any) -> None:
    """Fill in the rows of out [B, T, H, W], and of lse [B, T, H] if there are states, from their pieces.

    Args:
        rows: [R], the tile rows.
        partial: [pieces, B H R block, W].
        states: [pieces, B H R block], the lse of each piece; None sums.
        out: [B, T, H, W].
        lse: [B, T, H].
        how: compile-time parameters of the kernel that computed the pieces.
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

    tiles: Tensor  # [G, P], the tile of each piece; the number of tiles for unused pieces
    starts: Tensor  # [G, tiles + 1], the first piece of each tile
    visits: int  # visits per piece

    @property
    def extra(self) -> int:
        """Slots for pieces other than the first of each tile."""
        return self.tiles.shape[1] + 1 - self.starts.shape[1]


def work(counts: Tensor, visits: int, extra: int) -> Work:
    """The pieces of tiles with counts [G, tiles] visits; never more than ``extra`` in addition to the first ones."""
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
