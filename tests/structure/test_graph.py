"""`Graph`: edge lists, directions, subgraphs."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import Graph, nn
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.testing import random_graph

SOME = settings(max_examples=40, deadline=None, derandomize=True)


def build(edge_index, n=4, directed=True, **more):
    return Graph.from_edge_index(edge_index, num_nodes=n, directed=directed, **more)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"edge_index": [[0, 1], [1, 2], [2, 3]]}, ArgumentError, r"edge_index: expected shape \[2, E\].*transpose"),
        ({"edge_index": [0, 1]}, ArgumentError, r"edge_index: expected shape \[2, E\], got shape \[2\]"),
        ({"edge_index": [[0], [1, 2]]}, ArgumentTypeError, r"edge_index: expected integers \[2, E\], got list"),
        ({"edge_index": [[0.0], [1.0]]}, ArgumentTypeError, r"edge_index\[1\]: expected integer indices"),
        ({"edge_index": [[0], [4]]}, ArgumentError, r"edge_index\[1\]: expected nodes in 0 .. 3, got 4 at position 0"),
        ({"edge_index": [[9], [1]]}, ArgumentError, r"edge_index\[0\]: expected nodes in 0 .. 3, got 9 at position 0"),
        ({"edge_index": [[0], [1]], "n": -1}, ArgumentError, r"num_nodes: expected a size >= 0"),
        ({"edge_index": [[0, 0], [1, 1]]}, ArgumentError, r"edge_index\[1\], edge_index\[0\]: expected each pair once"),
        ({"edge_index": [[0], [1]], "weight": [float("nan")]}, ArgumentError, r"weight: .*NaN at position 0"),
        ({"edge_index": [[0], [1]], "duplicates": "x"}, ArgumentError, r"duplicates: expected"),
        ({"edge_index": [[0, 1], [1, 0]], "directed": False, "weight": [1.0, 2.0]}, ArgumentError,
         r"weight: expected equal weights in both directions"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        build(**arguments)


def test_rows_are_source_then_target():
    g = build([[0, 1], [2, 3]])
    assert g.edge_index.tolist() == [[0, 1], [2, 3]]
    assert g.adj.dense()[2, 0] == 1
    assert g.directed


@SOME
@given(st.integers(1, 6), st.data())
def test_undirected_is_the_symmetric_matrix(n, data):
    node = st.integers(0, n - 1)
    edges = sorted(data.draw(st.sets(st.tuples(node, node), max_size=12)))
    index = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T
    g = build(index, n, directed=False)
    matrix = torch.zeros(n, n)
    for s, t in edges:
        matrix[t, s] = matrix[s, t] = 1
    assert torch.equal(g.adj.dense(), matrix)
    assert not g.directed
    assert g.degree().tolist() == matrix.sum(1).tolist()


def test_undirected_weights_go_both_ways_and_loops_once():
    g = build([[0, 1, 3], [1, 2, 3]], directed=False, weight=[2.0, 3.0, 5.0])
    expected = torch.zeros(4, 4)
    expected[0, 1] = expected[1, 0] = 2
    expected[1, 2] = expected[2, 1] = 3
    expected[3, 3] = 5
    assert torch.equal(g.adj.dense(), expected)
    assert g.num_edges == 5
    assert g.degree().tolist() == [2, 5, 3, 5]


def test_undirected_keeps_the_callers_edge_order():
    index = torch.tensor([[3, 0, 2], [1, 1, 0]])
    g = build(index, directed=False)
    values = g.adj.sort_edges(torch.tensor([1, 2, 3, 0, 0, 0]))
    first = {tuple(e): v for e, v in zip(g.edge_index.T.tolist(), values.tolist(), strict=True)}
    assert [first[tuple(e)] for e in index.T.tolist()] == [1, 2, 3]


def test_parallel_undirected_edges():
    g = build([[0, 0], [1, 1]], directed=False, weight=[1.0, 2.0], duplicates="keep")
    assert g.num_edges == 4
    assert g.adj.dense()[0, 1] == g.adj.dense()[1, 0] == 3
    assert build([[0, 0], [1, 1]], directed=False, duplicates="sum").adj.dense()[0, 1] == 2


@SOME
@given(st.integers(0, 9), st.booleans())
def test_subgraph_is_the_submatrix(seed, weighted):
    g = random_graph(7, 20, seed=seed, weighted=weighted)
    nodes = torch.randperm(7, generator=torch.Generator().manual_seed(seed))[: seed % 8]
    sub = g.subgraph(nodes)
    assert torch.equal(sub.adj.dense(), g.adj.dense()[nodes][:, nodes])
    assert (sub.adj.weight is not None) == weighted


def test_subgraph_refuses():
    with pytest.raises(ArgumentError, match="rows: expected targets in 0 .. 6, got 7"):
        random_graph(7, 20).subgraph(torch.tensor([7]))


def test_self_loops():
    g = build([[0, 1], [1, 1]]).add_self_loops()
    assert g.adj.dense().diagonal().tolist() == [1] * 4
    assert g.num_edges == 5


@pytest.mark.parametrize("n", [0, 1, 3])
def test_without_edges(n):
    g = build([[], []], n, directed=False)
    assert g.num_nodes == n
    assert g.num_edges == 0
    assert g.edge_index.shape == (2, 0)
    assert not g.directed
    assert g.degree().tolist() == [0] * n
    assert g.subgraph(torch.arange(n)).equal(g)


def test_equal_copy_and_text():
    g = random_graph(5, 8, weighted=True)
    assert copy.deepcopy(g).equal(g)
    assert not g.equal(random_graph(5, 8))
    assert not g.equal(g.adj)
    assert repr(g) == f"Graph(5 nodes, {g.num_edges} edges, weighted, cpu)"


def test_nodes_have_one_name_on_graphs_and_hypergraphs():
    graph = Graph.from_edge_index([[0], [1]], num_nodes=3, directed=True)
    assert graph.num_nodes == graph.num_nodes == 3


@pytest.mark.checked(
    "splits",
    "Features of listed edges are permuted into the order of the edges, in both directions of an undirected one.",
)
@SOME
@given(st.data())
def test_features_of_listed_edges_reach_both_directions(data):
    """Each undirected edge is listed in one direction, or in both, in any order."""
    pairs = data.draw(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
    listed = data.draw(st.permutations(sorted(pairs)))
    value = {frozenset(pair): i + 1.0 for i, pair in enumerate(sorted(pairs))}
    graph = build(torch.tensor(listed).T, 5, directed=False)
    given_values = torch.tensor([[value[frozenset(pair)]] for pair in listed], requires_grad=True)
    found = graph.sort_edges(given_values)
    expected = [value[frozenset(pair)] for pair in graph.edge_index.T.tolist()]
    assert found.flatten().tolist() == expected
    assert graph.sort_edges(given_values.detach().long()).dtype == torch.int64
    # the added reverses follow the listed edges, in the same order
    added = [(t, s) for s, t in listed if (t, s) not in pairs]
    both = torch.tensor([value[frozenset(pair)] for pair in [*listed, *added]])
    assert graph.adj.sort_edges(both).tolist() == expected


def test_features_of_edges_that_do_not_fit_are_refused():
    undirected = build([[0, 1, 2], [1, 2, 3]], directed=False)
    for graph, count in ((undirected, 2), (undirected, 7), (build([[0, 1], [1, 2]]), 1)):
        with pytest.raises(ArgumentError, match="values: expected"):
            graph.sort_edges(torch.zeros(count, 1))
    with pytest.raises(ArgumentError, match=r"graph.sort_edges\(features\): .*repeats it for the other direction"):
        nn.GATConv(2, 3, edge_channels=1)(torch.zeros(4, 2), undirected, torch.zeros(3, 1))
