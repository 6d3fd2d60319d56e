"""Layers over graphs."""

from hgraph.nn.graph.gat import GATConv
from hgraph.nn.graph.gcn import GCNConv
from hgraph.nn.graph.han import HANConv
from hgraph.nn.graph.hgt import HGTConv
from hgraph.nn.graph.rgcn import RGCNConv
from hgraph.nn.graph.sage import SAGEConv

__all__ = ["GATConv", "GCNConv", "HANConv", "HGTConv", "RGCNConv", "SAGEConv"]
