"""`edge_score` and `edge_softmax`: scores per edge and head, and attention weights over the edges of each target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph import checks
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops.soft import soft_score, soft_softmax
from hgraph.ops.sparse.additive import additive
from hgraph.ops.sparse.linear import Rows, at_source, at_target, rows, sddmm
from hgraph.ops.sparse.softmax import softmax
from hgraph.structure import Adjacency, SoftAdjacency

__all__ = ["Additive", "Dot", "Score", "edge_score", "edge_softmax"]


@dataclass(frozen=True, eq=False)
class Dot:
    r"""Score by inner product, :math:`s_e = \langle q_t, k_s \rangle` per head.

    Use it for dot-product attention, as in a transformer.

    >>> adj = Adjacency.from_coo(target=[0, 0], source=[0, 1], num_targets=1, num_sources=2)
    >>> k = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    >>> edge_score(adj, torch.ones(1, 1, 2), k, score=Dot()).flatten().tolist()
    [3.0, 7.0]
    """


@dataclass(frozen=True, eq=False)
class Additive:
    r"""Score by a LeakyReLU of a sum.

    Use it for additive attention, as in GAT.

    Without ``a``: :math:`s_e = \mathrm{LeakyReLU}(q_t + k_s)`, q and k [..., H] (GAT, Velickovic et al. 2018, eq. 3).
    With ``a`` [H, D]: :math:`s_e = a \cdot \mathrm{LeakyReLU}(q_t + k_s)`, q and k [..., H, D]
    (GATv2, Brody et al. 2022, eq. 7).

    Args:
        a: [H, D] attention vectors, or None.
        slope: negative slope of the LeakyReLU.

    >>> adj = Adjacency.from_coo(target=[0, 0], source=[0, 1], num_targets=1, num_sources=2)
    >>> k = torch.tensor([[-2.0], [1.0]])
    >>> edge_score(adj, torch.ones(1, 1), k, score=Additive(slope=0.5)).flatten().tolist()
    [-0.5, 2.0]
    """

    a: Tensor | None = None
    slope: float = 0.2


Score = Dot | Additive


def edge_score(adj: Adjacency | SoftAdjacency, q: Tensor, k: Tensor, *, score: Score | None = None) -> Tensor:
    r"""Scores of each edge's target and source, one per head.

    Use it when you need the scores themselves; `attend` computes scores, softmax and sum in one pass.

    Args:
        adj: the edges; its weights are ignored.
        q: [T, H, D] queries of the targets ([T, H] for ``Additive()``).
        k: [S, H, D] keys of the sources ([S, H] for ``Additive()``).
        score: `Dot` (default; not scaled) or `Additive`.

    Returns:
        [E, H] in row-sorted order; for a `SoftAdjacency` [..., T, S, H], with leading batch dimensions of q and k.

    Raises:
        ArgumentError: wrong shapes or devices.
        ArgumentTypeError: tensors that are not floating-point, or an unknown score.

    >>> adj = Adjacency.from_coo(target=[0, 0], source=[0, 1], num_targets=1, num_sources=2)
    >>> edge_score(adj, torch.ones(1, 1, 2), torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])).flatten().tolist()
    [3.0, 7.0]
    """
    score = Dot() if score is None else score
    check_scores(adj, q, k, score)
    if isinstance(adj, SoftAdjacency):
        slope, a = (score.slope, score.a) if isinstance(score, Additive) else (None, None)
        k = k.repeat_interleave(q.shape[head_axis(score)] // k.shape[head_axis(score)], dim=head_axis(score))
        return soft_score(q, k, slope=slope, a=a).movedim(-3, -1)
    checks.shape("q", q, [adj.num_targets, *q.shape[head_axis(score) :]], "Batches need attend()")
    checks.shape("k", k, [adj.num_sources, *q.shape[1:]])
    return scores(rows(adj), q, k, score)


def scores(adj: Rows, q: Tensor, k: Tensor, score: Score) -> Tensor:
    """`edge_score` without its checks."""
    if isinstance(score, Dot):
        heads = q.shape[-2]
        return sddmm(adj, q.flatten(-2), k.flatten(-2), heads)
    if score.a is None:
        return F.leaky_relu(at_target(adj, q) + at_source(adj, k), score.slope)
    return additive(adj, q, k.to(q.dtype), score.a.to(q.dtype), score.slope)


def edge_softmax(adj: Adjacency | SoftAdjacency, score: Tensor, *, group: Tensor | None = None) -> Tensor:
    r"""Softmax of edge scores over the edges of each target, or over given groups of edges.

    Use it to normalize edge scores of your own.

    .. math:: \alpha_e = \exp(s_e) / \sum_{e' \sim e} \exp(s_{e'})

    Args:
        adj: the edges; its weights are ignored.
        score: [E] or [E, H] in row-sorted order, for a `SoftAdjacency` [..., T, S]; -inf masks an edge.
        group: None, or [E] integers: the softmax runs over edges with the same number, whatever their targets. Not for
            a `SoftAdjacency`.

    Returns:
        Same shape as ``score``; all-masked targets (or groups) give 0, never NaN.

    Raises:
        ArgumentError: wrong shapes or devices.
        ArgumentTypeError: scores that are not floating-point, groups that are not integers.

    >>> adj = Adjacency.from_coo(target=[0, 0, 1], source=[0, 1, 1], num_targets=2, num_sources=2)
    >>> edge_softmax(adj, torch.zeros(3)).tolist()
    [0.5, 0.5, 1.0]
    """
    checks.structure(adj, Adjacency, SoftAdjacency)
    checks.floating("score", score, adj.device)
    if isinstance(adj, SoftAdjacency):
        if group is not None:
            raise ArgumentError("group", "None with a SoftAdjacency", "a tensor")
        checks.shape("score", score, ["...", adj.num_targets, adj.num_sources])
        return soft_softmax(adj, score)
    if score.dim() not in (1, 2):
        raise ArgumentError("score", f"shape [{adj.num_edges}] or [{adj.num_edges}, H]", f"shape {list(score.shape)}")
    checks.shape("score", score, (adj.num_edges, "H")[: score.dim()], "Scores are in row-sorted order")
    wide = score.unsqueeze(1) if score.dim() == 1 else score
    if group is None:
        return softmax(rows(adj), wide).view(score.shape)
    checks.integers("group", group, adj.device)
    checks.shape("group", group, [adj.num_edges])
    members, order = _group_rows(group)
    back = torch.empty_like(order).index_put((order,), torch.arange(len(order), device=order.device))
    # A bijection: index_select's gradient adds one number to each position, so the order does not matter.
    return softmax(members, wide.index_select(0, order)).index_select(0, back).view(score.shape)


def _group_rows(group: Tensor) -> tuple[Rows, Tensor]:
    """Group edges: rows of a structure whose entries are the edges, and the sorting permutation. No sync."""
    ids, order = torch.sort(group, stable=True)
    new = torch.ones_like(ids)
    new[1:] = ids[1:] != ids[:-1]
    row = new.cumsum(0) - 1  # dense group ids, so E rows are enough
    each = torch.arange(len(row) + 1, device=row.device)
    indptr = torch.searchsorted(row, each)
    return [indptr, each[:-1], row, each, row, each[:-1], each[:-1], each[:-1]], order


def head_axis(score: Score) -> int:
    """The head axis of q and k: last for the scalar additive score, else before the features."""
    return -1 if isinstance(score, Additive) and score.a is None else -2


def check_scores(adj: Any, q: Tensor, k: Tensor, score: Score, *more: type) -> None:
    """Check q [..., T, H(, D)], k [..., S, H_kv(, D)] and the score; ``more`` structure types are allowed."""
    checks.structure(adj, Adjacency, SoftAdjacency, *more)
    if not isinstance(score, (Dot, Additive)):
        raise ArgumentTypeError("score", "Dot() or Additive()", type(score).__name__)
    checks.floating("q", q, adj.device)
    checks.floating("k", k, adj.device)
    axis = head_axis(score)
    if q.dim() < 1 - axis:
        raise ArgumentError("q", f"shape {'[..., T, H]' if axis == -1 else '[..., T, H, D]'}", f"shape {list(q.shape)}")
    batch, heads, tail = list(q.shape[: axis - 1]), q.shape[axis], list(q.shape[q.dim() + axis + 1 :])
    checks.shape("q", q, [*batch, adj.num_targets, heads, *tail], "One row per target")
    checks.shape("k", k, [*batch, adj.num_sources, "H_kv", *tail], "One row per source")
    if k.shape[axis] == 0 or heads % k.shape[axis] != 0:
        raise ArgumentError("k", f"a number of heads that divides the {heads} of q", k.shape[axis])
    if isinstance(score, Additive) and score.a is not None:
        checks.floating("score.a", score.a, adj.device)
        checks.shape("score.a", score.a, [heads, *tail])
