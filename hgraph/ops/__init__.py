"""The operators: message passing over structures."""

from hgraph.ops.aggregate import aggregate
from hgraph.ops.attend import AttendResult, attend, attention_weights
from hgraph.ops.attend_groups import attend_groups
from hgraph.ops.dispatch.backend import backend, backends, current_backend
from hgraph.ops.edge import Additive, Dot, edge_score, edge_softmax
from hgraph.ops.memory import keep_freed_memory
from hgraph.ops.merge import merge
from hgraph.ops.propagate import propagate
from hgraph.ops.sample import sample_neighbors
from hgraph.ops.scan import Affine, Memory, Monoid, ScanResult, SoftmaxState, scan
from hgraph.ops.scatter import gather, scatter, segment_reduce
from hgraph.ops.tiles.tokens import Relative, alibi

__all__ = [
    "Additive",
    "Affine",
    "AttendResult",
    "Dot",
    "Memory",
    "Monoid",
    "Relative",
    "ScanResult",
    "SoftmaxState",
    "aggregate",
    "alibi",
    "attend",
    "attend_groups",
    "attention_weights",
    "backend",
    "backends",
    "current_backend",
    "edge_score",
    "edge_softmax",
    "gather",
    "keep_freed_memory",
    "merge",
    "propagate",
    "sample_neighbors",
    "scan",
    "scatter",
    "segment_reduce",
]
