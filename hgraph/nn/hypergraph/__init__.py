"""Layers over hypergraphs."""

from hgraph.nn.hypergraph.hgnn import HGNNConv
from hgraph.nn.hypergraph.hgnnp import HGNNPConv

__all__ = ["HGNNConv", "HGNNPConv"]
