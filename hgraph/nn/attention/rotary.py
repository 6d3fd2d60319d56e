"""Rotary position embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.errors import ArgumentError

__all__ = ["apply_rotary_emb"]


def apply_rotary_emb(x: Tensor, position: Tensor, base: float = 10_000.0) -> Tensor:
    r"""Apply rotary position embedding: rotate adjacent pairs of features by angles proportional to the position.

    Use it on queries and keys, so that scores depend on relative positions.

    .. math:: (x_{2i}, x_{2i+1}) \mapsto (x_{2i} \cos p \theta_i - x_{2i+1} \sin p \theta_i,\;
              x_{2i} \sin p \theta_i + x_{2i+1} \cos p \theta_i), \qquad \theta_i = \mathrm{base}^{-2i/D}

    Inner products then depend only on differences of positions.

    Args:
        x: [..., N, H, D] with an even D.
        position: [N], or [..., N] if it differs between examples.
        base: base of the angles.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", eq. 34.

    >>> q, k = torch.randn(1, 1, 4), torch.randn(1, 1, 4)
    >>> def score(i, j):
    ...     return (apply_rotary_emb(q, torch.tensor([i])) * apply_rotary_emb(k, torch.tensor([j]))).sum()
    >>> torch.allclose(score(3, 0), score(53, 50), atol=1e-4)
    True
    """
    width = x.shape[-1]
    if width % 2:
        raise ArgumentError("x", "an even number of features per head", width)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    theta = base ** (-torch.arange(0, width, 2, device=x.device, dtype=wide) / width)
    angle = (position.to(wide).unsqueeze(-1) * theta).unsqueeze(-2)  # [..., N, 1, D / 2]
    even, odd = x[..., 0::2].to(wide), x[..., 1::2].to(wide)
    rotated = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
    return torch.stack(rotated, -1).flatten(-2).to(x.dtype)
