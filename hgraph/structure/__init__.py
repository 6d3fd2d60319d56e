"""Structures that messages flow over: graphs, hypergraphs, knowledge graphs and token graphs."""

from hgraph.structure.adjacency import Adjacency
from hgraph.structure.base import Structure
from hgraph.structure.block_adjacency import BlockAdjacency
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph
from hgraph.structure.knowledge_graph import KnowledgeGraph, Triple
from hgraph.structure.names import Names
from hgraph.structure.paths import Path
from hgraph.structure.soft import SoftAdjacency, SoftHypergraph
from hgraph.structure.statistics import Statistics, statistics
from hgraph.structure.token_graph import TokenGraph

__all__ = [
    "Adjacency",
    "BlockAdjacency",
    "Graph",
    "Hypergraph",
    "KnowledgeGraph",
    "Names",
    "Path",
    "SoftAdjacency",
    "SoftHypergraph",
    "Statistics",
    "Structure",
    "TokenGraph",
    "Triple",
    "statistics",
]
