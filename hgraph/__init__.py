"""hgraph: learning on graphs and hypergraphs. Pick a structure, pick a message.

Everything except `errors` is imported on first use: importing hgraph loads neither torch nor numpy.
"""

from typing import TYPE_CHECKING

from hgraph import errors
from hgraph._lazy import lazy as _lazy

if TYPE_CHECKING:
    from hgraph import analysis as analysis
    from hgraph import builders as builders
    from hgraph import convert as convert
    from hgraph import data as data
    from hgraph import datasets as datasets
    from hgraph import distill as distill
    from hgraph import draw as draw
    from hgraph import kernels as kernels
    from hgraph import models as models
    from hgraph import nn as nn
    from hgraph import ops as ops
    from hgraph import patterns as patterns
    from hgraph import structure as structure
    from hgraph import testing as testing
    from hgraph import train as train
    from hgraph.data import (
        Data,
        Dataset,
        HyperedgeSplit,
        Interactions,
        LinkSplit,
        Split,
        TripleSplit,
        collate,
        load,
        reorder,
    )
    from hgraph.ops.aggregate import aggregate
    from hgraph.ops.attend import AttendResult, attend, attention_weights
    from hgraph.ops.attend_groups import attend_groups
    from hgraph.ops.dispatch.backend import backend, backends
    from hgraph.ops.edge import Additive, Dot, edge_score, edge_softmax
    from hgraph.ops.memory import keep_freed_memory
    from hgraph.ops.merge import merge
    from hgraph.ops.propagate import propagate
    from hgraph.ops.scan import Affine, Memory, Monoid, ScanResult, SoftmaxState, scan
    from hgraph.ops.scatter import gather, scatter, segment_reduce
    from hgraph.ops.tiles.tokens import Relative, alibi
    from hgraph.structure import (
        Adjacency,
        BlockAdjacency,
        Graph,
        Hypergraph,
        KnowledgeGraph,
        SoftAdjacency,
        SoftHypergraph,
        TokenGraph,
    )

__version__ = "0.1.0"

__all__ = [
    "Additive",
    "Adjacency",
    "Affine",
    "AttendResult",
    "BlockAdjacency",
    "Data",
    "Dataset",
    "Dot",
    "Graph",
    "HyperedgeSplit",
    "Hypergraph",
    "Interactions",
    "KnowledgeGraph",
    "LinkSplit",
    "Memory",
    "Monoid",
    "Relative",
    "ScanResult",
    "SoftAdjacency",
    "SoftHypergraph",
    "SoftmaxState",
    "Split",
    "TokenGraph",
    "TripleSplit",
    "aggregate",
    "alibi",
    "attend",
    "attend_groups",
    "attention_weights",
    "backend",
    "backends",
    "collate",
    "edge_score",
    "edge_softmax",
    "errors",
    "gather",
    "keep_freed_memory",
    "load",
    "merge",
    "propagate",
    "reorder",
    "scan",
    "scatter",
    "segment_reduce",
]

# Module -> the names that hgraph re-exports from it; tests compare them with the imports above. Operators are imported
# from their own modules, because hgraph.ops has subpackages with the same names.
_EXPORTS = {
    "hgraph.data": (
        "Data",
        "Dataset",
        "HyperedgeSplit",
        "Interactions",
        "LinkSplit",
        "Split",
        "TripleSplit",
        "collate",
        "load",
        "reorder",
    ),
    "hgraph.ops.aggregate": ("aggregate",),
    "hgraph.ops.attend": (
        "AttendResult",
        "attend",
        "attention_weights",
    ),
    "hgraph.ops.attend_groups": ("attend_groups",),
    "hgraph.ops.dispatch.backend": (
        "backend",
        "backends",
    ),
    "hgraph.ops.edge": (
        "Additive",
        "Dot",
        "edge_score",
        "edge_softmax",
    ),
    "hgraph.ops.memory": ("keep_freed_memory",),
    "hgraph.ops.merge": ("merge",),
    "hgraph.ops.propagate": ("propagate",),
    "hgraph.ops.scan": (
        "Affine",
        "Memory",
        "Monoid",
        "ScanResult",
        "SoftmaxState",
        "scan",
    ),
    "hgraph.ops.scatter": (
        "gather",
        "scatter",
        "segment_reduce",
    ),
    "hgraph.ops.tiles.tokens": (
        "Relative",
        "alibi",
    ),
    "hgraph.structure": (
        "Adjacency",
        "BlockAdjacency",
        "Graph",
        "Hypergraph",
        "KnowledgeGraph",
        "SoftAdjacency",
        "SoftHypergraph",
        "TokenGraph",
    ),
}
_SUBPACKAGES = (
    "analysis",
    "builders",
    "convert",
    "data",
    "datasets",
    "distill",
    "draw",
    "kernels",
    "models",
    "nn",
    "ops",
    "patterns",
    "structure",
    "testing",
    "train",
)

if not TYPE_CHECKING:  # type checkers read the imports above, and still find names that do not exist
    __getattr__, __dir__ = _lazy(
        __name__, {name: module for module, names in _EXPORTS.items() for name in names}, _SUBPACKAGES
    )
