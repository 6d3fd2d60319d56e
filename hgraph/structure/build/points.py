"""Structures built from points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["knn_hypergraph"]


def knn_hypergraph(x: Any, k: int, *, include_self: bool = True, chunk: int = 4096) -> Hypergraph:
    r"""One hyperedge a point: the point itself and its k nearest others.

    .. math:: e_i = \{i\} \cup \operatorname{arg\,k\,min}_{j \ne i} \lVert x_i - x_j \rVert_2

    Distances are exact sums of squares, pair by pair, so equal points are equally far; among equally far ones those
    of smaller index are taken. The result does not depend on ``chunk``. Gradients do not flow to ``x``.

    Args:
        x: [N, F] points, floats or integers, without NaN or infinity.
        k: how many others, 0 .. N-1.
        include_self: whether point i is a member of hyperedge i.
        chunk: the distances of so many points to so many others are held at once: memory O(chunk^2), time O(N^2 F).

    Returns:
        N vertices and N hyperedges of k + 1 members (k without ``include_self``).

    Raises:
        ArgumentError: not two dimensions, values that are not finite, k or chunk out of range.
        ArgumentTypeError: complex points.

    >>> knn_hypergraph([[0.0], [1.0], [5.0]], k=1).to_lists()
    [[0, 1], [0, 1], [1, 2]]
    """
    x = torch.as_tensor(x).detach()
    if x.dim() != 2:
        raise ArgumentError("x", "shape [N, F]", f"shape {list(x.shape)}")
    if x.is_complex():
        raise ArgumentTypeError("x", "real points", x.dtype)
    x = x if x.dtype in (torch.float32, torch.float64) else x.double()
    if not bool(x.isfinite().all()):
        row = int((~x.isfinite()).any(1).nonzero()[0, 0])
        raise ArgumentError("x", "finite points", f"NaN or infinity in row {row}", "Fill or drop missing values first")
    n = x.shape[0]
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= max(n - 1, 0):
        raise ArgumentError("k", f"0 .. {max(n - 1, 0)} (there are {n} points)", k)
    if chunk < 1:
        raise ArgumentError("chunk", "at least 1", chunk)

    blocks = [_nearest(x, rows, k, chunk) for rows in torch.arange(n, device=x.device).split(chunk)]
    members = torch.cat(blocks) if blocks else torch.empty(0, k, dtype=torch.long, device=x.device)
    if include_self:
        members = torch.cat([torch.arange(n, device=x.device)[:, None], members], dim=1)
    return Hypergraph.from_coo(
        vertex=members.flatten(),
        hyperedge=torch.arange(n, device=x.device).repeat_interleave(members.shape[1]),
        num_vertices=n,
        num_hyperedges=n,
    )


def _nearest(x: Tensor, rows: Tensor, k: int, chunk: int) -> Tensor:
    """[R, k]: the k nearest others of the points ``rows``, ids ascending; the best so far meet one block at a time."""
    best = x.new_empty(len(rows), 0)
    best_id = rows.new_empty(len(rows), 0)
    for columns in torch.arange(x.shape[0], device=x.device).split(chunk):
        # Not by matrix product: |a|^2 + |b|^2 - 2ab rounds differently for equal points, and ties would fall at random.
        distance = torch.cdist(x[rows], x[columns], compute_mode="donot_use_mm_for_euclid_dist")
        distance = distance.masked_fill(rows[:, None] == columns, torch.inf)
        best = torch.cat([best, distance], dim=1)
        best_id = torch.cat([best_id, columns.expand(len(rows), -1)], dim=1)
        if best.shape[1] > k:
            chosen = _smallest(best, k)
            best, best_id = best[chosen].view(len(rows), k), best_id[chosen].view(len(rows), k)
    return best_id


def _smallest(values: Tensor, k: int) -> Tensor:
    """Boolean [R, C] with k True a row: the smallest values, and of those equal to the largest chosen the leftmost.

    `torch.topk` alone does not say which of equal values it takes.
    """
    if k == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    bound = values.topk(k, dim=1, largest=False).values[:, -1:]
    below, tied = values < bound, values == bound
    return below | (tied & (tied.cumsum(1) <= k - below.sum(1, keepdim=True)))
