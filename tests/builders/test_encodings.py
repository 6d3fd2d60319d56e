"""Encodings against dense matrices, and what they tell apart."""

import numpy as np
import pytest
import torch

from hgraph.builders import encodings, laplacian_encoding, random_walk_encoding
from hgraph.data import collate
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import Graph, Hypergraph
from hgraph.testing import random_graph, random_hypergraph


def affinity(structure):
    """A in both directions, or H W / D_e H^T."""
    if isinstance(structure, Graph):
        a = np.zeros((structure.num_nodes, structure.num_nodes))
        weight = np.ones(structure.num_edges) if structure.adj.weight is None else structure.adj.weight.numpy()
        for t, s, w in zip(structure.adj.target, structure.adj.indices, weight, strict=True):
            a[t, s] += w
        return np.maximum(a, a.T)
    h = np.zeros((structure.num_nodes, structure.num_hyperedges))
    weight = np.ones(structure.e2v.num_edges) if structure.e2v.weight is None else structure.e2v.weight.numpy()
    for v, e, w in zip(structure.e2v.target, structure.e2v.indices, weight, strict=True):
        h[v, e] += w
    of = np.ones(h.shape[1]) if structure.hyperedge_weight is None else structure.hyperedge_weight.numpy()
    size = h.sum(0)
    return h @ np.diag(of * np.where(size > 0, 1 / np.where(size > 0, size, 1), 0)) @ h.T


STRUCTURES = {
    "graph": random_graph(9, 20, seed=1),
    "weighted graph": random_graph(9, 20, seed=1, weighted=True),
    "hypergraph": random_hypergraph(9, 5, 16, seed=1),
    "weighted hypergraph": random_hypergraph(9, 5, 16, seed=2, weighted=True),
    "two components": Graph.from_edge_index([[0, 1, 3, 4, 5], [1, 2, 4, 5, 3]], num_nodes=7, directed=False),
    "empty hyperedge": Hypergraph.from_lists([[0, 1, 2], [], [2, 3], [3]], num_nodes=5),
    "parallel edges": Graph.from_edge_index([[0, 0, 1], [1, 1, 2]], num_nodes=3, directed=True, duplicates="keep"),
}


@pytest.fixture(params=STRUCTURES)
def structure(request):
    return STRUCTURES[request.param]


@pytest.mark.parametrize("block", [1 << 24, 20])
def test_walks_as_powers_of_the_matrix(structure, monkeypatch, block):
    monkeypatch.setattr(encodings, "_NUMBERS", block)
    a = affinity(structure)
    degree = a.sum(1)
    p = a * np.where(degree > 0, 1 / np.where(degree > 0, degree, 1), 0)[:, None]
    expected = np.stack([np.linalg.matrix_power(p, k).diagonal() for k in range(1, 6)], 1)
    np.testing.assert_allclose(random_walk_encoding(structure, 5).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("dense", [512, 0])
def test_columns_are_eigenvectors_in_the_order_of_the_eigenvalues(structure, monkeypatch, dense):
    monkeypatch.setattr(encodings, "_DENSE", dense)
    size = 2 if dense == 0 else structure.num_nodes - 1
    a = affinity(structure)
    degree = a.sum(1)
    root = np.where(degree > 0, np.where(degree > 0, degree, 1) ** -0.5, 0)
    laplacian = np.eye(len(a)) - root[:, None] * a * root[None, :]
    values = np.linalg.eigvalsh(laplacian)[1 : size + 1]
    found = laplacian_encoding(structure, size).double().numpy()
    np.testing.assert_allclose(laplacian @ found, found * values, atol=1e-5)
    np.testing.assert_allclose(found.T @ found, np.eye(size), atol=1e-5)
    assert (found.max(0) >= -found.min(0) - 1e-6).all()  # the largest entry is positive


def test_missing_columns_are_zero():
    path = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    assert laplacian_encoding(path, 4)[:, 1:].abs().sum() == 0
    assert laplacian_encoding(Graph.from_edge_index([[], []], num_nodes=0, directed=False), 3).shape == (0, 3)
    assert random_walk_encoding(Graph.from_edge_index([[], []], num_nodes=0, directed=False), 3).shape == (0, 3)
    assert random_walk_encoding(Graph.from_edge_index([[], []], num_nodes=2, directed=False), 3).abs().sum() == 0


def test_a_batch_is_encoded_as_its_examples():
    parts = [STRUCTURES["graph"], STRUCTURES["two components"], random_graph(4, 6, seed=3)]
    each = torch.cat([random_walk_encoding(part, 4) for part in parts])
    torch.testing.assert_close(random_walk_encoding(collate(parts), 4), each)


def test_walks_tell_two_triangles_from_a_hexagon():
    """Message passing without features does not: all nodes have two neighbors."""
    triangles = Graph.from_edge_index([[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]], num_nodes=6, directed=False)
    hexagon = Graph.from_edge_index([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]], num_nodes=6, directed=False)
    assert random_walk_encoding(triangles, 3)[:, 2].tolist() == [0.25] * 6
    assert random_walk_encoding(hexagon, 3)[:, 2].tolist() == [0.0] * 6


def test_a_large_hyperedge_is_not_expanded(monkeypatch):
    """Its clique would have 4 * 10^8 entries."""
    hg = Hypergraph.from_lists([list(range(20_000)), [0, 1], [1, 2]], num_nodes=20_000)
    assert laplacian_encoding(hg, 2).shape == (20_000, 2)


def test_equal_calls_have_equal_bits():
    large = random_graph(700, 3000, seed=0)
    assert torch.equal(laplacian_encoding(large, 3), laplacian_encoding(large, 3))


@pytest.mark.parametrize("encode", [laplacian_encoding, random_walk_encoding])
def test_errors(encode):
    with pytest.raises(ArgumentError, match="num_vectors|num_steps"):
        encode(STRUCTURES["graph"], 0)
    with pytest.raises(ArgumentTypeError, match="a Graph or Hypergraph"):
        encode(torch.eye(3), 2)
    with pytest.raises(ArgumentError, match="0 or more, got negative"):
        encode(Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False, weight=torch.tensor([-1.0])), 1)


def test_many_nodes_without_edges_and_weights_that_are_no_numbers():
    none = Graph.from_edge_index([[], []], num_nodes=900, directed=False)
    assert laplacian_encoding(none, 2).abs().sum() == 0
    for weight in (float("nan"), float("inf")):
        graph = Graph(random_graph(4, 6).adj.with_weight(torch.full((random_graph(4, 6).num_edges,), weight)))
        for encode in (laplacian_encoding, random_walk_encoding):
            with pytest.raises(ArgumentError, match="finite weights"):
                encode(graph, 1)
