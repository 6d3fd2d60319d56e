"""Sparse query attention, including multi-head, grouped-query and multi-query attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hgraph.errors import ArgumentError
from hgraph.nn.attention.base import TokenAttention
from hgraph.nn.attention.kinds import CROSS, SELF
from hgraph.nn.attention.settings import accepts
from hgraph.nn.attention.state import KVState
from hgraph.structure import TokenGraph

__all__ = ["SparseQueryAttention"]

# Numbers of query heads and of key-value heads, as divisors of num_heads; 0 is one head.
_VARIANTS = {
    "mha": (1, 1),
    "gqa": (1, 4),
    "mqa": (1, 0),
    "sqa": (2, 4),
    "ssqa": (2, 2),
    "xsqa": (4, 4),
    "xsmqa": (4, 0),
}


@accepts("pattern", "causal", "bias", "out_bias", "dropout", "rotary", bias=False, out_bias=True)
class SparseQueryAttention(TokenAttention):
    r"""Attention with fewer query heads: the scores cost :math:`h_q / h` of multi-head attention.

    Use it when attention scores, not the cache, are the bottleneck: in training and in encoding long prompts.

    .. math:: O_a = \operatorname{softmax}\!\Big(\frac{Q_a K_{\lfloor a h_{kv} / h_q \rfloor}^\top}{\sqrt{d / h}}\Big)
              V_{\lfloor a h_{kv} / h_q \rfloor}, \qquad y = \big\Vert_{a < h_q} O_a \, W_O,
              \quad W_O : h_q \tfrac{d}{h} \to d

    With :math:`h_q < h_{kv}` (the reverse case, rSQA), queries are shared instead: head a of :math:`h_{kv}` uses
    query :math:`\lfloor a h_q / h_{kv} \rfloor`, and :math:`h_{kv}` determines the cost and the width of W_O.

    Args:
        dim: d, features per token.
        num_heads: h, which only determines the width d / h of a head.
        num_query_heads: h_q, a divisor of h.
        num_kv_heads: h_kv, a divisor or a multiple of h_q.
        pattern: a function from the number of tokens to a `TokenGraph`; None is all pairs.
        causal: whether tokens attend only to tokens up to themselves.
        bias: whether the projections to queries, keys and values have a bias.
        out_bias: whether the output projection has a bias.
        dropout: dropout probability of the attention weights.
        rotary: base of the rotary embeddings, or None; positions of x and of a context each start at 0.

    Shapes:
        x [..., N, d] (and context [..., S, d] for cross attention) -> [..., N, d]; ``graph``, ``state``,
        ``head_mask`` and ``mask`` as in `SelfAttention`; ``context_mask`` as in `CrossAttention`.

    Source: Filipek, "Sparse Query Attention (SQA)", 2025, section 3. Its reported quality is of models with 8 to 12
    million parameters.

    >>> import torch
    >>> layer = SparseQueryAttention.variant("xsqa", 64, 16)
    >>> layer(torch.randn(2, 5, 64)).shape, layer.query.out_features, layer.key.out_features
    (torch.Size([2, 5, 64]), 16, 16)
    """

    kinds = SELF | CROSS

    def __init__(self, dim: int, num_heads: int, *, num_query_heads: int, num_kv_heads: int, **settings: Any) -> None:
        if num_query_heads < 1 or num_heads % num_query_heads:
            raise ArgumentError("num_query_heads", f"a divisor of num_heads, {num_heads}", num_query_heads)
        if num_kv_heads < 1 or (num_query_heads % num_kv_heads and num_kv_heads % num_query_heads):
            expected = f"a divisor or a multiple of the {num_query_heads} query heads"
            raise ArgumentError("num_kv_heads", expected, num_kv_heads)
        most = max(num_query_heads, num_kv_heads)
        super().__init__(dim, num_heads, num_query_heads=most, num_kv_heads=num_kv_heads, **settings)
        if num_kv_heads > num_query_heads:
            self.query = nn.Linear(dim, num_query_heads * self.head_dim, bias=self.query.bias is not None)

    def queries(self, x: Tensor) -> Tensor:
        """[..., N, max(h_q, h_kv), D]: in the reverse case, each is repeated for several heads."""
        query = self.query(x).unflatten(-1, (-1, self.head_dim))
        return query.repeat_interleave(self.query_heads // query.shape[-2], dim=-2)

    @classmethod
    def variant(cls, name: str, dim: int, num_heads: int, **options: Any) -> SparseQueryAttention:
        """The paper's variants: mha, gqa, mqa, sqa, ssqa, xsqa, xsmqa; a quarter of fewer than 4 heads is one head."""
        if name not in _VARIANTS:
            raise ArgumentError("name", f"one of {', '.join(_VARIANTS)}", repr(name))
        query, key = (1 if divisor == 0 else max(num_heads // divisor, 1) for divisor in _VARIANTS[name])
        return cls(dim, num_heads, num_query_heads=query, num_kv_heads=key, **options)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        graph: TokenGraph | None = None,
        *,
        state: KVState | None = None,
        head_mask: Tensor | None = None,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend within x, or from x to the context."""
        arguments = {"context": context, "graph": graph, "state": state, "context_mask": context_mask}
        return self.run(x, head_mask=head_mask, mask=mask, **arguments)

    def score_flops(self, n: int) -> int:
        """FLOPs of scores and weighted sums over n tokens: 4 max(h_q, h_kv) d / h for each edge of their graph."""
        return 4 * self.query_heads * self.head_dim * self.graph_of(n).num_edges
