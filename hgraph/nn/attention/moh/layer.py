"""Mixture-of-head attention: every token chooses the heads it listens by."""

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
    r"""Self attention in which every token weighs its heads and leaves some out.

    .. math:: y_t = \sum_i g_i(x_t) \, H^i_t W_O^i + b, \qquad
              L_b = E \sum_{i \text{ routed}} \bar p_i \bar f_i

    with the router's gates g (`HeadRouter` or `QueryNormRouter`), the mean probability :math:`\bar p` and the share of
    tokens :math:`\bar f` of each of the E routed heads; :math:`L_b = K` when they are even, and it is left in ``aux``
    times ``balance``. A token that does not listen by a head still is heard by it; what it would have heard is not
    computed on a CPU where rows are long, nor, without gradients, its query and its part of the output. The weights of
    a `SelfAttention` of the same sizes load into ``query``, ``key``, ``value`` and ``out``; with an even router,
    ``variant="official"`` and all heads chosen, the layer then is that layer.

    Args:
        dim: features of a token.
        num_heads: h.
        shared_heads: the first h_s heads, by which every token listens.
        top_k: K of the other heads, chosen by each token.
        num_kv_heads: heads of keys and values; h by default. Gates are of the query heads.
        head_dim: features of a head; dim / h by default.
        pattern: a function from a number of tokens to a `TokenGraph`; None is everybody.
        causal: whether tokens hear only those up to their own. The router reads a token alone, so it keeps causality.
        bias: of the four projections.
        balance: weight of :math:`L_b`.
        dropout: of the attention shares, in training.
        rotary: the base of rotary embeddings, or None for none.
        variant: of the gates of the linear router, ``"paper"`` or ``"official"``.
        router: ``"linear"``, which has weights of its own, or ``"query_norm"``, which has none.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``graph``, ``bias``, ``state``, ``head_mask`` and ``mask`` as in
        `SelfAttention`; padding does not count in the balance.

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
        """Attend by the chosen heads, and leave the balance loss in ``aux``."""
        call = self.prepare(x, graph=graph, bias=bias, state=state, head_mask=head_mask, mask=mask)
        by_query = isinstance(self.router, QueryNormRouter)
        query = self.queries(call.x) if by_query else None
        routed: Routed = self.router(call.x if query is None else query)
        self.aux = {} if routed.share is None else {"balance": self.balance * self._imbalance(routed, call.mask)}
        used = routed.mask if head_mask is None else routed.mask & head_mask
        alone = _reads_masks(x)  # otherwise products by head would cost more memory or waiting than they save
        if query is None and alone:
            query = _queries(self.query, call.x, used)
        heads = self.compute_heads(call._replace(head_mask=used), query=query)
        heads = heads * routed.gates.unsqueeze(-1).to(heads.dtype)
        out = _outputs(self.out, heads, used) if alone else self.output(heads, call)
        return without_padding(out, call.mask)

    def _imbalance(self, routed: Routed, present: Tensor | None) -> Tensor:
        if routed.share is None:
            raise RuntimeError("no head is routed")
        share, count = routed.share.flatten(0, -2), routed.share.shape[-1]
        chosen = routed.mask[..., -count:].to(share.dtype).flatten(0, -2)
        if present is None:
            return count * (share.mean(0) * chosen.mean(0)).sum()
        votes = present.flatten().unsqueeze(1)
        share, chosen = (torch.where(votes, x, 0.0) for x in (share, chosen))
        total = votes.sum().clamp(min=1)
        return count * (share.sum(0) / total * chosen.sum(0) / total).sum()


def _reads_masks(x: Tensor) -> bool:
    """Whether products may go head by head over the tokens that listen: on a CPU, without gradients."""
    traced = not may_cache()
    plain = x.is_cpu and type(x) is Tensor and not torch.is_autocast_enabled("cpu")
    return plain and not torch.is_grad_enabled() and not traced


def _queries(layer: nn.Linear, x: Tensor, listens: Tensor) -> Tensor:
    """[..., N, h, D]: queries of the tokens that listen, 0 of the others."""
    heads, flat = listens.shape[-1], x.flatten(0, -2)
    query = flat.new_zeros(len(flat), heads, layer.out_features // heads)
    for h, (rows, weight, bias) in enumerate(_by_head(layer, listens)):
        query[rows, h] = nn.functional.linear(flat[rows], weight, bias)
    return query.view(*x.shape[:-1], *query.shape[1:])


def _outputs(layer: nn.Linear, heard: Tensor, listens: Tensor) -> Tensor:
    """[..., N, dim]: the output projection of what was heard by the heads that a token listens by."""
    flat = heard.flatten(0, -3)
    out = flat.new_zeros(len(flat), layer.out_features)
    for h, rows in enumerate(_rows(listens)):
        width = heard.shape[-1]
        out.index_add_(0, rows, flat[rows, h] @ layer.weight[:, h * width : (h + 1) * width].T)
    out = out if layer.bias is None else out + layer.bias
    return out.view(*heard.shape[:-2], layer.out_features)


def _by_head(layer: nn.Linear, listens: Tensor) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    heads = listens.shape[-1]
    biases = [None] * heads if layer.bias is None else layer.bias.chunk(heads)
    return list(zip(_rows(listens), layer.weight.chunk(heads), biases, strict=True))


def _rows(listens: Tensor) -> list[Tensor]:
    return [column.nonzero().flatten() for column in listens.flatten(0, -2).T]
