"""Decode state of Combiner over clusters: all tokens so far, and the regions of their clusters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hgraph import patterns
from hgraph.nn.attention.combiner.clusters import Running, clustered_attention
from hgraph.nn.attention.combiner.regions import Summary, with_sizes
from hgraph.nn.attention.state import DecodeState, KVState
from hgraph.ops import attend, merge

__all__ = ["ClusterState"]


class ClusterState(DecodeState):
    """All tokens so far, since later tokens may attend to any of them, and the region of each token's cluster up to it.

    Args:
        capacity: maximum number of tokens.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._tokens, self._regions = KVState(capacity), KVState(capacity)  # the batch here is examples x heads
        self._last: tuple[Tensor, ...] = ()

    def _clear(self) -> None:
        self._tokens.reset()
        self._regions.reset()
        self._last = ()

    def _map(self, function: Callable[[Tensor], Tensor]) -> None:
        def by_head(x: Tensor) -> Tensor:
            return function(x.unflatten(0, (self._examples[0], -1))).flatten(0, 1)  # type: ignore[index]

        for state in (self._tokens, self._regions):
            state._map(by_head)
            state._examples = [len(x) for x in state._stored[:1]] or None
        self._last = tuple(by_head(x) for x in self._last)

    def append(  # type: ignore[override]
        self, clusters: Tensor, q: Tensor, k: Tensor, v: Tensor, *, summary: Summary, num_clusters: int
    ) -> Tensor:
        """Store the next tokens and attend from them; the first tokens of a sequence at once, later ones one by one.

        Args:
            clusters: nonnegative integers [B or 1, H or 1, T].
            q: [B, T, H, D], like k and v.
            k: keys.
            v: values.
            summary: how regions are summarized.
            num_clusters: G, number of clusters.
        """
        batch, count, heads = q.shape[:3]
        first = not len(self)
        self._advance([batch], self._fit([batch], count, q.device)[1])
        clusters = clusters.expand(batch, heads, count).flatten(0, 1)
        tokens = [x.transpose(1, 2).flatten(0, 1).unsqueeze(2) for x in (q, k, v)]
        if count and first:
            regions: list[Running] = []
            groups = clusters.unflatten(0, (batch, heads))
            out = clustered_attention(
                groups, q, k, v, num_clusters=num_clusters, causal=True, summary=summary, running=regions
            )
            self._tokens.append(*tokens[1:], clusters[..., None, None])
            self._store(regions[0])
            return out
        outs = [
            self._one(clusters[:, t : t + 1], [x[:, t : t + 1] for x in tokens], summary, num_clusters)
            for t in range(count)
        ]
        return torch.cat([v[:, :0], *(x.unflatten(0, (batch, heads)).transpose(1, 2).flatten(3) for x in outs)], 1)

    def _one(self, own: Tensor, token: list[Tensor], summary: Summary, num_clusters: int) -> Tensor:
        """[Z, 1, D_v] for the query, key and value [Z, 1, 1, D] of one token in the cluster [Z, 1]."""
        q, k, v = token
        query, key = (x if f is None else f(x) for x, f in ((q, summary.query_map), (k, summary.key_map)))
        keys, values, clusters = self._tokens.append(k, v, own[..., None, None])
        group = clusters.flatten(1)
        here = torch.ones_like(own, dtype=torch.bool)
        members = patterns.present(here, group == own)
        old_query, old_key, old_value, old_size = self._last
        last_region = Running(old_query, old_key, old_value, old_size.flatten(1))
        place = torch.arange(group.shape[1] - 1, device=group.device).expand(len(group), -1)
        last = place.new_full((len(group), num_clusters), -1).scatter_reduce(1, group[:, :-1], place, "amax")
        before = last.gather(1, own)
        known = (before >= 0)[..., None, None]

        def pooled(new: Tensor, old: Tensor) -> Tensor:
            old = old.gather(1, before.clamp(min=0)[..., None, None].expand_as(new))
            return torch.where(known, torch.maximum(new, old) if summary.pool == "max" else new + old, new)

        query, key = pooled(query, last_region.query), pooled(key, last_region.key)
        size = (group == own).sum(1, keepdim=True)
        mean_query = query / size[..., None, None] if summary.pool == "mean" else query
        near, value = attend(members, q, keys, values), attend(members, mean_query, keys, values).out
        earlier = group[:, :-1]
        ends = (last.gather(1, earlier) == place) & (earlier != own)  # the last token of every other cluster
        mean = last_region.key / last_region.size[..., None, None] if summary.pool == "mean" else last_region.key
        far_query_key = (q, mean)
        if summary.size_bias:
            far_query_key = with_sizes(q, mean, last_region.size)
        far = attend(patterns.present(here, ends), *far_query_key, last_region.value)
        self._store(Running(query, key, value, size))
        return merge(near, far).out.squeeze(2)

    def _store(self, new: Running) -> None:
        self._last = self._regions.append(new.query, new.key, new.value, new.size[..., None, None])
