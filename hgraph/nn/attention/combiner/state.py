"""Decode state of Combiner: tokens and regions that later tokens attend to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.nn.attention.combiner.cluster_state import ClusterState
from hgraph.nn.attention.combiner.regions import Part, Summary, with_sizes
from hgraph.nn.attention.state import DecodeState
from hgraph.ops import AttendResult, attend, merge, propagate
from hgraph.patterns import Partition, Regions
from hgraph.structure import TokenGraph, intervals

__all__ = ["CombinerState"]


class CombinerState(DecodeState):
    """Tokens and summaries of regions for one layer; the caller creates it and passes it at every step.

    Use it to decode token by token with `CombinerAttention`.

    A region is summarized at its last token; tokens and regions that no later token attends to are dropped. With fixed
    segments of s tokens, at most s tokens remain, and one key and value for each earlier segment. Other plans need
    tokens for longer; clusters need all of them.

    Args:
        capacity: maximum number of tokens; the partition is made for this length.

    >>> from hgraph import nn
    >>> layer, x = nn.CombinerAttention(8, 2, block_size=4).eval(), torch.randn(1, 22, 8)
    >>> state = CombinerState(64)
    >>> steps = torch.cat([layer(x[:, t : t + 1], state=state) for t in range(22)], 1)
    >>> torch.allclose(steps, layer(x), atol=1e-5), len(state), state.num_cached
    (True, 22, (2, 5))
    """

    capacity: int

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._clear()

    def _clear(self) -> None:
        self._parts: list[_PartitionState] | None = None
        self._clusters: ClusterState | None = None
        self._made_for: tuple[list[list[int]], torch.dtype] | None = None

    def _map(self, function: Callable[[Tensor], Tensor]) -> None:
        for part in self._parts or []:
            part.map(function)

    def reorder(self, index: Tensor) -> None:
        """Continue with the examples ``index`` [B'] of the batch, which may repeat, as after a step of beam search."""
        super().reorder(index)
        if self._clusters is not None:
            self._clusters.reorder(index)

    @property
    def num_cached(self) -> tuple[int, int]:
        """Numbers of cached tokens and regions."""
        if self._clusters is not None:
            return len(self._clusters), len(self._clusters)
        parts = self._parts or []
        return sum(len(p.tokens.ids) for p in parts), sum(len(f.found.ids) for p in parts for f in p.families)

    def append(  # type: ignore[override]
        self,
        *tokens: Tensor,
        partitions: Callable[[int], tuple[Partition, ...]],
        summary: Callable[[Tensor], Summary],
        parts: list[Part] | None = None,
    ) -> list[Tensor]:
        """Store the next tokens, and attend from them under each partition: [..., T, H, D].

        Args:
            tokens: x, q, k and v of the next T tokens, [..., T, H, D] (x with one head).
            partitions: function of the number of tokens; called once with the capacity.
            summary: how regions are summarized, a function of x of the tokens with the queries.
            parts: a list to which the attentions over tokens and regions are appended.
        """
        low, high = self._fit_layer(tokens)
        if self._parts is None:
            self._parts = [_PartitionState(p.to(tokens[0].device), tokens) for p in partitions(self.capacity)]
        return [part.step(low, high, tokens, lambda x: summary(x.squeeze(-2)), parts) for part in self._parts]

    def append_clustered(self, clusters: Tensor, *tokens: Tensor, summary: Summary, num_clusters: int) -> Tensor:
        """The same for clusters of content, [B, T, H, D], with tokens q, k and v; see `ClusterState.append`."""
        self._fit_layer(tokens)
        if self._clusters is None:
            self._clusters = ClusterState(self.capacity)
        return self._clusters.append(clusters, *tokens, summary=summary, num_clusters=num_clusters)

    def _fit_layer(self, tokens: tuple[Tensor, ...]) -> tuple[int, int]:
        """The positions of the next tokens; checks that examples and layer are the same as before."""
        examples = tokens[0].shape[:-3]
        low, high = self._fit(examples, tokens[0].shape[-3], tokens[0].device)
        now = ([list(x.shape[-2:]) for x in tokens], tokens[0].dtype)
        if self._made_for not in (None, now):
            expected, got = (f"{made[1]} of sizes {made[0]}" for made in (self._made_for, now) if made is not None)
            known = f"the layer it was first used with ({expected})"
            raise ArgumentError("state", known, got, "Use one state per layer")
        self._made_for = now
        self._advance(examples, high)
        return low, high


class _Store(NamedTuple):
    """Sorted ids [K] of tokens or regions, and their tensors [..., K, H, D]."""

    ids: Tensor
    values: tuple[Tensor, ...]

    def with_more(self, ids: Tensor, values: tuple[Tensor, ...]) -> _Store:
        all_ids = torch.cat([self.ids, ids])
        order = torch.argsort(all_ids)
        joined = (torch.cat([a, b], -3).index_select(-3, order) for a, b in zip(self.values, values, strict=True))
        return _Store(all_ids[order], tuple(joined))

    def without(self, dropped: Tensor) -> _Store:
        if not bool(dropped.any()):
            return self
        left = (~dropped).nonzero().flatten()
        return _Store(self.ids[left], tuple(v.index_select(-3, left) for v in self.values))

    def map(self, function: Callable[[Tensor], Tensor]) -> _Store:
        return _Store(self.ids, tuple(function(v) for v in self.values))

    def spread(self, at: int, count: int) -> Tensor:
        """One of the tensors for all ids below ``count``, 0 for missing ones: [..., count, H, D]."""
        value = self.values[at]
        return value.new_zeros(*value.shape[:-3], count, *value.shape[-2:]).index_copy(-3, self.ids, value)

    def place(self, ids: Tensor) -> Tensor:
        return torch.searchsorted(self.ids, ids)

    def rows(self, graph: TokenGraph, rows: Tensor) -> TokenGraph:
        """Rows of a graph over the stored sources, which must include all sources of these rows."""
        some = graph.select(rows)
        start, stop = (self.place(x.long()) for x in (some.start, some.stop))
        sizes = {"num_targets": len(rows), "num_sources": len(self.ids)}
        return TokenGraph.trusted(indptr=some.indptr, start=start, stop=stop, **sizes)


class _Family:
    """One family of regions: the token that completes each region, its last target, and the summaries."""

    def __init__(self, regions: Regions, like: Tensor) -> None:
        self.regions, self.sizes = regions, regions.sizes
        self.last = _last_target(regions.attended)
        row, token = _pairs(regions.members)
        self.closes = torch.zeros(regions.num_regions, dtype=torch.long, device=like.device)
        self.closes = self.closes.scatter_reduce(0, row, token, "amax")
        self.closes = torch.where(self.last >= 0, self.closes, -1)  # other regions are never needed
        self.found = _Store(self.closes[:0], (like, like))

    def close(self, low: int, high: int, tokens: _Store, summary: Callable[[Tensor], Summary]) -> None:
        """Summarize the regions whose last token is one of the new tokens."""
        ids = ((self.closes >= low) & (self.closes < high)).nonzero().flatten()
        if not len(ids):
            return
        graph, (x, q, k, v) = tokens.rows(self.regions.members, ids), tokens.values
        if self.regions.layout.kind == "own":
            places = tokens.place(ids)
            x, query = x.index_select(-3, places), q.index_select(-3, places)
            how, value = summary(x), attend(graph, query, k, v).out
            if callable(how.own_key):
                key = how.own_key(value)
            else:
                key = k.index_select(-3, places) if how.own_key == "token" else attend(graph, query, k, k).out
        else:
            how, edges = summary(x), graph.adjacency()
            line = self.regions.layout.kind in ("line", "others")
            reduce = how.running if line and how.running is not None else how.pool
            mapped = (q if how.query_map is None else how.query_map(q), k if how.key_map is None else how.key_map(k))
            query, key = (propagate(edges, t.flatten(-2), reduce=reduce).unflatten(-1, t.shape[-2:]) for t in mapped)
            value = attend(graph, query, k, v).out
        self.found = self.found.with_more(ids, (key, value))

    def attend(self, q: Tensor, rows: Tensor, size_bias: bool) -> AttendResult:
        (key, value), graph = self.found.values, self.found.rows(self.regions.attended, rows)
        if size_bias:
            q, key = with_sizes(q, key, self.sizes[self.found.ids])
        return attend(graph, q, key, value)

    def recorded(self, q: Tensor, rows: Tensor, size_bias: bool) -> tuple[TokenGraph, Tensor, Tensor]:
        """The graph, query and key over all regions by id, for records."""
        key = self.found.spread(0, self.regions.num_regions)
        q, key = with_sizes(q, key, self.sizes) if size_bias else (q, key)
        return self.regions.attended.select(rows), q, key


class _PartitionState:
    """One partition, with the tokens and regions stored for it."""

    def __init__(self, partition: Partition, new: tuple[Tensor, ...]) -> None:
        empty = tuple(t[..., :0, :, :] for t in new)
        self.partition = partition
        self.families = [_Family(r, empty[3]) for r in partition.regions]
        last = torch.arange(partition.num_tokens, device=empty[0].device)
        for graph in partition.direct:
            last = torch.maximum(last, _last_target(graph))
        for family in self.families:
            row, token = _pairs(family.regions.members)
            last = last.scatter_reduce(0, token, family.closes[row], "amax")
        self.last, self.tokens = last, _Store(last[:0], empty)

    def map(self, function: Callable[[Tensor], Tensor]) -> None:
        self.tokens = self.tokens.map(function)
        for family in self.families:
            family.found = family.found.map(function)

    def step(
        self,
        low: int,
        high: int,
        new: tuple[Tensor, ...],
        summary: Callable[[Tensor], Summary],
        parts: list[Part] | None,
    ) -> Tensor:
        rows, q = torch.arange(low, high, device=new[1].device), new[1]
        self.tokens = self.tokens.with_more(rows, new)
        for family in self.families:
            family.close(low, high, self.tokens, summary)
        (_, _, k, v), size_bias = self.tokens.values, summary(new[0]).size_bias
        results = [attend(self.tokens.rows(g, rows), q, k, v) for g in self.partition.direct]
        results += [family.attend(q, rows, size_bias) for family in self.families]
        result = functools.reduce(merge, results)
        if parts is not None:
            key = self.tokens.spread(2, high)
            pairs = [(g.select(rows).crop(high), q, key) for g in self.partition.direct]
            pairs += [family.recorded(q, rows, size_bias) for family in self.families]
            parts += [Part(*pair, result.lse, joint=True) for pair in pairs]
        self.tokens = self.tokens.without(self.last[self.tokens.ids] < high)
        for family in self.families:
            family.found = family.found.without(family.last[family.found.ids] < high)
        return result.out


def _pairs(graph: TokenGraph) -> tuple[Tensor, Tensor]:
    """Row and column of every edge."""
    graph = graph.natural()
    column, run = intervals.expanded(graph.start, graph.stop)
    return graph.row()[run], column


def _last_target(graph: TokenGraph) -> Tensor:
    """The last target of each source [S], -1 for none."""
    row, column = _pairs(graph)
    return torch.full((graph.num_sources,), -1, device=column.device).scatter_reduce(0, column, row, "amax")
