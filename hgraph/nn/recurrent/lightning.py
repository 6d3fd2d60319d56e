"""Lightning Attention: linear attention with a fixed decay per layer and head (Qin et al., 2024)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels, whole
from hgraph.errors import ArgumentError
from hgraph.nn.attention.call import check_tokens
from hgraph.nn.attention.masks import token_mask
from hgraph.nn.norms import SimpleRMSNorm
from hgraph.nn.padding import without_padding
from hgraph.nn.recurrent.linear import linear_attention, log_decays
from hgraph.nn.recurrent.state import ChainState, check_state
from hgraph.nn.reset import reset

__all__ = ["LightningAttention"]


class LightningAttention(nn.Module):
    r"""Linear attention with a fixed decay per head, normalized after the sum instead of by softmax.

    Use it for long sequences: cost and memory are linear in the number of tokens, and a decoded token costs the same
    at every position.

    .. math:: q_t, k_t = \operatorname{SiLU}(W_Q x_t), \operatorname{SiLU}(W_K x_t), \quad
              o_t = \sum_{s \le t} e^{a_h (t - s)} (q_t \cdot k_s)\, W_V x_s, \quad
              y_t = W_O \frac{o_t}{\sqrt{\operatorname{mean}(o_t^2) + \epsilon}}

    The norm is over all heads together. Nothing is divided by :math:`\sqrt D`, and the decays are not learned.

    Args:
        dim: features per token.
        num_heads: H, which divides dim.
        decay: schedule of the decays a_h, ``"alibi"`` or ``"linear"`` (`log_decays`), or None for no decay.
        layer: index of the layer, from 0; the decay is slower in later layers.
        num_layers: number of layers.
        causal: whether tokens receive messages only from themselves and earlier tokens; otherwise, weights decay with
            :math:`|t - s|`.
        bias: whether the projections have a bias.
        chunk: tokens per chunk. It affects rounding only.

    Shapes:
        x [..., N, dim] -> [..., N, dim]. ``mask``, boolean [..., N], is True at real tokens: padding contributes
        nothing, whatever it contains, and its output is 0. With ``state``, a `ChainState`, the tokens continue its
        sequence.

    Raises:
        ArgumentError: wrong shapes, a state with a mask, a state of another layer, or a state without ``causal``.

    Source: Qin et al., "Lightning Attention-2: A Free Lunch for Handling Unlimited Sequence Lengths in Large Language
    Models", section 3. Between the projections, float16 is computed in float32, because sums over a sequence may exceed
    the range of float16.

    >>> layer = LightningAttention(8, 2, layer=1, num_layers=4)
    >>> layer(torch.randn(3, 10, 8)).shape
    torch.Size([3, 10, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        decay: str | None = "alibi",
        layer: int = 0,
        num_layers: int = 1,
        causal: bool = True,
        bias: bool = False,
        chunk: int = 64,
    ) -> None:
        check_channels(dim=dim, num_heads=num_heads)
        if dim % num_heads:
            raise ArgumentError("num_heads", f"a divisor of dim, {dim}", num_heads)
        if decay is not None:
            log_decays(num_heads, decay, layer=layer, num_layers=num_layers)  # checks the arguments
        super().__init__()
        self.dim, self.num_heads, self.head_dim = dim, num_heads, dim // num_heads
        self.decay, self.layer, self.num_layers = decay, layer, num_layers
        self.causal, self.chunk = causal, whole("chunk", chunk, 1)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim, bias=bias) for _ in range(4))
        self.norm = SimpleRMSNorm()

    def extra_repr(self) -> str:
        """The sizes."""
        kind = "" if self.causal else ", not causal"
        return f"{self.dim}, {self.num_heads} heads, decay {self.decay}{kind}"

    def reset_parameters(self) -> None:
        """Reset all parameters, as `torch.nn.Linear`."""
        reset(self)

    def log_decay(self, x: Tensor) -> Tensor | None:
        """The log decays [H], on the device of x and in at least float32."""
        if self.decay is None:
            return None
        wide = torch.promote_types(x.dtype, torch.float32)
        place: dict[str, Any] = {"layer": self.layer, "num_layers": self.num_layers, "device": x.device, "dtype": wide}
        return log_decays(self.num_heads, self.decay, **place)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, state: ChainState | None = None) -> Tensor:
        """Mix the tokens of each sequence."""
        check_tokens("x", x, self.dim, self.query.weight)
        mask = token_mask("mask", mask, x.shape[:-1])
        check_state(state, mask, self.causal)
        x = without_padding(x, mask)
        q, k, v = self.project(x, 0 if state is None else len(state))
        if mask is not None:
            v = torch.where(mask[..., None, None], v, 0.0)  # a bias makes values of padding
        if q.dtype == torch.float16:
            q, k, v = q.float(), k.float(), v.float()

        def recurrence(carried: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
            initial = None if carried is None else carried[0]
            decay, causal = self.log_decay(x), self.causal
            out, final = linear_attention(q, k, v, log_decay=decay, causal=causal, initial=initial, chunk=self.chunk)
            return out, () if final is None else (final,)

        heads = recurrence(None)[0] if state is None else state.append(x, layer=self, recurrence=recurrence)
        return without_padding(self.output(heads.flatten(-2), x), mask)

    def project(self, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [..., N, H, D] of tokens at the positions from ``start`` on."""
        query, key, value = (f(x).unflatten(-1, (self.num_heads, -1)) for f in (self.query, self.key, self.value))
        return F.silu(query), F.silu(key), value

    def output(self, received: Tensor, x: Tensor) -> Tensor:
        """[..., N, dim] of what the heads received [..., N, dim], and the tokens."""
        return self.out(self.norm(received).to(x.dtype))
