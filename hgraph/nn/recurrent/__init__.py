"""Recurrences: a state carried along a chain of tokens."""

from hgraph.nn.recurrent.aaren import Aaren
from hgraph.nn.recurrent.lightning import LightningAttention
from hgraph.nn.recurrent.linear import LinearAttentionResult, alibi_slopes, linear_attention, log_decays
from hgraph.nn.recurrent.state import ChainState, StackState
from hgraph.nn.recurrent.transnormer import LRPE, SGLU, NormLinearAttention, TransNormerLayer

__all__ = [
    "LRPE",
    "SGLU",
    "Aaren",
    "ChainState",
    "LightningAttention",
    "LinearAttentionResult",
    "NormLinearAttention",
    "StackState",
    "TransNormerLayer",
    "alibi_slopes",
    "linear_attention",
    "log_decays",
]
