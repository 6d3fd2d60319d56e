"""Recurrences: a state carried along a chain of tokens."""

from hgraph.nn.recurrent.aaren import Aaren
from hgraph.nn.recurrent.gated import QLSTM, RGLRU
from hgraph.nn.recurrent.lightning import LightningAttention
from hgraph.nn.recurrent.linear import LinearAttentionResult, alibi_slopes, linear_attention, log_decays
from hgraph.nn.recurrent.normalized import NormalizedAttention
from hgraph.nn.recurrent.state import ChainState, StackState
from hgraph.nn.recurrent.state_space import S6, SSD
from hgraph.nn.recurrent.system import LinearSystem, taylor_features
from hgraph.nn.recurrent.system_layer import SystemLayer
from hgraph.nn.recurrent.transnormer import LRPE, SGLU, NormLinearAttention, TransNormerLayer

__all__ = [
    "LRPE",
    "QLSTM",
    "RGLRU",
    "S6",
    "SGLU",
    "SSD",
    "Aaren",
    "ChainState",
    "LightningAttention",
    "LinearAttentionResult",
    "LinearSystem",
    "NormLinearAttention",
    "NormalizedAttention",
    "StackState",
    "SystemLayer",
    "TransNormerLayer",
    "alibi_slopes",
    "linear_attention",
    "log_decays",
    "taylor_features",
]
