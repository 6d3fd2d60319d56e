"""`Adjacency`: construction, order of edges, the transpose, degrees."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from hgraph import Adjacency
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import coo
from hgraph.testing import adjacencies, degenerate_adjacencies, random_adjacency

DEGENERATE = degenerate_adjacencies()
SOME = settings(max_examples=40, deadline=None, derandomize=True)


def make(**changed):
    given = {"target": [0, 2, 0], "source": [1, 0, 0], "num_targets": 3, "num_sources": 2}
    return Adjacency.from_coo(**{**given, **changed})


def check_invariants(adj):
    """Check that redundant fields agree."""
    t, s, e = adj.num_targets, adj.num_sources, adj.num_edges
    assert adj.indptr.shape == (t + 1,)
    assert adj.t_indptr.shape == (s + 1,)
    pairs = list(zip(adj.target.tolist(), adj.indices.tolist(), strict=True))
    back = list(zip(adj.source.tolist(), adj.t_indices.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert back == sorted(back)
    assert sorted((b, a) for a, b in pairs) == back
    assert [pairs.count((i, j)) for i, j in pairs] == [back.count((j, i)) for i, j in pairs]
    for row in range(t):
        assert adj.target[adj.indptr[row] : adj.indptr[row + 1]].tolist() == [row] * sum(p[0] == row for p in pairs)
    for column in range(s):
        assert adj.source[adj.t_indptr[column] : adj.t_indptr[column + 1]].eq(column).all()
    assert torch.equal(adj.source, adj.indices[adj.perm])
    assert torch.equal(adj.t_indices, adj.target[adj.perm])
    assert torch.equal(adj.perm[adj.inv_perm], torch.arange(e, dtype=adj.perm.dtype))
    assert torch.equal(adj.inv_perm[adj.perm], torch.arange(e, dtype=adj.perm.dtype))


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"target": [0, 3, 0]}, ArgumentError, r"target: expected targets in 0 .. 2, got 3 at position 1"),
        ({"source": [1, 0, -1]}, ArgumentError, r"source: expected sources in 0 .. 1, got -1 at position 2"),
        ({"source": [1, 0]}, ArgumentError, r"source: expected 3 entries, as many as target, got 2"),
        ({"target": [0.0, 2.0, 0.0]}, ArgumentTypeError, r"target: expected integer indices, got torch.float32"),
        ({"source": torch.tensor([True, False, True])}, ArgumentTypeError, r"source: .* mask .*nonzero"),
        ({"target": [[0, 2, 0]]}, ArgumentError, r"target: expected one dimension \[E\], got shape \[1, 3\]"),
        ({"target": None}, ArgumentTypeError, r"target: expected integer indices, got NoneType"),
        ({"target": ["a", "b", "c"]}, ArgumentTypeError, r"target: expected integer indices, got list"),
        ({"num_targets": 2.0}, ArgumentTypeError, r"num_targets: expected an integer, got float"),
        ({"num_targets": True}, ArgumentTypeError, r"num_targets: expected an integer, got bool"),
        ({"num_sources": -1}, ArgumentError, r"num_sources: expected a size >= 0, got -1"),
        (
            {"num_sources": 0},
            ArgumentError,
            r"source: expected no entry, because there are no sources, got 1 at position 0",
        ),
        ({"weight": [1, 2, 3]}, ArgumentTypeError, r"weight: expected floating-point weights, got torch.int64"),
        ({"weight": [1.0, 2.0]}, ArgumentError, r"weight: expected shape \[3\] \(one per edge\), got shape \[2\]"),
        ({"weight": torch.ones(3, 1)}, ArgumentError, r"weight: expected shape \[3\].*got shape \[3, 1\]"),
        ({"weight": [1.0, float("nan"), 2.0]}, ArgumentError, r"weight: .*without NaN, got NaN at position 1"),
        ({"weight": ["a"] * 3}, ArgumentTypeError, r"weight: expected floating-point weights, got list"),
        ({"duplicates": "max"}, ArgumentError, r"duplicates: expected 'error', 'sum' or 'keep', got 'max'"),
        ({"target": [0, 0, 0], "source": [1, 1, 1]}, ArgumentError, r"target, source: expected each pair once, got 2"),
    ],
)
def test_wrong_arguments_are_named(changed, error, message):
    with pytest.raises(error, match=message):
        make(**changed)


def test_errors_are_value_and_type_errors():
    with pytest.raises(ValueError):
        make(num_sources=-1)
    with pytest.raises(TypeError):
        make(num_sources="2")


def test_infinite_weights_are_legal():
    assert make(weight=[1.0, float("inf"), -float("inf")]).weight.isinf().sum() == 2


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_every_integer_dtype_works(dtype):
    assert make(target=torch.tensor([0, 2, 0], dtype=dtype), source=np.array([1, 0, 0])).equal(make())


def test_numpy_sizes_work():
    assert make(num_targets=np.int64(3)).equal(make())


# ---------------------------------------------------------------------- construction


@pytest.mark.parametrize("name", DEGENERATE)
def test_invariants_of_degenerate_structures(name):
    check_invariants(DEGENERATE[name])
    check_invariants(DEGENERATE[name].transpose())


@SOME
@given(adjacencies())
def test_invariants(adj):
    check_invariants(adj)


@SOME
@given(adjacencies())
def test_transpose_is_an_involution(adj):
    there = adj.transpose()
    assert there.shape == adj.shape[::-1]
    assert torch.equal(there.dense(), adj.dense().T)
    back = there.transpose()
    for mine, other in zip(adj.tensors(), back.tensors(), strict=True):
        assert torch.equal(mine, other)


def test_order_of_parallel_edges_is_that_of_the_input():
    adj = make(target=[1, 0, 1, 1], source=[0, 0, 0, 0], weight=[3.0, 9.0, 1.0, 2.0], duplicates="keep")
    assert adj.weight.tolist() == [9, 3, 1, 2]
    assert adj.transpose().weight.tolist() == [9, 3, 1, 2]


@pytest.mark.parametrize("weighted", [False, True])
def test_sum_adds_repeated_edges(weighted):
    weight = [1.0, 2.0, 4.0] if weighted else None
    adj = make(target=[1, 0, 1], source=[0, 1, 0], weight=weight, duplicates="sum")
    assert list(zip(adj.target.tolist(), adj.indices.tolist(), strict=True)) == [(0, 1), (1, 0)]
    assert adj.weight.tolist() == ([2, 5] if weighted else [1, 2])
    assert adj.input_order.tolist() == [1, 0, 1]


def test_whether_a_sum_has_weights_does_not_depend_on_the_data():
    assert make(duplicates="sum").weight.tolist() == [1, 1, 1]
    assert make(duplicates="keep").weight is None


def test_trusted_equals_from_coo():
    for adj in DEGENERATE.values():
        again = Adjacency.trusted(
            indptr=adj.indptr, indices=adj.indices, num_sources=adj.num_sources, weight=adj.weight
        )
        assert again.equal(adj)
        check_invariants(again)
        assert again.input_order is None


def test_eye():
    assert torch.equal(Adjacency.eye(4).dense(), torch.eye(4))
    check_invariants(Adjacency.eye(0))


# ---------------------------------------------------------------------- index dtype


@pytest.mark.parametrize(
    ("limit", "shape", "edges", "expected"),
    [(5, (5, 2), 3, torch.int32), (4, (5, 2), 3, torch.int64), (4, (2, 5), 3, torch.int64), (2, (2, 2), 3, torch.int64),
     (3, (2, 2), 3, torch.int32)],
)  # fmt: skip
def test_indices_are_int32_where_everything_fits(monkeypatch, limit, shape, edges, expected):
    monkeypatch.setattr(coo, "_INT32_MAX", limit)
    adj = random_adjacency(*shape, edges)
    assert {t.dtype for t in adj.tensors()} == {expected}
    trusted = Adjacency.trusted(indptr=adj.indptr.long(), indices=adj.indices.long(), num_sources=shape[1])
    assert {t.dtype for t in trusted.tensors()} == {expected}
    check_invariants(adj)


def test_both_index_dtypes_are_equal_structures(monkeypatch):
    narrow = random_adjacency(5, 6, 20)
    monkeypatch.setattr(coo, "_INT32_MAX", 3)
    wide = random_adjacency(5, 6, 20)
    assert wide.indices.dtype != narrow.indices.dtype
    assert wide.equal(narrow)
    assert narrow.equal(wide)


# ---------------------------------------------------------------------- degrees, per-edge values


@SOME
@given(adjacencies())
def test_degrees_are_sums_of_the_matrix(adj):
    assert torch.allclose(adj.target_degree().double(), adj.dense().double().sum(1))
    assert torch.allclose(adj.source_degree().double(), adj.dense().double().sum(0))
    assert adj.target_degree().is_floating_point() == (adj.weight is not None)


@SOME
@given(adjacencies())
def test_edge_order_round_trip(adj):
    values = torch.arange(adj.num_edges * 2, dtype=torch.float64).view(-1, 2)
    assert torch.equal(adj.unsort_edges(adj.sort_edges(values)), values)
    assert torch.equal(adj.sort_edges(adj.unsort_edges(values)), values)


def test_sort_edges_follows_the_edge_and_its_transpose():
    target, source = torch.tensor([2, 0, 1, 0]), torch.tensor([1, 1, 0, 0])
    adj = Adjacency.from_coo(target=target, source=source, num_targets=3, num_sources=2)
    code = target * 10 + source
    assert adj.sort_edges(code).tolist() == (adj.target.long() * 10 + adj.indices).tolist()
    reverse = adj.transpose()
    assert reverse.sort_edges(code).tolist() == (reverse.indices.long() * 10 + reverse.target).tolist()
    assert reverse.unsort_edges(reverse.sort_edges(code)).tolist() == code.tolist()


def test_sort_edges_sums_and_unsort_edges_repeats_after_sum():
    adj = make(target=[1, 0, 1], source=[0, 1, 0], duplicates="sum")
    values = torch.tensor([1.0, 10.0, 100.0], requires_grad=True)
    total = adj.sort_edges(values)
    assert total.tolist() == [10, 101]
    assert adj.unsort_edges(total).tolist() == [101, 10, 101]
    (total * torch.tensor([2.0, 3.0])).sum().backward()
    assert values.grad.tolist() == [3, 2, 3]


@pytest.mark.parametrize(
    ("dtype", "summed"),
    [
        (torch.uint8, torch.int64),
        (torch.int32, torch.int64),
        (torch.bool, torch.bool),
        (torch.bfloat16, torch.bfloat16),
        (torch.complex64, torch.complex64),
    ],
)
def test_sort_edges_of_every_dtype(dtype, summed):
    ends = {"target": [1, 0, 1, 1], "source": [0, 1, 0, 0]}
    values = torch.tensor([200, 1, 200, 200]).to(dtype)
    total = make(**ends, duplicates="sum").sort_edges(values)
    assert total.dtype == summed
    assert total.tolist() == [1, 1 if dtype == torch.bool else 600]
    unsummed = make(**ends, duplicates="keep").sort_edges(values)
    assert unsummed.dtype == dtype
    assert unsummed.tolist() == torch.tensor([1, 200, 200, 200]).to(dtype).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_degrees_of_half_weights_are_added_up_in_float32(dtype):
    size = 4096  # in half precision a sum of ones stops growing at 2048, or at 256
    ends = {"target": [0] * size, "source": range(size), "num_targets": 1, "num_sources": size}
    adj = make(**ends, weight=torch.ones(size, dtype=dtype))
    assert adj.target_degree().tolist() == [size]
    assert adj.target_degree().dtype == dtype


def test_gradients_of_edge_order():
    adj = random_adjacency(4, 5, 12)
    values = torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(adj.sort_edges, values)
    assert torch.autograd.gradcheck(adj.unsort_edges, values)


def test_edge_order_refuses_other_lengths():
    adj = make(target=[1, 0, 1], source=[0, 1, 0], duplicates="sum")
    with pytest.raises(ArgumentError, match=r"values: expected 3 rows .*input.*, got 2"):
        adj.sort_edges(torch.ones(2))
    with pytest.raises(ArgumentError, match=r"values: expected 2 rows .*, got 3"):
        adj.unsort_edges(torch.ones(3))


def test_gradient_of_weights_through_construction():
    weight = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)

    def matrix(w):
        return make(target=[1, 0, 1], source=[0, 1, 0], weight=w, duplicates="sum").normalize("row").dense()

    assert torch.autograd.gradcheck(matrix, weight)


# ---------------------------------------------------------------------- equality, copies, text


def test_equal_compares_all_fields():
    adj = make(weight=[1.0, 2.0, 3.0])
    assert adj.equal(make(weight=[1.0, 2.0, 3.0]))
    assert not adj.equal(make(weight=[1.0, 2.0, 4.0]))
    assert not adj.equal(make())
    assert not make().equal(adj)
    assert not adj.equal(make(weight=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)))
    assert not make().equal(make(num_sources=3))
    assert not make().equal(make(source=[1, 1, 0]))
    assert not make().equal(make(target=[0, 1, 0]))
    assert not make().equal(make(target=[0, 2], source=[1, 0]))
    assert not make().equal("structure")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a)), copy.copy])
@pytest.mark.parametrize("name", DEGENERATE)
def test_copies_are_equal(name, copied):
    again = copied(DEGENERATE[name])
    assert again.equal(DEGENERATE[name])
    assert torch.equal(again.input_order, DEGENERATE[name].input_order)


def test_structures_are_frozen_and_hashed_by_identity():
    adj = make()
    with pytest.raises(AttributeError):
        adj.weight = None
    assert len({adj, make()}) == 2


def test_repr_has_sizes_only():
    assert repr(make(weight=[1.0] * 3)) == "Adjacency(3 x 2, 3 edges, weight=float32, cpu)"
