"""Plots of structures on matplotlib axes; every structure has them as ``structure.draw()``."""

from hgraph.draw.hypergraphs import draw_graph, draw_hypergraph
from hgraph.draw.knowledge import draw_knowledge_graph
from hgraph.draw.matrix import draw_adjacency
from hgraph.draw.tokens import draw_tokens

__all__ = ["draw_adjacency", "draw_graph", "draw_hypergraph", "draw_knowledge_graph", "draw_tokens"]
