"""HNHN convolution (Dong, Sawin and Bengio, 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.cache import cached
from hgraph.checks import check_channels
from hgraph.nn.hypergraph.two_step import checked, weighted
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Hypergraph
from hgraph.structure.algebra import inverse_power

__all__ = ["HNHNConv"]


class HNHNConv(nn.Module):
    r"""Hyperedges as neurons: a linear map and a nonlinearity at the hyperedges too, weighted by powers of degrees.

    Use it where hyperedges need a learned representation, or where large hyperedges should count less.

    .. math:: z_e = \mathrm{ReLU}\Big(\frac{\sum_{v} h(v, e)\, d_v^\beta\, (\Theta_1 x_v + b_1)}
              {\sum_v h(v, e)\, d_v^\beta}\Big), \qquad
              x'_v = \frac{\sum_e w_e h(v, e)\, d_e^\alpha\, (\Theta_2 z_e + b_2)}{\sum_e w_e h(v, e)\, d_e^\alpha}

    with :math:`d_v = \sum_e w_e h(v, e)` and :math:`d_e = \sum_v h(v, e)`. With :math:`\alpha = \beta = 0` both
    steps are means. The weights w and h are not in the paper; with all of them equal to 1 the two agree.

    Args:
        in_channels: F, input features per node.
        out_channels: F', output features per node.
        hyperedge_channels: features per hyperedge; None takes F'.
        alpha: power of the sizes of hyperedges: below 0 large ones count less.
        beta: power of the degrees of nodes.
        bias: whether to add the biases.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, F'].

    Raises:
        ArgumentError: (on a CPU) weights whose sums cancel, or are so small that a power of them is infinite.

    Source: Dong, Sawin and Bengio, "HNHN: Hypergraph Networks with Hyperedge Neurons", ICML 2020 workshop on graph
    representation learning. The nonlinearity after the second step belongs to the network.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HNHNConv(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hyperedge_channels: int | None = None,
        alpha: float = -1.5,
        beta: float = -0.5,
        bias: bool = True,
    ) -> None:
        middle = out_channels if hyperedge_channels is None else hyperedge_channels
        check_channels(in_channels=in_channels, out_channels=out_channels, hyperedge_channels=middle)
        super().__init__()
        self.in_channels, self.out_channels, self.alpha, self.beta = in_channels, out_channels, alpha, beta
        self.to_hyperedges = nn.Linear(in_channels, middle, bias=bias)
        self.to_nodes = nn.Linear(middle, out_channels, bias=bias)

    def reset_parameters(self) -> None:
        """Reset both linear maps as `torch.nn.Linear` does."""
        self.to_hyperedges.reset_parameters()
        self.to_nodes.reset_parameters()

    def forward(self, x: Tensor, hypergraph: Hypergraph) -> Tensor:
        """Average to the hyperedges, apply ReLU, and average back."""
        check_inputs(x, hypergraph, Hypergraph, self.in_channels, self.to_hyperedges.weight)
        dtype = torch.promote_types(x.dtype, torch.float32)
        key = "hnhn", self.alpha, self.beta, dtype
        gather, scatter = cached(hypergraph, key, lambda: _averages(hypergraph, dtype, self.alpha, self.beta))
        z = propagate(gather, self.to_hyperedges(x)).relu()
        return propagate(scatter, self.to_nodes(z))


def _averages(hypergraph: Hypergraph, dtype: torch.dtype, alpha: float, beta: float) -> tuple[Adjacency, Adjacency]:
    """The weighted averages of both steps."""
    hypergraph = weighted(checked(hypergraph, dtype, beta, alpha), dtype)
    v2e, e2v, w = hypergraph.v2e, hypergraph.e2v, hypergraph.hyperedge_weight
    of_nodes = inverse_power(hypergraph.node_degree(), beta)
    of_hyperedges = inverse_power(hypergraph.hyperedge_degree(), alpha)
    of_hyperedges = of_hyperedges if w is None else of_hyperedges * w
    assert v2e.weight is not None and e2v.weight is not None  # noqa: S101, PT018 - every incidence has a weight here
    gather = v2e.with_weight(v2e.weight * of_nodes[v2e.indices])
    scatter = e2v.with_weight(e2v.weight * of_hyperedges[e2v.indices])
    return gather.normalize("row"), scatter.normalize("row")
