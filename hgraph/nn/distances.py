"""Pairwise squared distances between the rows of two matrices."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["squared_distances"]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the squared distances [A, B] between the rows of a [A, D] and b [B, D], as one matrix product.

    .. math:: \lVert a_i - b_j \rVert^2 = \lVert a_i - c \rVert^2 + \lVert b_j - c \rVert^2
              - 2 (a_i - c) \cdot (b_j - c)

    where c is the mean of b. Rows that are far from 0 but close to each other would lose digits in these differences,
    so they are computed in float64 and rounded once. No tensor of size A x B x D is allocated.

    >>> far = torch.tensor([[1000.0], [1001.0]])
    >>> squared_distances(far, far + 0.5).tolist()
    [[0.25, 2.25], [0.25, 0.25]]
    """
    dtype = torch.promote_types(a.dtype, b.dtype)
    if a.device.type != "mps":  # MPS has no float64
        a, b = a.double(), b.double()
    center = (b.sum(0) / max(len(b), 1)).detach()  # any center gives the same distances and gradients
    a, b = a - center, b - center
    left = torch.cat([-2 * a, a.square().sum(-1, keepdim=True), torch.ones_like(a[:, :1])], 1)
    right = torch.cat([b, torch.ones_like(b[:, :1]), b.square().sum(-1, keepdim=True)], 1)
    return (left @ right.T).to(dtype)
