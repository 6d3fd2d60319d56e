"""hgraph: learning on graphs and hypergraphs. Pick a structure, pick a message."""

from hgraph import errors
from hgraph.ops import (
    Additive,
    AttendResult,
    Dot,
    attend,
    attention_weights,
    backend,
    backends,
    edge_score,
    edge_softmax,
    merge,
    propagate,
)
from hgraph.structure import Adjacency, Data, Dataset, Graph, Hypergraph, SoftAdjacency, Split, load

__version__ = "0.1.0"

__all__ = [
    "Additive",
    "Adjacency",
    "AttendResult",
    "Data",
    "Dataset",
    "Dot",
    "Graph",
    "Hypergraph",
    "SoftAdjacency",
    "Split",
    "attend",
    "attention_weights",
    "backend",
    "backends",
    "edge_score",
    "edge_softmax",
    "errors",
    "load",
    "merge",
    "propagate",
]
