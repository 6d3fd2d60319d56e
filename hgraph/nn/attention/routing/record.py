"""Records of routing attention, for `record_attention`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.nn.attention.record import AttentionRecord
from hgraph.nn.attention.routing.routes import Routes
from hgraph.structure import Adjacency, BlockAdjacency

__all__ = ["HeadsResult", "RoutedRecord"]


class HeadsResult(NamedTuple):
    """The result of some adjacent heads: by token, and by slot if tokens are assigned to slots.

    Attributes:
        out: [B, N, H, D].
        tiles: the edges between slots.
        lse: [B, P, H], by slot.
        routes: the tokens in the slots; None if slots are tokens.
    """

    out: Tensor
    tiles: BlockAdjacency
    lse: Tensor
    routes: Routes | None


@dataclass(frozen=True)
class RoutedRecord(AttentionRecord):
    """One call of routing attention; its parts are the local heads and the routing heads."""

    parts: tuple[HeadsResult, ...] = ()
    scale: float = 1.0
    surplus: float = 0.0  # added to the number of clusters of a token
    head_mask: Tensor | None = None

    def weights(self, *, example: int = 0, head: int = 0) -> tuple[Adjacency, Tensor]:
        """The edges of one example and head, and their weights [E], averaged over the clusters of the target."""
        part, own = self.parts[0], head
        for part in self.parts:
            if own < part.out.shape[2]:
                break
            own -= part.out.shape[2]
        tiles, routes = part.tiles, part.routes
        adj = tiles.adjacency(example=example if tiles.batch > 1 else 0, head=own if tiles.num_heads > 1 else 0)
        target, source = adj.target.long(), adj.indices.long()
        lse = part.lse[example, :, own][target]
        count = torch.ones_like(lse)
        if routes is not None:
            tokens = routes.query[example, own]
            target, source = tokens[target], routes.key[example, own][source]
            clusters = torch.bincount(tokens[tokens >= 0], minlength=self.query.shape[1])
            count = clusters[target].to(lse.dtype) + self.surplus
        score = (self.query[example, target, head] * self.key[example, source, head]).sum(-1) * self.scale
        weight = torch.exp(score.to(lse.dtype) - lse) / count
        if self.head_mask is not None:
            weight = weight * self.head_mask[example, :, head][target]
        sizes = {"num_targets": self.query.shape[1], "num_sources": self.key.shape[1]}
        found = Adjacency.from_coo(target=target, source=source, weight=weight, duplicates="sum", **sizes)
        return found.with_weight(None), found.weight  # type: ignore[return-value]
