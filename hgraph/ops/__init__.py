"""Verbs: how messages flow."""

from hgraph.ops.attend import AttendResult, attend, attention_weights
from hgraph.ops.backend import backend, backends, current_backend
from hgraph.ops.edge import Additive, Dot, edge_score, edge_softmax
from hgraph.ops.merge import merge
from hgraph.ops.propagate import propagate
from hgraph.ops.tokens import Relative, alibi

__all__ = [
    "Additive",
    "AttendResult",
    "Dot",
    "Relative",
    "alibi",
    "attend",
    "attention_weights",
    "backend",
    "backends",
    "current_backend",
    "edge_score",
    "edge_softmax",
    "merge",
    "propagate",
]
