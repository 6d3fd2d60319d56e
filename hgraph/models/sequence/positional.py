"""The positional transformer, and the standard one it is compared with (Back de Luca et al., ICML 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.attention.positional import PositionalAttention

__all__ = ["PositionalTransformer"]


class PositionalTransformer(nn.Module):
    r"""Layers of positional attention, each followed by an MLP of the token and what it received.

    Use it to learn algorithms on numbers whose steps depend on positions, such as a cumulative sum.

    .. math:: x^0 = X W + b, \qquad x^{l+1} = \mathrm{MLP}_l\big([x^l \Vert \mathrm{attention}_l(x^l)]\big), \qquad
              Z = x^L W' + b'

    There is no residual and no norm: with all biases 0, :math:`f(s X) = s f(X)` for s > 0. With ``positional=False``,
    queries and keys are computed from the tokens, D channels per head, and one-hot positions are appended to X.

    Args:
        in_channels: c, features per token.
        dim: D.
        out_channels: features per token of the output.
        num_positions: p, the maximum number of tokens.
        num_heads: H.
        num_layers: L.
        hidden_channels: hidden width of the MLP; None uses D.
        positional: whether weights depend on positions only.

    Shapes:
        X [..., N, c] with N <= p -> [..., N, out_channels].

    Raises:
        ArgumentError: more tokens than positions, or the wrong number of features.

    Source: Back de Luca et al., "Positional Attention: Expressivity and Learnability of Algorithmic Computation", ICML
    2025, sections 3 and 6. There the last token is a scratch token with features 0, which is not in the loss.

    >>> PositionalTransformer(1, 16, 1, num_positions=9)(torch.randn(3, 9, 1)).shape
    torch.Size([3, 9, 1])
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        out_channels: int,
        *,
        num_positions: int,
        num_heads: int = 2,
        num_layers: int = 4,
        hidden_channels: int | None = None,
        positional: bool = True,
    ) -> None:
        check_channels(in_channels=in_channels, dim=dim, out_channels=out_channels, num_layers=num_layers)
        super().__init__()
        hidden = dim if hidden_channels is None else hidden_channels
        self.in_channels, self.num_positions, self.positional = in_channels, num_positions, positional
        self.linear = nn.Linear(in_channels if positional else in_channels + num_positions, dim)
        self.attentions = nn.ModuleList(
            PositionalAttention(dim, num_heads, num_positions=num_positions)
            if positional
            else _WideAttention(dim, num_heads)
            for _ in range(num_layers)
        )
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * dim, hidden), nn.ReLU(), nn.Linear(hidden, dim)) for _ in range(num_layers)
        )
        self.out = nn.Linear(dim, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of every token."""
        if x.dim() < 2 or x.shape[-1] != self.in_channels:
            raise ArgumentError("x", f"shape [..., N, {self.in_channels}]", f"shape {list(x.shape)}")
        if x.shape[-2] > self.num_positions:
            expected = f"at most {self.num_positions} tokens (num_positions)"
            raise ArgumentError("x", expected, f"{x.shape[-2]} tokens")
        if not self.positional:
            places = torch.eye(x.shape[-2], self.num_positions, dtype=x.dtype, device=x.device)
            x = torch.cat([x, places.expand(*x.shape[:-1], -1)], -1)
        x = self.linear(x)
        for attention, mlp in zip(self.attentions, self.mlps, strict=True):
            x = mlp(torch.cat([x, attention(x)], -1))
        return self.out(x)


class _WideAttention(nn.Module):
    """The published baseline: queries and keys of D channels in each head, values of D / H."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key = nn.Linear(dim, num_heads * dim), nn.Linear(dim, num_heads * dim)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            linear(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for linear in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(-3, -2).flatten(-2))
