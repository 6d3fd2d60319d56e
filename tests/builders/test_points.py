"""Hypergraphs of points against brute-force oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph.builders import kmeans_hypergraph, knn_graph, knn_hypergraph, radius_hypergraph
from hgraph.builders import points as points_module
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import Graph


def oracle(x: np.ndarray, k: int, include_self: bool) -> list[list[int]]:
    """For each point, all others sorted by (distance, index)."""
    hyperedges = []
    for i in range(len(x)):
        others = sorted((float(((x[i] - x[j]) ** 2).sum()), j) for j in range(len(x)) if j != i)
        hyperedges.append(sorted(([i] if include_self else []) + [j for _, j in others[:k]]))
    return hyperedges


# Small integers: distances are exact in both, and there are many ties.
points = st.integers(1, 12).flatmap(
    lambda n: st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), min_size=n, max_size=n)
)


@settings(max_examples=60, deadline=None)
@given(points, st.integers(0, 11), st.booleans(), st.integers(1, 13))
def test_equals_brute_force_with_ties_at_any_chunk(rows, k, include_self, chunk):
    k = min(k, len(rows) - 1)
    built = knn_hypergraph(torch.tensor(rows, dtype=torch.float64), k, include_self=include_self, chunk=chunk)
    assert built.to_lists() == oracle(np.array(rows), k, include_self)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [7, 64, 4096])
def test_equals_brute_force_on_random_points(dtype, chunk):
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(3), dtype=dtype)
    assert knn_hypergraph(x, 4, chunk=chunk).to_lists() == oracle(x.double().numpy(), 4, True)


def test_equal_points_take_the_smallest_indices():
    assert knn_hypergraph(torch.zeros(5, 2), 2).to_lists() == [[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 3], [0, 1, 4]]


def test_a_point_is_excluded_by_index_not_by_distance():
    assert knn_hypergraph(torch.zeros(3, 1), 1, include_self=False).to_lists() == [[1], [0], [0]]


@pytest.mark.parametrize("n", [0, 1])
def test_no_neighbors(n):
    single = knn_hypergraph(torch.ones(n, 3), 0)
    assert (single.num_nodes, single.num_hyperedges) == (n, n)
    assert single.to_lists() == [[0]] * n
    assert knn_hypergraph(torch.ones(n, 3), 0, include_self=False).to_lists() == [[]] * n


@pytest.mark.parametrize(("n", "k"), [(0, 1), (1, 1), (3, 3), (3, 10), (3, -1)])
def test_k_out_of_range(n, k):
    with pytest.raises(ArgumentError, match=f"k: expected 0 .. {max(n - 1, 0)}"):
        knn_hypergraph(torch.ones(n, 2), k)


def test_points_are_checked():
    with pytest.raises(ArgumentError, match="NaN or infinity in row 1"):
        knn_hypergraph([[0.0], [float("nan")], [1.0]], 1)
    with pytest.raises(ArgumentError, match=r"shape \[N, F\]"):
        knn_hypergraph(torch.ones(3), 1)
    with pytest.raises(ArgumentTypeError, match="real points"):
        knn_hypergraph(torch.ones(3, 1, dtype=torch.complex64), 1)
    with pytest.raises(ArgumentError, match="chunk"):
        knn_hypergraph(torch.ones(3, 1), 1, chunk=0)


def test_points_that_need_gradients_and_integers():
    x = torch.tensor([[0.0], [1.0], [3.0]], requires_grad=True)
    assert knn_hypergraph(x, 1).to_lists() == knn_hypergraph(x.detach().int(), 1).to_lists()
    assert x.grad is None


def test_points_without_features_have_equal_distances():
    assert knn_hypergraph(torch.ones(3, 0), 1).to_lists() == [[0, 1], [0, 1], [0, 2]]


# ---------------------------------------------------------------------- the search by products


@pytest.mark.parametrize("offset", [0.0, 1e7])
@pytest.mark.parametrize("k", [1, 4, 20])
def test_search_by_products_equals_exact_sums(k, offset):
    """Far from the origin, products lose all digits of the distances; the result must still be correct."""
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + offset
    assert knn_hypergraph(x, k, chunk=64).equal(knn_hypergraph(x, k, chunk=300))


def test_search_by_products_with_many_equal_points():
    """More points at equal distance than candidates: the smaller indices must still win."""
    x = torch.randint(0, 2, (200, 3), generator=torch.Generator().manual_seed(0)).double()
    assert knn_hypergraph(x, 3, chunk=50).to_lists() == oracle(x.numpy(), 3, True)


def test_only_doubtful_points_are_searched_twice(monkeypatch):
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[100:150] = 0.0  # fifty equal points
    again = []
    nearest = points_module._nearest
    monkeypatch.setattr(points_module, "_nearest", lambda x, rows, *a: again.append(rows) or nearest(x, rows, *a))
    built = knn_hypergraph(x, 2, chunk=64)
    again = torch.cat(again)
    assert torch.isin(torch.arange(100, 150), again).all()
    assert len(again) < 60  # and a few whose nearest are among the fifty
    assert built.to_lists() == oracle(x.numpy(), 2, True)


# ---------------------------------------------------------------------- radius


@settings(max_examples=60, deadline=None)
@given(points, st.sampled_from([0.0, 1.0, 2**0.5, 2.0, 100.0]), st.booleans(), st.integers(1, 13))
def test_radius_equals_brute_force_with_points_on_the_border(rows, radius, include_self, chunk):
    x = np.array(rows, dtype=float)
    near = [[j for j in range(len(x)) if np.sqrt(((x[i] - x[j]) ** 2).sum()) <= radius] for i in range(len(x))]
    near = near if include_self else [[j for j in e if j != i] for i, e in enumerate(near)]
    assert radius_hypergraph(x, radius, include_self=include_self, chunk=chunk).to_lists() == near


def test_radius_far_from_the_origin():
    x = torch.tensor([[0.0], [1.0], [2.5]], dtype=torch.float64)
    assert radius_hypergraph(x + 2.0**40, 1.0).to_lists() == [[0, 1], [0, 1], [2]]


def test_radius_is_checked():
    assert radius_hypergraph(torch.ones(0, 2), 1.0).num_nodes == 0
    for radius in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ArgumentError, match="radius"):
            radius_hypergraph(torch.ones(2, 2), radius)


# ---------------------------------------------------------------------- clusters


def test_clusters_are_found_under_a_seed():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (60,), generator=generator)
    x = 100.0 * label[:, None] + torch.randn(60, 2, generator=generator)
    built = kmeans_hypergraph(x, 3, seed=1)
    assert sorted(built.to_lists()) == sorted((label == c).nonzero().flatten().tolist() for c in range(3))
    assert built.equal(kmeans_hypergraph(x, 3, seed=1))


def test_no_more_clusters_than_different_points():
    assert kmeans_hypergraph(torch.tensor([[0.0], [0.0], [1.0]]), 3).num_hyperedges == 2
    assert kmeans_hypergraph(torch.ones(4, 2), 1).to_lists() == [[0, 1, 2, 3]]
    for clusters in (0, 5, True, 2.0):
        with pytest.raises(ArgumentError, match="num_clusters"):
            kmeans_hypergraph(torch.ones(4, 2), clusters)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("chunk", [3, 2048])
def test_knn_graph_by_batch_is_that_of_each_example(metric, chunk):
    x = torch.randn(23, 4, generator=torch.Generator().manual_seed(1))
    batch = torch.randint(3, (23,), generator=torch.Generator().manual_seed(2)) * 5  # neither sorted nor 0, 1, 2
    batch[0] = 99  # an example of one point
    options = {"metric": metric, "chunk": chunk}
    graph, hypergraph = knn_graph(x, 4, batch=batch, **options), knn_hypergraph(x, 4, batch=batch, **options)
    unit = x.double() / x.double().norm(dim=1, keepdim=True) if metric == "cosine" else x.double()
    edges = graph.edge_index.T.tolist()
    for i in range(23):
        others = [j for j in range(23) if j != i and batch[j] == batch[i]]
        nearest = sorted(sorted(others, key=lambda j: float((unit[i] - unit[j]).norm()))[:4])
        assert [s for s, t in edges if t == i] == nearest
        assert sorted(hypergraph.to_lists()[i]) == sorted([i, *nearest])
    assert knn_graph(x, 4, batch=batch, directed=False, **options).equal(
        Graph.from_edge_index(graph.edge_index, num_nodes=23, directed=False)
    )
    assert knn_graph(x, 4, **options).num_edges == 23 * 4
    assert knn_graph(torch.empty(0, 2), 0, batch=torch.empty(0, dtype=torch.long)).num_nodes == 0


@pytest.mark.parametrize("batch", [[0, 1], [0.0, 1.0, 2.0], [True, False, True], [[0, 1, 2]]])
def test_batches_of_another_form_are_refused(batch):
    for build in (knn_graph, knn_hypergraph):
        with pytest.raises(ArgumentError, match="batch: expected 3 integers, one per point"):
            build([[0.0], [1.0], [2.0]], 1, batch=batch)
