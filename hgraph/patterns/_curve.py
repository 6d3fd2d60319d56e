"""The order of grid cells along a Hilbert curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["hilbert_order"]


def hilbert_order(sides: Sequence[int]) -> Tensor:
    """Cells [N] of a grid (in raster order), in the order of the Hilbert curve of the smallest enclosing cube.

    Skilling's transform, vectorized over cells: coordinates become the transposed index, whose bits then alternate. On
    a cube of side 2**b consecutive cells are neighbors; on other grids the curve sometimes leaves the grid.

    >>> hilbert_order((2, 2)).tolist()
    [0, 1, 3, 2]
    """
    n, axes = math.prod(sides), len(sides)
    if n == 0:
        return torch.empty(0, dtype=torch.long)
    bits = max(max(sides) - 1, 1).bit_length()
    x = list(torch.unravel_index(torch.arange(n), tuple(sides)))
    level = 1 << (bits - 1)
    while level > 1:  # undo the excess work of rotations and reflections, from the coarsest level on
        low = level - 1
        for i in range(axes):
            set_ = (x[i] & level) != 0
            swap = (x[0] ^ x[i]) & low
            flipped = x[0] ^ low
            if i == 0:
                x[0] = torch.where(set_, flipped, x[0])
            else:
                x[i] = torch.where(set_, x[i], x[i] ^ swap)
                x[0] = torch.where(set_, flipped, x[0] ^ swap)
        level >>= 1
    for i in range(1, axes):  # Gray code
        x[i] = x[i] ^ x[i - 1]
    toggle = torch.zeros_like(x[0])
    level = 1 << (bits - 1)
    while level > 1:
        toggle = torch.where((x[-1] & level) != 0, toggle ^ (level - 1), toggle)
        level >>= 1
    key = torch.zeros_like(x[0])
    for bit in range(bits - 1, -1, -1):
        for i in range(axes):
            key = key << 1 | ((x[i] ^ toggle) >> bit & 1)
    return torch.argsort(key)
