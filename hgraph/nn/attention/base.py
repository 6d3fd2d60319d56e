"""Attention over a token graph."""

from __future__ import annotations

import functools
import operator
from typing import Any

import torch
from torch import Tensor, nn

from hgraph import patterns
from hgraph._torch import ordinary_tensors
from hgraph.cache import cached, cached_by_size, traced_as_constant
from hgraph.errors import ArgumentError
from hgraph.nn.attention.call import Call, check_graph, check_tokens
from hgraph.nn.attention.kinds import CROSS, SELF, AttentionKind
from hgraph.nn.attention.masks import fitting
from hgraph.nn.attention.record import record
from hgraph.nn.attention.rotary import apply_rotary_emb
from hgraph.nn.attention.settings import AttentionSettings, accepts
from hgraph.nn.attention.state import KVState
from hgraph.nn.padding import without_padding
from hgraph.ops import Relative, attend
from hgraph.structure import TokenGraph

__all__ = ["CrossAttention", "SelfAttention", "TokenAttention"]


class TokenAttention(nn.Module):
    r"""Base of the attention layers: four steps, one or two of which a layer overrides.

    1. :meth:`project` computes queries, keys and values, and other tensors that a decode state stores per token.
    2. :meth:`pattern_for` returns the token graph.
    3. :meth:`attend` computes the attention of each head over it.
    4. :meth:`output` projects the heads back to features of tokens.

    There are ``query_heads`` query heads of ``head_dim`` features and ``kv_heads`` heads of keys and values.
    """

    kinds: frozenset[AttentionKind] = SELF
    state_kind: type = KVState

    def __init__(self, dim: int, num_heads: int, **settings: Any) -> None:
        super().__init__()
        s: Any = AttentionSettings(dim, num_heads, **settings)
        self.dim, self.head_dim, self.query_heads, self.kv_heads = dim, s.head_dim, s.num_query_heads, s.num_kv_heads
        self.pattern, self.causal, self.dropout, self.rotary = s.pattern, s.causal, s.dropout, s.rotary
        self.query = nn.Linear(dim, self.query_heads * self.head_dim, bias=s.bias)
        self.key = self.key_projection(s.context_dim, s.bias)
        self.value = nn.Linear(s.context_dim, self.kv_heads * self.head_dim, bias=s.bias)
        self.out = nn.Linear(self.query_heads * self.head_dim, dim, bias=s.out_bias)
        self.aux: dict[str, Tensor] = {}
        self._graphs: dict[tuple[int, int | None], TokenGraph] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Drop the last losses with their autograd graph, so that copies and pickles work after a forward."""
        return {**super().__getstate__(), "aux": {}}

    def key_projection(self, context_dim: int, bias: bool) -> Any:
        """The linear map of sources to keys."""
        return nn.Linear(context_dim, self.kv_heads * self.head_dim, bias=bias)

    def extra_repr(self) -> str:
        """Sizes."""
        kind = ", causal" if self.causal else ""
        return f"{self.dim}, {self.query_heads} heads of {self.head_dim}, {self.kv_heads} of keys{kind}"

    def reset_parameters(self) -> None:
        """Reset all parameters, as `torch.nn.Linear`."""
        for layer in self.children():
            layer.reset_parameters()  # type: ignore[operator]

    def graph_of(self, n: int) -> TokenGraph:
        """The graph for n tokens, cached per length; a compiler also compiles once per length."""
        return self._cached_graph(n, None)

    def _cached_graph(self, n: int, sources: int | None) -> TokenGraph:
        key = operator.index(n), None if sources is None else operator.index(sources)  # specializes symbolic sizes
        self._make(*key)
        return self._graphs[key]

    @traced_as_constant
    def _make(self, n: int, sources: int | None) -> None:
        cached_by_size(self._graphs, (n, sources), lambda: self._made(n, sources))

    def _made(self, n: int, sources: int | None) -> TokenGraph:
        graph = patterns.causal(n) if self.causal else patterns.full(n, sources)
        if self.pattern is None:
            return graph
        pattern = check_graph("pattern", self.pattern(n))
        return pattern & graph if self.causal else pattern

    def within(self, graph: TokenGraph) -> TokenGraph:
        """The intersection of a graph of the caller with the pattern, cached per graph."""
        checked = check_graph("graph", graph)
        return cached(checked, ("within", self.pattern), lambda: self.graph_of(checked.num_targets) & checked)

    # ------------------------------------------------------------------ one forward

    def run(self, x: Tensor, **arguments: Any) -> Tensor:
        """Run the four steps: [..., T, dim], 0 at padding."""
        call = self.prepare(x, **arguments)
        return without_padding(self.output(self.compute_heads(call), call), call.mask)

    def prepare(
        self, x: Tensor, *, context: Tensor | None = None, head_mask: Tensor | None = None, **arguments: Any
    ) -> Call:
        """Check the arguments of a forward, and set padding to 0."""
        check_tokens("x", x, self.query.in_features, self.query.weight)
        if context is not None:
            check_tokens("context", context, self.key.in_features, self.key.weight)
        if head_mask is not None:
            fitting("head_mask", head_mask, torch.Size([*x.shape[:-1], self.query_heads]))
        return Call.of(x, self.state_kind, context=context, head_mask=head_mask, **arguments)

    def compute_heads(self, call: Call, *, query: Tensor | None = None) -> Tensor:
        """[..., T, H, D]: attention per head before the output projection; ``query`` may come from `queries`."""
        query, key, value, *per_token = self.project(call.x, call.source, query=query, start=call.start)
        graph = self.pattern_for(query, key, per_token, call)
        if call.state is not None:
            key, value, *_ = call.state.append(key, value, *per_token)
        return self.attend(query, key, value, graph, bias=call.bias, head_mask=call.head_mask, mask=call.source_mask)

    # ------------------------------------------------------------------ the steps

    def queries(self, x: Tensor) -> Tensor:
        """Queries [..., N, H, D], before rotary embedding."""
        return self.query(x).unflatten(-1, (self.query_heads, self.head_dim))

    def project(
        self, x: Tensor, source: Tensor | None = None, *, query: Tensor | None = None, start: int = 0
    ) -> tuple[Tensor, ...]:
        """Queries [..., T, H, D], keys and values [..., S, H_kv, D]; positions start at ``start``."""
        source = x if source is None else source
        query = self.queries(x) if query is None else query
        key, value = (f(source).unflatten(-1, (self.kv_heads, self.head_dim)) for f in (self.key, self.value))
        if self.rotary is not None:
            targets, sources = (torch.arange(start, start + y.shape[-2], device=y.device) for y in (x, source))
            query, key = apply_rotary_emb(query, targets, self.rotary), apply_rotary_emb(key, sources, self.rotary)
        return query, key, value

    def pattern_for(self, query: Tensor, key: Tensor, per_token: list[Tensor], call: Call) -> TokenGraph:
        """The token graph: from the caller, or of the layer for these lengths or this step."""
        if call.state is not None:
            return self._step(call.state, call.x.shape[-2], call.graph)
        targets, sources = call.x.shape[-2], call.source.shape[-2]
        if call.graph is not None:
            eager = not torch.compiler.is_compiling()
            if self.causal and not call.crosses and eager and not call.graph.is_causal:
                hint = "Pass graph & patterns.causal(n)"
                raise ArgumentError("graph", "a causal graph, since the layer is causal", repr(call.graph), hint)
            return call.graph
        if not call.crosses:
            return self.graph_of(targets)
        if targets != sources and (self.causal or self.pattern is not None):
            kind = "causal" if self.causal else "limited to a pattern"
            hint = "Pass graph=, a TokenGraph of T x S tokens"
            raise ArgumentError("context", f"{targets} tokens, since the layer is {kind}", sources, hint)
        return self._cached_graph(targets, sources)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        graph: TokenGraph,
        *,
        bias: Relative | None = None,
        head_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """[..., T, H, D]: softmax attention over a graph, recorded for `record_attention`."""
        if graph.device != query.device:
            graph = cached(graph, ("on", query.device), functools.partial(graph.to, query.device))
        dropout = self.dropout if self.training else 0.0
        result = attend(graph, query, key, value, bias=bias, dropout=dropout, head_mask=head_mask, mask=mask)
        record(self, graph, query, key, result.lse, bias, mask=mask)
        return result.out

    def output(self, heads: Tensor, call: Call) -> Tensor:
        """[..., T, dim] of the heads [..., T, H, D]."""
        return self.out(heads.flatten(-2))

    def _step(self, state: KVState, count: int, graph: TokenGraph | None) -> TokenGraph:
        """The graph rows of the next tokens, over the tokens up to them."""
        graph = self.graph_of(state.capacity) if graph is None else graph
        if not graph.is_causal or graph.num_targets < state.capacity:
            raise ArgumentError(
                "graph", f"a causal graph of at least {state.capacity} tokens for decoding", repr(graph)
            )
        high = min(len(state) + count, state.capacity)
        with ordinary_tensors():  # structures copy inference tensors
            return graph.select(torch.arange(len(state), high)).crop(high)


@accepts("pattern", "num_kv_heads", "causal", "head_dim", "bias", "dropout", "rotary")
class SelfAttention(TokenAttention):
    r"""Self-attention along the edges of a token graph.

    Use it for attention within one sequence, with any pattern of `hgraph.patterns`.

    .. math:: y_t = W_O \, \Big\Vert_h \sum_{s \in \mathcal N_h(t)}
              \operatorname{softmax}_s\!\Big(\frac{q_{th} \cdot k_{sg}}{\sqrt{D}} + b_{ts}\Big) v_{sg},
              \qquad g = \lfloor h \, H_{kv} / H \rfloor

    Args:
        dim: features per token.
        num_heads: H query heads.
        pattern: a function from the number of tokens to a `TokenGraph`; None is all pairs.
        num_kv_heads: heads of keys and values, each used by H / H_kv adjacent query heads; H by default.
        causal: whether tokens attend only to tokens up to themselves.
        head_dim: D, features per head; dim / H by default.
        bias: whether the four projections have a bias.
        dropout: dropout probability of the attention weights.
        rotary: base of the rotary embeddings (`apply_rotary_emb`), or None.

    Shapes:
        x [..., N, dim] -> [..., N, dim]. ``graph`` replaces the pattern (for packed documents) and
        must be causal if the layer is (not checked while compiling); ``bias`` is a `Relative`; with ``state``, a
        `KVState`, the tokens are the next ones of a sequence; ``head_mask`` [..., N or 1, H] says which
        heads a token uses; ``mask``, boolean [..., N], is True at real tokens: padding gets no attention, whatever it
        contains, and its output is 0.

    Source: Vaswani et al., "Attention Is All You Need", section 3.2; Ainslie et al., "GQA", for grouped heads.

    >>> import functools
    >>> from hgraph import patterns
    >>> layer = SelfAttention(8, 2, pattern=functools.partial(patterns.sliding_window, window=3), causal=True)
    >>> layer(torch.randn(2, 10, 8)).shape, layer.graph_of(10).num_edges
    (torch.Size([2, 10, 8]), 27)
    """

    def forward(
        self,
        x: Tensor,
        graph: TokenGraph | None = None,
        *,
        bias: Relative | None = None,
        state: KVState | None = None,
        head_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend over the pattern, or over the given graph."""
        return self.run(x, graph=graph, bias=bias, state=state, head_mask=head_mask, mask=mask)


@accepts("context_dim", "num_kv_heads", "bias", "dropout")
class CrossAttention(TokenAttention):
    r"""Cross-attention to all tokens of a context, or along a graph of T x S tokens.

    Use it when queries and keys come from different sequences, as in a decoder that reads an encoder's output.

    .. math:: y_t = W_O \, \Big\Vert_h \sum_{s \in \mathcal N(t)}
              \operatorname{softmax}_s\!\Big(\frac{q_{th} \cdot k_{sg}}{\sqrt{D}}\Big) v_{sg}

    Queries do not depend on each other, so they may also be processed one by one.

    Args:
        dim: features per target.
        num_heads: H query heads.
        context_dim: features per source; dim by default.
        num_kv_heads: heads of keys and values; H by default.
        bias: whether the four projections have a bias.
        dropout: dropout probability of the attention weights.

    Shapes:
        x [..., T, dim] and context [..., S, context_dim] -> [..., T, dim]; ``graph``, a `TokenGraph` of T x S, and
        ``head_mask`` [..., T or 1, H] as in `SelfAttention`; ``mask``, boolean [..., T], is True at real tokens of x,
        ``context_mask`` [..., S] at those of the context: padding gets no attention, whatever it contains, and its
        output is 0.

    Source: Vaswani et al., "Attention Is All You Need", section 3.2.3.

    >>> CrossAttention(8, 2, context_dim=5)(torch.randn(3, 8), torch.randn(7, 5)).shape
    torch.Size([3, 8])
    """

    kinds = CROSS

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        graph: TokenGraph | None = None,
        *,
        head_mask: Tensor | None = None,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend from x to the context."""
        return self.run(x, context=context, graph=graph, head_mask=head_mask, mask=mask, context_mask=context_mask)
