"""Convert runs of tokens to tiles: which tiles are visited, which are full, and the masks of the rest."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.structure import intervals
from hgraph.structure.block_adjacency import CAUSAL, FULL, BlockAdjacency, far_rows, packed

__all__ = ["num_visited", "tiled"]

_RUNS_A_CHUNK = 1 << 17  # runs per chunk: fits into caches and lets memory be reused
_MASKS_A_CHUNK = 1024  # masks unpacked per chunk: 16 MB at 128 tokens per tile


class _Part(NamedTuple):
    """The tiles that some tile rows visit."""

    visited: Tensor  # [V] tiles on the line of tiles: tile row * (columns + 1) + column, ascending
    rule: Tensor  # [V], mask ids counted from this part's first mask
    mask: Tensor  # [M, block, bytes]
    kind: Tensor  # [M], hash of each mask: equal for equal masks, almost surely different otherwise


def tiled(indptr: Tensor, start: Tensor, stop: Tensor, extent: Tensor, block: int) -> BlockAdjacency:
    """The tiles of a graph given by runs (see `TokenGraph`); memory is O(runs + visited tiles + distinct masks)."""
    batch, heads, targets, sources, _ = extent.shape
    rows = -(-targets // block)
    corner = torch.arange(batch * heads, device=indptr.device).unsqueeze(1) * targets
    corner = (corner + torch.arange(rows, device=indptr.device) * block).flatten()
    runs = torch.cat([indptr[corner], indptr[-1:]])  # where the runs of each tile row begin
    first, parts = 0, []
    while first < len(corner):
        limit = int(runs[first]) + _RUNS_A_CHUNK
        last = max(int(torch.searchsorted(runs, limit, right=True)) - 1, first + 1)
        own = slice(int(runs[first]), int(runs[last]))
        tokens = slice(int(corner[first]), int(corner[last]) if last < len(corner) else len(indptr) - 1)
        row = torch.arange(tokens.start, tokens.stop, device=indptr.device)
        row = row.repeat_interleave(indptr[tokens.start : tokens.stop + 1].diff())
        parts.append(_cut(row, start[own].long(), stop[own].long(), targets, sources, block))
        first = last
    rule, mask = _with_shared_masks(parts, block, indptr.device)
    visited = torch.cat([indptr[:0], *(p.visited for p in parts)])
    return _assembled(visited, rule, mask, (batch, heads, rows), extent, block)


def num_visited(graph_row: Tensor, start: Tensor, stop: Tensor, extent: Tensor, block: int) -> int:
    """How many tiles `tiled` would list, without listing them."""
    targets, sources = extent.shape[2:4]
    rows, columns = -(-targets // block), -(-sources // block)
    base = graph_row.div(max(targets, 1), rounding_mode="floor") * rows + graph_row % max(targets, 1) // block
    base = base * (columns + 1)
    joined = intervals.united(intervals.Line(base + start // block, base + (stop - 1) // block + 1))
    return int((joined.last - joined.first).sum())


def _cut(row: Tensor, start: Tensor, stop: Tensor, targets: int, sources: int, block: int) -> _Part:
    """The tiles visited by the runs of some complete tile rows."""
    rows, columns = -(-targets // block), -(-sources // block)
    group, token = torch.div(row, targets, rounding_mode="floor"), row % targets
    # Tiles are numbered along one line, as runs are.
    base = (group * rows + token // block) * (columns + 1)
    low, high = start // block, (stop - 1) // block
    joined = intervals.united(intervals.Line(base + low, base + high + 1))
    visited, _ = intervals.expanded(joined.first, joined.last)
    slot = torch.searchsorted(visited, base + low)  # of the first tile of each run; the others follow it
    height = (targets - torch.div(visited, columns + 1, rounding_mode="floor") % rows * block).clamp(max=block)
    # How many token rows attend to the whole tile, from differences summed along the line.
    begin, end = -(-start // block), torch.where(stop == sources, columns, stop // block)
    whole = end > begin
    at, size = (slot + begin - low)[whole], len(visited) + 1
    steps = torch.bincount(at, minlength=size) - torch.bincount(at + (end - begin)[whole], minlength=size)
    partial = steps.cumsum(0)[:-1] < height
    number = partial.long().cumsum(0)
    piece, run = intervals.expanded((number - partial.long())[slot], number[slot + (high - low)])
    place = partial.nonzero().flatten()
    corner = visited[place] % (columns + 1) * block
    line = token[run] % block
    left, right = (start[run] - corner[piece]).clamp(min=0), (stop[run] - corner[piece]).clamp(max=block)
    width = (sources - corner).clamp(max=block)
    rule = torch.full_like(visited, FULL)
    rule[place], mask, kind = _masks(piece, line, left, right, height[place], width, block)
    return _Part(visited, rule, mask, kind)


def _with_shared_masks(parts: list[_Part], block: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The rules of all parts, and the distinct masks."""
    mask = torch.empty(0, block, -(-block // 8), dtype=torch.uint8, device=device)
    mask = torch.cat([mask, *(p.mask for p in parts)])
    ends = [0, *torch.tensor([len(p.mask) for p in parts]).cumsum(0).tolist()]
    rule = [torch.where(p.rule >= 0, p.rule + e, p.rule) for p, e in zip(parts, ends, strict=False)]
    kinds = torch.cat([torch.empty(0, dtype=torch.long, device=device), *(p.kind for p in parts)])
    sample, kind = _samples(kinds)
    if len(sample) < len(mask) and torch.equal(mask[sample][kind], mask):
        rule = [torch.where(r >= 0, kind[r.clamp(min=0)], r) for r in rule]
        mask = mask[sample]
    return torch.cat([torch.empty(0, dtype=torch.long, device=device), *rule]), mask


def _samples(values: Tensor) -> tuple[Tensor, Tensor]:
    """The first position of each distinct value, and the value id of each position."""
    _, kind = torch.unique(values, return_inverse=True)
    count = int(kind.max()) + 1 if len(kind) else 0
    numbers = torch.arange(len(kind), device=kind.device)
    return torch.full((count,), len(kind), device=kind.device).scatter_reduce(0, kind, numbers, "amin"), kind


def _masks(
    piece: Tensor, line: Tensor, left: Tensor, right: Tensor, height: Tensor, width: Tensor, block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rules of tiles that are not full, the packed masks of those that are not causal either, and the mask hashes.

    Args:
        piece: [E], the tile of each row segment.
        line: [E], the row of the segment within the tile.
        left: [E], its first column.
        right: [E], one past its last.
        height: [P], rows of each tile.
        width: [P], columns of each tile.
        block: tokens per tile.
    """
    code = (line * (block + 1) + left) * (block + 1) + right
    names = _signature(code, piece, len(height)) + (height * (block + 1) + width) * 0x2545F4914F6CDD1D
    sample, kind = _samples(names)
    own = sample[kind][piece] == piece  # segments of the tiles that represent their kind
    key, order = torch.sort(kind[piece[own]], stable=True)
    pieces = [t[own][order] for t in (line, left, right)]
    ends = torch.searchsorted(key, torch.arange(len(sample) + 1, device=kind.device))
    rule, made = torch.empty_like(sample), 0
    masks, kept = [torch.empty(0, block, -(-block // 8), dtype=torch.uint8, device=kind.device)], [sample[:0]]
    for a in range(0, len(sample), _MASKS_A_CHUNK):
        b = min(a + _MASKS_A_CHUNK, len(sample))
        s = slice(int(ends[a]), int(ends[b]))
        bits = _bits(key[s] - a, *(t[s] for t in pieces), size=b - a, block=block)
        inside = torch.arange(block, device=kind.device)
        tall, broad = height[sample[a:b], None, None], width[sample[a:b], None, None]
        lower = (inside.unsqueeze(1) < tall) & (inside < broad) & (inside <= inside.unsqueeze(1))
        masked = (bits != lower).flatten(1).any(1)
        rule[a:b] = torch.where(masked, made + masked.cumsum(0) - 1, CAUSAL)
        masks.append(packed(bits[masked]))
        kept.append(sample[a:b][masked])
        made += len(masks[-1])
    return rule[kind], torch.cat(masks), names[torch.cat(kept)]


def _signature(code: Tensor, piece: Tensor, size: int) -> Tensor:
    """Hash of each tile's mask: a sum of scrambled codes over its segments, modulo 2**64.

    Among a million masks, two different ones collide with a probability of about 1e-8.
    """
    mixed = (code + 1) * 0x5851F42D4C957F2D
    mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687
    mixed = mixed ^ (mixed >> 32)
    return torch.zeros(size, dtype=torch.long, device=code.device).index_add(0, piece, mixed)


def _bits(tile: Tensor, line: Tensor, left: Tensor, right: Tensor, *, size: int, block: int) -> Tensor:
    """Boolean [size, block, block] of row segments: differences, summed along each row."""
    steps = torch.zeros(size * block * (block + 1), dtype=torch.int8, device=tile.device)
    base = (tile * block + line) * (block + 1)
    steps.index_add_(0, base + left, torch.ones_like(base, dtype=torch.int8))
    steps.index_add_(0, base + right, torch.full_like(base, -1, dtype=torch.int8))
    return steps.view(size, block, block + 1).cumsum(2, dtype=torch.int8)[..., :block] > 0


def _assembled(
    visited: Tensor, rule: Tensor, mask: Tensor, shape: tuple[int, int, int], extent: Tensor, block: int
) -> BlockAdjacency:
    """Padded lists; rows far above the median are stored separately."""
    device, stride = visited.device, -(-extent.shape[3] // block) + 1
    owner = torch.div(visited, stride, rounding_mode="floor")
    count = torch.bincount(owner, minlength=shape[0] * shape[1] * shape[2])
    within = torch.arange(len(visited), device=device) - (count.cumsum(0) - count)[owner]
    far = far_rows(count.view(shape))
    sizes = torch.empty(extent.shape[2], extent.shape[3], 0, device=device)
    parts = []
    for rows in ((~far).nonzero().flatten(), far.nonzero().flatten()):
        position = torch.full((shape[2],), -1, device=device)
        position[rows] = torch.arange(len(rows), device=device)
        place = position[owner % max(shape[2], 1)]
        own = place >= 0
        at = (torch.div(owner, max(shape[2], 1), rounding_mode="floor")[own], place[own], within[own])
        counts = count.view(shape)[:, :, rows]
        padded = torch.zeros(
            shape[0] * shape[1], len(rows), int(counts.max()) if counts.numel() else 0, dtype=torch.int32, device=device
        )
        index, rules = (
            padded.index_put(at, values[own].int()).unflatten(0, shape[:2]) for values in (visited % stride, rule)
        )
        parts.append(BlockAdjacency(index, rules, counts.int(), rows.int(), mask, sizes))
    return dataclasses.replace(parts[0], wide=parts[1]) if bool(far.any()) else parts[0]
