"""Linear attention with decay along a chain, and the decays of Lightning Attention."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hgraph.checks import real, whole
from hgraph.errors import ArgumentError
from hgraph.ops import Memory, scan

__all__ = ["SCHEDULES", "LinearAttentionResult", "alibi_slopes", "linear_attention", "log_decays"]

SCHEDULES = ("alibi", "linear")


class LinearAttentionResult(NamedTuple):
    """The result of `linear_attention`: ``out`` [..., N, H, V] and the last state ``final`` [..., H, D, V]."""

    out: Tensor
    final: Tensor | None


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    causal: bool = True,
    initial: Tensor | None = None,
    chunk: int = 64,
) -> LinearAttentionResult:
    r"""Attention without softmax, whose weights decay with distance: a recurrence with one state matrix per head.

    Use it for long sequences: the cost per token does not depend on their length.

    .. math:: S_t = e^{a_t} S_{t-1} + k_t v_t^\top, \quad o_t = s\, S_t^\top q_t, \qquad
              o_i = s \sum_{j \le i} e^{a_{j+1} + \dots + a_i} (q_i \cdot k_j)\, v_j

    Without ``causal``, o_i is the sum over all j with weights :math:`e^{a |i - j|} (q_i \cdot k_j)`. Within chunks, the
    weights are computed as a matrix; between chunks, the state is passed on. So cost and memory are linear in N.

    Args:
        q: [..., N, H, D].
        k: [..., N, H, D].
        v: [..., N, H, V].
        log_decay: a, at most 0: [H], or [..., N, H] if causal; None is 0.
        scale: s.
        causal: whether tokens receive messages only from themselves and earlier tokens.
        initial: the state before the first token, [..., H, D, V]; only if causal.
        chunk: tokens per chunk. It affects rounding only.

    Returns:
        `LinearAttentionResult` (out [..., N, H, V], final [..., H, D, V]); final is None if not causal.

    Raises:
        ArgumentError: inconsistent shapes, a decay above 0, an initial state or a decay per token if not causal.

    Source: Qin et al., "Lightning Attention-2: A Free Lunch for Handling Unlimited Sequence Lengths in Large Language
    Models", section 3. Without ``causal``, the result is the sum of a forward and a backward chain, with the diagonal
    counted once.

    >>> one = torch.ones(3, 1, 1)
    >>> linear_attention(one, one, one, log_decay=torch.tensor([0.5]).log()).out.flatten().tolist()
    [1.0, 1.5, 1.75]
    >>> linear_attention(one, one, one, causal=False).out.flatten().tolist()
    [3.0, 3.0, 3.0]
    """
    if q.dim() < 3 or k.shape != q.shape or v.dim() != q.dim() or v.shape[:-1] != q.shape[:-1]:
        got = ", ".join(str(list(x.shape)) for x in (q, k, v))
        raise ArgumentError("q, k, v", "shapes [..., N, H, D], [..., N, H, D], [..., N, H, V]", got)
    q = q if scale == 1.0 else q * real("scale", scale, "a finite number", -float("inf"))
    per_head = log_decay is None or log_decay.dim() == 1
    if log_decay is not None:
        expected = q.shape[-2:-1] if per_head else q.shape[:-1]
        if log_decay.shape != expected:
            shapes = f"shape [{q.shape[-2]}] or {list(q.shape[:-1])}"
            raise ArgumentError("log_decay", shapes, f"shape {list(log_decay.shape)}")
    if not causal and not (per_head and initial is None):
        name, got = ("log_decay", "one per token") if initial is None else ("initial", "a tensor")
        what = "one per head, because causal is False" if initial is None else "None, because causal is False"
        raise ArgumentError(name, what, got)
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))  # [..., H, N, D]
    if log_decay is not None:
        log_decay = log_decay.unsqueeze(-1).expand(q.shape[:-1]) if per_head else log_decay.transpose(-2, -1)
    if causal:
        out, final = _chain(q, k, v, log_decay, initial, chunk)
        return LinearAttentionResult(out.transpose(-3, -2), final)
    if log_decay is None:
        return LinearAttentionResult((q @ (k.mT @ v)).transpose(-3, -2), None)
    before, after = (_chain(q, k, v, log_decay, None, chunk, reverse)[0] for reverse in (False, True))
    own = (q * k).sum(-1, keepdim=True) * v
    return LinearAttentionResult((before + after - own).transpose(-3, -2), None)


def _chain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    initial: Tensor | None,
    chunk: int,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    kind = Memory("none" if log_decay is None else "scalar")
    states, final = scan(kind, (q, k, v, log_decay), initial=initial, chunk=chunk, reverse=reverse)
    return states, final


def alibi_slopes(
    num_heads: int, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    r"""The slopes [H] of ALiBi: the geometric sequence :math:`2^{-8(h+1)/H}`.

    Use it for `hgraph.alibi`, or as decays of `linear_attention`. If H is not a power of two, and C is the largest
    power of two below H, the result is the slopes for C heads, then every other slope for 2 C heads.

    Args:
        num_heads: H.
        device: device of the result.
        dtype: dtype of the result.

    Source: Press et al., "Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation".

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    heads = whole("num_heads", num_heads, 1)
    power = 1 << (heads.bit_length() - 1)
    exponent = torch.arange(1, power + 1, device=device, dtype=dtype) * (8 / power)
    if power < heads:
        between = torch.arange(1, 2 * (heads - power), 2, device=device, dtype=dtype) * (4 / power)
        exponent = torch.cat([exponent, between])
    return torch.exp2(-exponent)


def log_decays(
    num_heads: int,
    schedule: str = "alibi",
    *,
    layer: int = 0,
    num_layers: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""The log decays [H] of a layer of Lightning Attention: one rate per head, slower in later layers.

    Use it as ``log_decay`` of `linear_attention`.

    .. math:: a_h = -2^{-8(h+1)/H} \Big(1 - \frac{l}{L - 1} + 10^{-5}\Big) \quad\text{("alibi")}, \qquad
              a_h = -\frac{8h}{H} \Big(1 - \frac{l}{L}\Big) \quad\text{("linear")}

    with heads h and layers l counted from 0; l / (L - 1) is 0 for one layer. Both were published: "alibi" in the
    code and the trained models, "linear" in equation 10 of the paper, in which head 0 does not decay.

    Args:
        num_heads: H.
        schedule: ``"alibi"`` or ``"linear"``.
        layer: l, index of the layer.
        num_layers: L, number of layers.
        device: device of the result.
        dtype: dtype of the result.

    Source: Qin et al., "Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention", ICML
    2024, equation 10, and the published models.

    >>> log_decays(4, "linear", layer=1, num_layers=2).tolist()
    [-0.0, -1.0, -2.0, -3.0]
    """
    if schedule not in SCHEDULES:
        raise ArgumentError("schedule", "'alibi' or 'linear'", repr(schedule))
    count = whole("num_layers", num_layers, 1)
    depth = whole("layer", layer, 0, count - 1)
    if schedule == "alibi":
        factor = 1 - depth / max(count - 1, 1) + 1e-5
        return -alibi_slopes(num_heads, device=device, dtype=dtype) * factor
    heads = torch.arange(whole("num_heads", num_heads, 1), device=device, dtype=dtype)
    return -heads * (8 / num_heads * (1 - depth / count))
