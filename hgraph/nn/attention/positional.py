"""Positional attention: the positions alone decide who attends to whom (Back de Luca et al., ICML 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, check_dtype, whole
from hgraph.errors import ArgumentError
from hgraph.nn.attention.kinds import AttentionKind
from hgraph.nn.attention.masks import token_mask
from hgraph.nn.padding import without_padding
from hgraph.structure import Graph

__all__ = ["PositionalAttention"]


class PositionalAttention(nn.Module):
    r"""Attention whose weights depend on the positions only, the same for every sequence.

    Use it to learn algorithms whose steps do not depend on the values, such as sums and sorts: it keeps working for
    values far outside the training range. It cannot search for a value in the sequence.

    .. math:: A_h = \operatorname{softmax}\!\Big(\frac{(P W_Q^h + b_Q^h)(P W_K^h + b_K^h)^\top}{\sqrt p}\Big), \qquad
              y = \big[\Vert_h A_h (x W_V + b_V)_h\big] W_O + b_O

    The weights are computed once for a whole batch: a learned, weighted graph, see :meth:`as_graph`.

    Args:
        dim: D, features per token.
        num_heads: H, which divides D.
        num_positions: p, number of features of a position. By default these are one-hot vectors, and p is the maximum
            length.

    Shapes:
        x [..., N, D] -> [..., N, D]; ``positions`` [N, p], if passed, replace the first N one-hot vectors; ``mask``
        [..., N], boolean, True for real tokens.

    Raises:
        ArgumentError: more tokens than positions, or wrong shapes.

    Source: Back de Luca, Giapitzakis, Yang, Velickovic and Fountoulakis, "Positional Attention: Expressivity and
    Learnability of Algorithmic Computation", ICML 2025, section 3.

    >>> layer = PositionalAttention(8, 2, num_positions=10)
    >>> layer(torch.randn(3, 5, 8)).shape, layer.weights(5).shape
    (torch.Size([3, 5, 8]), torch.Size([2, 5, 5]))
    """

    kinds = frozenset({AttentionKind.NONCAUSAL_SELF})

    def __init__(self, dim: int, num_heads: int, *, num_positions: int) -> None:
        check_channels(dim=dim, num_heads=num_heads, num_positions=num_positions)
        if dim % num_heads:
            raise ArgumentError("num_heads", f"a divisor of dim, {dim}", num_heads)
        super().__init__()
        self.dim, self.num_heads, self.num_positions = dim, num_heads, num_positions
        self.query = nn.Linear(num_positions, num_heads * num_positions)
        self.key = nn.Linear(num_positions, num_heads * num_positions)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.dim}, {self.num_heads} heads, {self.num_positions} positions"

    def reset_parameters(self) -> None:
        """Glorot-uniform weights, zero biases."""
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def weights(self, num_tokens: int, *, positions: Tensor | None = None) -> Tensor:
        """The attention weights [H, N, N], row by target.

        Args:
            num_tokens: N.
            positions: [N, p]; None takes the first N one-hot vectors.
        """
        return self._scores(num_tokens, positions).softmax(-1)

    def as_graph(self, num_tokens: int, *, head: int = 0, least: float = 0.0) -> Graph:
        """The weights of a head as a weighted graph of N nodes.

        Args:
            num_tokens: N.
            head: the head.
            least: edges with smaller weights are left out.
        """
        if not 0 <= whole("head", head) < self.num_heads:
            raise ArgumentError("head", f"0 .. {self.num_heads - 1}", head)
        found = self.weights(num_tokens)[head].detach()
        target, source = (found >= least).nonzero(as_tuple=True)
        return Graph.from_edge_index(
            torch.stack([source, target]), num_nodes=num_tokens, directed=True, weight=found[target, source]
        )

    def forward(self, x: Tensor, mask: Tensor | None = None, *, positions: Tensor | None = None) -> Tensor:
        """Mix the tokens by position."""
        if x.dim() < 2 or x.shape[-1] != self.dim:
            raise ArgumentError("x", f"shape [..., N, {self.dim}]", f"shape {list(x.shape)}")
        check_dtype("x", x, self.value.weight)
        mask = token_mask("mask", mask, x.shape[:-1])
        scores = self._scores(x.shape[-2], positions).to(torch.promote_types(x.dtype, torch.float32))
        if mask is None:
            weight = scores.softmax(-1)
        else:
            x = x.masked_fill(~mask.unsqueeze(-1), 0)
            seen = mask[..., None, None, :]
            weight = torch.where(seen, scores, float("-inf")).softmax(-1)
            weight = torch.where(seen, weight, 0.0)  # a sequence of padding alone has no weights
        value = self.value(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)  # [..., H, N, D / H]
        mixed = (weight.to(value.dtype) @ value).transpose(-3, -2).flatten(-2)
        return without_padding(self.out(mixed), mask)

    def _scores(self, num_tokens: int, positions: Tensor | None) -> Tensor:
        """[H, N, N]: with one-hot positions the maps are tables, whose first rows are read."""
        if positions is None:
            if num_tokens > self.num_positions:
                raise ArgumentError("x", f"at most {self.num_positions} tokens (num_positions)", f"{num_tokens} tokens")
            q, k = (linear.weight.T[:num_tokens] + linear.bias for linear in (self.query, self.key))
        else:
            if positions.shape != (num_tokens, self.num_positions):
                expected = f"shape [{num_tokens}, {self.num_positions}]"
                raise ArgumentError("positions", expected, f"shape {list(positions.shape)}")
            q, k = self.query(positions), self.key(positions)
        q, k = (z.unflatten(-1, (self.num_heads, -1)).transpose(0, 1) for z in (q, k))  # [H, N, p]
        return q @ k.mT / self.num_positions**0.5
