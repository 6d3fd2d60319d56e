"""Weights in the precision that a layer computes in."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from hgraph.structure import Hypergraph

__all__ = ["with_weights"]


def with_weights(hypergraph: Hypergraph, dtype: torch.dtype) -> Hypergraph:
    """The same hypergraph with incidence weights (ones if it has none) and hyperedge weights of this dtype.

    Degrees and their powers then come out in it: a float64 layer must not divide by float32 roots.
    """
    v2e = hypergraph.v2e
    ones = torch.ones(v2e.num_edges, dtype=dtype, device=v2e.device)

    def cast(weight: Tensor | None) -> Tensor | None:
        return None if weight is None else weight.to(dtype)

    return dataclasses.replace(
        hypergraph,
        v2e=v2e.with_weight(ones if v2e.weight is None else v2e.weight.to(dtype)),
        hyperedge_weight=cast(hypergraph.hyperedge_weight),
        node_weight=cast(hypergraph.node_weight),
    )
