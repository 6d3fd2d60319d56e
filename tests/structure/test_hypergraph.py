"""`Hypergraph`: construction and degrees."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings

from hgraph import Hypergraph
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.testing import hypergraphs, random_hypergraph

SOME = settings(max_examples=40, deadline=None, derandomize=True)
LISTS = [[0, 1, 2], [2, 3], [], [2]]


def coo(**changed):
    given = {"node": [0, 1, 1], "hyperedge": [0, 0, 1], "num_nodes": 3, "num_hyperedges": 2}
    return Hypergraph.from_coo(**{**given, **changed})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"node": [0, 1, 3]}, ArgumentError, r"node: expected nodes in 0 .. 2, got 3 at position 2"),
        ({"hyperedge": [0, 0, 2]}, ArgumentError, r"hyperedge: expected hyperedges in 0 .. 1, got 2 at position 2"),
        ({"node": [0, 1]}, ArgumentError, r"node: expected 3 entries, as many as hyperedge, got 2"),
        ({"node": [0.0, 1.0, 1.0]}, ArgumentTypeError, r"node: expected integer indices"),
        ({"num_nodes": -3}, ArgumentError, r"num_nodes: expected a size >= 0, got -3"),
        ({"num_hyperedges": 2.5}, ArgumentTypeError, r"num_hyperedges: expected an integer, got float"),
        ({"node": [1, 1, 1]}, ArgumentError, r"hyperedge, node: expected each pair once, got 1 repeated"),
        ({"weight": [1.0]}, ArgumentError, r"weight: expected shape \[3\]"),
        ({"hyperedge_weight": [1.0]}, ArgumentError, r"hyperedge_weight: expected shape \[2\] \(one per hyperedge\)"),
        ({"hyperedge_weight": [1.0, float("nan")]}, ArgumentError, r"hyperedge_weight: .*NaN at position 1"),
        ({"hyperedge_weight": [1, 2]}, ArgumentTypeError, r"hyperedge_weight: expected floating-point"),
        ({"node_weight": [1.0, 1.0]}, ArgumentError, r"node_weight: expected shape \[3\] \(one per node\)"),
        ({"duplicates": None}, ArgumentError, r"duplicates: expected"),
    ],
)
def test_wrong_arguments_are_named(changed, error, message):
    with pytest.raises(error, match=message):
        coo(**changed)


@pytest.mark.parametrize(
    ("lists", "error", "message"),
    [
        ([[0], [0, 5]], ArgumentError, r"node: expected nodes in 0 .. 3, got 5"),
        ([[0], [1, 1]], ArgumentError, r"each pair once"),
        ([[0], [0.5]], ArgumentTypeError, r"hyperedges\[1\]: expected integer indices"),
        ([["a"]], ArgumentTypeError, r"hyperedges\[0\]: expected integer indices, got list"),
    ],
)
def test_from_lists_refuses(lists, error, message):
    with pytest.raises(error, match=message):
        Hypergraph.from_lists(lists, num_nodes=4)


def test_from_lists_round_trip():
    hg = Hypergraph.from_lists(LISTS, num_nodes=5)
    assert hg.to_lists() == LISTS
    assert (hg.num_nodes, hg.num_hyperedges, hg.num_incidences) == (5, 4, 6)
    assert Hypergraph.from_lists(({3, 1}, (2,), range(2)), num_nodes=4).to_lists() == [[1, 3], [2], [0, 1]]


MATRIX = [[1, 0, 0], [1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    "incidence",
    [MATRIX, np.array(MATRIX, bool), torch.tensor(MATRIX), torch.tensor(MATRIX).float().to_sparse_coo(),
     torch.tensor(MATRIX).float().to_sparse_csr(), scipy.sparse.csr_matrix(MATRIX),
     scipy.sparse.coo_array(np.array(MATRIX, float))],
    ids=["list", "numpy", "torch", "coo", "csr", "scipy", "scipy array"],
)  # fmt: skip
def test_from_incidence(incidence):
    hg = Hypergraph.from_incidence(incidence)
    assert hg.to_lists() == [[0, 1], [1, 2], []]
    assert hg.v2e.weight is None
    assert torch.equal(hg.incidence(), torch.tensor(MATRIX).float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_from_incidence_keeps_weights(dtype):
    matrix = torch.tensor([[2, 0], [-1, 1]], dtype=dtype)
    hg = Hypergraph.from_incidence(matrix, hyperedge_weight=[1.0, 2.0])
    assert torch.equal(hg.incidence().to(dtype), matrix)
    assert hg.hyperedge_weight.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("incidence", "error", "message"),
    [
        ([1, 0], ArgumentError, r"incidence: expected an N x M matrix, got shape \[2\]"),
        (torch.ones(2, 2, dtype=torch.complex64), ArgumentTypeError, r"incidence: expected real numbers"),
        ([[float("nan")]], ArgumentError, r"weight: expected weights without NaN"),
    ],
)
def test_from_incidence_refuses(incidence, error, message):
    with pytest.raises(error, match=message):
        Hypergraph.from_incidence(incidence)


@SOME
@given(hypergraphs(weighted=True))
def test_degrees(hg):
    matrix = hg.incidence().double()
    assert torch.allclose(hg.node_degree().double(), matrix @ hg.hyperedge_weight)
    assert torch.equal(hg.hyperedge_degree().double(), matrix.sum(0))
    plain = hg.with_hyperedge_weight(None)
    assert torch.equal(plain.node_degree().double(), matrix.sum(1))
    assert not plain.node_degree().is_floating_point()
    assert torch.equal(hg.e2v.dense(), hg.incidence())


def test_degrees_with_every_weight():
    hg = random_hypergraph(6, 5, 14, weighted=True)
    matrix = hg.incidence().double()
    torch.testing.assert_close(hg.node_degree().double(), matrix @ hg.hyperedge_weight.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(hg.hyperedge_degree().double(), matrix.sum(0), rtol=1e-6, atol=0)


def test_learned_hyperedge_weights_get_gradients():
    hg = Hypergraph.from_lists(LISTS, num_nodes=5)
    weight = torch.ones(4, requires_grad=True)
    hg.with_hyperedge_weight(weight).node_degree().sum().backward()
    assert weight.grad.tolist() == [3, 2, 0, 1]


def test_equal_sees_every_weight():
    hg = random_hypergraph(6, 5, 14, weighted=True)
    assert hg.equal(random_hypergraph(6, 5, 14, weighted=True))
    assert not hg.equal(hg.with_hyperedge_weight(None))
    assert not hg.with_hyperedge_weight(None).equal(hg)
    assert not hg.equal(hg.with_hyperedge_weight(hg.hyperedge_weight.double()))
    assert not hg.equal(hg.with_hyperedge_weight(hg.hyperedge_weight + 1))
    assert not hg.equal(Hypergraph(hg.v2e, hg.hyperedge_weight, None))
    assert not hg.equal(Hypergraph(hg.v2e.with_weight(None), hg.hyperedge_weight, hg.node_weight))
    assert not hg.equal(hg.v2e)


@pytest.mark.parametrize("hg", [random_hypergraph(6, 5, 14, weighted=True), Hypergraph.from_lists([], num_nodes=0)])
def test_copies_are_equal(hg):
    assert copy.deepcopy(hg).equal(hg)
    assert pickle.loads(pickle.dumps(hg)).equal(hg)


def test_repr_has_sizes_only():
    assert repr(Hypergraph.from_lists(LISTS, num_nodes=5)) == "Hypergraph(5 nodes, 4 hyperedges, 6 incidences, cpu)"
