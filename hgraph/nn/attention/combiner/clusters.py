"""Combiner over clusters of content: direct attention within a cluster, and regions for the other clusters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph import patterns
from hgraph.nn.attention.combiner.regions import Part, Summary, with_sizes
from hgraph.ops import AttendResult, attend, merge, propagate
from hgraph.patterns.slots import grouped
from hgraph.structure import Adjacency, BlockAdjacency, TokenGraph

__all__ = ["Running", "clustered_attention"]

_BLOCK = 64  # slots per tile


class Running(NamedTuple):
    """The region of each token's cluster up to it: pooled query, key and value [Z, N, 1, D], and its size [Z, N].

    For means, queries and keys are stored as sums, so that tokens can be added.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    size: Tensor


class _Sorted(NamedTuple):
    """Tokens of each example and head sorted by cluster, in G + 1 groups; the last group is padding.

    Attributes:
        order: [Z, N], the token at each position, Z = B * H.
        group: [Z, N], the group of the token at each position.
        begin: [Z, G + 1], the first position of each group.
        size: [Z, G + 1], the size of each group.
        first: [Z, N], the first position of the group of each position.
    """

    order: Tensor
    group: Tensor
    begin: Tensor
    size: Tensor
    first: Tensor

    @property
    def place(self) -> Tensor:
        """Positions [N]."""
        return torch.arange(self.order.shape[1], device=self.order.device)


def clustered_attention(
    clusters: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    num_clusters: int,
    causal: bool,
    summary: Summary | None = None,
    dropout: float = 0.0,
    running: list[Running] | None = None,
    parts: list[Part] | None = None,
) -> Tensor:
    r"""Attention like `combiner_attention`, over clusters that differ by example and head.

    .. math:: \Omega_i^0 = \{ j : c_j = c_i \}, \qquad \Omega_i^g = \{ j : c_j = g \}, \; g \ne c_i
              \qquad (\text{and } j \le i \text{ if causal})

    In causal attention, the region of a cluster depends on the target: it has the tokens of the cluster so far. So
    there is one region per token, with the cluster up to it; their queries and keys are pooled cumulatively. Clusters
    are aligned to tiles, so that the bits of a token's sum do not depend on later tokens.

    Args:
        clusters: integers [B, H, N] (or 1 for B or H), the cluster of each token; negative ones are padding.
        q: [B, N, H, D].
        k: [B, N, H, D].
        v: [B, N, H, D_v].
        num_clusters: G; clusters may be empty.
        causal: whether tokens attend only to tokens up to themselves.
        summary: how regions are summarized.
        dropout: dropout probability of attention to tokens.
        running: a list to which the regions are appended if causal, in token order, Z = B * H.
        parts: a list to which the attentions over tokens and regions are appended, in token order.

    Returns:
        [B, N, H, D_v].
    """
    summary = Summary() if summary is None else summary
    batch, n, heads, _ = q.shape
    made = _sorted(clusters.expand(batch, heads, n).flatten(0, 1), num_clusters)
    q, k, v = (_permuted(x, made.order) for x in (q, k, v))
    query, key = (x if f is None else f(x) for x, f in ((q, summary.query_map), (k, summary.key_map)))
    back = torch.empty_like(made.order).scatter(1, made.order, made.place.expand_as(made.order))
    if causal:
        within, sizes = _causal_within_clusters(made, dropout), made.place - made.first + 1
        near = within(q, k, v)
        query, key = (_running(x, made, summary.pool) for x in (query, key))
        value = within(_mean(query, sizes, summary.pool), k, v).out
        if running is not None:
            pooled_query, pooled_key, found = (_taken(x, back) for x in (query, key, value))
            running.append(Running(pooled_query, pooled_key, found, sizes.gather(1, back)))
        key = _mean(key, sizes, summary.pool)
    else:
        near, edges = attend(_within_clusters(made), q, k, v, dropout=dropout), _groups(made)
        query, key = (_by_group(propagate(edges, x.flatten(0, 2), reduce=summary.pool), batch * heads)
                      for x in (query, key))  # fmt: skip
        flat = (query.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
        value = _by_group(attend(edges, *flat, dropout=dropout).out.flatten(1), batch * heads)
        sizes = made.size
    region_query = q
    if summary.size_bias:
        region_query, key = with_sizes(q, key, sizes)
    index = _others(made, causal)
    tiles = BlockAdjacency.trusted(index.unsqueeze(1), block_size=1, num_targets=n, num_sources=key.shape[1])
    out, lse = merge(near, attend(tiles, region_query, key, value))
    size = (batch, heads)
    if parts is not None:
        lse = _by_token(_taken(lse.unsqueeze(-1), back), size).squeeze(-1)
        near_query, far_query, keys = (_by_token(_taken(x, back), size) for x in (q, region_query, k))
        far_keys = _by_token(_taken(key, back) if causal else key, size)
        graph = patterns.clusters(clusters.expand(batch, heads, n), causal=causal)
        parts.append(Part(graph, near_query, keys, lse, joint=True))
        parts.append(Part(_graph_of(index, made, back, size, causal), far_query, far_keys, lse, joint=True))
    return _by_token(_taken(out, back), size)


def _sorted(clusters: Tensor, num_clusters: int) -> _Sorted:
    group, order = torch.where(clusters < 0, num_clusters, clusters).sort(dim=1, stable=True)
    size = torch.zeros(len(group), num_clusters + 1, dtype=torch.long, device=group.device)
    size = size.scatter_add(1, group, torch.ones_like(group))
    begin = size.cumsum(1) - size
    return _Sorted(order, group, begin, size, begin.gather(1, group))


def _permuted(x: Tensor, order: Tensor) -> Tensor:
    """Permute x [B, N, H, D] to sorted positions, [Z, N, 1, D]."""
    return _taken(x.transpose(1, 2).flatten(0, 1).unsqueeze(2), order)


def _taken(x: Tensor, index: Tensor) -> Tensor:
    """[Z, P, 1, D]: rows ``index`` [Z, P] of x [Z, N, 1, D]."""
    return x.gather(1, index[..., None, None].expand(-1, -1, 1, x.shape[-1]))


def _by_token(x: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, N, H, D] of [Z, N, 1, D]."""
    return x.squeeze(2).unflatten(0, size).transpose(1, 2)


def _graph_of(index: Tensor, made: _Sorted, back: Tensor, size: tuple[int, int], causal: bool) -> TokenGraph:
    """The graph of lists [Z, N, G] of positions (or of groups, if not causal), in token order."""
    if causal:
        index = torch.where(index < 0, -1, made.order.gather(1, index.clamp(min=0).flatten(1)).view_as(index))
    index = index.gather(1, back.unsqueeze(-1).expand_as(index)).unflatten(0, size)
    return patterns.top_k(index, num_sources=made.order.shape[1] if causal else made.size.shape[1])


def _causal_within_clusters(made: _Sorted, dropout: float) -> Callable[..., AttendResult]:
    """Attention of positions over those of their cluster up to them, with every cluster aligned to tiles.

    The tiles of a token and their shapes then depend only on its position in the cluster. Empty slots in the last tile
    of a cluster are computed too, like later tokens, and their results are not used.
    """
    (z, n), count = made.group.shape, made.size.shape[1] - 1
    block = min(_BLOCK, max(8, 1 << (n // max(count, 1)).bit_length()))
    layout = grouped(torch.where(made.group < count, made.group, -1), count, block)
    slots = torch.arange(layout.token.shape[1], device=made.group.device).expand_as(layout.token).contiguous()
    used = (made.size[:, :count] + block - 1).div(block, rounding_mode="floor").sum(1, keepdim=True) * block
    first = layout.first.gather(1, torch.searchsorted(layout.first.contiguous(), slots, right=True) - 1)
    occupied = slots < used
    indptr = F.pad(occupied.flatten().long().cumsum(0), (1, 0))
    sizes = {"num_targets": slots.shape[1], "num_sources": slots.shape[1], "batch": z}
    tiles = TokenGraph.trusted(indptr=indptr, start=first[occupied], stop=slots[occupied] + 1, **sizes).tiles(block)
    token, slot = layout.token.clamp(min=0), layout.slot.clamp(min=0)

    def within(q: Tensor, k: Tensor, v: Tensor) -> AttendResult:
        out, lse = attend(tiles, *(_taken(x, token) for x in (q, k, v)), dropout=dropout)
        lse = lse.gather(1, slot.unsqueeze(-1))
        return AttendResult(_taken(out, slot), torch.where(layout.slot.unsqueeze(-1) < 0, -torch.inf, lse))

    return within


def _within_clusters(made: _Sorted) -> TokenGraph:
    z, n = made.group.shape
    there = (made.group < made.size.shape[1] - 1).flatten()
    stop = made.first + made.size.gather(1, made.group)
    indptr = F.pad(there.long().cumsum(0), (1, 0))
    start, stop = (x.flatten()[there] for x in (made.first, stop))
    return TokenGraph.trusted(indptr=indptr, start=start, stop=stop, num_targets=n, num_sources=n, batch=z)


def _groups(made: _Sorted) -> Adjacency:
    """Z (G + 1) groups and their tokens at Z N positions."""
    z, n = made.group.shape
    indptr = F.pad(made.size.flatten().cumsum(0), (1, 0))
    return Adjacency.trusted(indptr=indptr, indices=torch.arange(z * n, device=indptr.device), num_sources=z * n)


def _by_group(x: Tensor, z: int) -> Tensor:
    """[Z, G + 1, 1, D] of [Z (G + 1), D]."""
    return x.unflatten(0, (z, -1)).unsqueeze(2)


def _running(x: Tensor, made: _Sorted, reduce: str) -> Tensor:
    """Cumulative maximum or sum within clusters at each position, in log2(N) steps of doubling length."""
    step = 1
    while step < x.shape[1]:
        same = (made.place - step >= made.first)[:, step:, None, None]
        later, earlier = x[:, step:], x[:, :-step]
        both = torch.maximum(later, earlier) if reduce == "max" else later + earlier
        x = torch.cat([x[:, :step], torch.where(same, both, later)], 1)
        step *= 2
    return x


def _mean(x: Tensor, sizes: Tensor, reduce: str) -> Tensor:
    return x / sizes[..., None, None] if reduce == "mean" else x


def _others(made: _Sorted, causal: bool) -> Tensor:
    """[Z, N, G]: the sources of the other nonempty clusters, -1 for the rest."""
    groups = made.size.shape[1] - 1
    group = torch.arange(groups, device=made.group.device)
    if causal:  # the last member of each cluster before the target in the sequence
        token = torch.empty_like(made.group).scatter(1, made.order, made.group)
        members = F.one_hot(token, groups + 1)[..., :groups]
        before = (members.cumsum(1) - members).gather(1, made.order.unsqueeze(-1).expand(-1, -1, groups))
        source, some = made.begin[:, None, :groups] + before - 1, before > 0
    else:
        source = group.expand(*made.group.shape, groups)
        some = made.size[:, None, :groups] > 0
    visible = some & (group != made.group.unsqueeze(-1)) & (made.group < groups).unsqueeze(-1)
    return torch.where(visible, source, -1)
