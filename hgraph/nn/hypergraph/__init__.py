"""Layers over hypergraphs: fixed ones, and soft ones computed from the features."""

from hgraph.nn.hypergraph.all_set import AllDeepSetsConv, AllSetTransformerConv
from hgraph.nn.hypergraph.ed_hnn import EDHNNConv
from hgraph.nn.hypergraph.hcha import HypergraphAttentionConv, HypergraphConv
from hgraph.nn.hypergraph.hgnn import HGNNConv
from hgraph.nn.hypergraph.hgnnp import HGNNPConv
from hgraph.nn.hypergraph.hnhn import HNHNConv
from hgraph.nn.hypergraph.hypersage import HyperSAGEConv
from hgraph.nn.hypergraph.sheaf import SheafHypergraphConv
from hgraph.nn.hypergraph.soft import SoftHGNN, SoftHyperedges
from hgraph.nn.hypergraph.soft_select import SoftHGNNSeS
from hgraph.nn.hypergraph.two_step import TwoStepConv, TwoStepLayer
from hgraph.nn.hypergraph.unigat import UniGATConv
from hgraph.nn.hypergraph.unigcn import UniGCNConv
from hgraph.nn.hypergraph.unigin import UniGINConv, UniSAGEConv

__all__ = [
    "AllDeepSetsConv",
    "AllSetTransformerConv",
    "EDHNNConv",
    "HGNNConv",
    "HGNNPConv",
    "HNHNConv",
    "HyperSAGEConv",
    "HypergraphAttentionConv",
    "HypergraphConv",
    "SheafHypergraphConv",
    "SoftHGNN",
    "SoftHGNNSeS",
    "SoftHyperedges",
    "TwoStepConv",
    "TwoStepLayer",
    "UniGATConv",
    "UniGCNConv",
    "UniGINConv",
    "UniSAGEConv",
]
