"""The layer of TransNormerLLM: gated linear attention and a gated linear unit (Qin et al., 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, real
from hgraph.nn.attention.call import check_tokens
from hgraph.nn.norms import SimpleRMSNorm
from hgraph.nn.padding import without_padding
from hgraph.nn.recurrent.lightning import LightningAttention
from hgraph.nn.recurrent.state import ChainState
from hgraph.nn.reset import reset

__all__ = ["LRPE", "SGLU", "NormLinearAttention", "TransNormerLayer"]


class LRPE(nn.Module):
    r"""Linearized relative position encoding: products of encoded queries and keys depend on the distance.

    Use it on the queries and keys of linear attention: with the learned angles, the weight of a channel oscillates with
    the distance.

    .. math:: x_t \mapsto [x_t \cos \theta t,\; x_t \sin \theta t], \qquad
              \tilde q_t \cdot \tilde k_s = \sum_j q_{tj} k_{sj} \cos \theta_j (t - s)

    Args:
        num_heads: H.
        head_dim: D.

    Shapes:
        x [..., N, H, D] -> [..., N, H, 2 D], at the positions from ``start`` on. The angles [H, D] are learned,
        starting from :math:`10000^{-2j / (H D)}`.

    Source: Qin et al., "Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention", ICML
    2024, section 3, and the published models for the angles.

    >>> LRPE(2, 4)(torch.ones(3, 2, 4))[0, 0].tolist()
    [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, num_heads: int, head_dim: int) -> None:
        check_channels(num_heads=num_heads, head_dim=head_dim)
        super().__init__()
        self.theta = nn.Parameter(torch.empty(num_heads, head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset the angles to the published ones."""
        count = self.theta.numel()
        with torch.no_grad():
            place = torch.arange(count, device=self.theta.device, dtype=torch.float32).view_as(self.theta)
            self.theta.copy_(10_000.0 ** (-2 * place / count))

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Encode positions."""
        check_tokens("x", x, self.theta.shape[1], x)
        wide = torch.promote_types(x.dtype, torch.float32)
        place = torch.arange(start, start + x.shape[-3], device=x.device, dtype=wide)
        angle = place.view(-1, 1, 1) * self.theta.to(wide)
        return torch.cat([x * angle.cos(), x * angle.sin()], -1).to(x.dtype)


class NormLinearAttention(LightningAttention):
    r"""Linear attention of TransNormer: Lightning Attention with a gate and, optionally, a position encoding.

    Use it in place of `LightningAttention` where each token should select, by the gate, channels of the past.

    .. math:: y_t = W_O \big( W_U x_t \odot \operatorname{norm}(o_t) \big), \qquad
              o_t = \sum_{s \le t} e^{a_h (t - s)} (\tilde q_t \cdot \tilde k_s)\, W_V x_s

    with :math:`\tilde q = \mathrm{LRPE}(\operatorname{SiLU}(W_Q x))`, and keys likewise. Values and gate have no
    activation, and the norm is over all heads together.

    Args:
        dim: features per token.
        num_heads: H, which divides dim.
        lrpe: whether queries and keys are encoded by `LRPE`; the state then has twice as many rows.
        decay: as in `LightningAttention`, as are ``layer``, ``num_layers``, ``causal``, ``bias`` and ``chunk``.
        layer: number of the layer, from 0.
        num_layers: number of layers.
        causal: whether tokens receive messages only from themselves and earlier tokens.
        bias: whether the projections have a bias.
        chunk: tokens per chunk.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``mask`` and ``state`` as in `LightningAttention`.

    Source: Qin et al., "Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention", ICML
    2024, section 3, as in the published models.

    >>> NormLinearAttention(8, 2, lrpe=True)(torch.randn(3, 10, 8)).shape
    torch.Size([3, 10, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        lrpe: bool = False,
        decay: str | None = "alibi",
        layer: int = 0,
        num_layers: int = 1,
        causal: bool = True,
        bias: bool = False,
        chunk: int = 64,
    ) -> None:
        more: dict[str, Any] = {"layer": layer, "num_layers": num_layers, "causal": causal, "bias": bias}
        super().__init__(dim, num_heads, decay=decay, chunk=chunk, **more)
        self.gate = nn.Linear(dim, dim, bias=bias)
        self.lrpe = LRPE(num_heads, self.head_dim) if lrpe else None

    def project(self, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, with their positions encoded."""
        query, key, value = super().project(x, start)
        if self.lrpe is not None:
            query, key = self.lrpe(query, start), self.lrpe(key, start)
        return query, key, value

    def output(self, received: Tensor, x: Tensor) -> Tensor:
        """[..., N, dim] of what the heads received [..., N, dim], and the tokens."""
        return self.out(self.gate(x) * self.norm(received).to(x.dtype))


class SGLU(nn.Module):
    r"""Simple gated linear unit: a product of two linear maps, without an activation.

    Use it as the MLP of a layer.

    .. math:: y = W_O (W_V x \odot W_U x)

    Args:
        dim: features per token.
        hidden_channels: width of the product.
        bias: whether the maps have a bias.

    Shapes:
        x [..., N, dim] -> [..., N, dim].

    Source: Qin et al., "Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention", ICML
    2024, section 3.

    >>> SGLU(4, 6)(torch.randn(3, 4)).shape
    torch.Size([3, 4])
    """

    def __init__(self, dim: int, hidden_channels: int, *, bias: bool = False) -> None:
        check_channels(dim=dim, hidden_channels=hidden_channels)
        super().__init__()
        self.value, self.gate = (nn.Linear(dim, hidden_channels, bias=bias) for _ in range(2))
        self.out = nn.Linear(hidden_channels, dim, bias=bias)

    def reset_parameters(self) -> None:
        """Reset the three maps, as `torch.nn.Linear`."""
        reset(self)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of each token."""
        check_tokens("x", x, self.value.in_features, self.value.weight)
        return self.out(self.value(x) * self.gate(x))


class TransNormerLayer(nn.Module):
    r"""A layer of TransNormerLLM: linear attention and a gated linear unit, with pre-norm and residuals.

    Use it to build networks for long sequences; `hgraph.models.TransNormer` is the published network.

    .. math:: h = x + \mathrm{NormLinearAttention}(\operatorname{norm} x), \qquad
              y = h + \mathrm{SGLU}(\operatorname{norm} h)

    with norms without parameters (`hgraph.nn.norms.SimpleRMSNorm`).

    Args:
        dim: features per token.
        num_heads: H, which divides dim.
        hidden_channels: hidden width of the gated linear unit.
        layer: number of the layer, from 0.
        num_layers: number of layers.
        decay: schedule of the decays, ``"alibi"``, ``"linear"`` or None.
        lrpe: whether queries and keys are encoded by `LRPE`; None means in layer 0 only, as published.
        causal: whether tokens receive messages only from themselves and earlier tokens.
        eps: epsilon of the norms.
        chunk: tokens per chunk. It affects rounding only.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``mask`` and ``state`` as in `LightningAttention`.

    Source: Qin et al., "Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention", ICML
    2024, section 3.

    >>> TransNormerLayer(8, 2, hidden_channels=12, layer=1, num_layers=3)(torch.randn(3, 10, 8)).shape
    torch.Size([3, 10, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        hidden_channels: int,
        layer: int = 0,
        num_layers: int = 1,
        decay: str | None = "alibi",
        lrpe: bool | None = None,
        causal: bool = True,
        eps: float = 1e-6,
        chunk: int = 64,
    ) -> None:
        super().__init__()
        encode = layer == 0 if lrpe is None else lrpe
        place: dict[str, Any] = {"layer": layer, "num_layers": num_layers}
        self.attention = NormLinearAttention(
            dim, num_heads, lrpe=encode, decay=decay, causal=causal, chunk=chunk, **place
        )
        self.attention.norm = SimpleRMSNorm(eps=real("eps", eps, "a finite number, 0 or more"))
        self.mlp, self.norm = SGLU(dim, hidden_channels), SimpleRMSNorm(eps=eps)

    def reset_parameters(self) -> None:
        """Reset all parameters."""
        reset(self)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, state: ChainState | None = None) -> Tensor:
        """Mix the tokens of each sequence, then the channels of each token."""
        check_tokens("x", x, self.attention.dim, self.attention.query.weight)
        x = without_padding(x, mask)
        x = x + self.attention(self.norm(x), mask, state=state)
        return without_padding(x + self.mlp(self.norm(x)), mask)
