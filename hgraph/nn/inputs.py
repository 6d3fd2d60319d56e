"""What every convolution asks of its arguments, before any work."""

from __future__ import annotations

from torch import Tensor

from hgraph.checks import check_dtype
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import Graph, Hypergraph, KnowledgeGraph

__all__ = ["check_inputs"]

_WAYS = {
    Graph: "hypergraph.clique() makes a graph",
    KnowledgeGraph: "KnowledgeGraph.from_triples makes a knowledge graph",
    Hypergraph: "hgraph.builders.neighbourhood_hypergraph(graph) makes a hypergraph",
}


def check_inputs(
    x: Tensor,
    structure: Graph | Hypergraph | KnowledgeGraph,
    kind: type[Graph | Hypergraph | KnowledgeGraph],
    channels: int,
    weight: Tensor,
) -> None:
    """Refuse another structure than the layer works on, swapped arguments, and features of another width or dtype."""
    if not isinstance(structure, kind):
        other = isinstance(structure, (Graph, Hypergraph, KnowledgeGraph))
        hint = _WAYS[kind] if other else _hint(structure, kind)
        raise ArgumentTypeError("structure", f"a {kind.__name__}", type(structure).__name__, hint)
    if not isinstance(x, Tensor):
        raise ArgumentTypeError("x", "a tensor of features", type(x).__name__)
    if x.dim() < 2 or x.shape[-1] != channels:
        raise ArgumentError("x", f"shape [..., N, {channels}] (in_channels is {channels})", f"shape {list(x.shape)}")
    check_dtype("x", x, weight)


def _hint(given: object, kind: type[Graph | Hypergraph | KnowledgeGraph]) -> str:
    """A list of pairs, as PyG's layers take them, or arguments in the other order."""
    if kind is Graph and isinstance(given, Tensor) and not given.is_floating_point() and len(given) == 2:
        return "Graph.from_edge_index(edge_index, num_nodes=x.shape[0], directed=...) makes one, once for all calls"
    return f"The order is layer(x, {kind.__name__.lower()})"
