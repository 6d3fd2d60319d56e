"""What convolutions over graphs share: the linear map, loops for every vertex, a bias at the end."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.ops.remember import Remembered, can_remember, fields_of
from hgraph.structure import Adjacency, Graph, derived
from hgraph.structure.algebra import lacks_loop
from hgraph.structure.base import is_kept

__all__ = ["plus", "product", "with_loops"]


def with_loops(graph: Graph) -> tuple[Adjacency, Tensor | None]:
    """A structure, and which of its vertices [N] do not hear themselves over it; None where all do.

    On a CPU the missing loops are made edges, once and for all. Elsewhere a structure with as many edges as it takes
    must be waited for, and what is not remembered (under the compiler, with learned weights) would be made each time:
    there the graph stays as it is.
    """
    if graph.device.type == "cpu" and is_kept(graph):
        return derived(graph, "with loops", graph.adj.add_self_loops), None
    fields = fields_of(graph.adj)
    if can_remember(fields):
        return graph.adj, _LACKS_LOOP(fields, torch.bool)[0]
    return graph.adj, derived(graph, "lacks_loop", lambda: lacks_loop(graph.adj))


_LACKS_LOOP = Remembered("lacks_loop", lambda fields, _: [lacks_loop(Adjacency(*fields))])  # type: ignore[arg-type]


def plus(out: Tensor, bias: Tensor | None) -> Tensor:
    """``out + bias``, of a result that nobody else holds: where no graph is kept, in its own place."""
    if bias is None:
        return out
    bias = bias.to(out.dtype)
    return out + bias if torch.is_grad_enabled() else out.add_(bias)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight``; where it will have a gradient, the weight taken as columns.

    Torch then computes that as F' rows of F numbers, not as F rows of F': up to twice as fast on many features.
    """
    if not (torch.is_grad_enabled() and weight.requires_grad):
        return x @ weight
    return x @ weight.T.contiguous().T
