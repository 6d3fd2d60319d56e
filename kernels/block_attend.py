"""Attention over tiles of tokens, forward and backward: online softmax over the tiles that each tile row visits.

A program takes one tile row (for the gradients of keys and values: one tile of sources) of one example and head, so
products are dense and lie on tensor cores. The lists are those of a BlockAdjacency: index, rule and count by tile row,
rule -1 every pair, -2 the lower triangle, m >= 0 the bits of mask[m]. Visits are sorted by source on the device for the
gradients of keys and values, which are therefore sums in a fixed order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels.edge_softmax import finite
from hgraph.kernels.split import wide

__all__ = ["Tiles", "block_attend", "block_attend_grads", "serves"]


class Tiles(NamedTuple):
    """One part of a structure: tiles and rules [B, H, R, K], counts [B, H, R], rows [R], mask [M, block, block / 8]."""

    tiles: Tensor
    rules: Tensor
    counts: Tensor
    rows: Tensor
    mask: Tensor


def serves(block: int, width: int, values: int, dtype: torch.dtype) -> bool:
    """Whether tiles and heads of these sizes have kernels: larger ones, and those of float32, outgrow the registers."""
    half = dtype in (torch.float16, torch.bfloat16)
    largest, widest = (64, 128) if half else (32, 64)
    return (
        block in (16, 32, 64)
        and block <= largest
        and min(width, values) > 0
        and max(width, values) <= widest
        and (half or dtype == torch.float32)
    )


@triton.jit
def _scores(
    q, k, rule, mask, target, source, num_targets, num_sources, scale,
    BLOCK: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """Scores [BLOCK, BLOCK] of a tile, -inf where its rule or the sizes forbid."""
    each = tl.arange(0, BLOCK)
    score = tl.dot(q, tl.trans(k), input_precision="tf32x3") * scale
    meets = (target < num_targets)[:, None] & (source < num_sources)[None, :]
    triangle = each[:, None] >= each[None, :]
    of_mask = meets & (rule >= 0)
    byte = tl.load(mask + (rule * BLOCK + each[:, None]) * BYTES + (each // 8)[None, :], mask=of_mask, other=0)
    bit = ((byte >> (each % 8)[None, :].to(tl.uint8)) & 1) != 0
    meets = meets & ((rule == -1) | ((rule == -2) & triangle) | ((rule >= 0) & bit))
    return tl.where(meets, score, float("-inf"))


@triton.jit
def _rows(x, first, row, num_rows, channel, WIDTH: tl.constexpr, HEADS: tl.constexpr, DOT: tl.constexpr):
    """Rows of x [., T, HEADS, WIDTH] from an address on, in the dtype that is multiplied."""
    here = (row < num_rows)[:, None] & (channel < WIDTH)[None, :]
    return tl.load(x + first + row[:, None] * (HEADS * WIDTH) + channel[None, :], mask=here, other=0).to(DOT)


@triton.jit
def _attend(
    index, rule, count, rows, mask, q, k, v, out, lse, scale, num_targets, num_sources, num_rows,
    OWN_B: tl.constexpr, OWN_H: tl.constexpr, MOST: tl.constexpr, H: tl.constexpr, KEYS: tl.constexpr,
    D: tl.constexpr, V: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr, BYTES: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    place = pid % num_rows
    head = pid // num_rows % H
    example = pid // num_rows // H
    list_row = (((example if OWN_B else 0) * (H if OWN_H else 1)) + (head if OWN_H else 0)) * num_rows + place
    if WIDE:
        example, list_row = example.to(tl.int64), list_row.to(tl.int64)
    each, channel, value = tl.arange(0, BLOCK), tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    target = tl.load(rows + place) * BLOCK + each
    queries = _rows(q, (example * num_targets * H + head) * D, target, num_targets, channel, D, H, DOT)
    key_head = head // (H // KEYS)
    most = tl.full([BLOCK], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    acc = tl.zeros([BLOCK, BLOCK_V], dtype=tl.float32)
    for visit in range(0, tl.load(count + list_row)):
        at = list_row * MOST + visit
        source = tl.load(index + at) * BLOCK + each
        keys = _rows(k, (example * num_sources * KEYS + key_head) * D, source, num_sources, channel, D, KEYS, DOT)
        values = _rows(v, (example * num_sources * KEYS + key_head) * V, source, num_sources, value, V, KEYS, DOT)
        own_rule = tl.load(rule + at)
        score = _scores(queries, keys, own_rule, mask, target, source, num_targets, num_sources, scale, BLOCK, BYTES)
        higher = tl.maximum(most, tl.max(score, axis=1))
        shift = finite(higher)
        share, fade = tl.exp(score - shift[:, None]), tl.exp(most - shift)
        total = total * fade + tl.sum(share, axis=1)
        acc = tl.dot(share.to(DOT), values, acc * fade[:, None], input_precision="tf32x3")
        most = higher
    none = total == 0
    result = acc / tl.where(none, 1.0, total)[:, None]
    at_row = (example * num_targets + target) * H + head
    live = target < num_targets
    tl.store(lse + at_row, tl.where(none, float("-inf"), most + tl.log(tl.where(none, 1.0, total))), mask=live)
    here = live[:, None] & (value < V)[None, :]
    tl.store(out + at_row[:, None] * V + value[None, :], result.to(out.dtype.element_ty), mask=here)


@triton.jit
def _attend_queries(
    index, rule, count, rows, mask, q, k, v, lse, delta, grad, grad_q, scale, num_targets, num_sources, num_rows,
    OWN_B: tl.constexpr, OWN_H: tl.constexpr, MOST: tl.constexpr, H: tl.constexpr, KEYS: tl.constexpr,
    D: tl.constexpr, V: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr, BYTES: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    place = pid % num_rows
    head = pid // num_rows % H
    example = pid // num_rows // H
    list_row = (((example if OWN_B else 0) * (H if OWN_H else 1)) + (head if OWN_H else 0)) * num_rows + place
    if WIDE:
        example, list_row = example.to(tl.int64), list_row.to(tl.int64)
    each, channel, value = tl.arange(0, BLOCK), tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    target = tl.load(rows + place) * BLOCK + each
    live = target < num_targets
    queries = _rows(q, (example * num_targets * H + head) * D, target, num_targets, channel, D, H, DOT)
    flow = _rows(grad, (example * num_targets * H + head) * V, target, num_targets, value, V, H, DOT)
    at_row = (example * num_targets + target) * H + head
    log_sum = finite(tl.load(lse + at_row, mask=live, other=0))
    shift = tl.load(delta + at_row, mask=live, other=0)
    key_head = head // (H // KEYS)
    acc = tl.zeros([BLOCK, BLOCK_D], dtype=tl.float32)
    for visit in range(0, tl.load(count + list_row)):
        at = list_row * MOST + visit
        source = tl.load(index + at) * BLOCK + each
        keys = _rows(k, (example * num_sources * KEYS + key_head) * D, source, num_sources, channel, D, KEYS, DOT)
        values = _rows(v, (example * num_sources * KEYS + key_head) * V, source, num_sources, value, V, KEYS, DOT)
        own_rule = tl.load(rule + at)
        score = _scores(queries, keys, own_rule, mask, target, source, num_targets, num_sources, scale, BLOCK, BYTES)
        alpha = tl.exp(score - log_sum[:, None])
        change = alpha * (tl.dot(flow, tl.trans(values), input_precision="tf32x3") - shift[:, None])
        acc = tl.dot(change.to(DOT), keys, acc, input_precision="tf32x3")
    here = live[:, None] & (channel < D)[None, :]
    tl.store(grad_q + at_row[:, None] * D + channel[None, :], acc * scale, mask=here)


@triton.jit
def _attend_keys(
    pointer, order, rule, rows, mask, q, k, v, lse, delta, grad, grad_k, grad_v, scale,
    num_targets, num_sources, num_rows, num_tiles,
    OWN_B: tl.constexpr, OWN_H: tl.constexpr, MOST: tl.constexpr, H: tl.constexpr, KEYS: tl.constexpr,
    D: tl.constexpr, V: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr, BYTES: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    GROUP: tl.constexpr = H // KEYS
    pid = tl.program_id(0)
    tile = pid % num_tiles
    key_head = pid // num_tiles % KEYS
    example = pid // num_tiles // KEYS
    if WIDE:
        example = example.to(tl.int64)
    each, channel, value = tl.arange(0, BLOCK), tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    source = tile * BLOCK + each
    keys = _rows(k, (example * num_sources * KEYS + key_head) * D, source, num_sources, channel, D, KEYS, DOT)
    values = _rows(v, (example * num_sources * KEYS + key_head) * V, source, num_sources, value, V, KEYS, DOT)
    at_source = (example * num_sources + source) * KEYS + key_head
    here_k = (source < num_sources)[:, None] & (channel < D)[None, :]
    here_v = (source < num_sources)[:, None] & (value < V)[None, :]
    acc_k = tl.load(grad_k + at_source[:, None] * D + channel[None, :], mask=here_k, other=0)
    acc_v = tl.load(grad_v + at_source[:, None] * V + value[None, :], mask=here_v, other=0)
    for member in range(0, GROUP):
        head = key_head * GROUP + member
        own = ((example if OWN_B else 0) * (H if OWN_H else 1)) + (head if OWN_H else 0)
        for visit in range(tl.load(pointer + own * num_tiles + tile), tl.load(pointer + own * num_tiles + tile + 1)):
            at = tl.load(order + visit)
            place = at // MOST % num_rows
            target = tl.load(rows + place) * BLOCK + each
            live = target < num_targets
            queries = _rows(q, (example * num_targets * H + head) * D, target, num_targets, channel, D, H, DOT)
            flow = _rows(grad, (example * num_targets * H + head) * V, target, num_targets, value, V, H, DOT)
            at_row = (example * num_targets + target) * H + head
            log_sum = finite(tl.load(lse + at_row, mask=live, other=0))
            shift = tl.load(delta + at_row, mask=live, other=0)
            own_rule = tl.load(rule + at)
            score = _scores(
                queries, keys, own_rule, mask, target, source, num_targets, num_sources, scale, BLOCK, BYTES
            )
            alpha = tl.exp(score - log_sum[:, None])
            acc_v = tl.dot(tl.trans(alpha.to(DOT)), flow, acc_v, input_precision="tf32x3")
            change = alpha * (tl.dot(flow, tl.trans(values), input_precision="tf32x3") - shift[:, None]) * scale
            acc_k = tl.dot(tl.trans(change.to(DOT)), queries, acc_k, input_precision="tf32x3")
    tl.store(grad_k + at_source[:, None] * D + channel[None, :], acc_k, mask=here_k)
    tl.store(grad_v + at_source[:, None] * V + value[None, :], acc_v, mask=here_v)


def _launch(part: Tiles, q: Tensor, k: Tensor, v: Tensor, interpreted: bool) -> dict[str, Any]:
    half = q.dtype in (torch.float16, torch.bfloat16) and not interpreted
    block = part.mask.shape[1]
    return {
        "OWN_B": part.tiles.shape[0] > 1, "OWN_H": part.tiles.shape[1] > 1, "MOST": part.tiles.shape[3],
        "H": q.shape[2], "KEYS": k.shape[2], "D": q.shape[3], "V": v.shape[3],
        "DOT": (tl.float16 if q.dtype == torch.float16 else tl.bfloat16) if half else tl.float32,
        "WIDE": wide(q, k, v, part.tiles), "BYTES": part.mask.shape[2], "BLOCK": block,
        "BLOCK_D": max(triton.next_power_of_2(q.shape[3]), 16), "BLOCK_V": max(triton.next_power_of_2(v.shape[3]), 16),
        "num_warps": 4 if block < 64 else 8, "num_stages": 2, "enable_fp_fusion": True,
    }  # fmt: skip


def block_attend(
    parts: list[Tiles], q: Tensor, k: Tensor, v: Tensor, scale: float, num_sources: int, *, interpreted: bool = False
) -> tuple[Tensor, Tensor]:
    """(out [B, T, H, V] in q's dtype, lse [B, T, H] float32) of q [B, T, H, D], k [B, S, K, D], v [B, S, K, V]."""
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    out = q.new_zeros((*q.shape[:3], v.shape[3]))
    lse = q.new_full(q.shape[:3], float("-inf"), dtype=torch.float32)
    for part in parts:
        rows = part.rows.shape[0]
        if lse.numel() and rows and part.tiles.shape[3]:
            _attend[(q.shape[0] * q.shape[2] * rows,)](
                *part, q, k, v, out, lse, scale, q.shape[1], num_sources, rows, **_launch(part, q, k, v, interpreted)
            )
    return out, lse


def block_attend_grads(
    parts: list[Tiles], q: Tensor, k: Tensor, v: Tensor, scale: float, lse: Tensor, delta: Tensor, grad: Tensor,
    *, interpreted: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k and v in float32, from delta [B, T, H] and that of the output [B, T, H, V]."""
    q, k, v, grad, delta = q.contiguous(), k.contiguous(), v.contiguous(), grad.contiguous(), delta.contiguous()
    grad_q, grad_k, grad_v = (torch.zeros_like(x, dtype=torch.float32) for x in (q, k, v))
    num_targets, num_sources = q.shape[1], k.shape[1]
    for part in parts:
        rows = part.rows.shape[0]
        if not (lse.numel() and k.numel() and rows and part.tiles.shape[3]):
            continue
        how = _launch(part, q, k, v, interpreted)
        _attend_queries[(q.shape[0] * q.shape[2] * rows,)](
            *part, q, k, v, lse, delta, grad, grad_q, scale, num_targets, num_sources, rows, **how
        )
        tiles = triton.cdiv(num_sources, how["BLOCK"])
        pointer, order = _by_source(part, tiles)
        _attend_keys[(q.shape[0] * k.shape[2] * tiles,)](
            pointer, order, part.rules, part.rows, part.mask, q, k, v, lse, delta, grad, grad_k, grad_v, scale,
            num_targets, num_sources, rows, tiles, **how,
        )  # fmt: skip
    return grad_q, grad_k, grad_v


def _by_source(part: Tiles, tiles: int) -> tuple[Tensor, Tensor]:
    """(pointer [G tiles + 1], order) of the visits of each list, sorted by source tile; padding comes last."""
    index = part.tiles.flatten(0, 1).long()  # [G, R, K]
    group = torch.arange(index.shape[0], device=index.device).view(-1, 1, 1)
    used = torch.arange(index.shape[2], device=index.device) < part.counts.flatten(0, 1).unsqueeze(2)
    source = torch.where(used, group * tiles + index, index.shape[0] * tiles).flatten()
    ordered, order = torch.sort(source, stable=True)
    bounds = torch.arange(index.shape[0] * tiles + 1, device=index.device)
    return torch.searchsorted(ordered, bounds), order
