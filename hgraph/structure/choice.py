"""Masks of the largest entries of each row."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["topk_mask"]


def topk_mask(score: Tensor, top_k: int) -> Tensor:
    """Boolean [..., S]: True at the ``top_k`` largest scores of each row; ties go to the first.

    The mask is computed by comparison, because torch's inductor has miscompiled masks that are scattered from indices
    and used twice.

    Args:
        score: [..., S]; NaN counts as larger than any number.
        top_k: number of True entries per row, 0 .. S.

    >>> topk_mask(torch.tensor([[0.2, 0.7, 0.2, 0.1]]), 2)
    tensor([[ True,  True, False, False]])
    """
    score = score.detach()
    if top_k == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    least = score.topk(top_k, dim=-1).values[..., -1:]
    above = (score > least) | (score.isnan() & ~least.isnan())
    equal = (score == least) | (score.isnan() & least.isnan())
    return above | (equal & (equal.cumsum(-1, dtype=torch.int32) <= top_k - above.sum(-1, keepdim=True)))
