"""Principal neighborhood aggregation (Corso et al., NeurIPS 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.cache import cached
from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.ops.sparse.linear import upcast
from hgraph.structure import Adjacency, Graph

__all__ = ["PNAConv"]

_SCALERS = ("identity", "amplification", "attenuation")


class PNAConv(nn.Module):
    r"""Mean, maximum, minimum and deviation of the neighbors, each scaled by the degree in three ways.

    Use it when no single aggregator suffices, as in regression on graphs.

    .. math:: m_{ij} = \Theta_t x_i + \Theta_s x_j + b, \qquad
              x'_i = \Theta \Big[ x_i \,\Big\Vert\,
              \Vert_{s \in \{1,\; \log(d_i + 1) / \delta,\; \delta / \log(d_i + 1)\}}\;
              s \cdot [\mathrm{mean}, \mathrm{max}, \mathrm{min}, \mathrm{std}]_j\, m_{ij} \Big] + b'

    with :math:`\delta` the mean of :math:`\log(d + 1)` over the nodes of the training graph. The std is
    :math:`\sqrt{\mathrm{ReLU}(\mathrm{mean}(m^2) - \mathrm{mean}(m)^2) + 10^{-5}}`. The first term of a message is the
    same for all neighbors, so no message per edge is computed. A node without neighbors gets zeros, and the scale of a
    degree of 0 is 1. Edge weights are ignored.

    Args:
        in_channels: F, features of a node.
        out_channels: F'.
        mean_log_degree: delta; None computes it from the given graph. If you test on other graphs, pass the value of
            the training graph.

    Shapes:
        x [..., N, F] and a `Graph` of N nodes -> [..., N, F'].

    Raises:
        ArgumentError: features of the wrong width, or a delta that is not positive.

    Source: Corso et al., "Principal Neighbourhood Aggregation for Graph Nets", NeurIPS 2020, eq. 5 to 8, with one
    tower and linear maps.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> PNAConv(4, 2)(torch.randn(3, 4), g).shape
    torch.Size([3, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, *, mean_log_degree: float | None = None) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels)
        if mean_log_degree is not None and not mean_log_degree > 0:
            raise ArgumentError("mean_log_degree", "None, or a number above 0", mean_log_degree)
        super().__init__()
        self.in_channels, self.out_channels, self.mean_log_degree = in_channels, out_channels, mean_log_degree
        self.linear = nn.Linear(in_channels, in_channels, bias=False)
        self.target_linear = nn.Linear(in_channels, in_channels)
        self.out = nn.Linear((1 + 4 * len(_SCALERS)) * in_channels, out_channels)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_channels}, {self.out_channels}"

    def reset_parameters(self) -> None:
        """Reset every linear map as `torch.nn.Linear` does."""
        for linear in (self.linear, self.target_linear, self.out):
            linear.reset_parameters()

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Aggregate the neighbors in twelve ways."""
        check_inputs(x, graph, Graph, self.in_channels, self.linear.weight)
        adj = graph.adj.with_weight(None)
        key, own = upcast(self.linear(x)), upcast(self.target_linear(x))  # squares overflow float16 from 256 on
        mean, most, least = (propagate(adj, key, reduce=how) for how in ("mean", "max", "min"))
        spread = propagate(adj, key.square(), reduce="mean") - mean.square()
        log, there = cached(graph.adj, ("log degree", key.dtype), lambda: _log_degree(graph.adj, key.dtype))
        moved = [there * (part + own) for part in (mean, most, least)]
        found = torch.cat([*moved, there * (spread.relu() + 1e-5).sqrt()], -1)
        delta = log.mean() if self.mean_log_degree is None else self.mean_log_degree
        scale = torch.where(there > 0, log / delta, 1.0)
        return self.out(torch.cat([x, *(part.to(x.dtype) for part in (found, scale * found, found / scale))], -1))


def _log_degree(adj: Adjacency, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """[N, 1] logarithms of the in-degree + 1, and 1 for nodes with neighbors, else 0."""
    degree = adj.indptr.diff().to(dtype).unsqueeze(-1)
    return degree.log1p(), (degree > 0).to(dtype)
