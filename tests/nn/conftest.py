"""Graphs and hypergraphs on which sums go wrong, for tests of parity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hgraph.structure import Graph, Hypergraph
from hgraph.testing import random_graph, random_hypergraph


def _graphs() -> dict[str, Graph]:
    def graph(edges: list[tuple[int, int]], n: int, weight: list[float] | None = None) -> Graph:
        pairs = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T
        w = None if weight is None else torch.tensor(weight, dtype=torch.float64)
        return Graph.from_edge_index(pairs, num_nodes=n, directed=True, weight=w, duplicates="keep")

    loops = [(0, 1), (1, 0), (1, 1), (2, 2), (3, 1), (4, 3), (0, 3)]
    return {
        "plain": graph([(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2), (0, 4), (4, 0)], 5),
        "directed": random_graph(7, 20, seed=1),
        "weighted": random_graph(7, 20, seed=2, weighted=True),
        "some loops": graph(loops, 5),
        "weighted loops": graph(loops, 5, [0.5, 0.25, 3.0, 0.125, 2.0, 1.5, 0.75]),
        "isolated nodes": graph([(1, 3), (3, 1)], 6),
        "only incoming edges": graph([(0, 1), (0, 2), (0, 3)], 4),
        "parallel edges": graph([(0, 1), (0, 1), (1, 0), (2, 1), (1, 1), (1, 1)], 3),
        "no edges": graph([], 4),
        "one node": graph([], 1),
        "one loop": graph([(0, 0)], 1, [2.0]),
        "zero weight": graph([(0, 1), (1, 1), (2, 0)], 3, [1.0, 0.0, 0.0]),
    }


def _hypergraphs() -> dict[str, Hypergraph]:
    members = [[0, 1, 2], [], [2, 3], [2, 3], [0, 1, 2, 3, 4, 5], [4], [0, 5]]  # node 6 is in none
    generator = torch.Generator().manual_seed(5)
    weight = torch.rand(len(members), generator=generator, dtype=torch.float64) + 0.5
    return {
        "plain": Hypergraph.from_lists([[0, 1, 2], [2, 3], [3, 4, 0]], num_nodes=5),
        "mixed": Hypergraph.from_lists(members, num_nodes=7),
        "hyperedge weights": Hypergraph.from_lists(members, num_nodes=7, hyperedge_weight=weight),
        "a zero weight": Hypergraph.from_lists(members, num_nodes=7, hyperedge_weight=weight * (weight > 0.9)),
        "all weights": random_hypergraph(7, 5, 18, seed=3, weighted=True),
        "more hyperedges": random_hypergraph(4, 11, 25, seed=4, weighted=True),
        "of all nodes": Hypergraph.from_lists([list(range(6))], num_nodes=6),
        "incidence weights": Hypergraph.from_incidence(torch.tensor([[0.5, 0.0], [2.0, 1.0], [0.0, 0.25], [0.0, 0.0]])),
        "only empty": Hypergraph.from_lists([[], []], num_nodes=3),
        "no hyperedges": Hypergraph.from_lists([], num_nodes=3),
        "one node": Hypergraph.from_lists([[0]], num_nodes=1),
    }


GRAPHS, HYPERGRAPHS = _graphs(), _hypergraphs()


@pytest.fixture(params=list(GRAPHS))
def graph(request: pytest.FixtureRequest) -> Graph:
    return GRAPHS[request.param]


@pytest.fixture(params=list(HYPERGRAPHS))
def hypergraph(request: pytest.FixtureRequest) -> Hypergraph:
    return HYPERGRAPHS[request.param]


@pytest.fixture
def close() -> Callable[[Tensor, Tensor], None]:
    """Compare float64 with loops in float64, within what the order of additions explains."""

    def check(actual: Tensor, expected: Tensor) -> None:
        assert actual.dtype == torch.float64
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)

    return check
