"""Token graphs in the form that `attend` computes over, chosen once: so that a compiler sees tensors alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.ops.attend import AttendResult, attend
from hgraph.ops.tokens import block_of, is_scattered
from hgraph.structure import Adjacency, BlockAdjacency, TokenGraph

__all__ = ["Ready", "attend_ready", "ready"]


class Ready(NamedTuple):
    """A token graph's edges one by one, or its tiles along an order of the tokens.

    Attributes:
        edges: what is attended over; its rows and columns are places.
        order: [N], the token at each place, or None where places are tokens.
        place: [N], the place of each token, or None.
    """

    edges: Adjacency | BlockAdjacency
    order: Tensor | None = None
    place: Tensor | None = None


def ready(graph: TokenGraph) -> Ready:
    """The form that is quickest: edges that lie far apart one by one, others as tiles."""
    if is_scattered(graph):
        return Ready(graph.adjacency())
    tiles, order = graph.tiles(block_of(graph)), graph.order
    if order is None:
        return Ready(tiles)
    place = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))
    return Ready(tiles, order, place)


def attend_ready(graph: Ready, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0) -> AttendResult:
    """`attend` over the token graph that was made ready."""
    if graph.order is None or graph.place is None:
        return attend(graph.edges, q, k, v, dropout=dropout)
    q, k, v = (x.index_select(-3, graph.order) for x in (q, k, v))
    out, lse = attend(graph.edges, q, k, v, dropout=dropout)
    return AttendResult(out.index_select(-3, graph.place), lse.index_select(-2, graph.place))
