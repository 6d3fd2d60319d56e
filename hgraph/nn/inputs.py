"""Argument checks of all convolutions."""

from __future__ import annotations

from torch import Tensor

from hgraph.checks import check_dtype
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import Graph, Hypergraph, KnowledgeGraph

__all__ = ["check_inputs"]

_WAYS = {
    Graph: "Convert a hypergraph with hypergraph.clique()",
    KnowledgeGraph: "Build one with KnowledgeGraph.from_triples",
    Hypergraph: "Convert a graph with hgraph.builders.neighborhood_hypergraph(graph)",
}


def check_inputs(
    x: Tensor,
    structure: Graph | Hypergraph | KnowledgeGraph,
    kind: type[Graph | Hypergraph | KnowledgeGraph],
    channels: int,
    weight: Tensor,
    *,
    batched: bool = True,
) -> None:
    """Reject other structures, swapped arguments, and features of another width or dtype.

    Layers whose edge weights depend on the features take one example: without ``batched`` x has two dimensions.
    """
    if not isinstance(structure, kind):
        other = isinstance(structure, (Graph, Hypergraph, KnowledgeGraph))
        hint = _WAYS[kind] if other else _hint(structure, kind)
        raise ArgumentTypeError("structure", f"a {kind.__name__}", type(structure).__name__, hint)
    if not isinstance(x, Tensor):
        raise ArgumentTypeError("x", "a tensor of features", type(x).__name__)
    if not batched and x.dim() != 2:
        raise ArgumentError("x", f"shape [N, {channels}]", f"shape {list(x.shape)}", "Call the layer once per example")
    if x.dim() < 2 or x.shape[-1] != channels:
        raise ArgumentError("x", f"shape [..., N, {channels}] (in_channels is {channels})", f"shape {list(x.shape)}")
    check_dtype("x", x, weight)


def _hint(given: object, kind: type[Graph | Hypergraph | KnowledgeGraph]) -> str:
    """A hint for a list of pairs, as in PyG's layers, or for swapped arguments."""
    if kind is Graph and isinstance(given, Tensor) and not given.is_floating_point() and len(given) == 2:
        return (
            "Build one with Graph.from_edge_index(edge_index, num_nodes=x.shape[0], directed=...), once for all calls"
        )
    return f"The order is layer(x, {kind.__name__.lower()})"
