"""Layers over graphs."""

from hgraph.nn.graph.edge_conv import EdgeConv
from hgraph.nn.graph.gat import GATConv
from hgraph.nn.graph.gated import GatedGCNConv
from hgraph.nn.graph.gatv2 import GATv2Conv
from hgraph.nn.graph.gcn import GCNConv
from hgraph.nn.graph.gin import GINConv
from hgraph.nn.graph.gps import GPSConv
from hgraph.nn.graph.han import HANConv
from hgraph.nn.graph.hgt import HGTConv
from hgraph.nn.graph.pna import PNAConv
from hgraph.nn.graph.polynomial import ChebConv, SGConv, TAGConv
from hgraph.nn.graph.rgcn import RGCNConv
from hgraph.nn.graph.sage import SAGEConv
from hgraph.nn.graph.transformer import TransformerConv

__all__ = [
    "ChebConv",
    "EdgeConv",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GINConv",
    "GPSConv",
    "GatedGCNConv",
    "HANConv",
    "HGTConv",
    "PNAConv",
    "RGCNConv",
    "SAGEConv",
    "SGConv",
    "TAGConv",
    "TransformerConv",
]
