"""`attend_groups`: two-level attention, to groups by their handles and within each group to its members."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph import checks
from hgraph.errors import ArgumentError
from hgraph.ops.attend import AttendResult
from hgraph.ops.random import draw_seed
from hgraph.ops.tiles.group_attend import group_attend
from hgraph.ops.tiles.plan import tensors_of
from hgraph.structure import BlockAdjacency, TokenGraph

__all__ = ["attend_groups", "rows_a_tile"]

_QUERIES = 128  # queries per tile: enough for an efficient product


def attend_groups(
    graph: TokenGraph | BlockAdjacency,
    q: Tensor,
    handle: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
    head_mask: Tensor | None = None,
) -> AttendResult:
    r"""Softmax over groups by their handles, times the softmax within each group over its members.

    Use it when queries choose groups of tokens by one key per group, as in landmark attention.

    .. math:: a_{tc} = s \, q_t \cdot h_c, \qquad \mathrm{lse}_t = \log \sum_{c \in \mathcal N(t)} \exp a_{tc}, \qquad
              y_t = \sum_{c \in \mathcal N(t)} \exp(a_{tc} - \mathrm{lse}_t)
              \sum_{p} \operatorname{softmax}_p(s \, q_t \cdot k_{cp}) \, v_{cp}

    A group is a hyperedge of tokens with a key of its own, the handle: `merge` with `attend` over other tokens makes
    handles and tokens compete in one softmax. The message of a group depends on the query; nothing is pooled.
    If :math:`a_{tc}` were the logsumexp of the group's scores, the result would equal ordinary attention over all
    members.

    Args:
        graph: R rows of Q queries each, and the G groups that the queries of a row attend to.
        q: [..., R, Q, H, D] queries.
        handle: [..., G, H_kv, D] keys of the groups; H_kv divides H.
        k: [..., G, P, H_kv, D] keys of the P members of each group.
        v: [..., G, P, H_kv, D_v] their values.
        scale: s; :math:`1/\sqrt{D}` by default.
        dropout: probability with which the attention weight of a group is dropped; the others are scaled by
            1 / (1 - p). Always applied if above 0: pass 0 in evaluation.
        generator: random generator of the dropout.
        head_mask: boolean [..., R or 1, Q or 1, H]; where False the query does not attend with that head.

    Returns:
        `AttendResult` ``(out [..., R, Q, H, D_v], lse [..., R, Q, H])``: 0 and -inf for a query without groups;
        differentiable, twice. Scores are not stored: memory is that of the inputs and some tiles.

    Raises:
        ArgumentError: inconsistent shapes, devices, heads or probabilities.
        ArgumentTypeError: tensors that are not floating-point, or the wrong type of structure.

    Source: Mohtashami and Jaggi, "Landmark Attention", section 3.1: the grouped softmax.

    >>> from hgraph import patterns
    >>> q, handle, k = torch.zeros(1, 1, 1, 1), torch.zeros(2, 1, 1), torch.zeros(2, 3, 1, 1)
    >>> v = torch.tensor([1.0, 1.0, 4.0, 0.0, 0.0, 0.0]).view(2, 3, 1, 1)
    >>> attend_groups(patterns.full(1, 2), q, handle, k, v).out.item()      # half of the mean 2, half of the mean 0
    1.0
    """
    checks.structure(graph, TokenGraph, BlockAdjacency)
    _check_tensors(graph, q, handle, k, v)
    if not 0 <= dropout < 1:
        raise ArgumentError("dropout", "a probability in [0, 1)", dropout)
    batch, (rows, each, heads) = q.shape[:-4], q.shape[-4:-1]
    if graph.num_heads not in (1, heads) or graph.batch not in (1, batch.numel()):
        got = f"{list(batch)} examples and {heads} heads"
        raise ArgumentError("q", f"{graph.batch} examples and {graph.num_heads} heads, as in the structure", got)
    if head_mask is not None:
        checks.booleans("head_mask", head_mask, graph.device)
        fits = head_mask.dim() >= 3 and head_mask.shape[-1] == heads
        if not fits or any(m not in (1, n) for m, n in zip(head_mask.shape[-3:-1], (rows, each), strict=True)):
            raise ArgumentError("head_mask", f"shape [..., {rows} or 1, {each} or 1, {heads}]", list(head_mask.shape))
    tiles = graph.tiles(rows_a_tile(each)) if isinstance(graph, TokenGraph) else graph
    seed = draw_seed(generator, q.device) if dropout > 0 else None
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    flat = [x.flatten(0, len(batch) - 1) if batch else x.unsqueeze(0) for x in (q, handle, k, v)]
    out, lse = group_attend(tensors_of(tiles), *flat, seed, dropout, float(scale))
    out, lse = out.view(*batch, *out.shape[1:]), lse.view(*batch, *lse.shape[1:])
    if head_mask is not None:
        out = torch.where(head_mask.unsqueeze(-1), out, 0.0)
        lse = torch.where(head_mask, lse, float("-inf"))
    return AttendResult(out, lse)


def rows_a_tile(queries: int) -> int:
    """The tile size for rows with this many queries."""
    return max(1, _QUERIES // max(queries, 1))


def _check_tensors(graph: TokenGraph | BlockAdjacency, q: Tensor, handle: Tensor, k: Tensor, v: Tensor) -> None:
    for name, value in (("q", q), ("handle", handle), ("k", k), ("v", v)):
        checks.floating(name, value, graph.device)
    if graph.order is not None:
        hint = "Pass graph.natural(), or tiles of it"
        raise ArgumentError("graph", "rows and groups in natural order", "another order", hint)
    if q.dim() < 4:
        raise ArgumentError("q", "shape [..., R, Q, H, D]", f"shape {list(q.shape)}")
    batch, (heads, width), groups = q.shape[:-4], q.shape[-2:], graph.num_sources
    checks.shape("q", q, [*batch, graph.num_targets, "Q", "H", "D"], "R rows of the structure, Q queries in each")
    checks.shape("handle", handle, [*batch, groups, "H_kv", width], "One per group")
    kv_heads = handle.shape[-2]
    checks.shape("k", k, [*batch, groups, "P", kv_heads, width], "P members per group, as many heads as the handles")
    checks.shape("v", v, [*batch, groups, k.shape[-3], kv_heads, "D_v"], "One value per key")
    if kv_heads == 0 or heads % kv_heads:
        raise ArgumentError("handle", f"a number of heads that divides the {heads} of q", kv_heads)
    if k.shape[-3] == 0:
        raise ArgumentError("k", "at least one member in each group", "P = 0")
