"""Nouns: what messages flow over."""

from hgraph.structure.adjacency import Adjacency
from hgraph.structure.base import Structure, derived
from hgraph.structure.blocks import BlockAdjacency
from hgraph.structure.collate import collate
from hgraph.structure.data import Data, Dataset
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph
from hgraph.structure.interactions import Interactions, TripleSplit
from hgraph.structure.io import load
from hgraph.structure.knowledge_graph import KnowledgeGraph, Triple
from hgraph.structure.names import Names
from hgraph.structure.partition import Partition, Regions
from hgraph.structure.paths import Path
from hgraph.structure.prediction import HyperedgeSplit, LinkSplit
from hgraph.structure.reorder import Reordered, reorder
from hgraph.structure.soft import SoftAdjacency, SoftHypergraph
from hgraph.structure.split import Parts, Split
from hgraph.structure.statistics import Statistics, statistics
from hgraph.structure.token_graph import TokenGraph

__all__ = [
    "Adjacency",
    "BlockAdjacency",
    "Data",
    "Dataset",
    "Graph",
    "HyperedgeSplit",
    "Hypergraph",
    "Interactions",
    "KnowledgeGraph",
    "LinkSplit",
    "Names",
    "Partition",
    "Parts",
    "Path",
    "Regions",
    "Reordered",
    "SoftAdjacency",
    "SoftHypergraph",
    "Split",
    "Statistics",
    "Structure",
    "TokenGraph",
    "Triple",
    "TripleSplit",
    "collate",
    "derived",
    "load",
    "reorder",
    "statistics",
]
