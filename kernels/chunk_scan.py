"""Matrix states that are only read out: S[t] = a[t] S[t-1] + k[t] v[t]^T, y[t] = q[t]^T S[t].

In chunks, which never cross a segment: the contribution of each chunk to the state (`gain`) and its total decay
(`chunk_decay`, a logarithm); the state before each chunk, sequentially; then the readings. With one decay per step both
outer parts are products of tiles on tensor cores,

    y = exp(g) (q S) + (q k^T exp(g_i - g_j))_{j <= i} v,        g the running sum of log a in the chunk,

where no exponent is positive unless a log a is. g_i - g_j is summed over j + 1 .. i, separately for each j: a
difference of two prefix sums has the rounding error of every strong decay before j. With per-channel decays there are
products too (`chunk_channels`); float64 runs step by step. Sums use float32; float32 is multiplied as three products of
tf32 parts (22 bits), and for half precision the decayed factors (scores, queries, keys or values) and the states are
rounded before their products.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels import split
from hgraph.kernels.chunk_channels import decay_of, gains_by_channel, read_by_channel, scores_by_channel
from hgraph.kernels.split import accumulator, blocks, launched, wide

__all__ = ["LARGEST", "WIDEST", "chunk_scan"]

LARGEST = 64  # positions per chunk; tiles of keys and values have the same width
WIDEST = 1024  # maximum width of keys


@launched
def _gains(
    k, v, log_a, gain, chunk_decay, first, end, length, num_chunks,
    D: tl.constexpr, V: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    TILES_D: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    TILES_V: tl.constexpr = (V + BLOCK_V - 1) // BLOCK_V
    pid = tl.program_id(0)
    key = (pid % TILES_D) * BLOCK_D + tl.arange(0, BLOCK_D)
    value = (pid // TILES_D % TILES_V) * BLOCK_V + tl.arange(0, BLOCK_V)
    chunk = pid // (TILES_D * TILES_V) % num_chunks
    example = pid // (TILES_D * TILES_V) // num_chunks
    if WIDE:
        example = example.to(tl.int64)
    place = tl.load(first + chunk) + tl.arange(0, CHUNK)
    live = place < tl.load(end + chunk)
    row = example * length + place
    total = tl.sum(decay_of(tl.load(log_a + row, mask=live, other=0)), axis=0)
    later = decay_of(tl.load(log_a + row + 1, mask=place + 1 < tl.load(end + chunk), other=0))
    remain = tl.exp(tl.cumsum(later, axis=0, reverse=True))
    keys = tl.load(k + row[:, None] * D + key[None, :], mask=live[:, None] & (key < D)[None, :], other=0)
    values = tl.load(v + row[:, None] * V + value[None, :], mask=live[:, None] & (value < V)[None, :], other=0)
    decayed = (keys.to(tl.float32) * remain[:, None]).to(DOT)
    added = tl.dot(tl.trans(decayed), values.to(DOT), input_precision="tf32x3")
    at = ((example * num_chunks + chunk) * D + key)[:, None] * V + value[None, :]
    tl.store(gain + at, added, mask=(key < D)[:, None] & (value < V)[None, :])
    tl.store(chunk_decay + example * num_chunks + chunk, total)


@launched
def _read(
    q, k, v, log_a, before, y, first, end, length, num_chunks,
    D: tl.constexpr, V: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    TILES_V: tl.constexpr = (V + BLOCK_V - 1) // BLOCK_V
    pid = tl.program_id(0)
    value = (pid % TILES_V) * BLOCK_V + tl.arange(0, BLOCK_V)
    chunk = pid // TILES_V % num_chunks
    example = pid // TILES_V // num_chunks
    if WIDE:
        example = example.to(tl.int64)
    each = tl.arange(0, CHUNK)
    place = tl.load(first + chunk) + each
    live = place < tl.load(end + chunk)
    row = example * length + place
    step = decay_of(tl.load(log_a + row, mask=live, other=0))
    log = tl.cumsum(step, axis=0)
    score = tl.zeros([CHUNK, CHUNK], dtype=tl.float32)
    carried = tl.zeros([CHUNK, BLOCK_V], dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        key = start + tl.arange(0, BLOCK_D)
        here = live[:, None] & (key < D)[None, :]
        queries = tl.load(q + row[:, None] * D + key[None, :], mask=here, other=0).to(DOT)
        keys = tl.load(k + row[:, None] * D + key[None, :], mask=here, other=0).to(DOT)
        at = ((example * num_chunks + chunk) * D + key)[:, None] * V + value[None, :]
        state = tl.load(before + at, mask=(key < D)[:, None] & (value < V)[None, :], other=0).to(DOT)
        score = tl.dot(queries, tl.trans(keys), score, input_precision="tf32x3")
        carried = tl.dot(queries, state, carried, input_precision="tf32x3")
    causal = each[:, None] >= each[None, :]
    since = tl.cumsum(tl.where(each[:, None] > each[None, :], step[:, None], 0.0), axis=0)
    decayed = score * tl.exp(tl.where(causal, since, float("-inf")))
    here = live[:, None] & (value < V)[None, :]
    values = tl.load(v + row[:, None] * V + value[None, :], mask=here, other=0).to(DOT)
    out = tl.dot(decayed.to(DOT), values, carried * tl.exp(log)[:, None], input_precision="tf32x3")
    tl.store(y + row[:, None] * V + value[None, :], out.to(y.dtype.element_ty), mask=here)


@launched
def _walk(
    q, k, v, log_a, before, gain, chunk_decay, y, first, end, length, num_chunks,
    READ: tl.constexpr, AXIS: tl.constexpr, D: tl.constexpr, V: tl.constexpr, ACC: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Run a chunk step by step: with READ from the state before it, else from 0 to gain and chunk_decay."""
    TILES_V: tl.constexpr = (V + BLOCK_V - 1) // BLOCK_V
    pid = tl.program_id(0)
    key = tl.arange(0, BLOCK_D)
    value = (pid % TILES_V) * BLOCK_V + tl.arange(0, BLOCK_V)
    chunk = pid // TILES_V % num_chunks
    example = pid // TILES_V // num_chunks
    if WIDE:
        example = example.to(tl.int64)
    number = example * num_chunks + chunk
    at = (number * D + key)[:, None] * V + value[None, :]
    inside = (key < D)[:, None] & (value < V)[None, :]
    state = tl.zeros([BLOCK_D, BLOCK_V], dtype=ACC)
    if READ:
        state = tl.load(before + at, mask=inside, other=0)
    elif AXIS == 2:
        total = tl.zeros([BLOCK_V], dtype=ACC)
    else:
        total = tl.zeros([BLOCK_D], dtype=ACC)
    for t in range(tl.load(first + chunk), tl.load(end + chunk)):
        row = example * length + t
        keys = tl.load(k + row * D + key, mask=key < D, other=0).to(ACC)
        values = tl.load(v + row * V + value, mask=value < V, other=0).to(ACC)
        if AXIS == 2:
            log = tl.load(log_a + row * V + value, mask=value < V, other=0).to(ACC)
            decay = tl.exp(log)[None, :]
        elif AXIS == 1:
            log = tl.load(log_a + row * D + key, mask=key < D, other=0).to(ACC)
            decay = tl.exp(log)[:, None]
        else:
            log = tl.load(log_a + row + key * 0).to(ACC)
            decay = tl.exp(log)[:, None]
        state = state * decay + keys[:, None] * values[None, :]
        if READ:
            queries = tl.load(q + row * D + key, mask=key < D, other=0).to(ACC)
            out = tl.sum(queries[:, None] * state, axis=0)
            tl.store(y + row * V + value, out.to(y.dtype.element_ty), mask=value < V)
        else:
            total += log
    if not READ:
        tl.store(gain + at, state, mask=inside)
        if AXIS == 2:
            tl.store(chunk_decay + number * V + value, total, mask=value < V)
        elif AXIS == 1:
            tl.store(chunk_decay + number * D + key, total, mask=key < D)
        else:
            tl.store(chunk_decay + number + key * 0, total, mask=key == 0)


@launched
def _between(
    gain, chunk_decay, initial, before, final, pointer, num_groups, num_chunks,
    STARTS: tl.constexpr, AXIS: tl.constexpr, D: tl.constexpr, V: tl.constexpr, WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The state before each chunk of a segment, and after its last."""
    TILES: tl.constexpr = (D * V + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    place = (pid % TILES) * BLOCK + tl.arange(0, BLOCK)
    group = pid // TILES % num_groups
    example = pid // TILES // num_groups
    if WIDE:
        example = example.to(tl.int64)
    inside = place < D * V
    state = tl.zeros([BLOCK], dtype=gain.dtype.element_ty)
    at_group = (example * num_groups + group) * (D * V) + place
    if STARTS:
        state = tl.load(initial + at_group, mask=inside, other=0).to(gain.dtype.element_ty)
    for chunk in range(tl.load(pointer + group), tl.load(pointer + group + 1)):
        number = example * num_chunks + chunk
        at = number * (D * V) + place
        tl.store(before + at, state, mask=inside)
        if AXIS == 2:
            log = tl.load(chunk_decay + number * V + place % V, mask=inside, other=0)
        elif AXIS == 1:
            log = tl.load(chunk_decay + number * D + place // V, mask=inside, other=0)
        else:
            log = tl.load(chunk_decay + number + place * 0, mask=inside, other=0)
        state = tl.exp(log) * state + tl.load(gain + at, mask=inside, other=0)
    tl.store(final + at_group, state, mask=inside)


def chunk_scan(
    q: Tensor, k: Tensor, v: Tensor, log_a: Tensor, initial: Tensor | None, first: Tensor, end: Tensor,
    pointer: Tensor, axis: int, *, interpreted: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(y [N, T, V] in v's dtype, the last state of each segment [N, G, D, V], at least float32).

    Args:
        q: [N, T, D].
        k: [N, T, D].
        v: [N, T, V].
        log_a: [N, T, 1] for axis 0, [N, T, D] for 1, [N, T, V] for 2.
        initial: [N, G, D, V] or None.
        first: [C], start of each chunk of at most 64 positions.
        end: [C], end of each chunk; equal to ``first`` for unused chunks.
        pointer: [G + 1], each segment's first chunk.
        axis: the axis of the states along which the decays differ, 1 or 2; 0 for a scalar decay.
        interpreted: multiply in float32, as Triton's interpreter cannot multiply bfloat16.
    """
    (examples, length, width), values = q.shape, v.shape[2]
    num_chunks, num_groups = first.shape[0], pointer.shape[0] - 1
    acc = accumulator(torch.promote_types(q.dtype, v.dtype))
    dtype = split.torch_dtype(acc)
    y, final = v.new_empty(v.shape), v.new_empty((examples, num_groups, width, values), dtype=dtype)
    if final.numel() == 0:
        return y.zero_(), final
    q, k, v, log_a = (t.contiguous() for t in (q, k, v, log_a))
    gain = final.new_empty((examples, num_chunks, width, values))
    before = torch.empty_like(gain)
    chunk_decay = final.new_empty((examples, num_chunks, log_a.shape[2]))
    by_products = acc == tl.float32
    scores = final.new_empty((examples, num_chunks, LARGEST, LARGEST) if by_products and axis else 0)
    shared: dict[str, Any] = {"D": width, "V": values, "WIDE": wide(q, v, gain, log_a, scores)}
    lists = (first, end, length, num_chunks)
    if by_products:
        how = shared | _tiled(q, k, v, axis, interpreted)
        tiles = blocks(values, how["BLOCK_V"]) * num_chunks * examples
        gains = gains_by_channel if axis else _gains
        gains[(blocks(width, how["BLOCK_D"]) * tiles,)](k, v, log_a, gain, chunk_decay, *lists, **how)
    else:
        how = shared | _walked(width, values) | {"AXIS": axis, "ACC": acc}
        tiles = blocks(values, how["BLOCK_V"]) * num_chunks * examples
        _walk[(tiles,)](q, k, v, log_a, before, gain, chunk_decay, y, *lists, READ=False, **how)
    block = min(triton.next_power_of_2(width * values), 256)
    _between[(blocks(width * values, block) * num_groups * examples,)](
        gain, chunk_decay, gain if initial is None else initial.contiguous(), before, final,
        pointer, num_groups, num_chunks,
        STARTS=initial is not None, AXIS=axis, BLOCK=block, num_warps=4, **shared,
    )  # fmt: skip
    if by_products and axis:
        how["LEVELS"] = LARGEST.bit_length() - 1
        of_keys = {name: value for name, value in how.items() if name not in ("V", "BLOCK_V")}
        scores_by_channel[(num_chunks * examples,)](q, k, log_a, scores, *lists, **of_keys)
        read_by_channel[(tiles,)](q, v, log_a, scores, before, y, *lists, **how)
    elif by_products:
        _read[(tiles,)](q, k, v, log_a, before, y, *lists, **how)
    else:
        _walk[(tiles,)](q, k, v, log_a, before, gain, chunk_decay, y, *lists, READ=True, **how)
    return y, final


def _tiled(q: Tensor, k: Tensor, v: Tensor, axis: int, interpreted: bool) -> dict[str, Any]:
    """Launch parameters for products of tiles."""
    half = q.dtype == k.dtype == v.dtype and q.dtype in (torch.float16, torch.bfloat16) and not interpreted
    tiles = {"BLOCK_D": _tile(q.shape[2], half), "BLOCK_V": _tile(v.shape[2], half)}
    if axis:  # logarithms and their sums need registers, too
        tiles |= {"AXIS": axis, "BLOCK_D" if axis == 1 else "BLOCK_V": 16}
    return tiles | {
        "DOT": (tl.float16 if q.dtype == torch.float16 else tl.bfloat16) if half else tl.float32, "CHUNK": LARGEST,
        "num_warps": 4 if half and axis == 0 else 8, "num_stages": 1 if axis else 2, "enable_fp_fusion": True,
    }  # fmt: skip


def _walked(width: int, values: int) -> dict[str, Any]:
    """Launch parameters for the step-by-step kernel: states of up to 4096 numbers per program."""
    block = triton.next_power_of_2(width)
    block_v = min(triton.next_power_of_2(values), max(4096 // block, 1))
    warps = 4 if block < 256 else 8
    return {"BLOCK_D": block, "BLOCK_V": block_v, "num_warps": warps, "enable_fp_fusion": True}


def _tile(width: int, half: bool) -> int:
    """Channels per tile: tensor cores need at least 16; float32 allows half as many."""
    return min(max(triton.next_power_of_2(width), 16), LARGEST if half else LARGEST // 2)
