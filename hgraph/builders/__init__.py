"""Build structures from points, tables, texts, images, streams and graphs, or at random."""

from hgraph.builders.attributes import category_hypergraph, membership_hypergraph, term_hypergraph
from hgraph.builders.encodings import laplacian_encoding, random_walk_encoding
from hgraph.builders.graphs import clique_hypergraph, community_hypergraph, neighborhood_hypergraph
from hgraph.builders.images import grid_graph, patch_hypergraph, superpixel_hypergraph
from hgraph.builders.points import kmeans_hypergraph, knn_graph, knn_hypergraph, radius_hypergraph
from hgraph.builders.random import (
    chung_lu_graph,
    chung_lu_hypergraph,
    erdos_renyi_graph,
    erdos_renyi_hypergraph,
    stochastic_block_graph,
    stochastic_block_hypergraph,
    uniform_graph,
    uniform_hypergraph,
)
from hgraph.builders.streams import simplex_hypergraph

__all__ = [
    "category_hypergraph",
    "chung_lu_graph",
    "chung_lu_hypergraph",
    "clique_hypergraph",
    "community_hypergraph",
    "erdos_renyi_graph",
    "erdos_renyi_hypergraph",
    "grid_graph",
    "kmeans_hypergraph",
    "knn_graph",
    "knn_hypergraph",
    "laplacian_encoding",
    "membership_hypergraph",
    "neighborhood_hypergraph",
    "patch_hypergraph",
    "radius_hypergraph",
    "random_walk_encoding",
    "simplex_hypergraph",
    "stochastic_block_graph",
    "stochastic_block_hypergraph",
    "superpixel_hypergraph",
    "term_hypergraph",
    "uniform_graph",
    "uniform_hypergraph",
]
