"""Pooling layers: keep the nodes of each example with the highest scores, and the structure on them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, real
from hgraph.errors import ArgumentError
from hgraph.nn.graph.gcn import GCNConv
from hgraph.nn.inputs import check_inputs
from hgraph.nn.readout import check_items
from hgraph.nn.reset import reset
from hgraph.structure import Adjacency, Graph, Hypergraph

__all__ = ["Pooled", "SAGPooling", "TopKPooling"]


class Pooled(NamedTuple):
    """The result of a pooling layer.

    Attributes:
        x: [K, D] features of the selected nodes, times tanh of their scores.
        structure: the subgraph or subhypergraph of the selected nodes.
        items: the `Adjacency` from the selected nodes to their examples.
        nodes: [K] ids of the selected nodes, ascending.
    """

    x: Tensor
    structure: Graph | Hypergraph
    items: Adjacency
    nodes: Tensor


class TopKPooling(nn.Module):
    r"""Keep the nodes of each example with the largest projections on a learned vector.

    Use it between layers to make graphs smaller.

    .. math:: s_i = \frac{\langle p, x_i \rangle}{\lVert p \rVert}, \qquad
              I_b = \operatorname{top}_{\lceil r n_b \rceil} (s_i)_{i \in b}, \qquad x'_i = \tanh(s_i)\, x_i
              \quad (i \in I_b)

    Args:
        channels: D.
        ratio: r, the fraction of the :math:`n_b` nodes of an example that is kept, rounded up.

    Shapes:
        x [N, D], a `Graph` or `Hypergraph` of N nodes, and items, an `Adjacency` of B examples by N nodes -> `Pooled`.
        All hyperedges of a hypergraph are kept, with their remaining members.

    Source: Gao and Ji, "Graph U-Nets", ICML 2019, eq. 2 (with tanh in place of the sigmoid, as Cangea et al., "Towards
    Sparse Hierarchical Graph Classifiers", 2018, eq. 4).

    >>> graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> items = Adjacency.from_coo(target=[0, 0, 0], source=[0, 1, 2], num_targets=1, num_sources=3)
    >>> TopKPooling(4, ratio=0.5)(torch.randn(3, 4), graph, items).structure.num_nodes
    2
    """

    def __init__(self, channels: int, *, ratio: float = 0.5) -> None:
        check_channels(channels=channels)
        super().__init__()
        self.channels, self.ratio = channels, _ratio(ratio)
        self.weight = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.channels}, ratio={self.ratio}"

    def reset_parameters(self) -> None:
        """Sample uniformly, as the weights of a linear map to one channel."""
        bound = 1 / math.sqrt(self.channels)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, structure: Graph | Hypergraph, items: Adjacency) -> Pooled:
        """Score the nodes and keep the best."""
        _check(x, structure, self.channels, self.weight)
        length = self.weight.norm()
        return _keep(x, (x @ self.weight) / torch.where(length == 0, 1.0, length), structure, items, self.ratio)


class SAGPooling(nn.Module):
    r"""Keep the nodes of each example with the largest outputs of a graph layer with one channel.

    Use it in place of `TopKPooling` where the score of a node should depend on its neighbors.

    .. math:: s = \mathrm{GNN}(X, A), \qquad I_b = \operatorname{top}_{\lceil r n_b \rceil} (s_i)_{i \in b}, \qquad
              x'_i = \tanh(s_i)\, x_i \quad (i \in I_b)

    Args:
        channels: D.
        ratio: r, as in `TopKPooling`.
        conv: a layer of (x, structure) with one output channel; None uses a `GCNConv`. For hypergraphs, pass a
            hypergraph layer.

    Shapes:
        as `TopKPooling`.

    Source: Lee, Lee and Kang, "Self-Attention Graph Pooling", ICML 2019, eq. 3 to 6.

    >>> graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> items = Adjacency.from_coo(target=[0, 0, 0], source=[0, 1, 2], num_targets=1, num_sources=3)
    >>> SAGPooling(4, ratio=0.5)(torch.randn(3, 4), graph, items).nodes.shape
    torch.Size([2])
    """

    def __init__(self, channels: int, *, ratio: float = 0.5, conv: nn.Module | None = None) -> None:
        check_channels(channels=channels)
        super().__init__()
        self.channels, self.ratio = channels, _ratio(ratio)
        self.conv = GCNConv(channels, 1) if conv is None else conv

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.channels}, ratio={self.ratio}"

    def reset_parameters(self) -> None:
        """Reset the layer."""
        reset(self)

    def forward(self, x: Tensor, structure: Graph | Hypergraph, items: Adjacency) -> Pooled:
        """Score the nodes and keep the best."""
        _check(x, structure, self.channels, next(self.conv.parameters(), x))
        score = self.conv(x, structure)
        if score.shape != (len(x), 1):
            raise ArgumentError("conv", f"a layer that returns shape [{len(x)}, 1]", f"shape {list(score.shape)}")
        return _keep(x, score.squeeze(-1), structure, items, self.ratio)


def _ratio(ratio: float) -> float:
    if real("ratio", ratio, "a fraction above 0, at most 1", 0.0, 1.0) == 0:
        raise ArgumentError("ratio", "a fraction above 0, at most 1", ratio)
    return float(ratio)


def _check(x: Tensor, structure: Graph | Hypergraph, channels: int, weight: Tensor) -> None:
    check_inputs(
        x, structure, Hypergraph if isinstance(structure, Hypergraph) else Graph, channels, weight, batched=False
    )


def _keep(x: Tensor, score: Tensor, structure: Graph | Hypergraph, items: Adjacency, ratio: float) -> Pooled:
    nodes = _best(score.detach(), items, ratio)
    chosen = x.index_select(0, nodes) * score.index_select(0, nodes).tanh().unsqueeze(-1)
    part = structure.subhypergraph(nodes) if isinstance(structure, Hypergraph) else structure.subgraph(nodes)
    return Pooled(chosen, part, items.transpose().select(nodes).transpose(), nodes)


def _best(score: Tensor, items: Adjacency, ratio: float) -> Tensor:
    """The nodes with the highest scores of each example, ascending; ties go to the lower id."""
    check_items(items)
    if items.num_sources != len(score) or items.num_edges != len(score):
        got = f"{items.num_edges} memberships of {items.num_sources} nodes"
        raise ArgumentError("items", f"an example for each of the {len(score)} nodes", got)
    by_score = torch.sort(score[items.indices.long()], descending=True, stable=True).indices
    order = by_score[torch.sort(items.target[by_score].long(), stable=True).indices]  # by example, the best first
    size = items.indptr.diff().long()
    rank = torch.arange(len(score), device=score.device) - items.indptr[:-1].long().repeat_interleave(size)
    kept = (size.double() * ratio - 1e-9).ceil().long().clamp(min=1)  # 0.3 of 10 nodes are 3 of them
    return items.indices.long()[order[rank < kept.repeat_interleave(size)]].sort().values
