"""The structure of routing attention: the slots of tokens, and the edges between slots."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph import patterns
from hgraph.ops import attend, propagate
from hgraph.patterns.slots import grouped, of_runs
from hgraph.structure import Adjacency, BlockAdjacency

__all__ = ["Routes", "attend_slots", "by_claim", "by_nearest", "nearby"]


class Routes(NamedTuple):
    """Tokens assigned to slots, where those of a cluster are contiguous and each attends to one run of slots.

    Attributes:
        query: int64 [B, H, P], the token in each slot of queries; -1 if empty.
        key: int64 [B, H, P'], the same for keys.
        start: [B, H, P], the first slot of keys that each slot of queries attends to.
        stop: [B, H, P], one past the last slot.
        reach: [B, H, P], one past the last slot of keys in its tiles.
        most: maximum number of tiles of keys per tile of queries.
        block: slots per tile.
        aligned: whether the slots of queries and of keys have the same tokens.
    """

    query: Tensor
    key: Tensor
    start: Tensor
    stop: Tensor
    reach: Tensor
    most: int
    block: int
    aligned: bool

    def tiles(self) -> BlockAdjacency:
        """The edges between slots."""
        return of_runs(
            self.start,
            self.stop,
            num_sources=self.key.shape[-1],
            block_size=self.block,
            most=self.most,
            reach=self.reach,
        )

    @staticmethod
    def members(token: Tensor, count: int) -> Adjacency:
        """Edges from B N H tokens (and a last empty one) to their B P H slots; the transpose maps slots to tokens."""
        batch, heads, _ = token.shape
        example = torch.arange(batch, device=token.device).view(-1, 1, 1)
        head = torch.arange(heads, device=token.device).view(1, -1, 1)
        source = torch.where(token < 0, batch * count * heads, (example * count + token) * heads + head)
        source = source.transpose(1, 2).flatten()
        indptr = torch.arange(len(source) + 1, device=token.device)
        return Adjacency.trusted(indptr=indptr, indices=source, num_sources=batch * count * heads + 1)


def attend_slots(
    routes: Routes, q: Tensor, k: Tensor, v: Tensor, *, shared: bool, **options: Any
) -> tuple[Tensor, BlockAdjacency, Tensor, Adjacency]:
    """Assign tokens [B, N, H, D] to the slots of their clusters, attend, and average over the clusters of a token.

    Returns the result by token, the tiles, lse by slot, and the edges from slots to tokens. With ``shared``, queries
    are keys; ``options`` are those of `hgraph.attend`.
    """
    of_queries = Routes.members(routes.query, q.shape[1])
    of_keys = of_queries if routes.aligned else Routes.members(routes.key, k.shape[1])

    def in_slots(x: Tensor, members: Adjacency, token: Tensor) -> Tensor:
        rows = F.pad(x.flatten(0, 2), (0, 0, 0, 1))  # the last row is for empty slots
        return propagate(members, rows).view(x.shape[0], token.shape[-1], *x.shape[2:])

    queries = in_slots(q, of_queries, routes.query)
    keys = queries if shared and routes.aligned else in_slots(k, of_keys, routes.key)
    values, tiles, back = in_slots(v, of_keys, routes.key), routes.tiles(), of_queries.transpose()
    out, lse = attend(tiles, queries, keys, values, **options)
    return propagate(back, out.flatten(0, 2), reduce="mean")[:-1].view(q.shape), tiles, lse, back


def by_nearest(
    query: Tensor, key: Tensor, num_clusters: int, size: int, *, block: int, itself: bool, shared: bool
) -> Routes:
    """Each query attends to the last keys of its cluster, up to its own position in the sequence.

    Args:
        query: int64 [B, H, T], the cluster of each query, -1 for none; queries are the last T of the S tokens.
        key: int64 [B, H, S], the cluster of each key.
        num_clusters: C.
        size: w, number of keys per query.
        block: slots per tile.
        itself: whether a token attends to itself; if not, it does so only if it is alone.
        shared: whether the queries are the keys.
    """
    targets, sources = query.shape[-1], key.shape[-1]
    keys = grouped(key, num_clusters, block)
    # Among keys sorted by cluster and position: the number of keys of a query's cluster up to its position.
    code = torch.where(key < 0, num_clusters, key) * sources + torch.arange(sources, device=key.device)
    ordered, own = code.contiguous().sort(-1).values, query.clamp(min=0).contiguous()
    place = torch.arange(sources - targets, sources, device=key.device)
    count = torch.searchsorted(ordered, own * sources + place, right=True) - torch.searchsorted(ordered, own * sources)
    first = keys.first.gather(-1, own)
    last = first + count - 1
    stop = last + 1 if itself else torch.where(count > 1, last, last + 1)
    start = torch.maximum(first, stop - size)
    visible = (query >= 0) & (count > 0)
    aligned = shared and not itself  # each query is in the slot of its key
    if aligned:
        token = keys.token
    else:  # group queries by the tile of their last key: a tile of queries then has a bounded number of tiles of keys
        group = torch.where(visible, last.div(block, rounding_mode="floor"), -1)
        token = grouped(group, keys.token.shape[-1] // block, block).token
    at = token.clamp(min=0)
    start, stop, reach = (torch.where(token < 0, 0, x.gather(-1, at)) for x in (start, stop, last + 1))
    return Routes(token, keys.token, start, stop, reach, -(-size // block) + 1, block, aligned)


def by_claim(
    query: Tensor, key: Tensor, size: int, *, block: int, causal: bool, itself: bool, by_rank: bool, shared: bool
) -> Routes:
    """Each centroid gets the queries and keys nearest to it, and these attend to each other.

    Args:
        query: scores [B, H, C, T], -inf for padding.
        key: scores [B, H, C, S].
        size: w, tokens per cluster.
        block: slots per tile.
        causal: whether a query attends only to keys up to its own position in the sequence.
        itself: whether a token attends to itself; if not (queries are keys, causal), only if it is alone.
        by_rank: whether to compare ranks within the cluster instead of positions in the sequence, as published.
        shared: whether the queries are the keys.
    """
    queries = patterns.topk_members(query, min(size, query.shape[-1]))
    keys = queries if shared else patterns.topk_members(key, min(size, key.shape[-1]))
    width = -(-keys.shape[-1] // block) * block
    base = width * torch.arange(key.shape[2], device=key.device).unsqueeze(1)
    empty = (keys < 0).sum(-1, keepdim=True)  # empty entries of lists with fewer than w tokens come first
    start, rank = base + empty, torch.arange(queries.shape[-1], device=key.device)
    if not causal:
        count = torch.full_like(queries, keys.shape[-1])
    elif by_rank:
        count = (rank + 1).expand_as(queries)
    else:
        count = torch.searchsorted(keys, queries, right=True)
    stop = base + count
    stop = stop if itself else torch.where(stop - 1 > start, stop - 1, stop)
    start = start.expand_as(stop)
    stop = torch.where(queries < 0, start, stop)

    def laid_out(x: Tensor, fill: int) -> Tensor:
        short = -(-x.shape[-1] // block) * block - x.shape[-1]
        return F.pad(x, (0, short), value=fill).flatten(2)

    runs = laid_out(start, 0), laid_out(stop, 0), laid_out(stop, 0)
    token = laid_out(queries, -1)
    return Routes(token, token if shared else laid_out(keys, -1), *runs, width // block, block, shared)


def nearby(
    targets: int, sources: int, window: int, *, causal: bool, block: int, present: Tensor | None, device: torch.device
) -> BlockAdjacency:
    """Blocks of ``window`` tokens that attend to themselves and the previous block, and the next one if not causal.

    The targets are the last of the sources; ``present`` [B, S] is False at padding.
    """
    place = torch.arange(sources - targets, sources, device=device)
    own = place.div(window, rounding_mode="floor")
    start = ((own - 1) * window).clamp(min=0)
    stop = place + 1 if causal else ((own + 2) * window).clamp(max=sources)
    start, stop = start.expand(1, 1, -1), stop.expand(1, 1, -1)
    most = -(-(3 * window) // block) + 2
    if present is None:
        return of_runs(start, stop, num_sources=sources, block_size=block, most=most)
    here = present.unsqueeze(1)
    stop = torch.where(here[..., sources - targets :], stop, start)
    start = start.expand_as(stop)
    return of_runs(start, stop, num_sources=sources, block_size=block, most=most, mask=here)
