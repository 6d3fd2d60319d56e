"""Combiner over clusters of content: a token's own cluster directly, every other one as a region."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph import patterns
from hgraph.nn.attention.combiner.regions import Heard, Summary, with_sizes
from hgraph.ops import AttendResult, attend, merge, propagate
from hgraph.patterns.slots import grouped
from hgraph.structure import Adjacency, BlockAdjacency, TokenGraph

__all__ = ["Running", "clustered_attention"]

_BLOCK = 64  # slots a tile


class Running(NamedTuple):
    """The region of each token's own cluster up to it: pooled query, key and value [Z, N, 1, D], and its size [Z, N].

    Queries and keys of means are sums, so that one more token can be added.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    size: Tensor


class _Sorted(NamedTuple):
    """Tokens of each example and head sorted by cluster, padding last: G + 1 groups, the last one of padding.

    Attributes:
        order: [Z, N], the token at each place, Z = B * H.
        group: [Z, N], of the token at each place.
        begin: [Z, G + 1], the first place of each group.
        size: [Z, G + 1].
        first: [Z, N], the first place of the group of each place.
    """

    order: Tensor
    group: Tensor
    begin: Tensor
    size: Tensor
    first: Tensor

    @property
    def place(self) -> Tensor:
        """[N]."""
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
    heard: list[Heard] | None = None,
) -> Tensor:
    r"""Attention as `combiner_attention` over clusters that differ by example and head.

    .. math:: \Omega_i^0 = \{ j : c_j = c_i \}, \qquad \Omega_i^g = \{ j : c_j = g \}, \; g \ne c_i
              \qquad (\text{and } j \le i \text{ if causal})

    In causal attention the region of a cluster differs by receiver: it is what the cluster has had so far. So there is
    one for each of its tokens, the cluster up to it; their queries and keys are pooled one after the other. Clusters
    are laid out tile by tile, so that the bits of a token's sum do not hang on later tokens.

    Args:
        clusters: integers [B, H, N] (or 1 for B or H), the cluster of each token; negative ones are padding.
        q: [B, N, H, D].
        k: [B, N, H, D].
        v: [B, N, H, D_v].
        num_clusters: G; clusters may be empty.
        causal: whether only tokens up to one's own are heard.
        summary: how regions are summed up.
        dropout: of the shares of tokens.
        running: a list that the regions are appended to if causal, tokens in their order, Z = B * H.
        heard: a list that the attentions over tokens and regions are appended to, tokens in their order.

    Returns:
        [B, N, H, D_v].
    """
    summary = Summary() if summary is None else summary
    batch, n, heads, _ = q.shape
    made = _sorted(clusters.expand(batch, heads, n).flatten(0, 1), num_clusters)
    q, k, v = (_brought(x, made.order) for x in (q, k, v))
    query, key = (x if f is None else f(x) for x, f in ((q, summary.query_map), (k, summary.key_map)))
    back = torch.empty_like(made.order).scatter(1, made.order, made.place.expand_as(made.order))
    if causal:
        within, sizes = _up_to_itself(made, dropout), made.place - made.first + 1
        near = within(q, k, v)
        query, key = (_running(x, made, summary.pool) for x in (query, key))
        value = within(_mean(query, sizes, summary.pool), k, v).out
        if running is not None:
            pooled_query, pooled_key, found = (_taken(x, back) for x in (query, key, value))
            running.append(Running(pooled_query, pooled_key, found, sizes.gather(1, back)))
        key = _mean(key, sizes, summary.pool)
    else:
        near, edges = attend(_own_cluster(made), q, k, v, dropout=dropout), _groups(made)
        query, key = (_by_group(propagate(edges, x.flatten(0, 2), reduce=summary.pool), batch * heads)
                      for x in (query, key))  # fmt: skip
        flat = (query.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
        value = _by_group(attend(edges, *flat, dropout=dropout).out.flatten(1), batch * heads)
        sizes = made.size
    own = q
    if summary.size_bias:
        own, key = with_sizes(q, key, sizes)
    index = _others(made, causal)
    tiles = BlockAdjacency.trusted(index.unsqueeze(1), block_size=1, num_targets=n, num_sources=key.shape[1])
    out, lse = merge(near, attend(tiles, own, key, value))
    size = (batch, heads)
    if heard is not None:
        lse = _by_token(_taken(lse.unsqueeze(-1), back), size).squeeze(-1)
        asked, own, keys = (_by_token(_taken(x, back), size) for x in (q, own, k))
        far_keys = _by_token(_taken(key, back) if causal else key, size)
        graph = patterns.clusters(clusters.expand(batch, heads, n), causal=causal)
        heard.append(Heard(graph, asked, keys, lse, joint=True))
        heard.append(Heard(_graph_of(index, made, back, size, causal), own, far_keys, lse, joint=True))
    return _by_token(_taken(out, back), size)


def _sorted(clusters: Tensor, num_clusters: int) -> _Sorted:
    group, order = torch.where(clusters < 0, num_clusters, clusters).sort(dim=1, stable=True)
    size = torch.zeros(len(group), num_clusters + 1, dtype=torch.long, device=group.device)
    size = size.scatter_add(1, group, torch.ones_like(group))
    begin = size.cumsum(1) - size
    return _Sorted(order, group, begin, size, begin.gather(1, group))


def _brought(x: Tensor, order: Tensor) -> Tensor:
    """[Z, N, 1, D] in the order of the places, of [B, N, H, D]."""
    return _taken(x.transpose(1, 2).flatten(0, 1).unsqueeze(2), order)


def _taken(x: Tensor, index: Tensor) -> Tensor:
    """[Z, P, 1, D]: rows ``index`` [Z, P] of x [Z, N, 1, D]."""
    return x.gather(1, index[..., None, None].expand(-1, -1, 1, x.shape[-1]))


def _by_token(x: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, N, H, D] of [Z, N, 1, D]."""
    return x.squeeze(2).unflatten(0, size).transpose(1, 2)


def _graph_of(index: Tensor, made: _Sorted, back: Tensor, size: tuple[int, int], causal: bool) -> TokenGraph:
    """The graph of lists [Z, N, G] of places (or of groups, if not causal), with tokens in their order."""
    if causal:
        index = torch.where(index < 0, -1, made.order.gather(1, index.clamp(min=0).flatten(1)).view_as(index))
    index = index.gather(1, back.unsqueeze(-1).expand_as(index)).unflatten(0, size)
    return patterns.top_k(index, num_sources=made.order.shape[1] if causal else made.size.shape[1])


def _up_to_itself(made: _Sorted, dropout: float) -> Callable[..., AttendResult]:
    """Attention of places over those of their cluster up to them, every cluster from the beginning of a tile on.

    What is visited for a token, and in which shapes, is then known by its place in the cluster alone. Slots that stay
    empty in a cluster's last tile take part as well, as later tokens would, and nobody reads what they hear.
    """
    (z, n), count = made.group.shape, made.size.shape[1] - 1
    block = min(_BLOCK, max(8, 1 << (n // max(count, 1)).bit_length()))
    layout = grouped(torch.where(made.group < count, made.group, -1), count, block)
    slots = torch.arange(layout.token.shape[1], device=made.group.device).expand_as(layout.token).contiguous()
    used = (made.size[:, :count] + block - 1).div(block, rounding_mode="floor").sum(1, keepdim=True) * block
    first = layout.first.gather(1, torch.searchsorted(layout.first.contiguous(), slots, right=True) - 1)
    there = slots < used
    indptr = F.pad(there.flatten().long().cumsum(0), (1, 0))
    sizes = {"num_targets": slots.shape[1], "num_sources": slots.shape[1], "batch": z}
    tiles = TokenGraph.trusted(indptr=indptr, start=first[there], stop=slots[there] + 1, **sizes).tiles(block)
    token, slot = layout.token.clamp(min=0), layout.slot.clamp(min=0)

    def within(q: Tensor, k: Tensor, v: Tensor) -> AttendResult:
        out, lse = attend(tiles, *(_taken(x, token) for x in (q, k, v)), dropout=dropout)
        lse = lse.gather(1, slot.unsqueeze(-1))
        return AttendResult(_taken(out, slot), torch.where(layout.slot.unsqueeze(-1) < 0, -torch.inf, lse))

    return within


def _own_cluster(made: _Sorted) -> TokenGraph:
    z, n = made.group.shape
    there = (made.group < made.size.shape[1] - 1).flatten()
    stop = made.first + made.size.gather(1, made.group)
    indptr = F.pad(there.long().cumsum(0), (1, 0))
    start, stop = (x.flatten()[there] for x in (made.first, stop))
    return TokenGraph.trusted(indptr=indptr, start=start, stop=stop, num_targets=n, num_sources=n, batch=z)


def _groups(made: _Sorted) -> Adjacency:
    """Z (G + 1) groups and their tokens among Z N places."""
    z, n = made.group.shape
    indptr = F.pad(made.size.flatten().cumsum(0), (1, 0))
    return Adjacency.trusted(indptr=indptr, indices=torch.arange(z * n, device=indptr.device), num_sources=z * n)


def _by_group(x: Tensor, z: int) -> Tensor:
    """[Z, G + 1, 1, D] of [Z (G + 1), D]."""
    return x.unflatten(0, (z, -1)).unsqueeze(2)


def _running(x: Tensor, made: _Sorted, reduce: str) -> Tensor:
    """Of each place the maximum or sum over its cluster up to it, in log2(N) steps of doubling length."""
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
    """[Z, N, G]: the sources that stand for the other clusters that have somebody, -1 for the rest."""
    groups = made.size.shape[1] - 1
    group = torch.arange(groups, device=made.group.device)
    if causal:  # of each cluster the last member that stands before the receiver in the sequence
        token = torch.empty_like(made.group).scatter(1, made.order, made.group)
        members = F.one_hot(token, groups + 1)[..., :groups]
        before = (members.cumsum(1) - members).gather(1, made.order.unsqueeze(-1).expand(-1, -1, groups))
        source, some = made.begin[:, None, :groups] + before - 1, before > 0
    else:
        source = group.expand(*made.group.shape, groups)
        some = made.size[:, None, :groups] > 0
    heard = some & (group != made.group.unsqueeze(-1)) & (made.group < groups).unsqueeze(-1)
    return torch.where(heard, source, -1)
