"""Sheaf hypergraph convolution (Duta, Cassara, Silvestri and Lio, NeurIPS 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.hgnnp import HGNNPConv
from hgraph.nn.hypergraph.two_step import steps_of
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.ops.sparse.linear import upcast
from hgraph.structure import Hypergraph
from hgraph.structure.algebra import inverse_power

__all__ = ["SheafHypergraphConv"]

_ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "none": lambda x: x}


class SheafHypergraphConv(nn.Module):
    r"""Diffusion by a sheaf Laplacian whose diagonal maps are learned per incidence.

    Use it where the nodes of a hyperedge should not become alike: each incidence sees a node through its own map.

    .. math:: F_{ve} = \mathrm{act}(A\, [\bar x_v \,|\, \bar x_e] + a) \in \mathbb R^d, \qquad
              (L X)_v = \sum_{e \ni v} \frac{w_e}{d_e} F_{ve} \odot \Big(2 F_{ve} \odot x_v
              - \sum_{u \in e} F_{ue} \odot x_u\Big), \qquad
              X' = (I - D^{-1/2} L D^{-1/2})\, X \Theta + b

    x [N, d, F] has d stalk rows per node, on which F acts; :math:`\bar x_v` is their mean, :math:`\bar x_e` the mean
    over the nodes of e, and :math:`D_v = \sum_{e \ni v} w_e F_{ve} \odot F_{ve}`. The sum over u includes v, so
    that the diagonal block of L is :math:`\sum_e F_{ve}^2 / d_e`.

    Args:
        in_channels: F, input features per node and stalk row.
        out_channels: F', output features per node and stalk row.
        stalk_dim: d.
        activation: of the maps: ``"sigmoid"``, ``"tanh"`` or ``"none"``.
        bias: whether to add b.

    Shapes:
        x [N, d * F] (the stalk rows of a node side by side) and a `Hypergraph` with N nodes -> [N, d * F'].

    Raises:
        ArgumentError: an unknown activation, or a wrong shape.

    Source: Duta, Cassara, Silvestri and Lio, "Sheaf Hypergraph Networks", NeurIPS 2023, the linear Laplacian with
    diagonal maps; w is not in the paper.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> SheafHypergraphConv(5, 3, stalk_dim=2)(torch.randn(4, 10), hg).shape
    torch.Size([4, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stalk_dim: int = 2,
        activation: Literal["sigmoid", "tanh", "none"] = "sigmoid",
        bias: bool = True,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels, stalk_dim=stalk_dim)
        if activation not in _ACTIVATIONS:
            raise ArgumentError("activation", "'sigmoid', 'tanh' or 'none'", repr(activation))
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stalk_dim, self.activation = stalk_dim, activation
        self.node_map = nn.Linear(in_channels, stalk_dim)
        self.hyperedge_map = nn.Linear(in_channels, stalk_dim, bias=False)
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(stalk_dim * out_channels)) if bias else None

    def reset_parameters(self) -> None:
        """Reset the linear maps as `torch.nn.Linear` does, and the bias to 0."""
        for part in (self.node_map, self.hyperedge_map, self.linear):
            part.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Diffuse once by the sheaf Laplacian."""
        check_inputs(x, hypergraph, Hypergraph, self.stalk_dim * self.in_channels, self.linear.weight, batched=False)
        y = upcast(self.linear(x.unflatten(-1, (self.stalk_dim, -1))))  # [..., N, d, F']
        maps, weighted = self._maps(x, hypergraph)  # [nnz, d] in the order of e2v
        e2v, v2e = hypergraph.e2v.with_weight(None), hypergraph.v2e.with_weight(None)
        ones = maps.new_ones(v2e.num_targets, self.stalk_dim)
        size = v2e.indptr.diff().clamp(min=1).to(maps.dtype)[e2v.indices].unsqueeze(-1)
        degree = propagate(e2v, ones, weight=weighted * maps)  # [N, d]
        root = inverse_power(degree, -0.5).unsqueeze(-1)
        scaled = (root * y).flatten(-2)
        inner = propagate(v2e, scaled, weight=maps[e2v.perm])
        spread = propagate(e2v, inner, weight=weighted / size)
        own = 2 * propagate(e2v, ones, weight=weighted * maps / size).unsqueeze(-1) * (root * y)
        out = y - root * (own - spread.unflatten(-1, (self.stalk_dim, -1)))
        out = out.flatten(-2).to(x.dtype)
        return out if self.bias is None else out + self.bias

    def _maps(self, x: Tensor, hypergraph: Hypergraph) -> tuple[Tensor, Tensor]:
        """The maps F [nnz, d], and w_e F."""
        e2v = hypergraph.e2v
        nodes = x.unflatten(-1, (self.stalk_dim, -1)).mean(-2)
        hyperedges = propagate(steps_of(HGNNPConv, x, hypergraph).gather, nodes)
        score = self.node_map(nodes)[e2v.target] + self.hyperedge_map(hyperedges)[e2v.indices]
        maps = _ACTIVATIONS[self.activation](upcast(score))  # a small sigmoid is 0 in float16, and so is its degree
        w = hypergraph.hyperedge_weight
        return maps, maps if w is None else maps * w.to(maps.dtype)[e2v.indices].unsqueeze(-1)
