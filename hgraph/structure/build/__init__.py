"""Structures made of what is not one yet: points, tables, texts, images, streams, other graphs, and chance."""

from hgraph.structure.build.points import knn_hypergraph

__all__ = ["knn_hypergraph"]
