"""Layers over graphs."""

from hgraph.nn.graph.gat import GATConv
from hgraph.nn.graph.gcn import GCNConv
from hgraph.nn.graph.rgcn import RGCNConv

__all__ = ["GATConv", "GCNConv", "RGCNConv"]
