"""Random structures: exact for probabilities 0 and 1, else within five binomial standard deviations."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from hgraph import HyperedgeSplit, LinkSplit, Split
from hgraph import builders as build
from hgraph.builders.random import _ordered, _unordered
from hgraph.errors import ArgumentError, ArgumentTypeError

MAKERS = {
    "erdos_renyi_graph": lambda seed: build.erdos_renyi_graph(40, 0.2, seed=seed),
    "erdos_renyi_directed": lambda seed: build.erdos_renyi_graph(40, 0.2, directed=True, seed=seed),
    "erdos_renyi_hypergraph": lambda seed: build.erdos_renyi_hypergraph(40, 30, 0.2, seed=seed),
    "uniform_graph": lambda seed: build.uniform_graph(40, 100, seed=seed),
    "uniform_hypergraph": lambda seed: build.uniform_hypergraph(40, 30, 4, seed=seed),
    "chung_lu_graph": lambda seed: build.chung_lu_graph(np.linspace(0, 9, 40), seed=seed),
    "chung_lu_hypergraph": lambda seed: build.chung_lu_hypergraph(np.linspace(0, 9, 40), [6] * 30, seed=seed),
    "blocks": lambda seed: build.stochastic_block_graph([10, 30], [[0.9, 0.1], [0.1, 0.4]], seed=seed),
    "block_hypergraph": lambda seed: build.stochastic_block_hypergraph([10, 30], [8], [[0.5], [0.1]], seed=seed),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_seed_fixes_the_draw(name):
    make = MAKERS[name]
    assert make(1).equal(make(1))
    assert not make(1).equal(make(2))


def frequencies(make, draws: int) -> np.ndarray:
    """How often each cell of the adjacency or incidence matrix was 1."""
    total = 0
    for seed in range(draws):
        made = make(seed)
        total = total + (made.adj.dense() if hasattr(made, "adj") else made.incidence())
    return total.double().numpy() / draws


def assert_chances(make, expected: np.ndarray, draws: int = 600) -> None:
    """Check each cell within five standard deviations of its probability; exactly for probabilities 0 and 1."""
    measured = frequencies(make, draws)
    deviation = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(measured - expected) <= 5 * deviation + 1e-12).all()


def test_probabilities_of_each_pair_and_incidence():
    n = 7
    off = 1 - np.eye(n)
    assert_chances(lambda s: build.erdos_renyi_graph(n, 0.3, seed=s), 0.3 * off)
    assert_chances(lambda s: build.erdos_renyi_graph(n, 0.3, directed=True, seed=s), 0.3 * off)
    assert_chances(lambda s: build.erdos_renyi_hypergraph(n, 4, 0.3, seed=s), np.full((n, 4), 0.3))
    assert_chances(lambda s: build.uniform_graph(n, 6, seed=s), 6 / 21 * off)
    assert_chances(lambda s: build.uniform_graph(n, 6, directed=True, seed=s), 6 / 42 * off)
    sizes = np.array([0, 1, 3, 5, 7])
    assert_chances(lambda s: build.uniform_hypergraph(n, 5, sizes, seed=s), np.tile(sizes / n, (n, 1)))


def test_probabilities_of_expected_degrees():
    d = np.array([0.0, 0.5, 0.9, 2.0, 2.5, 7.0])  # the last two would have a chance above one
    assert_chances(
        lambda s: build.chung_lu_graph(d, seed=s), np.minimum(1, np.outer(d, d) / d.sum()) * (1 - np.eye(len(d)))
    )
    size = np.array([3.0, 0.0, 1.0, 8.0])
    expected = np.minimum(1, np.outer(d, size) / np.sqrt(d.sum() * size.sum()))
    assert_chances(lambda s: build.chung_lu_hypergraph(d, size, seed=s), expected)


def test_probabilities_of_blocks():
    p = np.array([[0.8, 0.1, 0.0], [0.1, 1.0, 0.3], [0.0, 0.3, 0.5]])
    block = np.repeat([0, 1, 2], [2, 0, 4])
    expected = p[block][:, block] * (1 - np.eye(6))
    assert_chances(lambda s: build.stochastic_block_graph([2, 0, 4], p, seed=s), expected)
    one_way = np.array([[0.8, 0.1], [0.6, 0.5]])
    block = np.repeat([0, 1], [3, 2])
    expected = (one_way[block][:, block] * (1 - np.eye(5))).T  # row t of the adjacency lists its sources
    assert_chances(lambda s: build.stochastic_block_graph([3, 2], one_way, directed=True, seed=s), expected)
    expected = np.repeat(np.repeat(one_way, [3, 2], axis=0), [2, 1], axis=1)
    assert_chances(lambda s: build.stochastic_block_hypergraph([3, 2], [2, 1], one_way, seed=s), expected)


def test_every_subset_is_equally_likely():
    counts = Counter(tuple(e) for e in build.uniform_hypergraph(5, 20_000, 2, seed=0).to_lists())
    assert set(counts) == set(itertools.combinations(range(5), 2))
    assert all(abs(c - 2000) < 5 * np.sqrt(2000 * 0.9) for c in counts.values())
    counts = Counter(tuple(e) for e in build.uniform_hypergraph(5, 20_000, 3, seed=0).to_lists())  # by its complement
    assert set(counts) == set(itertools.combinations(range(5), 3))
    assert all(abs(c - 2000) < 5 * np.sqrt(2000 * 0.9) for c in counts.values())


def test_pairs_by_number():
    assert set(zip(*(a.tolist() for a in _unordered(np.arange(21), 7)), strict=True)) == {
        (i, j) for i in range(7) for j in range(i)
    }
    assert set(zip(*(a.tolist() for a in _ordered(np.arange(42), 7)), strict=True)) == {
        (i, j) for i in range(7) for j in range(7) if i != j
    }
    # Codes just below and at a triangular number, where the rounded square root is wrong.
    i = np.array([3 * 10**9, 2**31 + 1, 10**9])
    codes = i * (i - 1) // 2
    assert [a.tolist() for a in _unordered(codes, 0)] == [i.tolist(), [0, 0, 0]]
    assert [a.tolist() for a in _unordered(codes - 1, 0)] == [(i - 1).tolist(), (i - 2).tolist()]


def test_empty_and_full():
    assert build.erdos_renyi_graph(0, 0.5).num_nodes == 0
    assert build.uniform_graph(1, 0).num_edges == 0
    assert build.erdos_renyi_hypergraph(3, 0, 0.5).num_hyperedges == 0
    assert build.erdos_renyi_hypergraph(0, 3, 0.5).to_lists() == [[], [], []]
    assert build.uniform_hypergraph(3, 2, 3).to_lists() == [[0, 1, 2]] * 2
    assert build.uniform_hypergraph(0, 2, 0).to_lists() == [[], []]
    assert build.chung_lu_graph([]).num_nodes == 0
    assert build.chung_lu_graph([0.0, 0.0]).num_edges == 0
    assert build.stochastic_block_graph([], np.empty((0, 0))).num_nodes == 0
    assert build.stochastic_block_hypergraph([2], [], np.empty((1, 0))).num_nodes == 2


def test_large_and_sparse_needs_little_memory():
    graph = build.erdos_renyi_graph(1_000_000, 1e-6, seed=0)  # 5e11 pairs
    assert abs(graph.num_edges / 2 - 5e5) < 5 * np.sqrt(5e5)
    assert torch.equal(graph.adj.target.sort().values, graph.adj.target)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build.erdos_renyi_graph(-1, 0.5), "num_nodes: expected a whole number"),
        (lambda: build.erdos_renyi_graph(2.5, 0.5), "num_nodes"),
        (lambda: build.erdos_renyi_graph(3, 1.5), r"p: expected probabilities in 0 .. 1"),
        (lambda: build.erdos_renyi_graph(3, float("nan")), "p: expected probabilities"),
        (lambda: build.uniform_graph(3, 4), r"num_edges: expected 0 .. 3"),
        (lambda: build.uniform_hypergraph(3, 2, 4), r"size: expected 0 .. 3 members"),
        (lambda: build.uniform_hypergraph(3, 2, [1, 2, 3]), "one number, or 2"),
        (lambda: build.chung_lu_graph([1.0, -1.0]), "degree: expected a list"),
        (lambda: build.chung_lu_graph([[1.0]]), "degree: expected a list"),
        (lambda: build.stochastic_block_graph([2, 2], [[1.0]]), r"p: expected probabilities \[2, 2\]"),
        (lambda: build.stochastic_block_graph([2, 2], [[1, 0], [1, 1]]), "symmetric"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


HYPERGRAPH = build.uniform_hypergraph(5, 4, 2)
GRAPH = build.erdos_renyi_graph(5, 0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: build.knn_hypergraph([[1], [1, 2]], 1),
        lambda: build.knn_hypergraph("points", 1),
        lambda: build.radius_hypergraph(np.ones((3, 2)), "far"),
        lambda: build.category_hypergraph([1, 2]),
        lambda: build.membership_hypergraph([1, 2], [[1], [2]]),
        lambda: build.term_hypergraph(["a word", "a word"], weight="tf"),
        lambda: build.neighborhood_hypergraph(HYPERGRAPH),
        lambda: build.neighborhood_hypergraph(GRAPH, 1.5),
        lambda: build.clique_hypergraph(HYPERGRAPH),
        lambda: build.community_hypergraph(HYPERGRAPH),
        lambda: build.erdos_renyi_graph(3, "often"),
        lambda: build.erdos_renyi_graph(3, 0.5, seed=-1),
        lambda: build.uniform_graph(3, 1.5),
        lambda: build.uniform_hypergraph(3, 2, 1.5),
        lambda: build.chung_lu_graph(["many"]),
        lambda: build.patch_hypergraph(4, 4, 1.5),
        lambda: build.superpixel_hypergraph(torch.ones(3, 4, 4), 2.5),
        lambda: LinkSplit.random(HYPERGRAPH),
        lambda: LinkSplit.random(GRAPH, val_fraction="some"),
        lambda: HyperedgeSplit.random(GRAPH),
        lambda: Split.by_time(GRAPH, [1, 2]),
    ],
)
def test_wrong_types_of_arguments_are_named(make):
    """None of these may raise an error inside torch, NumPy or scikit-learn."""
    with pytest.raises((ArgumentError, ArgumentTypeError), match=": expected"):
        make()
