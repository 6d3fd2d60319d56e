"""Chunks of `chunk_scan` with per-channel decays, of the keys (axis 1) or of the values (axis 2), as products.

exp(g_i - g_j), with g the prefix sum of log a, must be factored into a term of position i and one of position j, and
neither may overflow for strong decays. So pairs of positions are processed level by level: the chunk is halved, then
its halves, and so on. The pairs of a level have i in the second half of a block and j in the first half of the same
block, and with c the first position of the second half

    exp(g_i - g_j) = exp(sum of log a over c .. i) exp(sum of log a over j + 1 .. c - 1),

where no exponent is positive unless a log a is, and no two large numbers are subtracted. Six levels, one product each,
cover all pairs j < i of 64 positions; the diagonal is separate.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hgraph.kernels.split import launched

__all__ = ["decay_of", "gains_by_channel", "read_by_channel", "scores_by_channel"]


@triton.jit
def decay_of(log):
    """Log a in float32, clamped at -104, where exp is 0: sums of lower values overflow, and -inf * 0 is NaN."""
    log = log.to(tl.float32)
    return tl.where(log < -104.0, -104.0, log)


@triton.jit
def _decays(log, half):
    """The factors of positions [CHUNK, channels] at a level: exp of c .. i in second halves, j + 1 .. c - 1 in first.

    The sums are a product with zeros and ones, where half is a runtime value: unrolled levels would need more
    registers.
    """
    place, other = tl.arange(0, log.shape[0])[:, None], tl.arange(0, log.shape[0])[None, :]
    counted = tl.where(place // half % 2 == 1, other <= place, other > place) & (place // half == other // half)
    high = (log.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)  # exact in tf32, as are 0 and 1
    total = tl.dot(counted.to(tl.float32), high, input_precision="tf32")
    return tl.exp(tl.dot(counted.to(tl.float32), log - high, total, input_precision="tf32"))


@triton.jit
def _pairs(half, CHUNK: tl.constexpr):
    """The pairs (i, j) [CHUNK, CHUNK] of a level."""
    i, j = tl.arange(0, CHUNK)[:, None] // half, tl.arange(0, CHUNK)[None, :] // half
    return (i % 2 == 1) & (j == i - 1)


@launched
def gains_by_channel(
    k, v, log_a, gain, chunk_decay, first, end, length, num_chunks,
    AXIS: tl.constexpr, D: tl.constexpr, V: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The contribution of a chunk to the state, [D, V], and the log of its total decay, per channel."""
    TILES_D: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    TILES_V: tl.constexpr = (V + BLOCK_V - 1) // BLOCK_V
    pid = tl.program_id(0)
    key = (pid % TILES_D) * BLOCK_D + tl.arange(0, BLOCK_D)
    value = (pid // TILES_D % TILES_V) * BLOCK_V + tl.arange(0, BLOCK_V)
    chunk = pid // (TILES_D * TILES_V) % num_chunks
    example = pid // (TILES_D * TILES_V) // num_chunks
    if WIDE:
        example = example.to(tl.int64)
    number = example * num_chunks + chunk
    place, stop = tl.load(first + chunk) + tl.arange(0, CHUNK), tl.load(end + chunk)
    live, more = place < stop, place + 1 < stop
    row = example * length + place
    keys = tl.load(k + row[:, None] * D + key[None, :], mask=live[:, None] & (key < D)[None, :], other=0)
    values = tl.load(v + row[:, None] * V + value[None, :], mask=live[:, None] & (value < V)[None, :], other=0)
    keys, values = keys.to(tl.float32), values.to(tl.float32)
    if AXIS == 1:
        at, inside = row[:, None] * D + key[None, :], (key < D)[None, :]
        log = decay_of(tl.load(log_a + at, mask=live[:, None] & inside, other=0))
        later = decay_of(tl.load(log_a + at + D, mask=more[:, None] & inside, other=0))
        keys *= tl.exp(tl.cumsum(later, axis=0, reverse=True))
        tl.store(chunk_decay + number * D + key, tl.sum(log, axis=0), mask=key < D)
    else:
        at, inside = row[:, None] * V + value[None, :], (value < V)[None, :]
        log = decay_of(tl.load(log_a + at, mask=live[:, None] & inside, other=0))
        later = decay_of(tl.load(log_a + at + V, mask=more[:, None] & inside, other=0))
        values *= tl.exp(tl.cumsum(later, axis=0, reverse=True))
        tl.store(chunk_decay + number * V + value, tl.sum(log, axis=0), mask=value < V)
    added = tl.dot(tl.trans(keys.to(DOT)), values.to(DOT), input_precision="tf32x3")
    at = (number * D + key)[:, None] * V + value[None, :]
    tl.store(gain + at, added, mask=(key < D)[:, None] & (value < V)[None, :])


@launched
def scores_by_channel(
    q, k, log_a, scores, first, end, length, num_chunks,
    AXIS: tl.constexpr, D: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr,
    CHUNK: tl.constexpr, LEVELS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The weights of v_j in the reading at i, [CHUNK, CHUNK]: decayed along the keys, undecayed where values decay."""
    chunk = tl.program_id(0) % num_chunks
    example = tl.program_id(0) // num_chunks
    if WIDE:
        example = example.to(tl.int64)
    each = tl.arange(0, CHUNK)
    own = each[:, None] == each[None, :]
    place = tl.load(first + chunk) + each
    live = place < tl.load(end + chunk)
    row = example * length + place
    score = tl.zeros([CHUNK, CHUNK], dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        key = start + tl.arange(0, BLOCK_D)
        at, here = row[:, None] * D + key[None, :], live[:, None] & (key < D)[None, :]
        queries = tl.load(q + at, mask=here, other=0).to(tl.float32)
        keys = tl.load(k + at, mask=here, other=0).to(tl.float32)
        if AXIS == 1:
            log = decay_of(tl.load(log_a + at, mask=here, other=0))
            score += tl.where(own, tl.sum(queries * keys, axis=1)[:, None], 0.0)
            for level in range(0, LEVELS):
                decay = _decays(log, 1 << level)
                part = tl.dot((queries * decay).to(DOT), tl.trans((keys * decay).to(DOT)), input_precision="tf32x3")
                score += tl.where(_pairs(1 << level, CHUNK), part, 0.0)
        else:
            score = tl.dot(queries.to(DOT), tl.trans(keys.to(DOT)), score, input_precision="tf32x3")
    number = example * num_chunks + chunk
    tl.store(scores + (number * CHUNK + each[:, None]) * CHUNK + each[None, :], score)


@launched
def read_by_channel(
    q, v, log_a, scores, before, y, first, end, length, num_chunks,
    AXIS: tl.constexpr, D: tl.constexpr, V: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr,
    CHUNK: tl.constexpr, LEVELS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The readings [CHUNK, V] of a chunk, from the state before it and from its own positions."""
    TILES_V: tl.constexpr = (V + BLOCK_V - 1) // BLOCK_V
    pid = tl.program_id(0)
    value = (pid % TILES_V) * BLOCK_V + tl.arange(0, BLOCK_V)
    chunk = pid // TILES_V % num_chunks
    example = pid // TILES_V // num_chunks
    if WIDE:
        example = example.to(tl.int64)
    number = example * num_chunks + chunk
    each = tl.arange(0, CHUNK)
    place = tl.load(first + chunk) + each
    live = place < tl.load(end + chunk)
    row = example * length + place
    out = tl.zeros([CHUNK, BLOCK_V], dtype=tl.float32)
    so_far = tl.zeros([CHUNK, BLOCK_D], dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        key = start + tl.arange(0, BLOCK_D)
        at, here = row[:, None] * D + key[None, :], live[:, None] & (key < D)[None, :]
        queries = tl.load(q + at, mask=here, other=0).to(tl.float32)
        if AXIS == 1:
            so_far = tl.cumsum(decay_of(tl.load(log_a + at, mask=here, other=0)), axis=0)
        at = (number * D + key)[:, None] * V + value[None, :]
        state = tl.load(before + at, mask=(key < D)[:, None] & (value < V)[None, :], other=0)
        out = tl.dot((queries * tl.exp(so_far)).to(DOT), state.to(DOT), out, input_precision="tf32x3")
    at, here = row[:, None] * V + value[None, :], live[:, None] & (value < V)[None, :]
    values = tl.load(v + at, mask=here, other=0).to(tl.float32)
    score = tl.load(scores + (number * CHUNK + each[:, None]) * CHUNK + each[None, :])
    if AXIS == 1:
        out = tl.dot(score.to(DOT), values.to(DOT), out, input_precision="tf32x3")
    else:
        log = decay_of(tl.load(log_a + at, mask=here, other=0))
        self = tl.sum(tl.where(each[:, None] == each[None, :], score, 0.0), axis=1)
        out = out * tl.exp(tl.cumsum(log, axis=0)) + self[:, None] * values
        for level in range(0, LEVELS):
            decay = _decays(log, 1 << level)
            near = tl.where(_pairs(1 << level, CHUNK), score, 0.0)
            out += decay * tl.dot(near.to(DOT), (values * decay).to(DOT), input_precision="tf32x3")
    tl.store(y + at, out.to(y.dtype.element_ty), mask=here)
