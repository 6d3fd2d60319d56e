"""Affine scan that returns every state: h[t] = a[t] h[t-1] + b[t], with optional initial states per segment.

Chunks (which never cross a segment) run in parallel: first the contribution and total decay of each chunk;
then, segment by segment, the state before each chunk; then the states. Steps within a chunk are sequential in
float32, so no decay (including zero or negative ones) overflows or underflows unless the recurrence itself does.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hgraph.kernels import split
from hgraph.kernels.split import accumulator, blocks, launched, wide

__all__ = ["affine_scan"]


@launched
def _within(
    a, b, before, gain, chunk_decay, states, first, end, length, num_chunks,
    WRITE: tl.constexpr, A: tl.constexpr, D: tl.constexpr, ACC: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Scan a chunk: with WRITE from the state before it, storing every state, else from 0, storing the last."""
    pid = tl.program_id(0)
    BLOCKS: tl.constexpr = (D + BLOCK - 1) // BLOCK
    channel = (pid % BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    chunk = pid // BLOCKS % num_chunks
    example = pid // BLOCKS // num_chunks
    if WIDE:
        example = example.to(tl.int64)
    inside = channel < D
    at = (example * num_chunks + chunk) * D + channel
    begin, stop = tl.load(first + chunk), tl.load(end + chunk)
    state = tl.zeros([BLOCK], dtype=ACC)
    left = tl.full([BLOCK], 1.0, dtype=ACC)
    if WRITE:
        state = tl.load(before + at, mask=inside, other=0)
    for t in range(begin, stop):
        row = example * length + t
        if A == 1:
            decay = tl.load(a + row + channel * 0, mask=inside, other=0).to(ACC)
        else:
            decay = tl.load(a + row * D + channel, mask=inside, other=0).to(ACC)
        state = decay * state + tl.load(b + row * D + channel, mask=inside, other=0).to(ACC)
        left *= decay
        if WRITE:
            tl.store(states + row * D + channel, state.to(states.dtype.element_ty), mask=inside)
    if not WRITE:
        tl.store(gain + at, state, mask=inside)
        tl.store(chunk_decay + at, left, mask=inside)


@launched
def _between(
    gain, chunk_decay, initial, before, pointer, num_groups, num_chunks,
    STARTS: tl.constexpr, D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The state before each chunk of a segment."""
    pid = tl.program_id(0)
    BLOCKS: tl.constexpr = (D + BLOCK - 1) // BLOCK
    channel = (pid % BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    group = pid // BLOCKS % num_groups
    example = pid // BLOCKS // num_groups
    if WIDE:
        example = example.to(tl.int64)
    inside = channel < D
    state = tl.zeros([BLOCK], dtype=gain.dtype.element_ty)
    if STARTS:
        given = tl.load(initial + (example * num_groups + group) * D + channel, mask=inside, other=0)
        state = given.to(gain.dtype.element_ty)
    for chunk in range(tl.load(pointer + group), tl.load(pointer + group + 1)):
        at = (example * num_chunks + chunk) * D + channel
        tl.store(before + at, state, mask=inside)
        state = tl.load(chunk_decay + at, mask=inside, other=0) * state + tl.load(gain + at, mask=inside, other=0)


def affine_scan(a: Tensor, b: Tensor, initial: Tensor | None, first: Tensor, end: Tensor, pointer: Tensor) -> Tensor:
    """All states [N, T, D] in b's dtype.

    Args:
        a: [N, T, 1 or D].
        b: [N, T, D].
        initial: [N, G, D] or None.
        first: [C], start of each chunk.
        end: [C], end of each chunk; equal to ``first`` for unused chunks.
        pointer: [G + 1], each segment's first chunk.
    """
    examples, length, width = b.shape
    states = b.new_empty(b.shape)
    if states.numel() == 0:
        return states
    a, b = a.contiguous(), b.contiguous()
    acc, num_chunks, num_groups = accumulator(b.dtype), first.shape[0], pointer.shape[0] - 1
    gain = b.new_empty((examples, num_chunks, width), dtype=split.torch_dtype(acc))
    chunk_decay, before = torch.empty_like(gain), torch.empty_like(gain)
    block = min(triton.next_power_of_2(width), 128)
    how = {"D": width, "WIDE": wide(a, b, gain), "BLOCK": block, "num_warps": max(block // 32, 1)}
    own = how | {"A": a.shape[2], "ACC": acc, "enable_fp_fusion": True}
    grid = (blocks(width, block) * num_chunks * examples,)
    given = gain if initial is None else initial.contiguous()
    _within[grid](a, b, before, gain, chunk_decay, states, first, end, length, num_chunks, WRITE=False, **own)
    _between[(blocks(width, block) * num_groups * examples,)](
        gain, chunk_decay, given, before, pointer, num_groups, num_chunks, STARTS=initial is not None, **how
    )
    _within[grid](a, b, before, gain, chunk_decay, states, first, end, length, num_chunks, WRITE=True, **own)
    return states
