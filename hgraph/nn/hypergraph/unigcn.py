"""UniGCN convolution (Huang and Yang, IJCAI 2021)."""

from __future__ import annotations

from hgraph.nn.hypergraph.two_step import TwoStepConv, can_check
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Hypergraph
from hgraph.structure.algebra import inverse_power, refuse_degrees

__all__ = ["UniGCNConv"]


class UniGCNConv(TwoStepConv):
    r"""Average the nodes of each hyperedge, then sum the hyperedges of each node, weighted by both degrees.

    Use it instead of `HGNNConv` to scale each hyperedge by the mean degree of its nodes.

    .. math:: x'_v = \frac{1}{\sqrt{d_v}} \sum_e \frac{w_e h(v, e)}{\sqrt{\bar d_e}}
              \sum_u \frac{h(u, e)}{d_e} (\Theta x_u + b), \qquad \bar d_e = \sum_u \frac{h(u, e)}{d_e} d_u

    with :math:`d_v = \sum_e w_e h(v, e)` and :math:`d_e = \sum_v h(v, e)`. A node without a hyperedge gets 0.
    The equation of the paper has no weights w and h; with all weights equal to 1 the two agree.

    Args:
        in_channels: F, input features per node.
        out_channels: F', output features per node.
        bias: whether to add b before the sums; the paper has no bias.

    Shapes:
        x [..., N, F] and a `Hypergraph` with N nodes -> [..., N, F'].

    Source: Huang and Yang, "UniGNN: a Unified Framework for Graph and Hypergraph Neural Networks", IJCAI 2021,
    section 3.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> UniGCNConv(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    node_power = -0.5

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, bias=bias)

    @staticmethod
    def operators(hypergraph: Hypergraph) -> tuple[Adjacency, Adjacency]:
        """Return the averaging step, and the summing step with the roots of both degrees."""
        degree = hypergraph.node_degree()
        gather, e2v = hypergraph.v2e.normalize("row"), hypergraph.e2v
        assert e2v.weight is not None  # noqa: S101 - every incidence has a weight here
        mean_degree = propagate(gather, degree.unsqueeze(-1)).squeeze(-1)
        if can_check(hypergraph) and gather.weight is not None and bool((gather.weight < 0).any()):
            size = propagate(gather.with_weight(gather.weight.abs()), degree.unsqueeze(-1)).squeeze(-1)
            refuse_degrees(mean_degree, size, power=-0.5, at_every="hyperedge")
        weight = inverse_power(degree, -0.5)[e2v.target] * inverse_power(mean_degree, -0.5)[e2v.indices] * e2v.weight
        if hypergraph.hyperedge_weight is not None:
            weight = weight * hypergraph.hyperedge_weight[e2v.indices]
        return gather, e2v.with_weight(weight)
