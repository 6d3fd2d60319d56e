"""The gradients of `block_attend`: one pass over tile rows for q, one over tiles of sources for k and v.

Both recompute the scores with lse, alpha = exp(s - lse), and the gradient of a score with delta,

    ds = dropout_mask alpha <grad, v> - alpha delta,

which includes the gradient through lse. Keys and values accumulate by tile of sources, in the order of
the transposed lists. These come with the structure, or the visits are sorted here. Tiles with far more visits
than others are split (`tile_split`). The gradient of a table of biases is rarely needed: ds is then stored
for some tile rows at a time, and summed per entry, as in `csr_reduce`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels.block_attend import (
    Inputs,
    Tiles,
    allowed,
    allowed_transposed,
    cut,
    launch,
    pair_dropout_mask,
    piece_of,
    product,
    programs_of,
    scored,
    taken,
    words,
)
from hgraph.kernels.csr_reduce import csr_reduce
from hgraph.kernels.edge_softmax import finite
from hgraph.kernels.split import launched, wide
from hgraph.kernels.tile_split import Work, add_pieces, join, rows_of, visits_of_keys, work

__all__ = ["block_attend_grads"]

_FLOWS = 2**24  # entries of ds per chunk, for the gradient of a table: 64 MB


@launched
def _attend_queries(
    index, rules, counts, rows, mask, q, k, v, table, target_place, source_place, seed, lse, delta, grad, grad_q, flows,
    scale, num_targets, num_sources, table_step, size_0, size_1, size_2, num_rows, most_tiles, visits, factor,
    FLOWS: tl.constexpr, CUT: tl.constexpr,
    OWN_B: tl.constexpr, OWN_H: tl.constexpr, H: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, V: tl.constexpr,
    AXES: tl.constexpr, LIMIT: tl.constexpr, KEPT: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr,
    MASKS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """With FLOWS, the heads and examples per list, ds is stored in flows [visits, BLOCK, BLOCK, FLOWS]."""
    SLICES: tl.constexpr = BLOCK // COLS
    example, head, own, r, target, inside, seat = rows_of(
        rows, num_rows, num_targets, OWN_B, OWN_H, H, WIDE, BLOCK, ROWS
    )
    first, stop = piece_of(tl.load(counts + own) * inside, visits, CUT)
    channel, value = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    queries = taken(q, example, target, head, channel, num_targets, H, D, DOT)
    flow = taken(grad, example, target, head, value, num_targets, H, V, DOT)
    at_row = (example * num_targets + target) * H + head
    live = target < num_targets
    log_sum = finite(tl.load(lse + at_row, mask=live, other=float("inf"))) * 1.4426950408889634
    shift = tl.load(delta + at_row, mask=live, other=0)
    table += head * table_step
    acc = tl.zeros([ROWS, BLOCK_D], dtype=tl.float32)
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
        inner = product(
            grad, v, flow, values, example, target, head, num_targets, source, head // (H // KEYS), num_sources,
            H, KEYS, V, DOT, CHUNK,
        )  # fmt: skip
        if LIMIT >= 0:
            inner *= pair_dropout_mask(
                seed, example, target[:, None], source[None, :], head, num_targets, num_sources, H, LIMIT, KEPT
            )
        change = tl.exp2(score - log_sum[:, None]) * (inner - shift[:, None])
        if FLOWS > 0:
            place = (at.to(tl.int64) * BLOCK + r)[:, None] * BLOCK + c[None, :]
            sharer = (0 if OWN_B else example) * (1 if OWN_H else H) + (0 if OWN_H else head)
            tl.store(flows + place * FLOWS + sharer, change)
        acc = tl.dot(change.to(DOT), keys, acc, input_precision="tf32x3")
    if CUT:
        at_row, live = seat + tl.program_id(1) * tl.num_programs(0) * ROWS, live | True
    here = live[:, None] & (channel < D)[None, :]
    tl.store(grad_q + at_row[:, None] * D + channel[None, :], acc * factor, mask=here)


@triton.jit
def _sources_of(
    work_tiles, work_starts, num_units, num_tiles, CUT: tl.constexpr, OWN_B: tl.constexpr, OWN_H: tl.constexpr,
    KEYS: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """(example, key head, unit, tile, its piece, its slice, its columns [COLS], sources [COLS])."""
    SLICES: tl.constexpr = BLOCK // COLS
    pid = tl.program_id(0)
    unit, piece = pid % (num_units * SLICES) // SLICES, pid % SLICES
    key_head = pid // (num_units * SLICES) % KEYS
    example = pid // (num_units * SLICES) // KEYS
    tile, number = unit, 0
    if CUT:
        group = (example if OWN_B else 0) * (KEYS if OWN_H else 1) + (key_head if OWN_H else 0)
        tile = tl.load(work_tiles + group * num_units + unit)
        number = unit - tl.load(work_starts + group * (num_tiles + 1) + tile)
    c = piece * COLS + tl.arange(0, COLS)
    source = tile * BLOCK + c
    if WIDE:
        example, source = example.to(tl.int64), source.to(tl.int64)
    return example, key_head, unit, tile, number, piece, c, source


@triton.jit
def _add(out, at, channel, live, total, WIDTH: tl.constexpr):
    """Add sums [COLS, channels] to rows of out: another part of the structure may have written there."""
    here = live[:, None] & (channel < WIDTH)[None, :]
    place = at[:, None] * WIDTH + channel[None, :]
    tl.store(out + place, tl.load(out + place, mask=here, other=0) + total, mask=here)


@triton.jit
def _put(out, at, channel, live, total, WIDTH: tl.constexpr):
    """Store sums [COLS, channels] in rows of out."""
    tl.store(out + at[:, None] * WIDTH + channel[None, :], total, mask=live[:, None] & (channel < WIDTH)[None, :])


@launched
def _attend_keys(
    begins, ends, heard_by, rules, work_tiles, work_starts, mask, q, k, v, table, target_place, source_place, seed,
    lse, delta, grad, grad_k, grad_v, partial_k, partial_v, scale, num_targets, num_sources, table_step, size_0,
    size_1, size_2, num_tiles, num_units, visits, factor,
    CUT: tl.constexpr,
    OWN_B: tl.constexpr, OWN_H: tl.constexpr, H: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, V: tl.constexpr,
    AXES: tl.constexpr, LIMIT: tl.constexpr, KEPT: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr,
    MASKS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Scores are transposed, [COLS, ROWS], as needed for their products with queries and gradients."""
    SUBS: tl.constexpr = BLOCK // ROWS
    example, key_head, unit, tile, number, piece, c, source = _sources_of(
        work_tiles, work_starts, num_units, num_tiles, CUT, OWN_B, OWN_H, KEYS, WIDE, BLOCK, COLS
    )
    channel, value = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    keys = taken(k, example, source, key_head, channel, num_sources, KEYS, D, DOT)
    values = taken(v, example, source, key_head, value, num_sources, KEYS, V, DOT)
    acc_k = tl.zeros([COLS, BLOCK_D], dtype=tl.float32)
    acc_v = tl.zeros([COLS, BLOCK_V], dtype=tl.float32)
    for member in range(0, H // KEYS):
        head = key_head * (H // KEYS) + member
        own = (((example if OWN_B else 0) * (H if OWN_H else 1)) + (head if OWN_H else 0)) * num_tiles + tile
        begin = tl.load(begins + own, mask=tile < num_tiles, other=0)
        count = (tl.load(ends + own, mask=tile < num_tiles, other=0) - begin).to(tl.int32)
        first, stop = (number * visits, tl.minimum(count, (number + 1) * visits)) if CUT else (0, count)
        for step in range(first * SUBS, stop * SUBS):
            at = begin + step // SUBS
            rule, row = tl.load(rules + at), tl.load(heard_by + at)
            if WIDE:
                rule, row = rule.to(tl.int64), row.to(tl.int64)
            r = step % SUBS * ROWS + tl.arange(0, ROWS)
            target = row * BLOCK + r
            live = target < num_targets
            queries = taken(q, example, target, head, channel, num_targets, H, D, DOT)
            flow = taken(grad, example, target, head, value, num_targets, H, V, DOT)
            at_row = (example * num_targets + target) * H + head
            log_sum = finite(tl.load(lse + at_row, mask=live, other=float("inf"))) * 1.4426950408889634
            shift = tl.load(delta + at_row, mask=live, other=0)
            score = scored(
                product(
                    k, q, keys, queries, example, source, key_head, num_sources, target, head, num_targets,
                    KEYS, H, D, DOT, CHUNK,
                ), allowed_transposed(rule, mask, r[None, :], c[:, None], piece, MASKS, BLOCK, COLS),
                table + head * table_step, target_place, source_place, target[None, :], source[:, None], scale,
                num_targets, num_sources, size_0, size_1, size_2, AXES,
            )  # fmt: skip
            alpha = tl.exp2(score - log_sum[None, :])
            share = alpha
            if LIMIT >= 0:
                share *= pair_dropout_mask(
                    seed, example, target[None, :], source[:, None], head, num_targets, num_sources, H, LIMIT, KEPT
                )
            acc_v = tl.dot(share.to(DOT), flow, acc_v, input_precision="tf32x3")
            inner = product(
                v, grad, values, flow, example, source, key_head, num_sources, target, head, num_targets,
                KEYS, H, V, DOT, CHUNK,
            )  # fmt: skip
            change = share * inner - alpha * shift[None, :]
            acc_k = tl.dot(change.to(DOT), queries, acc_k, input_precision="tf32x3")
    at_source, live = (example * num_sources + source) * KEYS + key_head, source < num_sources
    if CUT:
        slot = ((example * KEYS + key_head) * (num_units - num_tiles) + unit - tile - 1) * BLOCK + c
        _put(partial_k, slot, channel, live & (number > 0), acc_k * factor, D)
        _put(partial_v, slot, value, live & (number > 0), acc_v, V)
        live &= number == 0
    _add(grad_k, at_source, channel, live, acc_k * factor, D)
    _add(grad_v, at_source, value, live, acc_v, V)


class _Visits(NamedTuple):
    """By list and tile of sources, the range of its visits; tile row and rule of each visit."""

    begins: Tensor
    ends: Tensor
    rows: Tensor
    rules: Tensor


def _visits(part: Tiles, tiles: int) -> _Visits:
    """The transposed lists, from the structure or by sorting its visits."""
    if part.transpose is not None:
        rows, rules, counts = part.transpose
        begins = torch.arange(counts.numel(), device=counts.device) * rows.shape[3]
        return _Visits(begins, begins + counts.flatten(), rows, rules)
    index = part.tiles.flatten(0, 1).long()  # [G, R, K]
    group = torch.arange(index.shape[0], device=index.device).view(-1, 1, 1)
    used = torch.arange(index.shape[2], device=index.device) < part.counts.flatten(0, 1).unsqueeze(2)
    source = torch.where(used, group * tiles + index, index.shape[0] * tiles).flatten()  # padding goes last
    ordered, order = torch.sort(source, stable=True)
    bounds = torch.searchsorted(ordered, torch.arange(index.shape[0] * tiles + 1, device=index.device))
    row = part.rows[order // index.shape[2] % index.shape[1]]
    return _Visits(bounds[:-1], bounds[1:], row, part.rules.flatten()[order])


def block_attend_grads(
    parts: list[Tiles], given: Inputs, lse: Tensor, delta: Tensor, grad: Tensor, *, of_table: bool = False,
    interpreted: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Gradients of q, k, v and, if needed, of the table, in float32.

    Args:
        parts: the structure.
        given: the inputs of the forward.
        lse: [B, T, H].
        delta: [B, T, H], sum(grad * out) minus the gradient of lse.
        grad: [B, T, H, V], gradient of the output, in q's dtype.
        of_table: whether to compute the gradient of the table.
        interpreted: multiply in float32, as Triton's interpreter cannot multiply bfloat16.
    """
    given, lse, delta, grad = given.contiguous(), lse.contiguous(), delta.contiguous(), grad.contiguous()
    q, k, v, table, *_ = given
    grad_q, grad_k, grad_v = (torch.zeros_like(x, dtype=torch.float32) for x in (q, k, v))
    grad_table = torch.zeros_like(table, dtype=torch.float32) if of_table and table is not None else None
    rest = (lse, delta, grad)
    for part in parts:
        if not (lse.numel() and k.numel() and part.rows.shape[0] and part.tiles.shape[3]):
            continue
        how = launch(part, given, 1, interpreted)
        visits, pieces = cut(part, given, how)  # for the whole part: the number of rows in a slice depends on the batch
        for some in [part] if grad_table is None else _slices(part, given):
            programs, sharers, found, flows = programs_of(some, given, how), 0, grad_q, grad_q
            if grad_table is not None:
                sharers = (1 if how["OWN_B"] else q.shape[0]) * (1 if how["OWN_H"] else q.shape[2])
                flows = grad_q.new_zeros(some.tiles.numel(), how["BLOCK"], how["BLOCK"], sharers)
            if pieces > 1:
                found = grad_q.new_empty((pieces, programs * how["ROWS"], q.shape[3]))
                how["WIDE"] = how["WIDE"] or wide(found)
            _attend_queries[(programs, pieces)](
                *some[:4], words(part.mask, how["COLS"]), *given.pointers(), *rest, found, flows, *given.numbers(),
                some.rows.shape[0], some.tiles.shape[3], visits, given.scale, FLOWS=sharers, CUT=pieces > 1, **how,
            )  # fmt: skip
            if pieces > 1:
                join(some.rows, found, None, grad_q, None, how)
            if grad_table is not None:
                grad_table += _of_entries(some, given, flows)
        _of_keys(part, given, rest, grad_k, grad_v, interpreted)
    return grad_q, grad_k, grad_v, grad_table


def _of_keys(
    part: Tiles, given: Inputs, rest: tuple[Tensor, ...], grad_k: Tensor, grad_v: Tensor, interpreted: bool
) -> None:
    """Add one part's gradients of keys and values."""
    how, k, v = launch(part, given, 2, interpreted), given.k, given.v
    tiles = triton.cdiv(k.shape[1], how["BLOCK"])
    lists = _visits(part, tiles)
    split = _work(part, lists, tiles, how)
    extra = 0 if split is None else split.extra
    partial_k, partial_v = (grad_k.new_empty((k.shape[0], k.shape[2], extra, how["BLOCK"], x.shape[3])) for x in (k, v))
    how["WIDE"] = how["WIDE"] or wide(partial_k, partial_v)
    units, each = k.shape[0] * k.shape[2], how["BLOCK"] // how["COLS"]
    _attend_keys[(units * (tiles + extra) * each,)](
        *lists, *(lists[:2] if split is None else split[:2]), words(part.mask, how["COLS"]), *given.pointers(), *rest,
        grad_k, grad_v, partial_k, partial_v, *given.numbers(), tiles, tiles + extra,
        0 if split is None else split.visits, given.scale, CUT=split is not None, **how,
    )  # fmt: skip
    if split is not None:
        add_pieces(split, partial_k, grad_k, how)
        add_pieces(split, partial_v, grad_v, how)


def _work(part: Tiles, by_source: _Visits, tiles: int, how: dict[str, Any]) -> Work | None:
    """How to split tiles of sources; None if, by the shapes, no tile can have far more visits than others."""
    (batch, heads, rows, most), keys = part.tiles.shape, how["KEYS"]
    longest = rows if part.transpose is None else part.transpose[0].shape[3]
    visits = visits_of_keys(rows * most, tiles)
    if longest <= visits:
        return None
    lists = (by_source.ends - by_source.begins).view(batch, keys if heads > 1 else 1, -1, tiles).amax(2).flatten(0, 1)
    members = heads // keys if heads > 1 else 1  # a program handles all query heads of a key head
    extra = min(members * rows * most // visits, tiles * (triton.cdiv(longest, visits) - 1))
    return work(lists, visits, extra)


def _slices(part: Tiles, given: Inputs) -> list[Tiles]:
    """A part in slices of tile rows."""
    batch, heads = given.q.shape[0], given.q.shape[2]
    size = batch * heads * part.tiles.shape[3] * part.mask.shape[1] ** 2
    step = max(1, _FLOWS // size)
    slices = []
    for low in range(0, part.rows.shape[0], step):
        tiles, rules, counts = (t[:, :, low : low + step].contiguous() for t in part[:3])
        slices.append(Tiles(tiles, rules, counts, part.rows[low : low + step], part.mask))
    return slices


def _of_entries(part: Tiles, given: Inputs, flows: Tensor) -> Tensor:
    """The gradient of the table from ds [visits, block, block, sharers]: sums in sorted order of the visits."""
    table, target_place, source_place = given.table, given.target_place, given.source_place
    assert table is not None  # noqa: S101 - the caller's to know
    assert target_place is not None  # noqa: S101
    assert source_place is not None  # noqa: S101
    index, block = part.tiles.flatten(0, 1).long(), part.mask.shape[1]  # [G, R, K]
    inside = torch.arange(block, device=index.device)
    target = (part.rows.long().unsqueeze(1) * block + inside).clamp(max=target_place.shape[0] - 1)  # [R, block]
    source = (index.unsqueeze(3) * block + inside).clamp(max=source_place.shape[0] - 1)  # [G, R, K, block]
    entry = torch.zeros((), dtype=torch.long, device=index.device)
    for axis, size in enumerate(table.shape[1:]):
        apart = target_place[target, axis][:, None, :, None] - source_place[source, axis].unsqueeze(3)
        entry = entry * size + (apart + (size - 1) // 2).clamp(0, size - 1)
    entries, groups = table[0].numel(), index.shape[0]
    used = torch.arange(index.shape[2], device=index.device) < part.counts.flatten(0, 1).unsqueeze(2)
    group = torch.arange(groups, device=index.device).view(-1, 1, 1, 1, 1)
    row = torch.where(used[..., None, None], group * entries + entry, groups * entries).flatten()
    row, order = torch.sort(row, stable=True)  # unused visits go last, and are not read
    indptr = torch.searchsorted(row, torch.arange(groups * entries + 2, device=index.device))
    summed = csr_reduce(indptr, order, row, None, flows.view(1, -1, flows.shape[3]))[:, :-1]
    batch, heads = part.tiles.shape[:2]
    by_head = summed.view(batch, heads, entries, flows.shape[3] // (given.q.shape[2] // heads), -1)
    by_head = by_head.sum((0, 3)).movedim(2, 1).flatten(0, 1)  # [H, entries]
    return (by_head.sum(0, keepdim=True) if table.shape[0] == 1 else by_head).view(table.shape)
