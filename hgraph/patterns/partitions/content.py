"""Partitions by content: clusters."""

from __future__ import annotations

from typing import Any

import torch

from hgraph import patterns
from hgraph.errors import ArgumentError
from hgraph.patterns._make import graph_of
from hgraph.patterns.partition import Partition, Regions
from hgraph.structure import coo

__all__ = ["clusters"]


def clusters(assignment: Any, *, causal: bool = True) -> Partition:
    """A token's own cluster directly, each other cluster as a region; if causal, only tokens up to it.

    Args:
        assignment: integers [N], the cluster of each token; tokens with negative entries are disconnected.
        causal: whether tokens attend only to themselves and earlier tokens. Then each token has a region: its cluster
            up to that token.

    >>> clusters([0, 1, 0, 1]).support().equal(patterns.causal(4))
    True
    """
    group = coo.as_indices("assignment", torch.as_tensor(assignment))
    if group.dim() != 1:
        raise ArgumentError("assignment", "shape [N]", f"shape {list(group.shape)}")
    n, count = len(group), int(group.max()) + 1 if len(group) else 0
    direct, rows = patterns.clusters(group, causal=causal), torch.arange(n)
    each = group.unsqueeze(1) == torch.arange(count)  # [N, G]
    other = (group >= 0).unsqueeze(1) & ~each
    if causal:
        last = torch.where(each, rows.unsqueeze(1), -1).cummax(0).values if n else each.long()
        row, column = (other & (last >= 0)).nonzero().unbind(1)
        source = last[row, column]
        members, attended = direct, graph_of(row, source, source + 1, n, n)
    else:
        token = (group >= 0).nonzero().flatten()
        members = graph_of(group[token], token, token + 1, count, n)
        row, column = (other & each.any(0)).nonzero().unbind(1)
        attended = graph_of(row, column, column + 1, n, count)
    return Partition((direct,), (Regions(members, attended),) if attended.num_runs else ())
