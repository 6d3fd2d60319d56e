"""A linear map and the two steps vertices -> hyperedges -> vertices, in the order that costs least."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.ops import propagate
from hgraph.structure import Adjacency, derived

__all__ = ["second_step", "two_steps"]


def two_steps(gather: Adjacency, scatter: Adjacency, linear: nn.Linear, x: Tensor) -> Tensor:
    r""":math:`S \, G \, (X \Theta + b)` with G [M, N] and S [N, M].

    Where hyperedges are no more than vertices and messages get no wider, as :math:`S (G X \Theta + (G 1) b)`: the
    product is of M rows, and features that need no gradient cost the first step none.
    """
    if linear.out_features < linear.in_features or gather.num_targets > gather.num_sources:
        return propagate(scatter, propagate(gather, linear(x)))
    return second_step(gather, scatter, linear, propagate(gather, x))


def second_step(gather: Adjacency, scatter: Adjacency, linear: nn.Linear, gathered: Tensor) -> Tensor:
    """`two_steps` from the sums G X [M, F] on."""
    y = F.linear(gathered, linear.weight)
    if linear.bias is not None:
        ones = derived(gather, "of ones", lambda: gather.target_degree().unsqueeze(-1))
        y = torch.addcmul(y, ones.to(y.dtype), linear.bias.to(y.dtype))
    return propagate(scatter, y)
