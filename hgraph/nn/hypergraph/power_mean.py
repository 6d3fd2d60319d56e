"""Generalized means over the sources of each target."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.ops import propagate
from hgraph.structure import Adjacency

__all__ = ["check_power", "power_mean"]

_FLOOR = 1e-6  # relative to the largest feature
_LARGEST = 50.0  # 1e-6 to this power is still a float64


def check_power(power: float) -> None:
    """Reject powers that no mean has, or whose terms underflow.

    Raises:
        ArgumentError: 0, or a size above 50.
    """
    if not 0 < abs(power) <= _LARGEST:
        raise ArgumentError("power", f"a number other than 0 in -{_LARGEST:g} .. {_LARGEST:g}", power)


def power_mean(adj: Adjacency, x: Tensor, power: float) -> Tensor:
    r"""Means :math:`(\sum_s w_s x_s^p)^{1/p}` over the sources of each target; 0 for a target without sources.

    Powers are computed in float64 of the ratio to the largest feature, so that they neither overflow nor vanish.

    Args:
        adj: averages: the weights of each target sum to 1.
        x: [..., S, D], not negative unless p is 1; values below 1e-6 of the largest count as that.
        power: p, see `check_power`; 1 is the plain average.
    """
    if power == 1:
        return propagate(adj, x)
    if x.numel() == 0:
        return propagate(adj, x)
    top = x.detach().double().amax((-2, -1), keepdim=True)  # of each example
    top = torch.where(top > 0, top, 1.0)
    mean = propagate(adj, (x.double() / top).clamp(min=_FLOOR) ** power)
    empty = mean == 0
    return torch.where(empty, 0.0, top * torch.where(empty, 1.0, mean) ** (1 / power)).to(x.dtype)
