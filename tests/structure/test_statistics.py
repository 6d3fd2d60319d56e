"""`statistics` against counts by hand."""

import itertools
import json

import pytest
import torch

from hgraph import Graph, Hypergraph
from hgraph.errors import ArgumentError
from hgraph.structure import statistics
from hgraph.testing import random_graph, random_hypergraph


@pytest.mark.parametrize("seed", range(4))
def test_hypergraph_by_hand(seed):
    hg = random_hypergraph(20, 15, 50, seed=seed)
    lists = [*hg.to_lists(), hg.to_lists()[0], [], [3]]
    hg = Hypergraph.from_lists(lists, num_nodes=22)
    y = torch.randint(-1, 3, (22,), generator=torch.Generator().manual_seed(seed))
    found = statistics(hg, y)
    assert found.counts == {
        "nodes": 22,
        "hyperedges": len(lists),
        "incidences": sum(map(len, lists)),
        "isolated": sum(not any(v in e for e in lists) for v in range(22)),
        "empty": sum(len(e) == 0 for e in lists),
        "single": sum(len(e) == 1 for e in lists),
        "repeated": len(lists) - len({frozenset(e) for e in lists}),
    }
    degrees = [sum(v in e for e in lists) for v in range(22)]
    assert found.degree.tolist() == [degrees.count(d) for d in range(max(degrees) + 1)]
    sizes = [len(e) for e in lists]
    assert found.size.tolist() == [sizes.count(s) for s in range(max(sizes) + 1)]
    pairs = [(u, v) for e in lists for u, v in itertools.permutations(e, 2) if y[u] >= 0 and y[v] >= 0]
    assert found.homophily == pytest.approx(sum(int(y[u] == y[v]) for u, v in pairs) / len(pairs))
    labeled = [v for v in range(22) if y[v] >= 0]
    dealt = list(itertools.permutations(labeled, 2))
    assert found.chance == pytest.approx(sum(int(y[u] == y[v]) for u, v in dealt) / len(dealt))
    assert found.class_sizes == tuple(int((y == c).sum()) for c in range(int(y.max()) + 1))


def test_graph_by_hand():
    g = Graph.from_edge_index([[0, 1, 2, 2, 4], [1, 2, 0, 2, 4]], num_nodes=6, directed=True, weight=torch.rand(5))
    found = statistics(g, torch.tensor([0, 0, 1, 1, 1, -1]))
    assert found.counts == {"nodes": 6, "edges": 5, "self_loops": 2, "isolated": 3, "directed": 1}
    assert found.degree.tolist() == [2, 3, 1]  # loops count as edges
    assert found.size is None
    assert found.homophily == pytest.approx(1 / 3)
    undirected = random_graph(10, 30)
    assert statistics(undirected).counts["directed"] == int(undirected.directed)


def test_homophily_of_three_labelings():
    hg = Hypergraph.from_lists([[0, 1], [2, 3]], num_nodes=4)
    for y, expected in (([0, 0, 1, 1], 1), ([0, 1, 0, 1], 0), ([0, 0, 0, 1], 0.5)):
        assert statistics(hg, torch.tensor(y)).homophily == expected
    assert statistics(hg, torch.full((4,), -1)).homophily is None
    assert statistics(hg).class_sizes is None


def test_empty_structures():
    empty = statistics(Hypergraph.from_lists([], num_nodes=0), torch.empty(0, dtype=torch.long))
    assert empty.as_dict()["degree"] == {"min": 0, "mean": 0.0, "median": 0, "max": 0, "histogram": []}
    empty.draw()
    lone = statistics(Graph.from_edge_index(torch.empty(2, 0, dtype=torch.long), num_nodes=3, directed=False))
    assert lone.counts["isolated"] == 3
    assert lone.homophily is None


def test_as_json_with_moments():
    hg = Hypergraph.from_lists([[0], [0, 1], [0, 1], [0, 1, 2, 3]], num_nodes=4)
    found = json.loads(json.dumps(statistics(hg).as_dict()))
    expected = {"min": 1, "mean": 2.25, "median": 2, "max": 4, "histogram": [[1, 1], [2, 2], [4, 1]]}
    assert found["hyperedge_size"] == expected


@pytest.mark.parametrize("y", [torch.zeros(3, dtype=torch.long), torch.zeros(4), torch.zeros(4, 2, dtype=torch.bool)])
def test_labels_of_another_kind(y):
    with pytest.raises(ArgumentError, match=r"y: expected class numbers \[4\] of the nodes"):
        statistics(Hypergraph.from_lists([[0, 1]], num_nodes=4), y)


def test_picture(tmp_path):
    wide = Hypergraph.from_lists([list(range(60)), [0, 1], []], num_nodes=61)
    figure = statistics(wide, torch.zeros(61, dtype=torch.long)).draw("a title")
    degrees, sizes = figure.axes
    assert [bar.get_height() for bar in degrees.patches] == [1, 58, 2]
    assert sizes.lines[0].get_xydata().tolist() == [[0, 1], [2, 1], [60, 1]]
    assert "largest 60" in sizes.get_title()
    figure.savefig(tmp_path / "picture.png")
    assert len(statistics(random_graph(5, 8)).draw().axes) == 1
