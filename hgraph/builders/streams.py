"""Hypergraphs of time-stamped simplices, such as meetings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hgraph.errors import ArgumentError
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["simplex_hypergraph"]


def simplex_hypergraph(
    sizes: Any,
    members: Any,
    times: Any,
    *,
    num_nodes: int,
    start: float | None = None,
    end: float | None = None,
) -> Hypergraph:
    """The simplices of a time span; equal simplices become one hyperedge weighted by their count.

    Args:
        sizes: [S] members of each simplex, at least 1.
        members: [sum of sizes] node ids, simplex by simplex; repeated members of a simplex count once.
        times: [S] one number per simplex, in any order.
        num_nodes: N.
        start: only simplices at this time or later, or None for all.
        end: only simplices before this time, or None for all.

    Returns:
        Hyperedges in the order of their first time; ``hyperedge_weight`` [M] are their counts.

    Raises:
        ArgumentError: inconsistent lengths, an empty simplex, nodes out of range.

    Source: the layout of Benson et al., "Simplicial closure and higher-order link prediction", 2018.

    >>> hg = simplex_hypergraph([2, 1, 2], [0, 1, 2, 1, 0], [5, 3, 4], num_nodes=3)
    >>> hg.to_lists(), hg.hyperedge_weight.tolist()
    ([[2], [0, 1]], [1.0, 2.0])
    """
    size, member, time = _stream(sizes, members, times, num_nodes)
    inside = np.ones(len(time), dtype=bool)
    inside &= True if start is None else time >= start
    inside &= True if end is None else time < end
    rank = np.full(len(time), -1)  # rank of each simplex in time, -1 outside the span
    order = np.flatnonzero(inside)[np.argsort(time[inside], kind="stable")]
    rank[order] = np.arange(len(order))
    entry = np.repeat(rank, size)
    keys = np.unique(entry[entry >= 0] * num_nodes + member[entry >= 0])  # sorted by simplex, then member; unique
    entry, member = np.divmod(keys, max(num_nodes, 1))
    size = np.bincount(entry, minlength=len(order))

    first, count = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for k in np.unique(size):
        simplex = np.flatnonzero(size == k)
        rows = member[size[entry] == k].reshape(-1, k)
        _, seen, times_seen = np.unique(rows, axis=0, return_index=True, return_counts=True)
        first.append(simplex[seen])
        count.append(times_seen)
    hyperedges, counts = np.concatenate(first), np.concatenate(count)
    order = np.argsort(hyperedges)
    number = np.full(len(size), -1)
    number[hyperedges[order]] = np.arange(len(hyperedges))
    kept = number[entry] >= 0
    return Hypergraph.from_coo(
        node=member[kept],
        hyperedge=number[entry[kept]],
        num_nodes=num_nodes,
        num_hyperedges=len(hyperedges),
        hyperedge_weight=torch.from_numpy(counts[order]).float(),
    )


def _stream(sizes: Any, members: Any, times: Any, num_nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size, member, time = np.asarray(sizes), np.asarray(members), np.asarray(times)
    size, member = (a if len(a) else a.astype(np.int64) for a in (size, member))
    if size.dtype.kind not in "iu" or member.dtype.kind not in "iu":
        raise ArgumentError("sizes, members", "whole numbers", f"{size.dtype}, {member.dtype}")
    if len(size) != len(time):
        raise ArgumentError("times", f"{len(size)} (one per simplex)", len(time))
    gone = np.isnat(time) if time.dtype.kind in "mM" else time != time
    if time.dtype.kind == "O" or bool(np.any(gone)):
        got = "objects" if time.dtype.kind == "O" else f"{int(gone.sum())} missing"
        raise ArgumentError("times", "numbers or numpy dates, none missing", got, "Drop simplices without a time first")
    if len(size) and size.min() < 1:
        raise ArgumentError("sizes", "at least 1 member per simplex", int(size.min()))
    if int(size.sum()) != len(member):
        raise ArgumentError("members", f"{int(size.sum())} (the sum of sizes)", len(member))
    if len(member) and not (member.min() >= 0 and member.max() < num_nodes):
        raise ArgumentError("members", f"nodes in 0 .. {num_nodes - 1}", f"{member.min()} .. {member.max()}")
    return size.astype(np.int64), member.astype(np.int64), time
