"""Routers of heads: the heads that a token uses, and their gates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hgraph.checks import whole
from hgraph.errors import ArgumentError
from hgraph.structure.choice import topk_mask

__all__ = ["HeadRouter", "QueryNormRouter", "Routed"]


class Routed(NamedTuple):
    """The result of a router.

    Attributes:
        gates: [..., N, h], 0 for unselected heads; float32 at least.
        mask: booleans [..., N, h], the selected heads.
        probabilities: [..., N, E], probabilities of the E routed heads before selection, or None without routed heads.
    """

    gates: Tensor
    mask: Tensor
    probabilities: Tensor | None


class HeadRouter(nn.Module):
    r"""Gates of heads from a token's features: the first ``shared`` heads always, and the ``top_k`` best others.

    Use it in `MixtureOfHeadAttention`: it is the default router.

    .. math:: g_i = a_1 \operatorname{softmax}(W_s x)_i \;\; (i \text{ shared}), \qquad
              g_i = a_2 \operatorname{softmax}(W_r x)_i \;\; (i \in \operatorname{TopK}(W_r x)), \qquad
              [a_1, a_2] = \operatorname{softmax}(W_h x)

    The published code (``variant="official"``) scales these so that a uniform router gives ones: shared gates are
    multiplied by the number of shared heads, selected ones are divided by their sum and multiplied by K, and a by 2.

    Args:
        dim: features per token.
        num_heads: h.
        shared: h_s, number of heads that every token uses.
        top_k: K, number of selected other heads.
        variant: ``"paper"`` or ``"official"``.

    Shapes:
        x [..., N, dim] -> `Routed`.

    Source: Jin et al., "MoH: Multi-Head Attention as Mixture-of-Head Attention", eq. 4 to 6; the code of MoH-ViT.

    >>> gates, mask, probabilities = HeadRouter(8, 4, shared=1, top_k=2)(torch.randn(5, 8))
    >>> gates.shape, mask.sum(-1).tolist(), probabilities.shape
    (torch.Size([5, 4]), [3, 3, 3, 3, 3], torch.Size([5, 3]))
    """

    def __init__(self, dim: int, num_heads: int, *, shared: int, top_k: int, variant: str = "paper") -> None:
        super().__init__()
        _check_counts(num_heads, shared, top_k)
        if variant not in ("paper", "official"):
            raise ArgumentError("variant", "'paper' or 'official'", repr(variant))
        self.shared, self.top_k, self.variant = shared, top_k, variant
        self.by_shared = nn.Linear(dim, shared, bias=False) if shared else None
        self.by_choice = nn.Linear(dim, num_heads - shared, bias=False) if top_k else None
        self.mixing = nn.Linear(dim, 2, bias=False) if shared and top_k else None
        self.idle = 0 if top_k else num_heads - shared  # heads that are never selected

    def reset_parameters(self) -> None:
        """Reset all parameters, as `torch.nn.Linear`."""
        for layer in (self.by_shared, self.by_choice, self.mixing):
            if layer is not None:
                layer.reset_parameters()

    def forward(self, x: Tensor) -> Routed:
        """Gates, selected heads, and probabilities of the routed heads."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        official = self.variant == "official"
        mixing = None if self.mixing is None else _linear(self.mixing, x).softmax(-1) * (2 if official else 1)
        gates, masks, routed = [], [], None
        if self.by_shared is not None:
            gate = _linear(self.by_shared, x).softmax(-1) * (self.shared if official else 1)
            gates.append(gate if mixing is None else gate * mixing[..., :1])
            masks.append(torch.ones_like(gate, dtype=torch.bool))
        if self.by_choice is not None:
            routed = _linear(self.by_choice, x).softmax(-1)
            mask = topk_mask(routed, self.top_k)
            gate = torch.where(mask, routed, 0.0)
            if official:
                gate = gate / gate.sum(-1, keepdim=True).clamp(min=torch.finfo(gate.dtype).eps) * self.top_k
            gates.append(gate if mixing is None else gate * mixing[..., 1:])
            masks.append(mask)
        if self.idle:
            gates.append(x.new_zeros(*x.shape[:-1], self.idle))
            masks.append(torch.zeros_like(gates[-1], dtype=torch.bool))
        return Routed(torch.cat(gates, -1), torch.cat(masks, -1), routed)


class QueryNormRouter(nn.Module):
    r"""Gates of 0 and 1 without parameters: selects the routed heads with the longest queries.

    Use it in `MixtureOfHeadAttention` when the router should have no parameters.

    .. math:: p = \operatorname{softmax}_i\!\Big(\frac{\lVert q_i \rVert}{\operatorname{std}_j \lVert q_j \rVert}\Big),
              \qquad g_i = 1 \;\; (i \text{ shared or } i \in \operatorname{TopK}(p))

    so a trained network can be fine-tuned with its heads unchanged. Gradients flow through the p of the selected heads
    as if they were the gates (straight-through).

    Args:
        num_heads: h.
        shared: h_s, number of heads that every token uses.
        top_k: K, number of selected other heads.

    Shapes:
        query [..., N, h, D], before a rotary embedding -> `Routed`.

    Source: Jin et al., "MoH", section 3.4, as in MoH-LLaMA3; the standard deviation is the unbiased one.

    >>> gates, mask, probabilities = QueryNormRouter(3, shared=1, top_k=1)(torch.tensor([[[1.0], [2.0], [3.0]]]))
    >>> gates.tolist(), mask.tolist()
    ([[1.0, 0.0, 1.0]], [[True, False, True]])
    """

    def __init__(self, num_heads: int, *, shared: int, top_k: int) -> None:
        super().__init__()
        _check_counts(num_heads, shared, top_k)
        self.num_heads, self.shared, self.top_k = num_heads, shared, top_k

    def reset_parameters(self) -> None:
        """Do nothing: there are no parameters."""

    def forward(self, query: Tensor) -> Routed:
        """Gates, selected heads, and probabilities of the routed heads."""
        query = query.to(torch.promote_types(query.dtype, torch.float32))
        always = torch.ones_like(query[..., : self.shared, 0])
        norm = query[..., self.shared :, :].norm(dim=-1)
        # A single head, or equal norms, have no spread.
        spread = norm.std(-1, keepdim=True) if norm.shape[-1] > 1 else torch.zeros_like(norm)
        probabilities = (norm / torch.where(spread > 0, spread, 1.0)).softmax(-1)
        mask = topk_mask(probabilities, self.top_k)
        chosen = torch.where(mask, 1 + probabilities - probabilities.detach(), 0.0)
        gates, masks = torch.cat([always, chosen], -1), torch.cat([always > 0, mask], -1)
        return Routed(gates, masks, probabilities if self.top_k else None)


def _check_counts(num_heads: int, shared: int, top_k: int) -> None:
    whole("shared", shared, most=num_heads), whole("top_k", top_k, most=num_heads - shared)
    if shared + top_k < 1:
        raise ArgumentError("top_k", "at least one head, shared or selected", 0)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight.to(x.dtype))
