"""Attention over tiles of tokens: online softmax over the tiles that each tile row visits.

A program takes ROWS targets of one tile row, example and head, and loops over the tiles that the row visits, COLS
sources at a time, so products are dense and use tensor cores, and the tiles of a structure may be larger than the
registers. If there are few programs, long tile rows are split (`tile_split`). The lists are those of a
BlockAdjacency: index, rule and count by tile row; rule -1 means all pairs, -2 the lower triangle, m >= 0 the bits of
mask[m]. Scores are in units of log 2 (times log2(e) = 1.4427), where an exponential is one instruction.

Arguments are those of the operator ``block_attend`` of hgraph.ops.tiles.block_attend, including dropout and biases.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels.edge_softmax import finite
from hgraph.kernels.random import NONE_DROPPED, dropout_mask, limit
from hgraph.kernels.split import launched, wide
from hgraph.kernels.tile_split import join, rows_of, visits_of_rows

__all__ = [
    "Inputs",
    "Tiles",
    "allowed",
    "allowed_transposed",
    "block_attend",
    "cut",
    "launch",
    "pair_dropout_mask",
    "piece_of",
]
__all__ += ["product", "programs_of", "scored", "serves", "taken", "words"]

AXES, WIDEST = 3, 256

# (half precision, channels) -> (ROWS, COLS, warps, CHUNK, stages) of the forward, the gradient of queries, and of
# keys and values
TABLE = {
    (True, 64): ((128, 64, 8, 0, 2), (64, 32, 4, 0, 2), (32, 64, 4, 0, 3)),
    (True, 128): ((128, 32, 8, 0, 2), (64, 64, 8, 0, 2), (32, 64, 8, 0, 2)),
    (True, 256): ((64, 32, 8, 0, 2), (64, 32, 8, 0, 2), (32, 32, 8, 0, 2)),
    (False, 64): ((32, 32, 4, 32, 2), (32, 32, 4, 32, 2), (16, 32, 4, 32, 2)),
    (False, 128): ((32, 32, 4, 32, 2), (32, 32, 4, 32, 2), (32, 32, 8, 32, 2)),
    (False, 256): ((32, 32, 8, 32, 2), (32, 32, 8, 32, 2), (16, 32, 8, 32, 2)),
}
# The same with biases or dropout, which are computed per pair and need registers.
TABLE_MORE = {
    (True, 64): ((64, 32, 8, 0, 2), (64, 32, 8, 0, 2), (16, 64, 8, 0, 2)),
    (True, 128): ((64, 32, 8, 0, 2), (64, 32, 8, 0, 2), (16, 64, 8, 0, 2)),
    (True, 256): ((64, 16, 8, 64, 2), (64, 16, 8, 0, 2), (16, 32, 8, 0, 2)),
    (False, 64): ((32, 16, 4, 0, 2), (32, 16, 4, 0, 2), (16, 32, 8, 0, 2)),
    (False, 128): ((32, 32, 8, 32, 2), (32, 32, 8, 32, 2), (16, 32, 8, 32, 2)),
    (False, 256): ((32, 32, 8, 32, 2), (32, 32, 8, 32, 2), (16, 32, 8, 32, 2)),
}


class Tiles(NamedTuple):
    """One part of a structure: tiles and rules [B, H, R, K], counts [B, H, R], rows [R], mask [M, block, block / 8].

    The transpose, if present, lists tile rows and rules by tile of sources, [B, H, C, K'] and [B, H, C].
    """

    tiles: Tensor
    rules: Tensor
    counts: Tensor
    rows: Tensor
    mask: Tensor
    transpose: tuple[Tensor, Tensor, Tensor] | None = None


class Inputs(NamedTuple):
    """The common arguments of the forward and the gradients."""

    q: Tensor  # [B, T, H, D]
    k: Tensor  # [B, S, K, D]
    v: Tensor  # [B, S, K, V]
    table: Tensor | None  # [H or 1, L1, .., Ld]
    target_place: Tensor | None  # [T, d]
    source_place: Tensor | None  # [S, d]
    seed: Tensor | None  # [1]
    dropout: float
    scale: float

    def contiguous(self) -> Inputs:
        """Contiguous copies, as the kernels require."""
        own = {name: t.contiguous() for name, t in self._asdict().items() if isinstance(t, Tensor)}
        return self._replace(**own)  # type: ignore[arg-type]

    def pointers(self) -> tuple[Tensor, ...]:
        """All tensors; placeholders for missing ones are never read."""
        return tuple(self.q if t is None else t for t in self[:7])

    def numbers(self) -> tuple[float | int, ...]:
        """Scale, sizes of the structure, and strides of the table between heads and along each axis."""
        sizes = () if self.table is None else self.table.shape[1:]
        step = 0 if self.table is None or self.table.shape[0] == 1 else self.table[0].numel()
        padded = (*sizes, *(1,) * (AXES - len(sizes)))
        return (self.scale * 1.4426950408889634, self.q.shape[1], self.k.shape[1], step, *padded)


def serves(block: int, given: Inputs) -> bool:
    """Whether there are kernels for this tile size and these arguments."""
    q, k, v = given[:3]
    axes = 0 if given.table is None else given.table.dim() - 1
    return (
        block in (16, 32, 64, 128, 256)
        and q.dtype == k.dtype == v.dtype
        and q.dtype in (torch.float16, torch.bfloat16, torch.float32)
        and min(q.shape[3], v.shape[3]) > 0
        and max(q.shape[3], v.shape[3]) <= WIDEST
        and axes <= AXES
    )


@triton.jit
def piece_of(count, visits, CUT: tl.constexpr):
    """The first visit of a program in a list, and the end of its visits."""
    first = tl.program_id(1) * visits if CUT else 0
    return first, tl.minimum(count, first + visits) if CUT else count


@triton.jit
def taken(
    x, example, number, head, channel, size, HEADS: tl.constexpr, WIDTH: tl.constexpr, DOT: tl.constexpr
):  # fmt: skip
    """Gather rows of x [., size, HEADS, WIDTH], in the dtype of the product."""
    at = ((example * size + number) * HEADS + head)[:, None] * WIDTH + channel[None, :]
    return tl.load(x + at, mask=(number < size)[:, None] & (channel < WIDTH)[None, :], other=0).to(DOT)


@triton.jit
def product(
    a, b, whole_a, whole_b, example, i, head_a, size_a, j, head_b, size_b,
    HEADS_A: tl.constexpr, HEADS_B: tl.constexpr, WIDTH: tl.constexpr, DOT: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Inner products [I, J] of rows of a and b: of complete rows, or, with CHUNK, in chunks of channels.

    A row held in registers during a loop is replicated in every warp; for wide heads it is read again instead.
    """
    if CHUNK == 0:
        total = tl.dot(whole_a, tl.trans(whole_b), input_precision="tf32x3")
    else:
        total = tl.zeros([i.shape[0], j.shape[0]], dtype=tl.float32)
        for start in range(0, WIDTH, CHUNK):
            channel = start + tl.arange(0, CHUNK)
            left = taken(a, example, i, head_a, channel, size_a, HEADS_A, WIDTH, DOT)
            right = taken(b, example, j, head_b, channel, size_b, HEADS_B, WIDTH, DOT)
            total = tl.dot(left, tl.trans(right), total, input_precision="tf32x3")
    return total


@triton.jit
def allowed(rule, mask, r, c, tile_slice, left, MASKS: tl.constexpr, BLOCK: tl.constexpr, COLS: tl.constexpr):
    """Whether rows r [R, 1] of a tile may attend to columns c [1, COLS] of a slice that begins with ``left`` sources.

    There are many pairs, so a few comparisons per pair cost as much as the softmax. The diagonal and the end of the
    sources are therefore one number per row, combined with the mask bits into one word: one test per pair.
    """
    reach = tl.minimum(left, tl.where(rule == -2, r - tile_slice * COLS + 1, COLS))
    if MASKS:
        word = _words(rule, mask, r, tile_slice, BLOCK, COLS)
        every = tl.full([1, 1], -1, dtype=word.dtype)
        beyond = every << tl.minimum(tl.maximum(reach, 0), COLS - 1).to(word.dtype)
        met = _has(tl.where(reach < COLS, word & ~beyond, word), c, COLS)
    else:
        met = c % COLS < reach
    return met


@triton.jit
def allowed_transposed(rule, mask, r, c, tile_slice, MASKS: tl.constexpr, BLOCK: tl.constexpr, COLS: tl.constexpr):
    """The same for rows r [1, R] and columns c [COLS, 1]: many words per program, so diagonals are tested by column.

    Columns beyond the last source may be allowed: their results are not stored.
    """
    if MASKS:
        met = ((rule != -2) | (r >= c)) & _has(_words(rule, mask, r, tile_slice, BLOCK, COLS), c, COLS)
    else:  # equivalent to the first branch: on sm_80 the first form would spill here, and this one there
        met = r >= tl.where(rule == -2, c, 0)
    return met


@triton.jit
def _words(rule, mask, r, tile_slice, BLOCK: tl.constexpr, COLS: tl.constexpr):
    """The mask bits of rows and a slice; all set without a mask."""
    return tl.load(mask + (rule * BLOCK + r) * (BLOCK // COLS) + tile_slice, mask=(rule >= 0) & (r >= 0), other=-1)


@triton.jit
def _has(word, c, COLS: tl.constexpr):
    one = tl.full([1, 1], 1, dtype=word.dtype)
    return (word & (one << (c % COLS).to(word.dtype))) != 0


@triton.jit
def scored(
    product, meets, table, target_place, source_place, target, source, scale, num_targets, num_sources, size_0, size_1,
    size_2, AXES: tl.constexpr,
):  # fmt: skip
    """Scores of products, with biases; -inf for pairs that are not allowed.

    Targets beyond the last may be allowed: their results are not stored, and gradients use lse = inf for them.
    A bias is read for every pair: positions are clamped into the table.
    """
    score = product * scale
    if AXES > 0:
        place = (target + source).to(tl.int64) * 0
        for axis in tl.static_range(AXES):
            size = size_0 if axis == 0 else (size_1 if axis == 1 else size_2)
            t = tl.load(target_place + target * AXES + axis, mask=target < num_targets, other=0)
            s = tl.load(source_place + source * AXES + axis, mask=source < num_sources, other=0)
            place = place * size + tl.minimum(tl.maximum(t - s + (size - 1) // 2, 0), size - 1)
        score += tl.load(table + place).to(tl.float32) * 1.4426950408889634
    return tl.where(meets, score, float("-inf"))


@triton.jit
def pair_dropout_mask(
    seed, example, target, source, head, num_targets, num_sources,
    H: tl.constexpr, LIMIT: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """The dropout mask of pairs."""
    counter = ((example.to(tl.int64) * num_targets + target) * num_sources + source) * H + head
    return dropout_mask(seed, counter, LIMIT, KEPT, tl.float32)


@launched
def _attend(
    index, rules, counts, rows, mask, q, k, v, table, target_place, source_place, seed, out, lse,
    scale, num_targets, num_sources, table_step, size_0, size_1, size_2, num_rows, most_tiles, visits,
    CUT: tl.constexpr,
    OWN_B: tl.constexpr, OWN_H: tl.constexpr, H: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, V: tl.constexpr,
    AXES: tl.constexpr, LIMIT: tl.constexpr, KEPT: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr,
    MASKS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    SLICES: tl.constexpr = BLOCK // COLS
    example, head, own, r, target, inside, seat = rows_of(
        rows, num_rows, num_targets, OWN_B, OWN_H, H, WIDE, BLOCK, ROWS
    )
    first, stop = piece_of(tl.load(counts + own) * inside, visits, CUT)
    channel, value = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    queries = taken(q, example, target, head, channel, num_targets, H, D, DOT)
    table += head * table_step
    row_max = tl.full([ROWS], float("-inf"), dtype=tl.float32)
    row_sum = tl.zeros([ROWS], dtype=tl.float32)
    acc = tl.zeros([ROWS, BLOCK_V], dtype=tl.float32)
    for step in range(first * SLICES, stop * SLICES):
        at = own * most_tiles + step // SLICES
        rule, tile = tl.load(rules + at), tl.load(index + at)
        if WIDE:
            rule, tile = rule.to(tl.int64), tile.to(tl.int64)
        piece = step % SLICES
        c = piece * COLS + tl.arange(0, COLS)
        source = tile * BLOCK + c
        left = tl.minimum(num_sources - tile * BLOCK - piece * COLS, COLS).to(tl.int32)
        keys = taken(k, example, source, head // (H // KEYS), channel, num_sources, KEYS, D, DOT)
        values = taken(v, example, source, head // (H // KEYS), value, num_sources, KEYS, V, DOT)
        score = scored(
            product(
                q, k, queries, keys, example, target, head, num_targets, source, head // (H // KEYS), num_sources,
                H, KEYS, D, DOT, CHUNK,
            ), allowed(rule, mask, r[:, None], c[None, :], piece, left, MASKS, BLOCK, COLS),
            table, target_place, source_place, target[:, None], source[None, :], scale, num_targets, num_sources,
            size_0, size_1, size_2, AXES,
        )  # fmt: skip
        higher = tl.maximum(row_max, tl.max(score, axis=1))
        shift = finite(higher)
        share, rescale = tl.exp2(score - shift[:, None]), tl.exp2(row_max - shift)
        row_sum = row_sum * rescale + tl.sum(share, axis=1)
        if LIMIT >= 0:
            share *= pair_dropout_mask(
                seed, example, target[:, None], source[None, :], head, num_targets, num_sources, H, LIMIT, KEPT
            )
        acc = tl.dot(share.to(DOT), values, acc * rescale[:, None], input_precision="tf32x3")
        row_max = higher
    none = row_sum == 0
    row_sum = tl.where(none, 1.0, row_sum)
    at_row = (example * num_targets + target) * H + head
    live = target < num_targets
    if CUT:
        at_row, live = seat + tl.program_id(1) * tl.num_programs(0) * ROWS, live | True
    tl.store(lse + at_row, tl.where(none, float("-inf"), (row_max + tl.log2(row_sum)) * 0.6931471805599453), mask=live)
    here = live[:, None] & (value < V)[None, :]
    tl.store(out + at_row[:, None] * V + value[None, :], (acc / row_sum[:, None]).to(out.dtype.element_ty), mask=here)


def launch(part: Tiles, given: Inputs, kernel: int, interpreted: bool) -> dict[str, Any]:
    """Compile-time parameters of a kernel: 0 is the forward, 1 the gradient of queries, 2 that of keys and values."""
    q, k, v = given[:3]
    half = q.dtype in (torch.float16, torch.bfloat16)
    block = part.mask.shape[1]
    block_d, block_v = (max(triton.next_power_of_2(x.shape[3]), 16) for x in (q, v))
    table = TABLE if given.table is None and given.seed is None else TABLE_MORE
    rows, cols, warps, chunk, stages = table[half, max(block_d, block_v, 64)][kernel]
    return {
        "OWN_B": part.tiles.shape[0] > 1, "OWN_H": part.tiles.shape[1] > 1,
        "H": q.shape[2], "KEYS": k.shape[2], "D": q.shape[3], "V": v.shape[3],
        "AXES": 0 if given.table is None else given.table.dim() - 1,
        "DOT": getattr(tl, str(q.dtype).removeprefix("torch.")) if half and not interpreted else tl.float32,
        "WIDE": wide(q, k, v, part.tiles, part.mask), "MASKS": part.mask.shape[0] > 0,
        "BLOCK": block, "BLOCK_D": block_d, "BLOCK_V": block_v,
        "ROWS": min(rows, block), "COLS": min(cols, block), "CHUNK": chunk,
        "num_warps": min(warps, 4) if block < 64 else warps, "num_stages": stages, "enable_fp_fusion": True,
        **(NONE_DROPPED if given.seed is None else limit(given.dropout)),
    }  # fmt: skip


def programs_of(part: Tiles, given: Inputs, how: dict[str, Any]) -> int:
    """The number of programs of a launch over tile rows."""
    batch, _, heads, _ = given.q.shape
    return batch * heads * part.rows.shape[0] * (how["BLOCK"] // how["ROWS"])


def cut(part: Tiles, given: Inputs, how: dict[str, Any]) -> tuple[int, int]:
    """Visits per piece of a tile row, and the number of pieces, from the programs per example (`PROGRAMS`)."""
    most = part.tiles.shape[3]
    visits = visits_of_rows(programs_of(part, given, how) // given.q.shape[0], most)
    return visits, triton.cdiv(most, visits)


def words(mask: Tensor, columns: int) -> Tensor:
    """Bits [M, block, block / 8] as words of ``columns`` bits."""
    mask = mask.contiguous()
    mask = mask.clone() if mask.data_ptr() % 8 else mask
    return mask.view({16: torch.int16, 32: torch.int32, 64: torch.int64}[columns])


def block_attend(parts: list[Tiles], given: Inputs, *, interpreted: bool = False) -> tuple[Tensor, Tensor]:
    """(out [B, T, H, V] in q's dtype, lse [B, T, H] float32)."""
    given = given.contiguous()
    q, v = given.q, given.v
    out = q.new_zeros((*q.shape[:3], v.shape[3]))
    lse = q.new_full(q.shape[:3], float("-inf"), dtype=torch.float32)
    for part in parts:
        if lse.numel() and part.rows.shape[0] and part.tiles.shape[3]:
            how = launch(part, given, 0, interpreted)
            programs, (visits, pieces) = programs_of(part, given, how), cut(part, given, how)
            found, states = out, lse
            if pieces > 1:
                seats = programs * how["ROWS"]
                found = lse.new_empty((pieces, seats, v.shape[3]))
                states = lse.new_empty((pieces, seats))
                how["WIDE"] = how["WIDE"] or wide(found)
            _attend[(programs, pieces)](
                *part[:4], words(part.mask, how["COLS"]), *given.pointers(), found, states, *given.numbers(),
                part.rows.shape[0], part.tiles.shape[3], visits, CUT=pieces > 1, **how,
            )  # fmt: skip
            if pieces > 1:
                join(part.rows, found, states, out, lse, how)
    return out, lse
