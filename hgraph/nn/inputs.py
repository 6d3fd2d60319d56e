"""Argument checks of all convolutions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hgraph.checks import check_channels, check_dtype
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import Adjacency, Graph, Hypergraph, KnowledgeGraph

__all__ = ["check_ends", "check_inputs", "ends_of", "pair_of"]

_WAYS = {
    Graph: "Convert a hypergraph with hypergraph.clique()",
    KnowledgeGraph: "Build one with KnowledgeGraph.from_triples",
    Hypergraph: "Convert a graph with hgraph.builders.neighborhood_hypergraph(graph)",
}


def check_inputs(
    x: Any,
    structure: Any,
    kind: type[Graph | Hypergraph | KnowledgeGraph],
    channels: int,
    weight: Tensor,
    *,
    batched: bool = True,
) -> None:
    """Reject structures of the wrong kind, swapped arguments, and features of the wrong width or dtype.

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


def pair_of(in_channels: Any) -> tuple[int, int] | None:
    """The widths of sources and targets, or None where ``in_channels`` is one width for all nodes."""
    if not isinstance(in_channels, (tuple, list)):
        return None
    if len(in_channels) != 2:
        raise ArgumentError("in_channels", "a number, or a pair (of sources, of targets)", f"{in_channels!r}")
    for width in in_channels:
        check_channels(in_channels=width)
    return int(in_channels[0]), int(in_channels[1])


def ends_of(in_channels: Any) -> tuple[int, int]:
    """The widths of sources and targets, which are equal where ``in_channels`` is one width for all nodes."""
    return pair_of(in_channels) or (in_channels, in_channels)


def check_ends(
    x: Any, structure: Any, channels: int | tuple[int, int], weight: Tensor
) -> tuple[Adjacency, Tensor, Tensor]:
    """The edges, and the features of sources and of targets.

    With one width, x of all nodes of a `Graph`; with a pair, (x_source, x_target) over an `Adjacency`.
    """
    if isinstance(channels, tuple):
        return structure, *_check_pair(x, structure, channels, weight)
    check_inputs(x, structure, Graph, channels, weight)
    return structure.adj, x, x


def _check_pair(x: Any, adj: Any, channels: tuple[int, int], weight: Tensor) -> tuple[Tensor, Tensor]:
    if not isinstance(adj, Adjacency):
        hint = "Build one with Adjacency.from_coo(target=..., source=..., num_targets=..., num_sources=...)"
        raise ArgumentTypeError("structure", "an Adjacency (in_channels is a pair)", type(adj).__name__, hint)
    if not isinstance(x, (tuple, list)) or len(x) != 2 or not all(isinstance(t, Tensor) for t in x):
        raise ArgumentTypeError("x", "a pair (x_source, x_target) of tensors", type(x).__name__)
    for name, t, rows, width in zip(
        ("x_source", "x_target"), x, (adj.num_sources, adj.num_targets), channels, strict=True
    ):
        if t.dim() < 2 or t.shape[-2:] != (rows, width):
            raise ArgumentError(name, f"shape [..., {rows}, {width}]", f"shape {list(t.shape)}")
        check_dtype(name, t, weight)
    return x[0], x[1]
