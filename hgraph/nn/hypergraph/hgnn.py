"""HGNN convolution (Feng et al., AAAI 2019)."""

from __future__ import annotations

from hgraph.nn.hypergraph.two_step import TwoStepConv
from hgraph.structure import Adjacency, Hypergraph
from hgraph.structure.algebra import inverse_power

__all__ = ["HGNNConv"]


class HGNNConv(TwoStepConv):
    r"""Smooth node features over hyperedges, symmetrically normalized.

    Use it as the first baseline on a hypergraph, or to reproduce HGNN.

    .. math:: X' = D_v^{-1/2} H W D_e^{-1} H^\top D_v^{-1/2} (X \Theta + b)

    with :math:`d_v = \sum_e w_e h(v, e)` and :math:`d_e = \sum_v h(v, e)`. A node in no hyperedge gets 0
    (`Hypergraph.with_singletons` adds a singleton hyperedge for each). The N x N product is never formed.

    Args:
        in_channels: F, features of a node.
        out_channels: F'.
        bias: whether to add b, before the smoothing.

    Shapes:
        x [..., N, F] and a `Hypergraph` of N nodes -> [..., N, F'].

    Source: Feng et al., "Hypergraph Neural Networks", AAAI 2019, eq. 10 and 11, with the linear map (and its bias)
    first, as in eq. 1 of Feng et al., "LightHGNN", ICLR 2024.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HGNNConv(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    node_power = -0.5

    @staticmethod
    def operators(hypergraph: Hypergraph) -> tuple[Adjacency, Adjacency]:
        r""":math:`D_e^{-1} H^\top D_v^{-1/2}` and :math:`D_v^{-1/2} H W`."""
        root = inverse_power(hypergraph.node_degree(), -0.5)
        v2e, e2v = hypergraph.v2e.normalize("row"), hypergraph.e2v
        assert v2e.weight is not None  # noqa: S101 - all incidences are weighted here
        assert e2v.weight is not None  # noqa: S101
        weight = root[e2v.target] * e2v.weight
        if hypergraph.hyperedge_weight is not None:
            weight = weight * hypergraph.hyperedge_weight[e2v.indices]
        return v2e.with_weight(v2e.weight * root[v2e.indices]), e2v.with_weight(weight)
