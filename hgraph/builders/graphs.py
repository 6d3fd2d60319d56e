"""Hypergraphs of groups in a graph: neighborhoods, cliques, communities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hgraph.checks import of_kind, whole
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["clique_hypergraph", "community_hypergraph", "neighborhood_hypergraph"]


def neighborhood_hypergraph(graph: Graph, num_hops: int = 1, *, include_self: bool = True) -> Hypergraph:
    r"""One hyperedge per node: all nodes within ``num_hops`` steps along incoming edges (its ego network).

    .. math:: e_i = \{j : \operatorname{dist}(j \to i) \le k\}

    Args:
        graph: N nodes; edges keep their direction, weights are ignored.
        num_hops: k, 0 or more.
        include_self: whether node i is a member of hyperedge i.

    >>> path = Graph.from_edge_index([[0, 1, 2], [1, 2, 3]], num_nodes=4, directed=False)
    >>> neighborhood_hypergraph(path).to_lists()
    [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]]
    """
    of_kind("graph", graph, Graph)
    whole("num_hops", num_hops)
    reached = graph.adj.reach(num_hops)
    if not include_self:
        reached = reached - type(reached).eye(graph.num_nodes, device=reached.device)
    return Hypergraph(reached)


def clique_hypergraph(graph: Graph, *, min_size: int = 2) -> Hypergraph:
    """One hyperedge per maximal clique.

    The number of cliques may grow exponentially for dense graphs.

    Args:
        graph: treated as undirected; self-loops and weights are ignored.
        min_size: smaller cliques are dropped; 1 keeps isolated nodes.

    Source: Bron and Kerbosch, 1973, from networkx.

    >>> g = Graph.from_edge_index([[0, 1, 2, 2], [1, 2, 0, 3]], num_nodes=4, directed=False)
    >>> clique_hypergraph(g).to_lists()
    [[0, 1, 2], [2, 3]]
    """
    import networkx as nx

    of_kind("graph", graph, Graph)
    cliques = sorted(sorted(c) for c in nx.find_cliques(_undirected(graph)) if len(c) >= min_size)
    return Hypergraph.from_lists(cliques, num_nodes=graph.num_nodes).to(graph.device)


def community_hypergraph(graph: Graph, *, resolution: float = 1.0, seed: int = 0) -> Hypergraph:
    """One hyperedge per community: each node is in exactly one.

    Args:
        graph: treated as undirected; edge weights are used.
        resolution: above 1 for smaller communities, below for larger.
        seed: random seed for the order of nodes.

    Source: Blondel et al., "Fast unfolding of communities in large networks", 2008 (Louvain), from networkx.

    >>> g = Graph.from_edge_index([[0, 1, 3, 4], [1, 2, 4, 5]], num_nodes=6, directed=False)
    >>> community_hypergraph(g).to_lists()
    [[0, 1, 2], [3, 4, 5]]
    """
    import networkx as nx

    of_kind("graph", graph, Graph)
    found = nx.community.louvain_communities(_undirected(graph), resolution=resolution, seed=seed)
    communities = sorted(sorted(c) for c in found)
    return Hypergraph.from_lists(communities, num_nodes=graph.num_nodes).to(graph.device)


def _undirected(graph: Graph) -> nx.Graph:
    """The graph without self-loops, for networkx; averages the weights of both directions."""
    import networkx as nx

    result = nx.Graph()
    result.add_nodes_from(range(graph.num_nodes))
    source, target = graph.edge_index.tolist()
    weight = torch.ones(len(source)) if graph.adj.weight is None else graph.adj.weight.detach()
    for s, t, w in zip(source, target, weight.tolist(), strict=True):
        if s != t:
            known = result.get_edge_data(s, t)
            result.add_edge(s, t, weight=w if known is None else (known["weight"] + w) / 2)
    return result
