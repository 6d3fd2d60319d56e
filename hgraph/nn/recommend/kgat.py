"""Knowledge graph attention (Wang et al., KDD 2019): one layer of propagation and its three aggregators."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import KnowledgeGraph

__all__ = ["KGATConv"]


class KGATConv(nn.Module):
    r"""Aggregate the tails of each head, weighted by attention, and combine them with the head's features.

    Use it to propagate over a knowledge graph whose edge weights are precomputed by `kg_attention`.

    .. math:: m_h = \sum_{(h, r, t)} \alpha_{hrt}\, x_t, \qquad
              x'_h = \sigma((x_h + m_h) W_1 + b_1) + \sigma((x_h \odot m_h) W_2 + b_2)

    with :math:`\sigma` the LeakyReLU. ``"gcn"`` is only the first term, ``"sage"`` is
    :math:`\sigma([x_h \Vert m_h] W + b)`. A head without triples has m = 0.

    Args:
        in_channels: F.
        out_channels: F'.
        aggr: ``"bi"`` (bi-interaction), ``"gcn"`` or ``"sage"``.
        negative_slope: negative slope of the LeakyReLU.

    Shapes:
        x [..., N, F] and a `KnowledgeGraph` of N nodes, weighted with the attention weights :math:`\alpha`
        (`kg_attention`), -> [..., N, F']. Without weights all triples have equal weight: m is the mean.

    Source: Wang et al., "KGAT: Knowledge Graph Attention Network for Recommendation", eq. 3 and 6 to 8. The published
    code uses ReLU in ``"sage"``.

    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "s", "c")])
    >>> KGATConv(4, 2)(torch.randn(3, 4), kg).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        aggr: Literal["bi", "gcn", "sage"] = "bi",
        negative_slope: float = 0.2,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        if aggr not in ("bi", "gcn", "sage"):
            raise ArgumentError("aggr", "'bi', 'gcn' or 'sage'", repr(aggr))
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.aggr, self.negative_slope = aggr, negative_slope
        self.weight = nn.Parameter(torch.empty((2 if aggr == "sage" else 1) * in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        both = aggr == "bi"
        self.product_weight = nn.Parameter(torch.empty(in_channels, out_channels)) if both else None
        self.product_bias = nn.Parameter(torch.empty(out_channels)) if both else None
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_channels}, {self.out_channels}, aggr={self.aggr!r}"

    def reset_parameters(self) -> None:
        """Glorot-uniform, also for the biases (1 x F')."""
        for parameter in self.parameters():
            nn.init.xavier_uniform_(parameter if parameter.dim() > 1 else parameter.data.view(1, -1))

    def forward(self, x: Tensor, kg: KnowledgeGraph) -> Tensor:
        """Aggregate and combine."""
        check_inputs(x, kg, KnowledgeGraph, self.in_channels, self.weight)
        message = propagate(kg.adj, x, reduce="mean" if kg.adj.weight is None else "sum")
        if self.aggr == "sage":
            return self._act(torch.cat([x, message], -1), self.weight, self.bias)
        out = self._act(x + message, self.weight, self.bias)
        if self.product_weight is None or self.product_bias is None:
            return out
        return out + self._act(x * message, self.product_weight, self.product_bias)

    def _act(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.leaky_relu(F.linear(x, weight.T, bias), self.negative_slope)
