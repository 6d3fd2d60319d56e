"""Tiles of which some sources are padding: the same lists, each tile under a mask that leaves the padding out."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph.structure.block_adjacency import CAUSAL, BlockAdjacency, packed

__all__ = ["without_sources"]


def without_sources(part: BlockAdjacency, mask: Tensor) -> BlockAdjacency:
    """The same tiles per example, without the pairs whose source a mask [B, S] marks False; no host sync.

    For kernels that read pairs from the bits of tiles. There is a mask for each rule, example and tile of sources, or
    one for each visited tile where that is fewer; then the transpose is dropped.

    Args:
        part: one of `BlockAdjacency.parts`.
        mask: booleans [B, S].

    >>> tiles = BlockAdjacency.trusted(torch.tensor([[0, 1]]), block_size=2, num_targets=2, num_sources=4)
    >>> without_sources(tiles, torch.tensor([[True, False, True, True]])).adjacency().dense().int().tolist()
    [[1, 0, 1, 1], [1, 0, 1, 1]]
    """
    block, batch = part.block_size, mask.shape[0]
    columns = -(-mask.shape[1] // block)
    own = packed(F.pad(mask, (0, columns * block - mask.shape[1])).unflatten(1, (columns, block)))  # [B, C, bytes]
    every = torch.ones(block, block, dtype=torch.bool, device=mask.device)
    bits = torch.cat([packed(torch.stack([every.tril(), every])), part.mask])  # [kinds, block, bytes]
    index, count = (t.expand(batch, *t.shape[1:]) for t in (part.index, part.count))
    example = torch.arange(batch, device=mask.device).view(-1, 1, 1, 1)

    def kind_of(index: Tensor, rule: Tensor) -> Tensor:
        """The number of the mask of a rule, an example and a tile of sources."""
        return ((rule.long() - CAUSAL) * batch + example) * columns + index.long()

    if len(bits) * columns <= part.index[0].numel():
        made = (bits[:, None, None] & own[None, :, :, None]).flatten(0, 2)
        t_index, t_rule, t_count = part.t_index, part.t_rule, part.t_count
        if t_index is not None and t_rule is not None and t_count is not None:
            tile = torch.arange(columns, device=mask.device).view(-1, 1).expand(t_index.shape[2:])
            t_rule = kind_of(tile, t_rule.expand(batch, *t_rule.shape[1:])).int()
            t_index, t_count = (t.expand(batch, *t.shape[1:]).contiguous() for t in (t_index, t_count))
        rule = kind_of(index, part.rule)
    else:
        met = own[example, index.long()]  # [B, H, R, K, bytes]
        made = (bits[part.rule.long() - CAUSAL] & met.unsqueeze(-2)).flatten(0, 3)
        rule = torch.arange(len(made), device=mask.device).view(index.shape)
        t_index = t_rule = t_count = None
    return dataclasses.replace(
        part,
        index=index.contiguous(),
        rule=rule.int(),
        count=count.contiguous(),
        mask=made,
        t_index=t_index,
        t_rule=t_rule,
        t_count=t_count,
    )
