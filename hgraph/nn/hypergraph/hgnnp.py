"""HGNN+ convolution (Gao et al., TPAMI 2023)."""

from __future__ import annotations

from hgraph.nn.hypergraph.two_step import TwoStepConv, weighted_e2v
from hgraph.structure import Adjacency, Hypergraph

__all__ = ["HGNNPConv"]


class HGNNPConv(TwoStepConv):
    r"""Average the nodes of each hyperedge, then the hyperedges of each node.

    Use it when hyperedges and nodes of high degree should not dominate: both steps are means.

    .. math:: X' = D_v^{-1} H W D_e^{-1} H^\top (X \Theta + b)

    with :math:`d_v = \sum_e w_e h(v, e)` and :math:`d_e = \sum_v h(v, e)`. A node in no hyperedge gets 0.

    Args:
        in_channels: F, features of a node.
        out_channels: F'.
        bias: whether to add b, before the averages, so every node of a hyperedge gets it unchanged.

    Shapes:
        x [..., N, F] and a `Hypergraph` of N nodes -> [..., N, F'].

    Source: Gao et al., "HGNN+: General Hypergraph Neural Networks", TPAMI 2023, eq. 9 to 11.

    >>> import torch
    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> HGNNPConv(5, 2)(torch.randn(4, 5), hg).shape
    torch.Size([4, 2])
    """

    node_power = -1.0

    @staticmethod
    def operators(hypergraph: Hypergraph) -> tuple[Adjacency, Adjacency]:
        r""":math:`D_e^{-1} H^\top` and :math:`D_v^{-1} H W`."""
        return hypergraph.v2e.normalize("row"), weighted_e2v(hypergraph).normalize("row")
