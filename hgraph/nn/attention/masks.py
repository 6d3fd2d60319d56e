"""Masks of a call: by which heads tokens listen, and which tokens are there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError

__all__ = ["fitting", "masked"]


def fitting(name: str, mask: Any, shape: torch.Size) -> Tensor:
    """Booleans that are of a shape, or 1 where it does not matter; dimensions in front may lack, all but the last two.

    Raises:
        ArgumentError: another shape.
        ArgumentTypeError: not booleans.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise ArgumentTypeError(name, "a boolean tensor", getattr(mask, "dtype", type(mask).__name__))
    own = (1,) * (len(shape) - mask.dim()) + tuple(mask.shape)
    fits = len(own) == len(shape) and mask.dim() >= min(2, len(shape)) and own[-1:] == tuple(shape[-1:])
    if not fits or any(m not in (1, n) for m, n in zip(own, shape, strict=True)):
        raise ArgumentError(name, f"shape {list(shape)}, or 1 for any but the last", f"shape {list(mask.shape)}")
    return mask


def masked(out: Tensor, lse: Tensor, head_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """What is heard [..., N, H, D] and its lse [..., N, H], as of nobody where a head mask is False."""
    if head_mask is None:
        return out, lse
    return torch.where(head_mask.unsqueeze(-1), out, 0.0), torch.where(head_mask, lse, float("-inf"))
