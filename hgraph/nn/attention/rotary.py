"""Rotary position embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.errors import ArgumentError

__all__ = ["rotate"]


def rotate(x: Tensor, position: Tensor, base: float = 10_000.0) -> Tensor:
    r"""Turn neighbouring pairs of features by angles that grow with the position.

    .. math:: (x_{2i}, x_{2i+1}) \mapsto (x_{2i} \cos p \theta_i - x_{2i+1} \sin p \theta_i,\;
              x_{2i} \sin p \theta_i + x_{2i+1} \cos p \theta_i), \qquad \theta_i = \mathrm{base}^{-2i/D}

    so that inner products depend on differences of positions alone.

    Args:
        x: [..., N, H, D] with an even D.
        position: [N], or [..., N] where it differs among examples.
        base: of the angles.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", eq. 34.

    >>> q, k = torch.randn(1, 1, 4), torch.randn(1, 1, 4)
    >>> near, far = ((rotate(q, torch.tensor([p + 3])) * rotate(k, torch.tensor([p]))).sum() for p in (0, 50))
    >>> torch.allclose(near, far, atol=1e-4)
    True
    """
    width = x.shape[-1]
    if width % 2:
        raise ArgumentError("x", "an even number of features a head", width)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    theta = base ** (-torch.arange(0, width, 2, device=x.device, dtype=wide) / width)
    angle = (position.to(wide).unsqueeze(-1) * theta).unsqueeze(-2)  # [..., N, 1, D / 2]
    even, odd = x[..., 0::2].to(wide), x[..., 1::2].to(wide)
    turned = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
    return torch.stack(turned, -1).flatten(-2).to(x.dtype)
