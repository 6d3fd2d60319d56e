"""`mediator_graph`: a few weighted edges per hyperedge, chosen by the features of its nodes."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.checks import floating, structure
from hgraph.errors import ArgumentError
from hgraph.structure import Graph, Hypergraph

__all__ = ["mediator_graph"]


def mediator_graph(hypergraph: Hypergraph, x: Tensor, *, mediators: bool = True, seed: int = 0) -> Graph:
    r"""Replace each hyperedge by an edge between its two most different nodes, and edges from both to the others.

    Use it to run a graph network on a hypergraph: a hyperedge of d nodes becomes at most 2 d - 3 edges, where a clique
    has d (d - 1) / 2.

    .. math:: s_e = \operatorname*{argmax}_{v \in e} \langle x_v, r \rangle, \quad
              i_e = \operatorname*{argmin}_{v \in e} \langle x_v, r \rangle, \qquad
              w_{s_e i_e} = w_{s_e m} = w_{i_e m} = \frac{w_e}{2 d_e - 3}

    with r uniform on [0, 1) and m the other nodes of e, the mediators. Without mediators the one edge has the weight
    :math:`w_e / d_e`. Weights of edges that meet add up. Hyperedges of one node give no edge.

    Args:
        hypergraph: N nodes; incidence weights are not used.
        x: [N, F] features.
        mediators: whether to add the edges to the other nodes.
        seed: of r.

    Returns:
        An undirected weighted `Graph` on N nodes.

    Raises:
        ArgumentError: the features do not have one row per node.

    Source: Yadati et al., "HyperGCN: A New Method of Training Graph Convolutional Networks on Hypergraphs", NeurIPS
    2019, in its fast form: the graph is built once, from the input features.

    >>> hg = Hypergraph.from_lists([[0, 1, 2]], num_nodes=3)
    >>> graph = mediator_graph(hg, torch.tensor([[0.0], [1.0], [2.0]]))
    >>> graph.num_edges, graph.adj.weight[0].item()  # 3 pairs in both directions
    (6, 0.3333333432674408)
    """
    structure(hypergraph, Hypergraph)
    floating("x", x, hypergraph.device)
    if x.dim() != 2 or x.shape[0] != hypergraph.num_nodes:
        raise ArgumentError("x", f"shape [{hypergraph.num_nodes}, F]", f"shape {list(x.shape)}")
    v2e = hypergraph.v2e
    edge, node = v2e.target.long(), v2e.indices.long()
    direction = torch.rand(x.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(x)
    order = torch.argsort((x.detach() @ direction)[node], stable=True)
    order = order[torch.argsort(edge[order], stable=True)]  # by hyperedge, then by projection
    edge, node, size = edge[order], node[order], v2e.indptr.diff().long()
    first, last = v2e.indptr[:-1].long(), v2e.indptr[1:].long() - 1
    proper = size > 1
    ends = node[first[proper]], node[last[proper]]
    weight = torch.ones(len(size), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    if hypergraph.hyperedge_weight is not None:
        weight = hypergraph.hyperedge_weight.to(weight.dtype)
    each = weight / (2 * size - 3 if mediators else size).clamp(min=1)
    sources, targets, weights = [ends[0]], [ends[1]], [each[proper]]
    if mediators:
        place = torch.arange(len(edge), device=x.device)
        inner = (place > first[edge]) & (place < last[edge])
        of = edge[inner]
        for end in (first, last):
            sources.append(node[end[of]])
            targets.append(node[inner])
            weights.append(each[of])
    ids = torch.stack([torch.cat(sources), torch.cat(targets)]).sort(0).values  # one direction of each pair
    return Graph.from_edge_index(
        ids, num_nodes=hypergraph.num_nodes, weight=torch.cat(weights), directed=False, duplicates="sum"
    )
