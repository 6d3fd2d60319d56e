"""Layers over hypergraphs: fixed ones, and soft ones computed from the features."""

from hgraph.nn.hypergraph.hgnn import HGNNConv
from hgraph.nn.hypergraph.hgnnp import HGNNPConv
from hgraph.nn.hypergraph.soft import SoftHGNN, SoftHyperedges
from hgraph.nn.hypergraph.soft_select import SoftHGNNSeS
from hgraph.nn.hypergraph.two_step import TwoStepConv
from hgraph.nn.hypergraph.unigcn import UniGCNConv

__all__ = ["HGNNConv", "HGNNPConv", "SoftHGNN", "SoftHGNNSeS", "SoftHyperedges", "TwoStepConv", "UniGCNConv"]
