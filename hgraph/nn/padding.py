"""Padding in batches of tokens or nodes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["without_padding"]


def without_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """x [..., N, D] with 0 at padding, so that padding (even NaN) affects neither outputs nor gradients."""
    return x if mask is None else torch.where(mask.unsqueeze(-1), x, 0.0)
