"""Layers: each one structure and one message, in the words of its paper."""

from hgraph.nn.attention import (
    AxialAttention,
    CrossAttention,
    LandmarkAttention,
    MixtureOfHeadAttention,
    MoAAttention,
    PowerAttention,
    SelfAttention,
    SparseQueryAttention,
    record_attention,
    supported_kinds,
)
from hgraph.nn.aux import aux_losses
from hgraph.nn.graph import GATConv, GCNConv, RGCNConv
from hgraph.nn.hypergraph import HGNNConv, HGNNPConv, SoftHGNN, SoftHGNNSeS, SoftHyperedges
from hgraph.nn.recommend import KGATConv, kg_attention, project, relation_laplacian, transr_energy
from hgraph.nn.vision import (
    C3AH,
    A2C2f,
    AreaAttention,
    ConvBlock,
    Detect,
    DSBottleneck,
    DSC3k,
    DSC3k2,
    DSConv,
    FullPAD,
    HyperACE,
)

__all__ = [
    "C3AH",
    "A2C2f",
    "AreaAttention",
    "AxialAttention",
    "ConvBlock",
    "CrossAttention",
    "DSBottleneck",
    "DSC3k",
    "DSC3k2",
    "DSConv",
    "Detect",
    "FullPAD",
    "GATConv",
    "GCNConv",
    "HGNNConv",
    "HGNNPConv",
    "HyperACE",
    "KGATConv",
    "LandmarkAttention",
    "MixtureOfHeadAttention",
    "MoAAttention",
    "PowerAttention",
    "RGCNConv",
    "SelfAttention",
    "SoftHGNN",
    "SoftHGNNSeS",
    "SoftHyperedges",
    "SparseQueryAttention",
    "aux_losses",
    "kg_attention",
    "project",
    "record_attention",
    "relation_laplacian",
    "supported_kinds",
    "transr_energy",
]
