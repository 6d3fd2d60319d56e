"""Attention of tokens over graphs of tokens."""

from hgraph.nn.attention.axial import AxialAttention
from hgraph.nn.attention.base import CrossAttention, SelfAttention
from hgraph.nn.attention.combiner.layer import CombinerAttention
from hgraph.nn.attention.combiner.regions import Summary, combiner_attention, ready_partition
from hgraph.nn.attention.combiner.state import CombinerState
from hgraph.nn.attention.kinds import AttentionKind, require_kind, supported_kinds
from hgraph.nn.attention.kmeans import OnlineKMeans
from hgraph.nn.attention.landmark.layer import LandmarkAttention, insert_landmarks, is_landmark, landmark_attention
from hgraph.nn.attention.landmark.state import LandmarkState
from hgraph.nn.attention.moa.layer import MoAAttention
from hgraph.nn.attention.moa.plan import (
    SpanPlan,
    SpanRule,
    edge_influence,
    pareto_plans,
    plan_spans,
    span_loss,
    span_rules,
)
from hgraph.nn.attention.moa.state import SpanState
from hgraph.nn.attention.moh.layer import MixtureOfHeadAttention
from hgraph.nn.attention.moh.router import HeadRouter, QueryNormRouter
from hgraph.nn.attention.positional import PositionalAttention
from hgraph.nn.attention.power import PowerAttention
from hgraph.nn.attention.record import AttentionRecord, PartRecord, record_attention
from hgraph.nn.attention.rotary import apply_rotary_emb
from hgraph.nn.attention.routing.layer import RoutingAttention
from hgraph.nn.attention.routing.record import RoutedRecord
from hgraph.nn.attention.sqa import SparseQueryAttention
from hgraph.nn.attention.state import DecodeState, KVState

__all__ = [
    "AttentionKind",
    "AttentionRecord",
    "AxialAttention",
    "CombinerAttention",
    "CombinerState",
    "CrossAttention",
    "DecodeState",
    "HeadRouter",
    "KVState",
    "LandmarkAttention",
    "LandmarkState",
    "MixtureOfHeadAttention",
    "MoAAttention",
    "OnlineKMeans",
    "PartRecord",
    "PositionalAttention",
    "PowerAttention",
    "QueryNormRouter",
    "RoutedRecord",
    "RoutingAttention",
    "SelfAttention",
    "SpanPlan",
    "SpanRule",
    "SpanState",
    "SparseQueryAttention",
    "Summary",
    "apply_rotary_emb",
    "combiner_attention",
    "edge_influence",
    "insert_landmarks",
    "is_landmark",
    "landmark_attention",
    "pareto_plans",
    "plan_spans",
    "ready_partition",
    "record_attention",
    "require_kind",
    "span_loss",
    "span_rules",
    "supported_kinds",
]
