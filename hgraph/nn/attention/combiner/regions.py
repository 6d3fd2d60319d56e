"""Attention over a partition: one softmax over tokens and summaries of regions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph.ops import AttendResult, attend, merge
from hgraph.ops.pool import pool as pooled
from hgraph.ops.tiles.tokens import fastest_form
from hgraph.patterns import Partition, Regions
from hgraph.structure import Adjacency, BlockAdjacency, TokenGraph

__all__ = ["Part", "ReadyPartition", "Summary", "combiner_attention", "ready_partition", "with_sizes"]


@dataclass(frozen=True)
class Summary:
    """How a region is summarized as one key and one value.

    Use it to tell `combiner_attention` how to summarize regions.

    Args:
        pool: pooling of the queries and keys of its tokens: ``"max"``, ``"mean"`` or ``"sum"``.
        running: the pooling of regions that grow along a line; None is ``pool``.
        query_map: function of the queries [..., N, H, D] of tokens before pooling; None is the identity.
        key_map: the same for keys.
        own_key: the key of a region with a token's query: ``"token"``, the key of the token; ``"mean"``, the attention
            output with keys as values; or a function of the values of regions [..., N, H, D].
        size_bias: whether to add the logarithm of its size to the score of a region.
    """

    pool: Literal["max", "mean", "sum"] = "max"
    running: Literal["max", "mean", "sum"] | None = None
    query_map: Callable[[Tensor], Tensor] | None = None
    key_map: Callable[[Tensor], Tensor] | None = None
    own_key: Callable[[Tensor], Tensor] | Literal["token", "mean"] = "token"
    size_bias: bool = False


Edges = Adjacency | BlockAdjacency


class ReadyPartition(NamedTuple):
    """A partition and its graphs in the fastest form: direct edges, members and targets of each family of regions."""

    partition: Partition
    direct: tuple[Edges, ...]
    members: tuple[Edges, ...]
    receivers: tuple[Edges, ...]


class Part(NamedTuple):
    """One attention of a call, for records: within regions, or (``joint``) one of those merged with a common lse."""

    graph: TokenGraph
    query: Tensor
    key: Tensor
    lse: Tensor
    joint: bool = False
    mask: Tensor | None = None


def ready_partition(partition: Partition) -> ReadyPartition:
    """Convert the graphs of a partition to their fastest form, once for many calls."""
    members, receivers = (
        tuple(fastest_form(getattr(r, name)) for r in partition.regions) for name in ("members", "attended")
    )
    return ReadyPartition(partition, tuple(fastest_form(g) for g in partition.direct), members, receivers)


def combiner_attention(
    partition: Partition | ReadyPartition,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    summary: Summary | None = None,
    dropout: float = 0.0,
    mask: Tensor | None = None,
    parts: list[Part] | None = None,
) -> AttendResult:
    r"""Attention of every token over its direct tokens and the summaries of its regions.

    Use it to build a layer with partitions of your own; `CombinerAttention` calls it.

    .. math:: y_i = \frac{1}{Z_i} \Big( \sum_{j \in \Omega_i^0} e^{q_i \cdot k_j / \sqrt D} \, v_j
                  + \sum_{r \ge 1} e^{q_i \cdot k_{\Omega_i^r} / \sqrt D} \, v_{\Omega_i^r} \Big), \qquad
              v_\Omega = \sum_{j \in \Omega} \operatorname{softmax}_j\!\Big(\frac{q_\Omega \cdot k_j}{\sqrt D}\Big) v_j

    :math:`Z_i` is the sum of all exponentials of both kinds. :math:`q_\Omega, k_\Omega` are pooled over the region.

    Args:
        partition: the tokens and regions of each token; use `ready_partition` for many calls.
        q: [..., N, H, D] queries.
        k: [..., N, H, D] keys.
        v: [..., N, H, D_v] values.
        summary: how regions are summarized; by default with the maximum of queries and keys.
        dropout: dropout probability of attention to tokens, direct and within regions.
        mask: boolean [..., N], True at real tokens: padding is in no region, and regions with only padding get no
            attention; None if all are real.
        parts: a list to which the attentions are appended, those within regions first.

    Returns:
        `AttendResult` ``(out [..., N, H, D_v], lse [..., N, H])``, the log of :math:`Z_i`.

    >>> from hgraph.patterns import partitions
    >>> q, k, v = torch.randn(3, 9, 2, 4)
    >>> combiner_attention(partitions.fixed(9, 3), q, k, v).out.shape
    torch.Size([9, 2, 4])
    """
    made = partition if isinstance(partition, ReadyPartition) else ready_partition(partition)
    summary = Summary() if summary is None else summary
    results = [attend(g, q, k, v, dropout=dropout, mask=mask) for g in made.direct]
    pairs: list[tuple[TokenGraph, Tensor, Tensor, Tensor | None]] = [(g, q, k, mask) for g in made.partition.direct]
    for regions, members, receivers in zip(made.partition.regions, made.members, made.receivers, strict=True):
        query, key, local = summarized(regions, members, q, k, v, summary, dropout=dropout, mask=mask)
        if parts is not None:
            parts.append(Part(regions.members, query, k, local.lse, mask=mask))
        token_query, some = q, None if mask is None else (local.lse > -math.inf).any(-1)  # regions with a real token
        if summary.size_bias:
            token_query, key = with_sizes(q, key, regions.sizes if mask is None else _real_sizes(members, query, mask))
        results.append(attend(receivers, token_query, key, local.out, mask=some))
        pairs.append((regions.attended, token_query, key, some))
    result = functools.reduce(merge, results)
    if parts is not None:
        parts += [Part(graph, token_query, key, result.lse, True, some) for graph, token_query, key, some in pairs]
    return result


def _real_sizes(members: Any, query: Tensor, mask: Tensor) -> Tensor:
    """Number of real tokens [..., M] of each region, computed as a sum of equal exponentials."""
    zeros = query.new_zeros(*query.shape[:-2], 1, 1)
    tokens = query.new_zeros(*query.shape[:-3], mask.shape[-1], 1, 1)
    return attend(members, zeros, tokens, tokens, mask=mask).lse.squeeze(-1).exp().round()


def summarized(
    regions: Regions,
    members: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    summary: Summary,
    *,
    dropout: float = 0.0,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, AttendResult]:
    """Query and key [..., M, H, D] of each region, and the attention over its tokens, whose output is its value."""
    if regions.layout.kind == "own":
        local = attend(members, q, k, v, dropout=dropout, mask=mask)
        if summary.own_key == "token":
            key = k
        else:
            key = attend(members, q, k, k, mask=mask).out if summary.own_key == "mean" else summary.own_key(local.out)
        if mask is None:
            return q, key, local
        cell = _nearest_in_row(mask, regions.layout.size).unsqueeze(-1).unsqueeze(-1)
        key, value = (x.gather(-3, cell.expand_as(x)) for x in (key, local.out))
        return q, key, AttendResult(value, local.lse)
    line = regions.layout.kind in ("line", "others")
    reduce = summary.running if line and summary.running is not None else summary.pool
    query = q if summary.query_map is None else summary.query_map(q)
    key = k if summary.key_map is None else summary.key_map(k)
    query, key = (pooled(regions, x, reduce=reduce, present=mask) for x in (query, key))
    return query, key, attend(members, query, k, v, dropout=dropout, mask=mask)


def _nearest_in_row(mask: Tensor, columns: int) -> Tensor:
    """[B, N]: for padding, the last real token before it in its row, or the first one; for real tokens, themselves.

    So a row that ends with padding gives the same result as a shorter row.
    """
    n = mask.shape[-1]
    rows = -(-n // columns)
    token = torch.arange(rows * columns, device=mask.device).view(rows, columns)
    real = F.pad(mask, (0, rows * columns - n)).unflatten(-1, (rows, columns))
    last = torch.where(real, token, -1).cummax(-1).values
    first = torch.where(real, token, n - 1).amin(-1, keepdim=True)
    return torch.where(last >= 0, last, first).flatten(-2)[..., :n]


def with_sizes(q: Tensor, key: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    r"""Queries and keys [..., D + 1] whose scaled inner products are :math:`q \cdot k / \sqrt D + \ln |\Omega|`."""
    width = q.shape[-1]
    grow = math.sqrt((width + 1) / width)
    bias = sizes.clamp(min=1).to(key.dtype).log().unsqueeze(-1).unsqueeze(-1).expand(*key.shape[:-1], 1)
    return torch.cat([q * grow, torch.full_like(q[..., :1], math.sqrt(width + 1))], -1), torch.cat([key, bias], -1)
