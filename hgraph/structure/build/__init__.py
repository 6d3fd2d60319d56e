"""Structures made of what is not one yet: points, tables, texts, images, streams, other graphs, and chance."""

from hgraph.structure.build.points import knn_hypergraph
from hgraph.structure.build.random import (
    chung_lu_graph,
    chung_lu_hypergraph,
    erdos_renyi_graph,
    erdos_renyi_hypergraph,
    stochastic_block_graph,
    stochastic_block_hypergraph,
    uniform_graph,
    uniform_hypergraph,
)

__all__ = [
    "chung_lu_graph",
    "chung_lu_hypergraph",
    "erdos_renyi_graph",
    "erdos_renyi_hypergraph",
    "knn_hypergraph",
    "stochastic_block_graph",
    "stochastic_block_hypergraph",
    "uniform_graph",
    "uniform_hypergraph",
]
