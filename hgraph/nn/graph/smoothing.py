"""Symmetrically normalized sums over the neighbors, with and without self-loops; the structure is prepared once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hgraph.cache import CachedOperator, cached, can_cache_compiled
from hgraph.nn.graph._steps import with_loops
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Graph
from hgraph.structure.algebra import inverse_power, lacks_loop, refuse_degrees_of

__all__ = ["neighbor_sum", "smoothed"]


def neighbor_sum(x: Tensor, graph: Graph) -> Tensor:
    r""":math:`D^{-1/2} A D^{-1/2} X` [..., N, F] with weighted in-degrees, without self-loops that the graph lacks."""
    dtype, fields = torch.promote_types(x.dtype, torch.float32), graph.adj.fields()
    if can_cache_compiled(fields):
        return propagate(graph.adj.with_weight(_WITHOUT_LOOPS(fields, dtype)[0]), x)
    adj, _ = cached(graph, ("gcn without loops", dtype), lambda: _normalized(*_checked(graph.adj, None), dtype))
    return propagate(adj, x)


def smoothed(x: Tensor, graph: Graph) -> Tensor:
    r""":math:`\hat D^{-1/2} (A + I) \hat D^{-1/2} X` [..., N, F]: the weighted mean that GCN takes, without parameters.

    Existing self-loops keep their weight, missing ones get weight 1.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    adj, loop = _operator(graph, dtype)
    out = propagate(adj, x)
    return out if loop is None else out + loop.to(x.dtype).unsqueeze(-1) * x


def _operator(graph: Graph, dtype: torch.dtype) -> tuple[Adjacency, Tensor | None]:
    """The normalized structure and the weights of its missing self-loops, cached."""
    fields = graph.adj.fields()
    if can_cache_compiled(fields):
        weight, loop = _WEIGHTS(fields, dtype)
        return graph.adj.with_weight(weight), loop
    return cached(graph, ("gcn", dtype), lambda: _normalized(*_checked(*with_loops(graph)), dtype))


def _checked(adj: Adjacency, self_loop: Tensor | None) -> tuple[Adjacency, Tensor | None]:
    """The arguments, after a check of the degrees."""
    refuse_degrees_of(adj, "target")
    return adj, self_loop


def _weights(fields: Sequence[Tensor | None], dtype: torch.dtype) -> list[Tensor]:
    adj = Adjacency(*fields)  # type: ignore[arg-type]
    normalized, loop = _normalized(adj, lacks_loop(adj), dtype)
    return [normalized.weight, loop]  # type: ignore[list-item]


def _weights_without_loops(fields: Sequence[Tensor | None], dtype: torch.dtype) -> list[Tensor]:
    return [_normalized(Adjacency(*fields), None, dtype)[0].weight]  # type: ignore[arg-type, list-item]


_WEIGHTS = CachedOperator("gcn", _weights)
_WITHOUT_LOOPS = CachedOperator("gcn without loops", _weights_without_loops)


def _normalized(adj: Adjacency, self_loop: Tensor | None, dtype: torch.dtype) -> tuple[Adjacency, Tensor | None]:
    """The structure with normalized weights, and the weights [N] of its missing self-loops."""
    ones = torch.ones(adj.num_edges, dtype=dtype, device=adj.device)
    weight = ones if adj.weight is None else adj.weight.to(dtype)
    degree, missing = adj.with_weight(weight).target_degree(), None if self_loop is None else self_loop.to(dtype)
    scale = inverse_power(degree if missing is None else degree + missing, -0.5)
    adj = adj.with_weight(scale[adj.target] * weight * scale[adj.indices])
    return adj, None if missing is None else missing * scale * scale
