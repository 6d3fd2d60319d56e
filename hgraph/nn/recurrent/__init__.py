"""Recurrences: a state carried along a chain of tokens."""

from hgraph.nn.recurrent.aaren import Aaren
from hgraph.nn.recurrent.lightning import LightningAttention
from hgraph.nn.recurrent.linear import LinearAttentionResult, alibi_slopes, linear_attention, log_decays
from hgraph.nn.recurrent.state import ChainState, StackState

__all__ = [
    "Aaren",
    "ChainState",
    "LightningAttention",
    "LinearAttentionResult",
    "StackState",
    "alibi_slopes",
    "linear_attention",
    "log_decays",
]
