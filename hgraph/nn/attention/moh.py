"""Mixture-of-head attention: every token chooses the heads it listens by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError
from hgraph.nn.attention.layer import Pattern, TokenAttention
from hgraph.nn.attention.state import KVState
from hgraph.structure import TokenGraph
from hgraph.structure._arguments import whole

__all__ = ["HeadRouter", "MixtureOfHeadAttention"]


class HeadRouter(nn.Module):
    r"""Gates of heads, made of a token alone: the first ``shared`` always, of the others the best ``top_k``.

    .. math:: g_i = a_1 \operatorname{softmax}(W_s x)_i \;\; (i \text{ shared}), \qquad
              g_i = a_2 \operatorname{softmax}(W_r x)_i \;\; (i \in \operatorname{TopK}(W_r x)), \qquad
              [a_1, a_2] = \operatorname{softmax}(W_h x)

    The published code (``variant="official"``) scales these so that an undecided router gives ones: shared gates by
    the number of shared heads, chosen ones divided by their sum and times K, a by 2.

    Args:
        dim: features of a token.
        num_heads: h.
        shared: h_s heads that every token listens by.
        top_k: K of the others.
        variant: ``"paper"`` or ``"official"``.

    Shapes:
        x [..., N, dim] -> gates [..., N, h], 0 where a token does not listen, and a boolean mask [..., N, h].

    Source: Jin et al., "MoH: Multi-Head Attention as Mixture-of-Head Attention", eq. 4 to 6; the code of MoH-ViT.

    >>> gates, mask = HeadRouter(8, 4, shared=1, top_k=2)(torch.randn(5, 8))
    >>> gates.shape, mask.sum(-1).tolist()
    (torch.Size([5, 4]), [3, 3, 3, 3, 3])
    """

    def __init__(self, dim: int, num_heads: int, *, shared: int, top_k: int, variant: str = "paper") -> None:
        super().__init__()
        whole("shared", shared, most=num_heads), whole("top_k", top_k, most=num_heads - shared)
        if shared + top_k < 1:
            raise ArgumentError("top_k", "a head at least, shared or chosen", 0)
        if variant not in ("paper", "official"):
            raise ArgumentError("variant", "'paper' or 'official'", repr(variant))
        self.shared, self.top_k, self.variant = shared, top_k, variant
        self.by_shared = nn.Linear(dim, shared, bias=False) if shared else None
        self.by_choice = nn.Linear(dim, num_heads - shared, bias=False) if top_k else None
        self.mixing = nn.Linear(dim, 2, bias=False) if shared and top_k else None
        self.idle = 0 if top_k else num_heads - shared  # heads that nobody can choose

    def reset_parameters(self) -> None:
        """As `torch.nn.Linear` starts."""
        for layer in (self.by_shared, self.by_choice, self.mixing):
            if layer is not None:
                layer.reset_parameters()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gates and which heads are listened by."""
        gates, mask, _ = self.chosen(x)
        return gates, mask

    def chosen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gates, mask, and the probabilities of the routed heads before the choice; float32 at least."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        official = self.variant == "official"
        share = None if self.mixing is None else _linear(self.mixing, x).softmax(-1) * (2 if official else 1)
        gates, masks, routed = [], [], None
        if self.by_shared is not None:
            gate = _linear(self.by_shared, x).softmax(-1) * (self.shared if official else 1)
            gates.append(gate if share is None else gate * share[..., :1])
            masks.append(torch.ones_like(gate, dtype=torch.bool))
        if self.by_choice is not None:
            routed = _linear(self.by_choice, x).softmax(-1)
            best = routed.topk(self.top_k, dim=-1).indices
            mask = torch.zeros_like(routed, dtype=torch.bool).scatter(-1, best, True)
            gate = torch.where(mask, routed, 0.0)
            if official:
                gate = gate / gate.sum(-1, keepdim=True).clamp(min=torch.finfo(gate.dtype).eps) * self.top_k
            gates.append(gate if share is None else gate * share[..., 1:])
            masks.append(mask)
        if self.idle:
            gates.append(x.new_zeros(*x.shape[:-1], self.idle))
            masks.append(torch.zeros_like(gates[-1], dtype=torch.bool))
        return torch.cat(gates, -1), torch.cat(masks, -1), routed


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight.to(x.dtype))


class MixtureOfHeadAttention(TokenAttention):
    r"""Self attention in which every token weighs its heads and leaves some out.

    .. math:: y_t = \sum_i g_i(x_t) \, H^i_t W_O^i + b, \qquad
              L_b = E \sum_{i \text{ routed}} \bar p_i \bar f_i

    with the router's gates g (`HeadRouter`), the mean probability :math:`\bar p` and the share of tokens
    :math:`\bar f` of each of the E routed heads; :math:`L_b = K` when they are even, and it is left in ``aux`` times
    ``balance``. A token that does not listen by a head still is heard by it. The weights of a `SelfAttention` of the
    same sizes load into ``query``, ``key``, ``value`` and ``out``; with an even router, ``variant="official"`` and all
    heads chosen, the layer then is that layer.

    Args:
        dim: features of a token.
        num_heads: h.
        shared_heads: the first h_s heads, by which every token listens.
        top_k: K of the other heads, chosen by each token.
        head_dim: features of a head; dim / h by default.
        pattern: a function from a number of tokens to a `TokenGraph`; None is everybody.
        causal: whether tokens hear only those up to their own. The router reads a token alone, so it keeps causality.
        bias: of the four projections.
        balance: weight of :math:`L_b`.
        dropout: of the attention shares, in training.
        rotary: the base of rotary embeddings, or None for none.
        variant: of the gates, ``"paper"`` or ``"official"``.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``graph``, ``state`` and ``head_mask`` as in `SelfAttention`. ``present``,
        boolean [..., N], leaves padding out of the balance.

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
        head_dim: int | None = None,
        pattern: Pattern | None = None,
        causal: bool = False,
        bias: bool = True,
        balance: float = 0.01,
        dropout: float = 0.0,
        rotary: float | None = None,
        variant: str = "paper",
    ) -> None:
        super().__init__(
            dim,
            num_heads,
            head_dim=head_dim,
            pattern=pattern,
            causal=causal,
            bias=bias,
            out_bias=bias,
            dropout=dropout,
            rotary=rotary,
        )
        self.router = HeadRouter(dim, num_heads, shared=shared_heads, top_k=top_k, variant=variant)
        self.balance = balance
        self.aux: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the last loss, which hangs on its graph: so copies and pickles work after a forward."""
        return {**super().__getstate__(), "aux": {}}

    def reset_parameters(self) -> None:
        """As `torch.nn.Linear` starts."""
        super().reset_parameters()
        self.router.reset_parameters()

    def forward(
        self,
        x: Tensor,
        graph: TokenGraph | None = None,
        *,
        state: KVState | None = None,
        head_mask: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        """Attend by the chosen heads, and leave the balance loss in ``aux``."""
        gates, mask, routed = self.router.chosen(x)
        self.aux = {} if routed is None else {"balance": self.balance * self._imbalance(routed, mask, present)}
        listens = mask if head_mask is None else mask & head_mask
        heard = self.heads(x, graph=graph, state=state, head_mask=listens)
        return self.out((heard * gates.unsqueeze(-1).to(heard.dtype)).flatten(-2))

    def _imbalance(self, routed: Tensor, mask: Tensor, present: Tensor | None) -> Tensor:
        count = routed.shape[-1]
        chosen = mask[..., self.router.shared :].to(routed.dtype).flatten(0, -2)
        routed = routed.flatten(0, -2)
        if present is None:
            return count * (routed.mean(0) * chosen.mean(0)).sum()
        weight = present.flatten().unsqueeze(1).to(routed.dtype)
        total = weight.sum().clamp(min=1)
        return count * ((routed * weight).sum(0) / total * (chosen * weight).sum(0) / total).sum()
