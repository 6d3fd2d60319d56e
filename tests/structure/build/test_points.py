"""k-nearest-neighbour hypergraphs against a brute-force oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.build import knn_hypergraph


def oracle(x: np.ndarray, k: int, include_self: bool) -> list[list[int]]:
    """For each point, all others sorted by (distance, index)."""
    hyperedges = []
    for i in range(len(x)):
        others = sorted((float(((x[i] - x[j]) ** 2).sum()), j) for j in range(len(x)) if j != i)
        hyperedges.append(sorted(([i] if include_self else []) + [j for _, j in others[:k]]))
    return hyperedges


# Small integers: distances are exact in both, and ties are many.
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


def test_oneself_is_known_by_index_not_by_distance():
    assert knn_hypergraph(torch.zeros(3, 1), 1, include_self=False).to_lists() == [[1], [0], [0]]


@pytest.mark.parametrize("n", [0, 1])
def test_no_neighbours(n):
    alone = knn_hypergraph(torch.ones(n, 3), 0)
    assert (alone.num_vertices, alone.num_hyperedges) == (n, n)
    assert alone.to_lists() == [[0]] * n
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


def test_points_without_features_are_all_equally_far():
    assert knn_hypergraph(torch.ones(3, 0), 1).to_lists() == [[0, 1], [0, 1], [0, 2]]
