"""hgraph: learning on graphs and hypergraphs. Pick a structure, pick a message."""

import importlib as _importlib
from types import ModuleType as _ModuleType

from hgraph import errors
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
from hgraph.ops import (
    Additive,
    Affine,
    AttendResult,
    Dot,
    Memory,
    Monoid,
    Relative,
    ScanResult,
    SoftmaxState,
    alibi,
    attend,
    attend_groups,
    attention_weights,
    backend,
    backends,
    edge_score,
    edge_softmax,
    gather,
    keep_freed_memory,
    merge,
    propagate,
    scan,
    scatter,
    segment_reduce,
)
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

_SUBPACKAGES = (
    "analysis",
    "builders",
    "convert",
    "datasets",
    "distill",
    "kernels",
    "models",
    "nn",
    "patterns",
    "testing",
    "train",
)


def __getattr__(name: str) -> _ModuleType:
    """Subpackages come when first asked for, so that importing hgraph costs little more than importing torch."""
    if name in _SUBPACKAGES:
        return _importlib.import_module(f"hgraph.{name}")
    raise AttributeError(f"module 'hgraph' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBPACKAGES])
