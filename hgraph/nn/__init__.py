"""Layers: each one structure and one message, in the words of its paper."""

from hgraph.nn.aux import aux_losses
from hgraph.nn.graph import GATConv, GCNConv
from hgraph.nn.hypergraph import HGNNConv, HGNNPConv, SoftHGNN, SoftHGNNSeS, SoftHyperedges

__all__ = [
    "GATConv",
    "GCNConv",
    "HGNNConv",
    "HGNNPConv",
    "SoftHGNN",
    "SoftHGNNSeS",
    "SoftHyperedges",
    "aux_losses",
]
