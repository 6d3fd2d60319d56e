"""Recurrences: a state carried along a chain of tokens."""

from hgraph.nn.recurrent.lightning import LightningAttention
from hgraph.nn.recurrent.linear import LinearAttentionResult, alibi_slopes, linear_attention, log_decays
from hgraph.nn.recurrent.state import ChainState

__all__ = [
    "ChainState",
    "LightningAttention",
    "LinearAttentionResult",
    "alibi_slopes",
    "linear_attention",
    "log_decays",
]
