"""Neighborhoods, cliques and communities of graphs."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from hgraph import Graph
from hgraph.builders import (
    clique_hypergraph,
    community_hypergraph,
    erdos_renyi_graph,
    neighborhood_hypergraph,
    stochastic_block_graph,
)
from hgraph.errors import ArgumentError


@pytest.mark.parametrize("hops", [0, 1, 2, 5])
@pytest.mark.parametrize("directed", [False, True])
def test_neighborhoods_are_shortest_paths(hops, directed):
    graph = erdos_renyi_graph(20, 0.08, directed=directed, seed=3)
    pairs = nx.DiGraph(graph.edge_index.T.tolist())
    pairs.add_nodes_from(range(20))
    reach = [sorted(nx.single_source_shortest_path_length(pairs.reverse(), i, cutoff=hops)) for i in range(20)]
    assert neighborhood_hypergraph(graph, hops).to_lists() == reach
    others = [[j for j in e if j != i] for i, e in enumerate(reach)]
    assert neighborhood_hypergraph(graph, hops, include_self=False).to_lists() == others


def test_hops_are_checked():
    with pytest.raises(ArgumentError, match="hops"):
        neighborhood_hypergraph(Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True), -1)


def test_cliques_are_all_the_maximal_ones():
    graph = erdos_renyi_graph(12, 0.5, seed=1)
    joined = graph.adj.dense().bool()
    cliques = clique_hypergraph(graph, min_size=1).to_lists()
    assert len({tuple(c) for c in cliques}) == len(cliques)
    for clique in cliques:
        inside = torch.tensor(clique)
        assert all(joined[i, j] for i in clique for j in clique if i != j)
        assert not any(joined[v][inside].all() for v in range(12) if v not in clique)
    pairs = {(i, j) for c in cliques for i in c for j in c if i < j}
    assert len(pairs) == graph.num_edges // 2  # every edge is in one
    assert [c for c in cliques if len(c) >= 3] == clique_hypergraph(graph, min_size=3).to_lists()


def test_isolated_nodes_and_loops():
    graph = Graph.from_edge_index([[0, 1], [0, 2]], num_nodes=4, directed=True)
    assert clique_hypergraph(graph).to_lists() == [[1, 2]]
    assert clique_hypergraph(graph, min_size=1).to_lists() == [[0], [1, 2], [3]]
    assert community_hypergraph(graph).to_lists() == [[0], [1, 2], [3]]


def test_communities_of_planted_blocks():
    graph = stochastic_block_graph([20, 20, 20], [[0.9, 0, 0], [0, 0.9, 0.01], [0, 0.01, 0.9]], seed=0)
    expected = [list(range(start, start + 20)) for start in (0, 20, 40)]
    assert community_hypergraph(graph, seed=1).to_lists() == expected
    assert community_hypergraph(graph, seed=1).equal(community_hypergraph(graph, seed=1))


def test_weights_count_in_communities():
    """A square with two heavy sides is divided into these sides."""
    square = [[0, 1, 2, 3], [1, 2, 3, 0]]
    for weight, expected in (([9.0, 1, 9, 1], [[0, 1], [2, 3]]), ([1.0, 9, 1, 9], [[0, 3], [1, 2]])):
        graph = Graph.from_edge_index(square, num_nodes=4, directed=False, weight=weight)
        assert community_hypergraph(graph).to_lists() == expected
