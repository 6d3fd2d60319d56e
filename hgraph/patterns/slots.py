"""Content-based layout of tokens inside a forward, so that tokens of one group are contiguous.

Every size is static, and nothing synchronizes with the device. The slot of a token within its group depends only on
earlier tokens, and so does the part of its tile before it: a causal sum has the same bits whatever comes later.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.structure.block_adjacency import BlockAdjacency, packed

__all__ = ["Slots", "grouped", "of_runs"]


class Slots(NamedTuple):
    """A layout of N tokens in P slots.

    Attributes:
        slot: int64 [..., N], the slot of each token; -1 for tokens in no group.
        token: int64 [..., P], the token in each slot; -1 if empty.
        first: int64 [..., C], the first slot of each group.
    """

    slot: Tensor
    token: Tensor
    first: Tensor


def grouped(group: Tensor, count: int, block_size: int, *, slots: int | None = None) -> Slots:
    """Lay out tokens by group, in their order; every group begins at a tile of ``block_size`` slots.

    Args:
        group: integers [..., N] below ``count``, the group of each token; a negative entry means no group.
        count: C.
        block_size: slots per tile.
        slots: P, if fewer slots are enough than in the worst case (N tokens and one partial tile per group).

    >>> layout = grouped(torch.tensor([1, 0, 1, 1, -1]), 2, 2)
    >>> layout.slot.tolist(), layout.token.tolist(), layout.first.tolist()
    ([2, 0, 3, 4, -1], [1, -1, 0, 2, 3, -1], [0, 2])
    """
    n, device = group.shape[-1], group.device
    if slots is None:
        slots = (n + min(count, n) * (block_size - 1)) // block_size * block_size
    key, order = torch.sort(torch.where(group < 0, count, group).long(), dim=-1, stable=True)
    groups = torch.arange(count + 1, device=device).expand(*group.shape[:-1], count + 1).contiguous()
    begin = torch.searchsorted(key.contiguous(), groups)
    tiles = (begin.diff(dim=-1) + block_size - 1).div(block_size, rounding_mode="floor")
    first = (tiles.cumsum(-1) - tiles) * block_size
    group_of_token = key.clamp(max=max(count - 1, 0))
    place = first.gather(-1, group_of_token) + torch.arange(n, device=device) - begin.gather(-1, group_of_token)
    place = torch.where(key < count, place, slots)
    token = order.new_full((*group.shape[:-1], slots + 1), -1).scatter(-1, place, order)[..., :slots]
    place = torch.where(key < count, place, -1)
    return Slots(torch.empty_like(place).scatter(-1, order, place), token, first)


def of_runs(
    start: Tensor,
    stop: Tensor,
    *,
    num_sources: int,
    block_size: int,
    most: int,
    reach: Tensor | None = None,
    mask: Tensor | None = None,
) -> BlockAdjacency:
    """Tiles where every target attends to one run of sources, ``start .. stop - 1``, each tile with a separate mask.

    Args:
        start: integers [B, H, T] (B = 1: all examples, H = 1: all heads).
        stop: integers [B, H, T], at most S; a target with ``stop <= start`` attends to nothing.
        num_sources: S.
        block_size: targets and sources per tile.
        most: K, the maximum number of tiles that the runs of one tile of targets span together; more are dropped.
        reach: None, or integers [B, H, T], at least ``stop``: sources up to there are visited but masked. This makes
            the visited tiles, and so the order of sums, of a target independent of the targets beside it.
        mask: None, or booleans [B, H, S], the sources that may be attended to.

    >>> tiles = of_runs(torch.tensor([[[0, 0, 1]]]), torch.tensor([[[1, 2, 3]]]), num_sources=3, block_size=2, most=2)
    >>> tiles.adjacency().dense().int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    targets, device = start.shape[-1], start.device
    rows, most = -(-targets // block_size), min(most, -(-num_sources // block_size))
    begin, end, visit = (_by_tile(x, rows, block_size) for x in (start, stop, stop if reach is None else reach))
    some = visit > begin
    low = torch.where(some, begin, num_sources).amin(-1).div(block_size, rounding_mode="floor")
    high = (torch.where(some, visit, 0).amax(-1) + block_size - 1).div(block_size, rounding_mode="floor")
    count = (high - low).clamp(0, most)
    place = torch.arange(most, device=device)
    tile = torch.where(place < count.unsqueeze(-1), low.unsqueeze(-1) + place, 0)  # [B, H, rows, K]
    byte = tile.unsqueeze(-1) * block_size + 8 * torch.arange(-(-block_size // 8), device=device)  # its first source
    begin, end = (x.view(*x.shape[:3], 1, block_size, 1) - byte.unsqueeze(-2) for x in (begin, end))
    bits = _below(end) & ~_below(begin)  # [B, H, rows, K, block, block / 8]
    if mask is not None:
        bits = bits & packed(_tiles_of(mask, tile, block_size)).unsqueeze(-2)
    bits = bits.flatten(0, 3)
    rule = torch.arange(len(bits), device=device)
    return BlockAdjacency(
        tile.int(),
        rule.int().view(tile.shape),
        count.int(),
        torch.arange(rows, dtype=torch.int32, device=device),
        bits,
        torch.empty(targets, num_sources, 0, device=device),
    )


def _by_tile(x: Tensor, rows: int, block: int) -> Tensor:
    """[B, H, rows, block], the last tile padded with zeros."""
    return torch.nn.functional.pad(x.int(), (0, rows * block - x.shape[-1])).unflatten(2, (rows, block))


def _below(bound: Tensor) -> Tensor:
    """A byte (uint8) whose bits below a bound are set."""
    return ((1 << bound.clamp(0, 8)) - 1).to(torch.uint8)


def _tiles_of(mask: Tensor, tile: Tensor, block: int) -> Tensor:
    """[B, H, rows, K, block]: which sources of the given tiles are allowed."""
    tiles = -(-mask.shape[-1] // block)
    by_tile = _by_tile(mask, tiles, block).expand(*tile.shape[:2], tiles, block)
    return by_tile.gather(2, tile.flatten(2).long().unsqueeze(-1).expand(*tile.shape[:2], -1, block)).unflatten(
        2, tile.shape[2:]
    )
