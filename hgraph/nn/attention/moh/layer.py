"""Mixture-of-head attention: every token selects its heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hgraph._torch import may_cache
from hgraph.errors import ArgumentError
from hgraph.nn.attention.base import TokenAttention
from hgraph.nn.attention.moh.router import HeadRouter, QueryNormRouter, Routed
from hgraph.nn.attention.settings import accepts
from hgraph.nn.attention.state import KVState
from hgraph.nn.padding import without_padding
from hgraph.ops import Relative
from hgraph.structure import TokenGraph

__all__ = ["MixtureOfHeadAttention"]


@accepts("num_kv_heads", "head_dim", "pattern", "causal", "bias", "dropout", "rotary")
class MixtureOfHeadAttention(TokenAttention):
    r"""Self-attention in which every token weights its heads and uses only some of them.

    Use it when tokens differ in the heads they need, to compute fewer heads per token.

    .. math:: y_t = \sum_i g_i(x_t) \, H^i_t W_O^i + b, \qquad
              L_b = E \sum_{i \text{ routed}} \bar p_i \bar f_i

    with the gates g of the router (`HeadRouter` or `QueryNormRouter`), the mean probability :math:`\bar p` and the
    fraction of tokens :math:`\bar f` of each of the E routed heads; :math:`L_b = K` if they are uniform, and ``aux``
    has it times ``balance``. Keys and values of a token are used in all heads, also in those that it does not select.
    On a CPU with long rows, attention is skipped for unselected heads. Without gradients, their query and output
    projections are skipped too. The weights of a `SelfAttention` of the same sizes load into ``query``, ``key``,
    ``value`` and ``out``; with a uniform router, ``variant="official"`` and all heads selected, both layers are equal.

    Args:
        dim: features per token.
        num_heads: h.
        shared_heads: h_s, number of first heads that every token uses.
        top_k: K, number of other heads that each token selects.
        num_kv_heads: heads of keys and values; h by default. Gates are for query heads.
        head_dim: features per head; dim / h by default.
        pattern: a function from the number of tokens to a `TokenGraph`; None is all pairs.
        causal: whether tokens attend only to tokens up to themselves. The router uses only the token itself, so it is
            causal.
        bias: whether the four projections have a bias.
        balance: weight of the loss :math:`L_b`.
        dropout: dropout probability of the attention weights.
        rotary: base of the rotary embeddings, or None.
        variant: gates of the linear router, ``"paper"`` or ``"official"``.
        router: ``"linear"``, with parameters, or ``"query_norm"``, without.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``graph``, ``bias``, ``state``, ``head_mask`` and ``mask`` as in
        `SelfAttention`; padding does not count in the balance loss.

    Source: Jin et al., "MoH: Multi-Head Attention as Mixture-of-Head Attention", eq. 3 to 8.

    >>> layer = MixtureOfHeadAttention(8, 4, shared_heads=1, top_k=2)
    >>> layer(torch.randn(2, 5, 8)).shape, sorted(layer.aux)
    (torch.Size([2, 5, 8]), ['balance'])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        shared_heads: int,
        top_k: int,
        balance: float = 0.01,
        variant: str = "paper",
        router: str = "linear",
        **settings: Any,
    ) -> None:
        if router not in ("linear", "query_norm"):
            raise ArgumentError("router", "'linear' or 'query_norm'", repr(router))
        super().__init__(dim, num_heads, **settings)
        self.router = (
            HeadRouter(dim, num_heads, shared=shared_heads, top_k=top_k, variant=variant)
            if router == "linear"
            else QueryNormRouter(num_heads, shared=shared_heads, top_k=top_k)
        )
        self.balance = balance

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
        """Attend with the selected heads, and put the balance loss into ``aux``."""
        call = self.prepare(x, graph=graph, bias=bias, state=state, head_mask=head_mask, mask=mask)
        by_query = isinstance(self.router, QueryNormRouter)
        query = self.queries(call.x) if by_query else None
        routed: Routed = self.router(call.x if query is None else query)
        self.aux = (
            {} if routed.probabilities is None else {"balance": self.balance * self._imbalance(routed, call.mask)}
        )
        used = routed.mask if head_mask is None else routed.mask & head_mask
        per_head = _skips_heads(x)  # otherwise products per head cost more memory or synchronization than they save
        if query is None and per_head:
            query = _queries(self.query, call.x, used)
        heads = self.compute_heads(call._replace(head_mask=used), query=query)
        heads = heads * routed.gates.unsqueeze(-1).to(heads.dtype)
        out = _outputs(self.out, heads, used) if per_head else self.output(heads, call)
        return without_padding(out, call.mask)

    def _imbalance(self, routed: Routed, present: Tensor | None) -> Tensor:
        if routed.probabilities is None:
            raise RuntimeError("no head is routed")
        p, count = routed.probabilities.flatten(0, -2), routed.probabilities.shape[-1]
        chosen = routed.mask[..., -count:].to(p.dtype).flatten(0, -2)
        if present is None:
            return count * (p.mean(0) * chosen.mean(0)).sum()
        votes = present.flatten().unsqueeze(1)
        p, chosen = (torch.where(votes, x, 0.0) for x in (p, chosen))
        total = votes.sum().clamp(min=1)
        return count * (p.sum(0) / total * chosen.sum(0) / total).sum()


def _skips_heads(x: Tensor) -> bool:
    """Whether to compute products per head for the selected tokens only: on a CPU, without gradients."""
    traced = not may_cache()
    plain = x.is_cpu and type(x) is Tensor and not torch.is_autocast_enabled("cpu")
    return plain and not torch.is_grad_enabled() and not traced


def _queries(layer: nn.Linear, x: Tensor, selected: Tensor) -> Tensor:
    """Queries [..., N, h, D] of selected heads, 0 for others."""
    heads, flat = selected.shape[-1], x.flatten(0, -2)
    query = flat.new_zeros(len(flat), heads, layer.out_features // heads)
    for h, (rows, weight, bias) in enumerate(_by_head(layer, selected)):
        query[rows, h] = nn.functional.linear(flat[rows], weight, bias)
    return query.view(*x.shape[:-1], *query.shape[1:])


def _outputs(layer: nn.Linear, heads: Tensor, selected: Tensor) -> Tensor:
    """Output projection [..., N, dim] of the selected heads."""
    flat = heads.flatten(0, -3)
    out = flat.new_zeros(len(flat), layer.out_features)
    for h, rows in enumerate(_rows(selected)):
        width = heads.shape[-1]
        out.index_add_(0, rows, flat[rows, h] @ layer.weight[:, h * width : (h + 1) * width].T)
    out = out if layer.bias is None else out + layer.bias
    return out.view(*heads.shape[:-2], layer.out_features)


def _by_head(layer: nn.Linear, selected: Tensor) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    heads = selected.shape[-1]
    biases = [None] * heads if layer.bias is None else layer.bias.chunk(heads)
    return list(zip(_rows(selected), layer.weight.chunk(heads), biases, strict=True))


def _rows(selected: Tensor) -> list[Tensor]:
    return [column.nonzero().flatten() for column in selected.flatten(0, -2).T]
