"""Aaren: attention as a recurrence, with a learned query in place of one per token (Feng et al., 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, whole
from hgraph.errors import ArgumentError
from hgraph.nn.attention.call import check_tokens
from hgraph.nn.attention.masks import token_mask
from hgraph.nn.padding import without_padding
from hgraph.nn.recurrent.state import ChainState, check_state
from hgraph.ops import AttendResult, SoftmaxState, merge, scan

__all__ = ["Aaren"]


class Aaren(nn.Module):
    r"""Softmax attention over all tokens so far, by one learned query: a recurrence with a state of fixed size.

    Use it in place of causal self-attention where tokens arrive one by one. All tokens share one query, so the weights
    do not depend on the receiving token.

    .. math:: s_i = \frac{q \cdot k_i}{\sqrt D}, \qquad
              o_t = \frac{\sum_{i \le t} \exp(s_i)\, v_i}{\sum_{i \le t} \exp(s_i)}, \qquad y_t = W_O o_t + b_O

    per head, with :math:`q = W_Q x_0 + b_Q` for a learned token :math:`x_0`. All prefixes are computed by one scan.

    Args:
        dim: features per token.
        num_heads: H, which divides dim.
        bias: whether the four projections have a bias.

    Shapes:
        x [..., N, dim] -> [..., N, dim]. ``mask``, boolean [..., N], is True at real tokens: padding contributes
        nothing, whatever it contains, and its output is 0. With ``state``, a `ChainState`, the tokens continue its
        sequence. :meth:`pool` returns one token per sequence.

    Raises:
        ArgumentError: wrong shapes, a state with a mask, or a state of another layer.

    Source: Feng et al., "Attention as an RNN", section 3. In the paper, the running maximum starts at 0, which gives
    0 / 0 for very negative scores; here it starts at the first score. The paper does not state the scale of the
    scores; here it is the usual one.

    >>> layer = Aaren(8, 2)
    >>> x = torch.randn(3, 10, 8)
    >>> layer(x).shape, torch.allclose(layer(x)[:, -1], layer.pool(x), atol=1e-6)
    (torch.Size([3, 10, 8]), True)
    """

    def __init__(self, dim: int, num_heads: int, *, bias: bool = True) -> None:
        check_channels(dim=dim, num_heads=num_heads)
        if dim % num_heads:
            raise ArgumentError("num_heads", f"a divisor of dim, {dim}", num_heads)
        super().__init__()
        self.dim, self.num_heads, self.head_dim = dim, num_heads, dim // num_heads
        self.token = nn.Parameter(torch.empty(dim))
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim, bias=bias) for _ in range(4))
        nn.init.normal_(self.token, std=0.02)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.dim}, {self.num_heads} heads of {self.head_dim}"

    def reset_parameters(self) -> None:
        """Linear maps as `torch.nn.Linear`, the token with standard deviation 0.02."""
        nn.init.normal_(self.token, std=0.02)
        for linear in (self.query, self.key, self.value, self.out):
            linear.reset_parameters()

    def forward(self, x: Tensor, mask: Tensor | None = None, *, state: ChainState | None = None) -> Tensor:
        """Attend to all tokens so far."""
        x, mask = self._checked(x, mask)
        check_state(state, mask)
        score, value = self._scores(x, mask, self.token.unsqueeze(0))
        score = score.squeeze(-3)  # one query

        def recurrence(carried: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
            initial = None if carried is None else AttendResult(*carried)
            states, final = scan(SoftmaxState(), (score, value), initial=initial)
            return states.out, tuple(final)

        out = recurrence(None)[0] if state is None else state.append(x, layer=self, recurrence=recurrence)
        return without_padding(self._output(out.transpose(-3, -2), x), mask)

    def pool(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        queries: Tensor | None = None,
        block_size: int | None = None,
    ) -> Tensor:
        """Attend to a whole sequence with the learned query, or with several queries.

        Args:
            x: [..., N, dim].
            mask: boolean [..., N], True at real tokens.
            queries: latent tokens [L, dim] in place of the learned one; None returns [..., dim].
            block_size: number of tokens that are reduced at a time, which bounds the memory; None takes all.

        Returns:
            [..., dim], or [..., L, dim] for L queries; the bias of the output for a sequence without tokens.
        """
        x, mask = self._checked(x, mask)
        if queries is not None:
            check_tokens("queries", queries, self.dim, self.token)
        length = x.shape[-2]
        size = max(length, 1) if block_size is None else whole("block_size", block_size, 1)
        tokens = self.token.unsqueeze(0) if queries is None else queries
        total: AttendResult | None = None
        for at in range(0, max(length, 1), size):
            some = slice(at, at + size)
            part = _reduced(*self._scores(x[..., some, :], mask if mask is None else mask[..., some], tokens))
            total = part if total is None else merge(total, part)
        assert total is not None  # noqa: S101 - there is a first block
        out = self._output(total.out, x)
        return out.squeeze(-2) if queries is None else out

    def _checked(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        check_tokens("x", x, self.dim, self.token)
        mask = token_mask("mask", mask, x.shape[:-1])
        return without_padding(x, mask), mask

    def _scores(self, x: Tensor, mask: Tensor | None, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [..., L, H, N], -inf at padding, and values [..., H, N, D], in at least float32."""
        query, key, value = (
            _upcast(linear(y).unflatten(-1, (self.num_heads, -1)))
            for linear, y in ((self.query, queries), (self.key, x), (self.value, x))
        )
        score = torch.einsum("lhd,...nhd->...lhn", query * self.head_dim**-0.5, key)
        if mask is not None:
            score = torch.where(mask[..., None, None, :], score, float("-inf"))
        return score, value.transpose(-3, -2)

    def _output(self, received: Tensor, x: Tensor) -> Tensor:
        """[..., dim] of what the heads received [..., H, D]."""
        return self.out(received.flatten(-2).to(x.dtype))


def _upcast(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _reduced(score: Tensor, value: Tensor) -> AttendResult:
    """Softmax over all tokens: out [..., L, H, D] and lse [..., L, H]; 0 and -inf where there are none."""
    if score.shape[-1] == 0:
        empty = score.sum(-1)
        return AttendResult(empty.unsqueeze(-1) * value.sum(-2).unsqueeze(-3), empty + float("-inf"))
    top = score.detach().amax(-1, keepdim=True)
    top = torch.where(top == float("-inf"), 0.0, top)
    weight = torch.exp(score - top)
    row_sum = weight.sum(-1)
    none = row_sum == 0
    row_sum = torch.where(none, 1.0, row_sum)
    out = torch.einsum("...lhn,...hnd->...lhd", weight, value) / row_sum.unsqueeze(-1)
    return AttendResult(out, torch.where(none, float("-inf"), top.squeeze(-1) + row_sum.log()))
