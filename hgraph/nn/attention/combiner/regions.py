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

__all__ = ["Heard", "ReadyPartition", "Summary", "combiner_attention", "ready_partition", "with_sizes"]


@dataclass(frozen=True)
class Summary:
    """How a region becomes one key and one value.

    Args:
        pool: of the queries and keys of its tokens: ``"max"``, ``"mean"`` or ``"sum"``.
        running: the same for the regions that grow along a line, where it differs; None is ``pool``.
        query_map: what the tokens' queries [..., N, H, D] go through before they are pooled; None is nothing.
        key_map: the same for keys.
        own_key: the keys of regions that a token's query asks: ``"token"``, the token's key; ``"mean"``, what the query
            finds with keys for values; or a function of the regions' values [..., N, H, D].
        size_bias: whether the score of a region is raised by the logarithm of its size.
    """

    pool: Literal["max", "mean", "sum"] = "max"
    running: Literal["max", "mean", "sum"] | None = None
    query_map: Callable[[Tensor], Tensor] | None = None
    key_map: Callable[[Tensor], Tensor] | None = None
    own_key: Callable[[Tensor], Tensor] | Literal["token", "mean"] = "token"
    size_bias: bool = False


Edges = Adjacency | BlockAdjacency


class ReadyPartition(NamedTuple):
    """A partition, and its graphs in the form that is attended over: direct, members and hearers of each family."""

    partition: Partition
    direct: tuple[Edges, ...]
    members: tuple[Edges, ...]
    heard: tuple[Edges, ...]


class Heard(NamedTuple):
    """One of the attentions that made a region's value, or, with the joint lse, that were merged: for records."""

    graph: TokenGraph
    query: Tensor
    key: Tensor
    lse: Tensor
    joint: bool = False
    mask: Tensor | None = None


def ready_partition(partition: Partition) -> ReadyPartition:
    """Make the graphs of a partition ready, once for many calls."""
    members = tuple(fastest_form(r.members) for r in partition.regions)
    heard = tuple(fastest_form(r.attended) for r in partition.regions)
    return ReadyPartition(partition, tuple(fastest_form(g) for g in partition.direct), members, heard)


def combiner_attention(
    partition: Partition | ReadyPartition,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    summary: Summary | None = None,
    dropout: float = 0.0,
    mask: Tensor | None = None,
    heard: list[Heard] | None = None,
) -> AttendResult:
    r"""Attention of every token over the tokens it hears directly and the summaries of the regions it hears.

    .. math:: y_i = \frac{1}{Z_i} \Big( \sum_{j \in \Omega_i^0} e^{q_i \cdot k_j / \sqrt D} \, v_j
                  + \sum_{r \ge 1} e^{q_i \cdot k_{\Omega_i^r} / \sqrt D} \, v_{\Omega_i^r} \Big), \qquad
              v_\Omega = \sum_{j \in \Omega} \operatorname{softmax}_j\!\Big(\frac{q_\Omega \cdot k_j}{\sqrt D}\Big) v_j

    :math:`Z_i` is the sum of all exponentials of both kinds. :math:`q_\Omega, k_\Omega` are pooled over the region.

    Args:
        partition: what each token hears; `ready_partition` makes it ready once for many calls.
        q: [..., N, H, D] queries.
        k: [..., N, H, D] keys.
        v: [..., N, H, D_v] values.
        summary: how regions are summed up; by default the maximum of queries and keys.
        dropout: of the shares of tokens, direct and within regions.
        mask: boolean [..., N], True at real tokens: padding is in no region, and a region of padding alone gets no
            attention; None where all are real.
        heard: a list that the attentions are appended to, those within regions first.

    Returns:
        `AttendResult` ``(out [..., N, H, D_v], lse [..., N, H])``, the log of :math:`Z_i`.

    >>> from hgraph.patterns import partitions
    >>> q, k, v = torch.randn(3, 9, 2, 4)
    >>> combiner_attention(partitions.fixed(9, 3), q, k, v).out.shape
    torch.Size([9, 2, 4])
    """
    made = partition if isinstance(partition, ReadyPartition) else ready_partition(partition)
    summary = Summary() if summary is None else summary
    parts = [attend(g, q, k, v, dropout=dropout, mask=mask) for g in made.direct]
    pairs: list[tuple[TokenGraph, Tensor, Tensor, Tensor | None]] = [(g, q, k, mask) for g in made.partition.direct]
    for regions, members, hearers in zip(made.partition.regions, made.members, made.heard, strict=True):
        query, key, local = summed_up(regions, members, q, k, v, summary, dropout=dropout, mask=mask)
        if heard is not None:
            heard.append(Heard(regions.members, query, k, local.lse, mask=mask))
        own, some = q, None if mask is None else (local.lse > -math.inf).any(-1)  # regions with a real token
        if summary.size_bias:
            own, key = with_sizes(q, key, regions.sizes if mask is None else _real_sizes(members, query, mask))
        parts.append(attend(hearers, own, key, local.out, mask=some))
        pairs.append((regions.attended, own, key, some))
    result = functools.reduce(merge, parts)
    if heard is not None:
        heard += [Heard(graph, own, key, result.lse, True, some) for graph, own, key, some in pairs]
    return result


def _real_sizes(members: Any, query: Tensor, mask: Tensor) -> Tensor:
    """[..., M]: how many real tokens each region has, as what a sum of equal exponentials counts."""
    zeros = query.new_zeros(*query.shape[:-2], 1, 1)
    tokens = query.new_zeros(*query.shape[:-3], mask.shape[-1], 1, 1)
    return attend(members, zeros, tokens, tokens, mask=mask).lse.squeeze(-1).exp().round()


def summed_up(
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
    """Of each region the query and the key [..., M, H, D], and the attention over its tokens: its value is the out."""
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
    """[B, N]: for padding the last token before it in its row that is there, or the first one; for others themselves.

    So a row whose end is padding answers as a shorter row does.
    """
    n = mask.shape[-1]
    rows = -(-n // columns)
    token = torch.arange(rows * columns, device=mask.device).view(rows, columns)
    there = F.pad(mask, (0, rows * columns - n)).unflatten(-1, (rows, columns))
    last = torch.where(there, token, -1).cummax(-1).values
    first = torch.where(there, token, n - 1).amin(-1, keepdim=True)
    return torch.where(last >= 0, last, first).flatten(-2)[..., :n]


def with_sizes(q: Tensor, key: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    r"""Queries and keys [..., D + 1] whose scaled inner products are :math:`q \cdot k / \sqrt D + \ln |\Omega|`."""
    width = q.shape[-1]
    grow = math.sqrt((width + 1) / width)
    bias = sizes.clamp(min=1).to(key.dtype).log().unsqueeze(-1).unsqueeze(-1).expand(*key.shape[:-1], 1)
    return torch.cat([q * grow, torch.full_like(q[..., :1], math.sqrt(width + 1))], -1), torch.cat([key, bias], -1)
