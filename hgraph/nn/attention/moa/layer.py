"""Mixture of attention spans: each head attends to sink tokens and a causal band of its own width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hgraph import patterns
from hgraph.errors import ArgumentError
from hgraph.nn.attention.base import TokenAttention
from hgraph.nn.attention.kinds import AttentionKind
from hgraph.nn.attention.moa.plan import SpanRule
from hgraph.nn.attention.moa.state import SpanState
from hgraph.nn.attention.record import record, recording
from hgraph.nn.attention.settings import accepts
from hgraph.nn.attention.state import KVState
from hgraph.ops import Relative
from hgraph.structure import TokenGraph

__all__ = ["MoAAttention"]


@accepts("bias", "dropout", "rotary")
class MoAAttention(TokenAttention):
    r"""Causal attention in which each head h has sink tokens and a band of its own width.

    Use it to give a trained model a window per head, and with it a smaller cache; see `plan_spans`.

    .. math:: N_h(t) = \{ s \le t : s < \text{sink or } \lfloor t/b \rfloor - \lfloor s/b \rfloor < w_h(n) \}, \qquad
              w_h(n) = \max(1, \lfloor \alpha_h / b + \beta_h \lceil n / b \rceil \rfloor)

    The sink is in addition to the span. With :math:`\alpha = 0, \beta = 1` everywhere this is full causal attention,
    with :math:`\beta = 0` and one :math:`\alpha` it is StreamingLLM's mask, in whole blocks.

    Args:
        dim: features per token.
        num_heads: H query heads.
        rules: one `SpanRule` per query head, or one per head of keys and values.
        num_kv_heads: heads of keys and values; H by default.
        num_sink: first tokens of a sequence that every token attends to.
        block_size: b, tokens per block.
        bias: whether the four projections have a bias.
        dropout: dropout probability of the attention weights.
        rotary: base of the rotary embeddings, or None.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``graph``, ``bias``, ``state``, ``head_mask`` and ``mask`` as in
        `SelfAttention`. With a state, spans are those of its capacity, which includes future tokens;
        `span_state` creates a state that stores only the tokens in the span of each head.

    Source: Fu et al., "MoA: Mixture of Sparse Attention for Automatic Large Language Model Compression", section 3.

    >>> layer = MoAAttention(8, 2, [SpanRule(4, 0.0), SpanRule(0, 1.0)], num_sink=2, block_size=2)
    >>> layer(torch.randn(1, 16, 8)).shape, layer.graph_of(16)
    (torch.Size([1, 16, 8]), TokenGraph(16 x 16, 2 heads, 212 edges, cpu))
    """

    kinds = frozenset({AttentionKind.CAUSAL_SELF})

    def __init__(
        self,
        dim: int,
        num_heads: int,
        rules: Sequence[SpanRule],
        *,
        num_kv_heads: int | None = None,
        num_sink: int = 64,
        block_size: int = 64,
        **settings: Any,
    ) -> None:
        if len(rules) not in (num_heads, num_kv_heads):
            raise ArgumentError("rules", f"one rule for each of {num_heads} heads", len(rules))
        group = num_heads // len(rules)
        self.rules = [SpanRule(*rule) for rule in rules for _ in range(group)]
        self.sink, self.block_size = num_sink, block_size
        super().__init__(dim, num_heads, num_kv_heads=num_kv_heads, causal=True, **settings)
        self.pattern = self._bands

    def _bands(self, n: int) -> TokenGraph:
        spans = [rule.blocks(n, self.block_size) * self.block_size for rule in self.rules]
        return patterns.sink_band(n, spans, num_sink=self.sink, block_size=self.block_size)

    def span_state(self, capacity: int) -> SpanState:
        """A decode state that stores sink tokens and, for each head, a ring buffer of its span.

        >>> layer = MoAAttention(8, 2, [SpanRule(4, 0.0), SpanRule(0, 0.5)], num_sink=2, block_size=2)
        >>> state = layer.span_state(64)
        >>> _ = layer(torch.randn(1, 64, 8), state=state)
        >>> state.num_cached, len(state)    # 2 + 4 tokens for one head, 2 + 32 for the other
        (40, 64)
        """
        widths = [rule.blocks(capacity, self.block_size) for rule in self.rules]
        return SpanState(
            widths, num_kv_heads=self.kv_heads, num_sink=self.sink, block_size=self.block_size, capacity=capacity
        )

    def forward(
        self,
        x: Tensor,
        graph: TokenGraph | None = None,
        *,
        bias: Relative | None = None,
        state: KVState | SpanState | None = None,
        head_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend over the bands, or over their intersection with the given graph."""
        if isinstance(state, SpanState):
            if any(argument is not None for argument in (graph, bias, head_mask, mask)):
                raise ArgumentError("state", "a KVState with a graph, a bias or a mask", "a SpanState")
            return self.out(self._decoded(x, state).flatten(-2))
        graph = None if graph is None else self.within(graph)
        return self.run(x, graph=graph, bias=bias, state=state, head_mask=head_mask, mask=mask)

    def _decoded(self, x: Tensor, state: SpanState) -> Tensor:
        """Attention outputs [..., n, H, D] of the next tokens, the first ones of a sequence at once."""
        query, key, value = self.project(x, start=len(state))
        if len(state):
            parts = (t.unsqueeze(-4).unbind(-3) for t in (query, key, value))
            outputs = [self._step_of(state, *token) for token in zip(*parts, strict=True)]
            return torch.cat([query[..., :0, :, :], *outputs], dim=-3)
        state.append(key, value)
        rows = self.graph_of(state.capacity).select(range(len(state))).crop(len(state))
        return self.attend(query, key, value, rows)

    def _step_of(self, state: SpanState, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = state.step(query, key, value)
        if recording(self):
            row = self.graph_of(state.capacity).select([len(state) - 1]).crop(len(state))
            record(self, row.to(query.device), query, state.keys(), result.lse)
        return result.out
