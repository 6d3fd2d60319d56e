"""A linear map and the two steps vertices -> hyperedges -> vertices, in the order that costs least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph._torch import is_eager
from hgraph.cache import CachedOperator, cached, can_cache_compiled
from hgraph.nn.hypergraph._weights import with_weights
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Hypergraph
from hgraph.structure.algebra import refuse_degrees, refuse_degrees_of

__all__ = ["Steps", "second_step", "steps_of", "two_steps", "weights_of"]

Operators = Callable[[Hypergraph], tuple[Adjacency, Adjacency]]


class Steps(NamedTuple):
    """The weighted structures G [M, N] and S [N, M] of the two steps, and the sums G 1 [M, 1]."""

    gather: Adjacency
    scatter: Adjacency
    ones: Tensor


def steps_of(
    hypergraph: Hypergraph, dtype: torch.dtype, name: str, operators: Operators, weights: CachedOperator
) -> Steps:
    """The steps of these ``operators`` in this precision, remembered; by compiled code their ``weights`` are."""
    fields = [*hypergraph.v2e.fields(), hypergraph.hyperedge_weight]
    if can_cache_compiled(fields):
        to_edges, to_vertices, ones = weights(fields, dtype)
        return Steps(hypergraph.v2e.with_weight(to_edges), hypergraph.e2v.with_weight(to_vertices), ones)
    return cached(hypergraph, (name, dtype), lambda: _steps(_checked(hypergraph, name), dtype, operators))


def _checked(hypergraph: Hypergraph, name: str) -> Hypergraph:
    """The same, once its degrees can be divided by; elsewhere than on a CPU a forward would wait for the answer."""
    v2e, of_edges = hypergraph.v2e, hypergraph.hyperedge_weight
    weights = [w for w in (v2e.weight, of_edges) if w is not None]
    if hypergraph.device.type == "cpu" and is_eager() and weights and not any(w.requires_grad for w in weights):
        refuse_degrees_of(v2e, "row")
        if any(bool((w < 0).any()) for w in weights):
            size = dataclasses.replace(
                hypergraph,
                v2e=v2e.with_weight(None if v2e.weight is None else v2e.weight.abs()),
                hyperedge_weight=None if of_edges is None else of_edges.abs(),
            )
            refuse_degrees(hypergraph.node_degree(), size.node_degree(), root=name == "hgnn")
    return hypergraph


def weights_of(name: str, operators: Operators) -> CachedOperator:
    """The edge weights of both steps, and G 1."""

    def recipe(fields: Sequence[Tensor | None], dtype: torch.dtype) -> list[Tensor]:
        hypergraph = Hypergraph(Adjacency(*fields[:-1]), fields[-1])  # type: ignore[arg-type]
        steps = _steps(hypergraph, dtype, operators)
        return [steps.gather.weight, steps.scatter.weight, steps.ones]  # type: ignore[list-item]

    return CachedOperator(name, recipe)


def _steps(hypergraph: Hypergraph, dtype: torch.dtype, operators: Operators) -> Steps:
    gather, scatter = operators(with_weights(hypergraph, dtype))
    return Steps(gather, scatter, gather.target_degree().unsqueeze(-1))


def two_steps(steps: Steps, linear: nn.Linear, x: Tensor) -> Tensor:
    r""":math:`S \, G \, (X \Theta + b)`.

    Where hyperedges are no more than vertices and messages get no wider, as :math:`S (G X \Theta + (G 1) b)`: the
    product is of M rows, and features that need no gradient cost the first step none.
    """
    gather, scatter = steps.gather, steps.scatter
    if linear.out_features < linear.in_features or gather.num_targets > gather.num_sources:
        return propagate(scatter, propagate(gather, linear(x)))
    return second_step(steps, linear, propagate(gather, x))


def second_step(steps: Steps, linear: nn.Linear, gathered: Tensor) -> Tensor:
    """`two_steps` from the sums G X [M, F] on."""
    y = F.linear(gathered, linear.weight)
    if linear.bias is not None:
        y = torch.addcmul(y, steps.ones.to(y.dtype), linear.bias.to(y.dtype))
    return propagate(steps.scatter, y)
