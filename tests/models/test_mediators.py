"""`mediator_graph` against a loop over hyperedges, and its limit cases."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch

from hgraph.errors import ArgumentError
from hgraph.models.hypergraph.mediators import mediator_graph
from hgraph.nn import GCNConv
from hgraph.structure import Graph, Hypergraph
from hgraph.testing import random_hypergraph


@pytest.mark.parametrize("mediators", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_edges_and_weights(mediators, seed):
    hypergraph = random_hypergraph(9, 6, 20, seed=seed, weighted=True)
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(seed))
    direction = torch.rand(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).float()
    expected: dict[tuple[int, int], float] = defaultdict(float)
    for members, w in zip(hypergraph.to_lists(), hypergraph.hyperedge_weight.tolist(), strict=True):
        if len(members) < 2:
            continue
        ranked = sorted(members, key=lambda v: float(x[v] @ direction))
        low, high = ranked[0], ranked[-1]
        pairs = [(low, high), *((end, m) for m in ranked[1:-1] for end in (low, high) if mediators)]
        for pair in pairs:
            expected[min(pair), max(pair)] += w / (2 * len(members) - 3 if mediators else len(members))
    graph = mediator_graph(hypergraph, x, mediators=mediators, seed=seed)
    dense = graph.adj.dense()
    assert torch.equal(dense, dense.T)
    for (u, v), weight in expected.items():
        assert dense[u, v].item() == pytest.approx(weight, rel=1e-5)
    assert int((dense != 0).sum()) == 2 * len(expected)


def test_pairs_give_the_graph_itself():
    """With mediators a hyperedge of two nodes is their edge of weight 1, so HyperGCN is GCN there."""
    pairs = [[0, 1], [1, 2], [2, 3], [0, 3]]
    graph = Graph.from_edge_index(torch.tensor(pairs).T, num_nodes=5, directed=False)
    built = mediator_graph(Hypergraph.from_lists(pairs, num_nodes=5), torch.randn(5, 2))
    layer, x = GCNConv(3, 2), torch.randn(5, 3)
    torch.testing.assert_close(layer(x, built), layer(x, graph))


@pytest.mark.parametrize("members", [[], [[]], [[0], [1]], [[2], [0, 1]]])
def test_singletons_and_empty_hyperedges_give_no_edge(members):
    graph = mediator_graph(Hypergraph.from_lists(members, num_nodes=3), torch.randn(3, 2))
    assert graph.num_edges == 2 * sum(len(m) == 2 for m in members)


def test_arguments():
    with pytest.raises(ArgumentError, match=r"x: expected shape \[3, F\], got shape \[2, 2\]"):
        mediator_graph(Hypergraph.from_lists([[0, 1]], num_nodes=3), torch.randn(2, 2))
