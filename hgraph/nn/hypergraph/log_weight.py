"""Weights of a hypergraph as terms of attention scores."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph._torch import is_eager
from hgraph.cache import cached
from hgraph.errors import ArgumentError
from hgraph.structure import Hypergraph

__all__ = ["log_weight"]


def log_weight(hypergraph: Hypergraph, dtype: torch.dtype, *, of_hyperedges: bool = True) -> Tensor | None:
    r"""Bias [nnz] of the scores of e2v such that attention is proportional to the weights; None without weights.

    .. math:: \log h(v, e) + \log w_e

    A weight of 0 masks the incidence. The result is cached.

    Args:
        hypergraph: the weighted hypergraph.
        dtype: dtype of the scores; at least float32 is returned.
        of_hyperedges: whether to include w, which a layer may use elsewhere.

    Raises:
        ArgumentError: (on a CPU) a negative weight; on other devices the check would synchronize.
    """
    wide = torch.promote_types(dtype, torch.float32)
    weights = [hypergraph.v2e.weight, hypergraph.hyperedge_weight if of_hyperedges else None]
    if all(w is None for w in weights):
        return None

    def compute() -> Tensor:
        e2v, total = hypergraph.e2v, None
        for weight, name in zip(weights, ("weight", "hyperedge_weight"), strict=True):
            if weight is None:
                continue
            if weight.device.type == "cpu" and is_eager() and bool((weight < 0).any()):
                hint = "Attention is proportional to the weights; use a layer without attention for signed ones"
                raise ArgumentError(name, "no negative weight", f"{float(weight.min()):g}", hint)
            each = e2v.weight if name == "weight" else weight[e2v.indices]
            assert each is not None  # noqa: S101 - e2v has weights where v2e has
            total = each.to(wide).log() if total is None else total + each.to(wide).log()
        assert total is not None  # noqa: S101 - there is a weight
        return total

    return cached(hypergraph, ("log weight", wide, of_hyperedges), compute)
