"""`sample_neighbors`: a random sample of each target's edges without replacement."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph import checks
from hgraph.errors import ArgumentError
from hgraph.ops.dispatch.backend import dispatch
from hgraph.ops.random import bits, draw_seed
from hgraph.ops.sparse.linear import Rows, rows
from hgraph.structure import Adjacency

__all__ = ["sample_neighbors"]


def sample_neighbors(
    adj: Adjacency, targets: Tensor, fanout: int, *, generator: torch.Generator | None = None
) -> tuple[Adjacency, Tensor]:
    """The structure of some targets with at most ``fanout`` edges each, sampled uniformly.

    Use it for mini-batches on graphs whose full neighborhoods do not fit in memory.

    Each edge gets a random number that depends only on the seed and its position, and each target keeps the smallest:
    so a generator gives the same edges on every backend and number of threads, and a larger fanout only adds edges.

    Args:
        adj: the edges; weights are sampled along.
        targets: [T'] rows to sample, in that order; repeats allowed (they get equal samples).
        fanout: maximum number of edges per target.
        generator: source of the seed; a CPU generator draws the same edges on every device.

    Returns:
        ``(sampled, edges)``: the T' x S structure and, for each of its edges, its position [E'] in ``adj``.

    Raises:
        ArgumentError: a fanout below 1, targets of wrong shape or out of range.
        ArgumentTypeError: targets that are not integers.

    >>> adj = Adjacency.from_coo(target=[0, 0, 0, 1], source=[0, 1, 2, 2], num_targets=2, num_sources=3)
    >>> sampled, edges = sample_neighbors(adj, torch.tensor([1, 0]), 2)
    >>> sampled.shape, sampled.num_edges, int(edges[0])
    ((2, 3), 3, 3)
    """
    checks.structure(adj, Adjacency)
    checks.integers("targets", targets, adj.device)
    checks.shape("targets", targets, ["T"])
    if isinstance(fanout, bool) or not isinstance(fanout, int) or fanout < 1:
        raise ArgumentError("fanout", "a whole number, 1 or more", repr(fanout))
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < adj.num_targets:
        raise ArgumentError("targets", f"rows in 0 .. {adj.num_targets - 1}", f"{targets.min()} .. {targets.max()}")
    targets = targets.long()
    count = (adj.indptr.diff()[targets].long()).clamp(max=fanout)
    indptr = F.pad(count.cumsum(0), (1, 0))
    edges = _sample(rows(adj), targets, indptr, fanout, draw_seed(generator, adj.device))
    index = adj.indices.dtype
    weight = None if adj.weight is None else adj.weight.index_select(0, edges)
    sampled = Adjacency.trusted(
        indptr=indptr.to(index), indices=adj.indices[edges], num_sources=adj.num_sources, weight=weight
    )
    return sampled, edges


def _kernel(adj: Rows, targets: Tensor, indptr: Tensor, fanout: int, seed: Tensor) -> Tensor:
    """[E']: the edges of each target with the smallest numbers (ties: by position), in order of position."""
    start, length = adj[0][targets].long(), adj[0].diff()[targets].long()
    row = torch.arange(len(targets), device=seed.device).repeat_interleave(length)
    first = length.cumsum(0) - length
    edge = torch.arange(len(row), device=seed.device) - first[row] + start[row]
    order = torch.argsort(bits(seed, edge), stable=True)
    order = order[torch.argsort(row[order], stable=True)]  # by row, number and position
    place = torch.arange(len(row), device=seed.device) - first[row[order]]
    chosen = order[place < fanout].sort().values
    return edge[chosen]


_sample = dispatch("sample", _kernel)
