"""Attention of tokens over a graph of tokens."""

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
from hgraph.nn.attention.rotary import rotate
from hgraph.nn.attention.settings import AttentionSettings, accepts
from hgraph.nn.attention.state import KVState
from hgraph.nn.padding import without_padding
from hgraph.ops import Relative, attend
from hgraph.structure import TokenGraph

__all__ = ["CrossAttention", "SelfAttention", "TokenAttention"]


class TokenAttention(nn.Module):
    r"""Base of the attention layers: four steps, of which a layer overrides one or two.

    1. :meth:`project` computes queries, keys and values, and what else a decode state stores per token.
    2. :meth:`pattern_for` gives the graph that messages pass over.
    3. :meth:`attend` computes the attention of each head over it.
    4. :meth:`output` projects the heads back to features of tokens.

    ``query_heads`` heads of ``head_dim`` features read ``kv_heads`` heads of keys and values.
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
        """Without the last losses, which belong to their autograd graph: so copies and pickles work after a forward."""
        return {**super().__getstate__(), "aux": {}}

    def key_projection(self, context_dim: int, bias: bool) -> Any:
        """The linear map of sources to keys."""
        return nn.Linear(context_dim, self.kv_heads * self.head_dim, bias=bias)

    def extra_repr(self) -> str:
        """The sizes."""
        kind = ", causal" if self.causal else ""
        return f"{self.dim}, {self.query_heads} heads of {self.head_dim}, {self.kv_heads} of keys{kind}"

    def reset_parameters(self) -> None:
        """As `torch.nn.Linear` starts."""
        for layer in self.children():
            layer.reset_parameters()  # type: ignore[operator]

    def graph_of(self, n: int) -> TokenGraph:
        """The graph for n tokens, made once a length; so a compiler, too, compiles once a length."""
        return self._cached_graph(n, None)

    def _cached_graph(self, n: int, sources: int | None) -> TokenGraph:
        key = operator.index(n), None if sources is None else operator.index(sources)  # of a compiler's sizes these
        self._make(*key)
        return self._graphs[key]

    @traced_as_constant
    def _make(self, n: int, sources: int | None) -> None:
        cached_by_size(self._graphs, (n, sources), lambda: self._made(n, sources))

    def _made(self, n: int, sources: int | None) -> TokenGraph:
        graph = patterns.causal(n) if self.causal else patterns.full(n, sources)
        if self.pattern is None:
            return graph
        own = check_graph("pattern", self.pattern(n))
        return own & graph if self.causal else own

    def within(self, graph: TokenGraph) -> TokenGraph:
        """What a graph of the caller has in common with the pattern, found once a graph."""
        own = check_graph("graph", graph)
        return cached(own, ("within", self.pattern), lambda: self.graph_of(own.num_targets) & own)

    # ------------------------------------------------------------------ one forward

    def run(self, x: Tensor, **arguments: Any) -> Tensor:
        """[..., T, dim]: the four steps; 0 at padding."""
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
        """[..., T, H, D]: attention of each head, before the output projection; ``query`` are `queries` made before."""
        query, key, value, *per_token = self.project(call.x, call.source, query=query, start=call.start)
        graph = self.pattern_for(query, key, per_token, call)
        if call.state is not None:
            key, value, *_ = call.state.append(key, value, *per_token)
        return self.attend(query, key, value, graph, bias=call.bias, head_mask=call.head_mask, mask=call.source_mask)

    # ------------------------------------------------------------------ the steps

    def queries(self, x: Tensor) -> Tensor:
        """[..., N, H, D], before any rotary embedding."""
        return self.query(x).unflatten(-1, (self.query_heads, self.head_dim))

    def project(
        self, x: Tensor, source: Tensor | None = None, *, query: Tensor | None = None, start: int = 0
    ) -> tuple[Tensor, ...]:
        """Queries [..., T, H, D], keys and values [..., S, H_kv, D]; positions of both count from ``start``."""
        source = x if source is None else source
        query = self.queries(x) if query is None else query
        key, value = (f(source).unflatten(-1, (self.kv_heads, self.head_dim)) for f in (self.key, self.value))
        if self.rotary is not None:
            targets, sources = (torch.arange(start, start + y.shape[-2], device=y.device) for y in (x, source))
            query, key = rotate(query, targets, self.rotary), rotate(key, sources, self.rotary)
        return query, key, value

    def pattern_for(self, query: Tensor, key: Tensor, per_token: list[Tensor], call: Call) -> TokenGraph:
        """The graph that messages pass over: of the caller, or of the layer for these lengths or this step."""
        if call.state is not None:
            return self._step(call.state, call.x.shape[-2], call.graph)
        targets, sources = call.x.shape[-2], call.source.shape[-2]
        if call.graph is not None:
            eager = not torch.compiler.is_compiling()
            if self.causal and not call.crosses and eager and not call.graph.is_causal:
                hint = "Cut it: graph & patterns.causal(n)"
                raise ArgumentError("graph", "a causal one, as the layer is", repr(call.graph), hint)
            return call.graph
        if not call.crosses:
            return self.graph_of(targets)
        if targets != sources and (self.causal or self.pattern is not None):
            kind = "causal" if self.causal else "of a pattern"
            hint = "Pass graph=, a TokenGraph of T x S tokens"
            raise ArgumentError("context", f"{targets} tokens, as the layer is {kind}", sources, hint)
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
        """The rows of the next tokens, over the tokens up to them."""
        graph = self.graph_of(state.capacity) if graph is None else graph
        if not graph.is_causal or graph.num_targets < state.capacity:
            raise ArgumentError("graph", f"a causal one of {state.capacity} tokens to decode over", repr(graph))
        high = min(len(state) + count, state.capacity)
        with ordinary_tensors():  # a structure would copy others
            return graph.select(torch.arange(len(state), high)).crop(high)


@accepts("pattern", "num_kv_heads", "causal", "head_dim", "bias", "dropout", "rotary")
class SelfAttention(TokenAttention):
    r"""Tokens attend to tokens along the edges of a graph.

    .. math:: y_t = W_O \, \Big\Vert_h \sum_{s \in \mathcal N_h(t)}
              \operatorname{softmax}_s\!\Big(\frac{q_{th} \cdot k_{sg}}{\sqrt{D}} + b_{ts}\Big) v_{sg},
              \qquad g = \lfloor h \, H_{kv} / H \rfloor

    Args:
        dim: features of a token.
        num_heads: H query heads.
        pattern: a function from a number of tokens to a `TokenGraph`; None is everybody.
        num_kv_heads: heads of keys and values, each read by H / H_kv neighbouring query heads; H by default.
        causal: whether the pattern is cut to tokens up to one's own.
        head_dim: D; dim / H by default.
        bias: of the four projections.
        dropout: of the attention shares, in training.
        rotary: the base of rotary embeddings (`rotate`), or None for none.

    Shapes:
        x [..., N, dim] -> [..., N, dim]. In a call ``graph`` takes the place of the pattern (packed or padded
        documents), and must be causal where the layer is (not looked at while compiling); ``bias`` is a `Relative`;
        ``state``, a `KVState`, makes the tokens the next ones of a sequence; ``head_mask`` [..., N or 1, H] says which
        heads a token uses; ``mask``, boolean [..., N], is True at real tokens: padding may hold anything, NaN too, gets
        no attention, and its output is 0.

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
        """Attend over the pattern, or over a graph of the caller."""
        return self.run(x, graph=graph, bias=bias, state=state, head_mask=head_mask, mask=mask)


@accepts("context_dim", "num_kv_heads", "bias", "dropout")
class CrossAttention(TokenAttention):
    r"""Tokens attend to other tokens: all of them, or along a graph of T x S.

    .. math:: y_t = W_O \, \Big\Vert_h \sum_{s \in \mathcal N(t)}
              \operatorname{softmax}_s\!\Big(\frac{q_{th} \cdot k_{sg}}{\sqrt{D}}\Big) v_{sg}

    A query reads no other query, so the layer may also serve where queries come one by one.

    Args:
        dim: features of a target.
        num_heads: H query heads.
        context_dim: features of a source; dim by default.
        num_kv_heads: heads of keys and values; H by default.
        bias: of the four projections.
        dropout: of the attention shares, in training.

    Shapes:
        x [..., T, dim] and context [..., S, context_dim] -> [..., T, dim]; ``graph``, a `TokenGraph` of T x S, and
        ``head_mask`` [..., T or 1, H] as in `SelfAttention`; ``mask``, boolean [..., T], is True at real tokens of x,
        ``context_mask`` [..., S] at those of the context: padding may hold anything, NaN too, gets no attention, and
        its output is 0.

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
