"""Layers over graphs."""

from hgraph.nn.graph.gat import GATConv
from hgraph.nn.graph.gcn import GCNConv

__all__ = ["GATConv", "GCNConv"]
