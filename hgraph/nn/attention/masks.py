"""Masks of heads per token, and masks of real tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError

__all__ = ["fitting", "masked", "token_mask"]


def fitting(name: str, mask: Any, shape: torch.Size, least: int = 2) -> Tensor:
    """Check that a mask is boolean and broadcasts to a shape; it needs at least the last ``least`` dimensions.

    Raises:
        ArgumentError: it does not broadcast.
        ArgumentTypeError: not booleans.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise ArgumentTypeError(name, "a boolean tensor", getattr(mask, "dtype", type(mask).__name__))
    full = (1,) * (len(shape) - mask.dim()) + tuple(mask.shape)
    fits = len(full) == len(shape) and mask.dim() >= min(least, len(shape)) and full[-1:] == tuple(shape[-1:])
    if not fits or any(m not in (1, n) for m, n in zip(full, shape, strict=True)):
        raise ArgumentError(name, f"shape {list(shape)}, or 1 for any but the last", f"shape {list(mask.shape)}")
    return mask


def masked(out: Tensor, lse: Tensor, head_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """``out`` [..., N, H, D] and lse [..., N, H] of attention, as if without sources where the head mask is False."""
    if head_mask is None:
        return out, lse
    return torch.where(head_mask.unsqueeze(-1), out, 0.0), torch.where(head_mask, lse, float("-inf"))


def token_mask(name: str, mask: Any, tokens: torch.Size) -> Tensor | None:
    """A mask of real tokens, expanded to the shape [..., N] of the tokens; None if all are real."""
    return None if mask is None else fitting(name, mask, tokens, 1).expand(tokens)
