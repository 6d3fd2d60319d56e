"""Shared steps of graph convolutions: the linear map, self-loops, the bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.cache import CachedOperator, cached, can_cache, can_cache_compiled
from hgraph.checks import floating
from hgraph.errors import ArgumentError
from hgraph.ops import Additive, AttendResult, attend
from hgraph.ops.sparse.linear import rows
from hgraph.structure import Adjacency, Graph, coo
from hgraph.structure.algebra import lacks_loop

__all__ = [
    "GlorotLinear",
    "add_bias",
    "attend_by",
    "check_edges",
    "load_older",
    "missing_loops",
    "with_loops",
    "with_self_loops",
]


def with_loops(graph: Graph) -> tuple[Adjacency, Tensor | None]:
    """A structure, and the nodes [N] without a self-loop in it; None if all have one.

    On a CPU the missing loops are added as edges, once and cached. Elsewhere counting the new edges
    synchronizes, and without a cache (under the compiler, with learned weights) they would be added in every call:
    there the graph is unchanged.
    """
    if graph.device.type == "cpu" and can_cache(graph):
        return cached(graph, "with loops", graph.adj.add_self_loops), None
    return graph.adj, missing_loops(graph)


def missing_loops(graph: Graph) -> Tensor:
    """[N] which nodes have no self-loop; cached."""
    return cached(graph, "lacks_loop", lambda: lacks_loop(graph.adj))


def with_self_loops(graph: Graph, dtype: torch.dtype) -> tuple[Adjacency, Tensor | None, Tensor | None]:
    """The structure for attention, a bias of its edges or None, and as in `with_loops` the nodes without a loop.

    In compiled code the number of edges must not depend on the missing loops, and separate attention to them takes
    half as long again: every node gets one more edge to itself, with a bias of -inf where that repeats a loop.
    """
    fields = graph.adj.fields()
    if can_cache_compiled(fields):
        *indices, bias = _EVERY_LOOP(fields, dtype)
        return Adjacency(*indices), bias, None
    adj, self_loop = with_loops(graph)
    return adj, None, self_loop


def _every_loop(fields: Sequence[Tensor | None], dtype: torch.dtype) -> list[Tensor]:
    adj = Adjacency(*fields)  # type: ignore[arg-type]
    each = torch.arange(adj.num_targets, device=adj.device)
    ends = torch.cat([adj.target.long(), each]), torch.cat([adj.indices.long(), each])
    there = torch.where(lacks_loop(adj), 0.0, float("-inf")).to(dtype)
    bias = torch.cat([there.new_zeros(adj.num_edges), there])
    order = coo.lexsort(*ends)
    target, source = (end.index_select(0, order) for end in ends)
    indptr = coo.pointers(target, adj.num_targets)  # int64: whether E + N fit into int32 is checked below
    longer = Adjacency._from_sorted(indptr, source, target, adj.num_sources, None, None)
    return [*rows(longer), bias.index_select(0, order)]


_EVERY_LOOP = CachedOperator("with every loop", _every_loop)


def check_edges(edge_features: object, adj: Adjacency, channels: int | None) -> None:
    """Check the features of edges [..., E, D]; None if the layer takes none."""
    if channels is None:
        if edge_features is not None:
            raise ArgumentError("edge_features", "None, because edge_channels is None", "a tensor")
        return
    given = list(edge_features.shape) if isinstance(edge_features, Tensor) else []
    if len(given) < 2 or given[-2] != adj.num_edges or given[-1] != channels:
        expected = f"shape [..., {adj.num_edges}, {channels}], one row per edge"
        hint = (
            "Use graph.sort_edges(features): it permutes one row per listed edge into the order of the edges, and "
            "repeats it for the other direction of an undirected edge; rows from hgraph.convert are already sorted"
        )
        got = f"shape {given}" if isinstance(edge_features, Tensor) else type(edge_features).__name__
        raise ArgumentError("edge_features", expected, got, hint)
    floating("edge_features", edge_features, adj.device)


def attend_by(adj: Adjacency, scores: Tensor, value: Tensor, *, dropout: float) -> AttendResult:
    """Attention by given scores [..., E, H], to values [..., S, H, F']."""
    none = value.new_zeros(*value.shape[:-3], adj.num_targets, value.shape[-2])
    key = none if adj.num_targets == adj.num_sources else none.new_zeros(*value.shape[:-1])
    return attend(adj, none, key, value, score=Additive(), bias=scores, dropout=dropout)


def add_bias(out: Tensor, bias: Tensor | None) -> Tensor:
    """``out + bias``, in place without autograd."""
    if bias is None:
        return out
    bias = bias.to(out.dtype)
    return out + bias if torch.is_grad_enabled() else out.add_(bias)


class GlorotLinear(nn.Linear):
    """A linear map without bias whose weights [F', F] start Glorot-uniform.

    They are drawn as [F, F']: in that form they were stored before, and a seed still gives the same layer.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def reset_parameters(self) -> None:
        """Draw the weights."""
        drawn = torch.empty_like(self.weight.T, memory_format=torch.contiguous_format)
        nn.init.xavier_uniform_(drawn)
        with torch.no_grad():
            self.weight.copy_(drawn.T)


def load_older(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a layer load states of before its ``weight`` [F, F'] became ``linear.weight`` [F', F]."""
    if f"{prefix}weight" in state:
        state[f"{prefix}linear.weight"] = state.pop(f"{prefix}weight").T.contiguous()
