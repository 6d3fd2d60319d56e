"""Layers and functions for recommendation over knowledge graphs."""

from hgraph.nn.recommend.kgat import KGATConv
from hgraph.nn.recommend.transr import kg_attention, project, relation_laplacian, transr_energy, transr_loss

__all__ = ["KGATConv", "kg_attention", "project", "relation_laplacian", "transr_energy", "transr_loss"]
