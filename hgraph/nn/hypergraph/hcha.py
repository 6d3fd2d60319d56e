"""Hypergraph convolution and hypergraph attention (Bai, Zhang and Torr, Pattern Recognition 2021)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.hgnn import HGNNConv
from hgraph.nn.hypergraph.hgnnp import HGNNPConv
from hgraph.nn.hypergraph.log_weight import log_weight
from hgraph.nn.hypergraph.two_step import Steps, TwoStepConv, steps_of
from hgraph.nn.inputs import check_inputs, ends_of, pair_of
from hgraph.ops import edge_softmax, propagate
from hgraph.structure import Adjacency, Hypergraph
from hgraph.structure.algebra import inverse_power

__all__ = ["HypergraphAttentionConv", "HypergraphConv"]


class HypergraphConv(TwoStepConv):
    r"""HCHA's convolution: average the nodes of each hyperedge, then the hyperedges of each node, then add a bias.

    Use it as the plain baseline of hypergraph learning. It differs from `HGNNPConv` (``normalize="row"``) and
    `HGNNConv` (``"sym"``) in the bias only: here every node gets it, also one without hyperedges.

    .. math:: X' = D_v^{-1} H W D_e^{-1} H^\top X \Theta + b, \qquad
              X' = D_v^{-1/2} H W D_e^{-1} H^\top D_v^{-1/2} X \Theta + b

    with :math:`d_v = \sum_e w_e h(v, e)` and :math:`d_e = \sum_v h(v, e)`.

    Args:
        in_channels: F, input features per node.
        out_channels: F', output features per node.
        normalize: ``"row"``, the first equation, or ``"sym"``, the second.
        bias: whether to add b.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, F'].

    Raises:
        ArgumentError: an unknown ``normalize``.

    Source: Bai, Zhang and Torr, "Hypergraph Convolution and Hypergraph Attention", Pattern Recognition 110, 2021.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HypergraphConv(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, normalize: Literal["row", "sym"] = "row", bias: bool = True
    ) -> None:
        if normalize not in ("row", "sym"):
            raise ArgumentError("normalize", "'row' or 'sym'", repr(normalize))
        super().__init__(in_channels, out_channels, bias=False)
        self.normalize = normalize
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def reset_parameters(self) -> None:
        """Reset the linear map as `torch.nn.Linear` does, and the bias to 0."""
        super().reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def steps(self, x: Tensor, hypergraph: Hypergraph) -> Steps:
        """The weighted structures of `HGNNPConv` or `HGNNConv`, shared with them."""
        return steps_of(HGNNPConv if self.normalize == "row" else HGNNConv, x, hypergraph)

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Smooth the features over the hyperedges."""
        out = super().forward(x, hypergraph)
        return out if self.bias is None else out + self.bias

    def from_prepared(self, prepared: Tensor, hypergraph: Hypergraph) -> Tensor:
        """The convolution, from the result of `prepare`."""
        out = super().from_prepared(prepared, hypergraph)
        return out if self.bias is None else out + self.bias


class HypergraphAttentionConv(nn.Module):
    r"""Hypergraph attention (HCHA): a hypergraph convolution whose incidence matrix is computed by attention.

    Use it when some hyperedges of a node matter more than others.

    .. math:: \alpha_{ve} = \mathrm{softmax}_{e \ni v}\big(\mathrm{LeakyReLU}(a_1^\top \Theta x_v +
              a_2^\top \Theta z_e) + \log h(v, e)\big), \qquad
              x'_v = \frac{\sum_e w_e \alpha_{ve} \bar x_e}{\sum_e w_e \alpha_{ve}} + b, \qquad
              \bar x_e = \frac{\sum_u \alpha_{ue} \Theta x_u}{\sum_u \alpha_{ue}}

    per head. Every incidence has one attention weight, which is used in both sums. If the hyperedge features have a
    different width, ``in_channels=(F, F_e)``, a separate map :math:`\Theta_e z_e` replaces :math:`\Theta z_e`.

    Args:
        in_channels: F, features per node and per hyperedge, or a pair (F, F_e) if the two widths differ.
        out_channels: F', output features per head.
        num_heads: H.
        concat: whether to concatenate the heads, else their mean is returned.
        negative_slope: slope of the LeakyReLU.
        dropout: dropout probability of the attention weights.
        bias: whether to add b.

    Shapes:
        x [N, F], a `Hypergraph` with N nodes and M hyperedges, and z [M, F] or None -> [N, H * F'], or [N, F'] without
        ``concat``. With a pair, z [M, F_e] is required.

    Raises:
        ArgumentError: fewer than one head, a wrong shape, no z where a pair needs it, or negative weights.

    Source: Bai, Zhang and Torr, "Hypergraph Convolution and Hypergraph Attention", Pattern Recognition 110, 2021. The
    features z of hyperedges default to the mean features of their nodes. The separate map is not in the paper.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HypergraphAttentionConv(5, 2, num_heads=3)(torch.randn(4, 5), hg).shape
    torch.Size([4, 6])
    >>> HypergraphAttentionConv((5, 7), 2)(torch.randn(4, 5), hg, torch.randn(2, 7)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        *,
        num_heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        pair = pair_of(in_channels)
        width = ends_of(in_channels)[0]
        check_channels(in_channels=width, out_channels=out_channels, num_heads=num_heads)
        super().__init__()
        self.in_channels, self.out_channels = pair or width, out_channels
        self.num_heads, self.concat, self.negative_slope = num_heads, concat, negative_slope
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, num_heads * out_channels, bias=False)
        self.hyperedge_linear = nn.Linear(pair[1], num_heads * out_channels, bias=False) if pair else None
        self.node_score = nn.Parameter(torch.empty(num_heads, out_channels))
        self.hyperedge_score = nn.Parameter(torch.empty(num_heads, out_channels))
        self.bias = nn.Parameter(torch.empty(num_heads * out_channels if concat else out_channels)) if bias else None
        self._reset_scores()

    def reset_parameters(self) -> None:
        """Reset the linear map as `torch.nn.Linear` does; Glorot-uniform attention vectors, zero bias."""
        self.linear.reset_parameters()
        if self.hyperedge_linear is not None:
            self.hyperedge_linear.reset_parameters()
        self._reset_scores()

    def _reset_scores(self) -> None:
        nn.init.xavier_uniform_(self.node_score)
        nn.init.xavier_uniform_(self.hyperedge_score)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, hypergraph: Hypergraph, z: Tensor | None = None) -> Tensor:
        """Attend to the hyperedges of each node, then convolve with the attention weights."""
        of_hyperedges = self.linear if self.hyperedge_linear is None else self.hyperedge_linear
        check_inputs(x, hypergraph, Hypergraph, self.linear.in_features, self.linear.weight, batched=False)
        if z is None and self.hyperedge_linear is None:
            z = propagate(steps_of(HGNNPConv, x, hypergraph).gather, x)
        elif z is None or z.shape != (hypergraph.num_hyperedges, of_hyperedges.in_features):
            expected = f"shape [{hypergraph.num_hyperedges}, {of_hyperedges.in_features}], a row per hyperedge"
            raise ArgumentError("z", expected, "None" if z is None else f"shape {list(z.shape)}")
        log_weight(hypergraph, x.dtype)  # refuses negative weights
        value = self.linear(x)  # [N, H * F']
        alpha = self.dropout(self._attention(value, of_hyperedges(z), hypergraph))  # [nnz, H], in the order of e2v
        hyperedges = _average(hypergraph.v2e, value, alpha[hypergraph.e2v.perm])
        if hypergraph.hyperedge_weight is not None:
            relative = _relative(hypergraph.hyperedge_weight, alpha.dtype)
            alpha = alpha * relative[hypergraph.e2v.indices].unsqueeze(-1)
        out = _average(hypergraph.e2v, hyperedges, alpha)
        if not self.concat:
            out = out.unflatten(-1, (self.num_heads, -1)).mean(-2)
        return out if self.bias is None else out + self.bias

    def _attention(self, value: Tensor, of_hyperedges: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Attention weights [nnz, H] of each node over its hyperedges."""
        e2v = hypergraph.e2v
        query = (value.unflatten(-1, (self.num_heads, -1)) * self.node_score.to(value.dtype)).sum(-1)
        key = (of_hyperedges.unflatten(-1, (self.num_heads, -1)) * self.hyperedge_score.to(value.dtype)).sum(-1)
        score = F.leaky_relu(query[e2v.target] + key[e2v.indices], self.negative_slope)
        bias = log_weight(hypergraph, value.dtype, of_hyperedges=False)
        score = score if bias is None else score + bias.unsqueeze(-1)
        return edge_softmax(e2v, score).to(value.dtype)


def _relative(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights divided by their maximum: averages are equal, but squares of tiny weights in gradients would be 0."""
    if not weight.numel():
        return weight.to(dtype)
    weight = weight.to(torch.promote_types(dtype, torch.float32))
    largest = weight.detach().amax()
    return (weight / torch.where(largest > 0, largest, 1.0)).to(dtype)


def _average(adj: Adjacency, x: Tensor, weight: Tensor) -> Tensor:
    """Weighted averages [T, H * F] of x [S, H * F] with weights [E, H]; 0 without edges."""
    total = propagate(adj, weight.new_ones(adj.num_sources, weight.shape[1]), weight=weight)
    average = propagate(adj, x, weight=weight).unflatten(-1, (weight.shape[1], -1))
    return (average * inverse_power(total, -1.0).unsqueeze(-1)).flatten(-2)
