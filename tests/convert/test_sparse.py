"""Sparse matrices: round trips in every format, orientation of rows, stored zeros and repeated entries."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import Graph, Hypergraph
from hgraph.convert import (
    Converted,
    from_scipy,
    from_scipy_incidence,
    from_torch_sparse,
    from_torch_sparse_incidence,
    to_scipy,
    to_scipy_incidence,
    to_torch_sparse,
    to_torch_sparse_incidence,
)
from hgraph.errors import ArgumentError, ArgumentTypeError

CHECK = settings(max_examples=40, deadline=None, derandomize=True)
LIBRARIES = {
    "scipy": (from_scipy, to_scipy, from_scipy_incidence, to_scipy_incidence),
    "torch": (from_torch_sparse, to_torch_sparse, from_torch_sparse_incidence, to_torch_sparse_incidence),
}
FORMATS = {
    "scipy": [lambda m: m, lambda m: m.tocsr(), lambda m: m.tocsc(), sp.coo_matrix, sp.lil_array],
    "torch": [lambda m: m, torch.Tensor.to_sparse_csr, torch.Tensor.to_sparse_csc],
}


def dense(matrix):
    return matrix.to_dense().tolist() if isinstance(matrix, torch.Tensor) else matrix.toarray().tolist()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rows", ["source", "target"])
@CHECK
@given(data=st.data())
def test_parallel_edges_and_zero_weights_survive_in_coordinates(library, rows, graphs, data):
    read, write, _, _ = LIBRARIES[library]
    g = data.draw(graphs()).structure
    again = read(write(g, rows=rows), rows=rows, weighted=g.adj.weight is not None, duplicates="keep")
    assert again.structure.equal(g)
    assert again.node_ids == range(g.num_nodes)


@pytest.mark.parametrize(("library", "form"), [(lib, i) for lib, forms in FORMATS.items() for i in range(len(forms))])
@CHECK
@given(data=st.data())
def test_other_formats(library, form, graphs, hypergraphs, data):
    read, write, read_h, write_h = LIBRARIES[library]
    change = FORMATS[library][form]
    g = data.draw(graphs(parallel=False)).structure
    h = data.draw(hypergraphs(hyperedge_weighted=False, node_weighted=False)).structure
    if change is sp.lil_array:  # that format stores no zeros
        g, h = Graph(g.adj.with_weight(None)), Hypergraph(h.v2e.with_weight(None))
    assert read(change(write(g)), weighted=g.adj.weight is not None).structure.equal(g)
    assert read_h(change(write_h(h)), weighted=h.v2e.weight is not None).structure.equal(h)


@pytest.mark.parametrize("library", LIBRARIES)
def test_rows_are_as_given(library):
    read, write, _, write_h = LIBRARIES[library]
    g = Graph.from_edge_index([[0, 0], [1, 2]], num_nodes=3, directed=True, weight=[2.0, 3.0])
    assert dense(write(g)) == [[0, 2, 3], [0, 0, 0], [0, 0, 0]]
    assert dense(write(g, rows="target")) == [[0, 0, 0], [2, 0, 0], [3, 0, 0]]
    assert read(write(g), rows="target").structure.adj.equal(g.adj.transpose())
    h = Hypergraph.from_lists([[0, 2], []], num_nodes=3)
    assert dense(write_h(h)) == [[1, 0], [0, 0], [1, 0]]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_values_keep_their_float_type(library, dtype):
    read = LIBRARIES[library][0]
    matrix = torch.tensor([[0, 1], [0, 0]], dtype=dtype)
    given = matrix.to_sparse() if library == "torch" else sp.csr_array(matrix.numpy())
    expected = dtype if dtype.is_floating_point else torch.float64
    assert read(given).structure.adj.weight.dtype == expected
    assert read(given, weighted=False).structure.adj.weight is None


@pytest.mark.parametrize("library", LIBRARIES)
def test_repeated_entries_follow_the_argument(library):
    read = LIBRARIES[library][0]
    index, value = np.array([[0, 0], [1, 1]]), np.array([2.0, 3.0])
    if library == "torch":
        matrix = torch.sparse_coo_tensor(
            torch.from_numpy(index), torch.from_numpy(value), (2, 2), check_invariants=True
        )
    else:
        matrix = sp.coo_array((value, index), shape=(2, 2))
    with pytest.raises(ArgumentError, match="duplicates"):
        read(matrix)
    assert read(matrix, duplicates="sum").structure.adj.weight.tolist() == [5]
    assert read(matrix, duplicates="keep").structure.adj.weight.tolist() == [2, 3]
    assert dense(LIBRARIES[library][1](read(matrix, duplicates="keep"))) == [[0, 5], [0, 0]]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rows", ["source", "target"])
def test_nothing_is_shared_with_the_matrix(library, rows):
    read, write, _, _ = LIBRARIES[library]
    g = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True, weight=[2.0])
    matrix = write(g, rows=rows)
    back = read(matrix, rows=rows)
    (matrix._values() if library == "torch" else matrix.data)[:] = 9
    assert g.adj.weight.tolist() == [2]
    assert back.structure.adj.weight.tolist() == [2]


def test_the_coalesced_flag_of_a_tensor():
    """Torch trusts this flag: with a wrong one, parallel edges would not be summed in compressed formats."""
    two = Graph.from_edge_index([[0, 0], [1, 1]], num_nodes=2, directed=True, duplicates="keep")
    assert not to_torch_sparse(two).is_coalesced()
    assert to_torch_sparse(two).to_sparse_csr().values().tolist() == [2]
    assert to_torch_sparse(Graph.from_edge_index([[0, 1], [1, 1]], num_nodes=2, directed=True)).is_coalesced()


@pytest.mark.parametrize("library", LIBRARIES)
def test_refusals(library):
    read, write, read_h, write_h = LIBRARIES[library]
    wide = torch.ones(2, 3).to_sparse() if library == "torch" else sp.csr_array(np.ones((2, 3)))
    two = torch.full((2, 2), 2.0).to_sparse() if library == "torch" else sp.csr_array(np.full((2, 2), 2.0))
    with pytest.raises(ArgumentError, match="_incidence"):
        read(wide)
    with pytest.raises(ArgumentError, match="a value 2"):
        read(two, weighted=False)
    with pytest.raises(ArgumentError, match="a value 2"):
        read_h(two, weighted=False)
    with pytest.raises(ArgumentError, match="rows"):
        read(two, rows="from")
    with pytest.raises(ArgumentTypeError, match="matrix"):
        read(np.ones((2, 2)))
    with pytest.raises(ArgumentTypeError, match="real"):
        read(torch.ones(1, 1).to_sparse() * 1j if library == "torch" else sp.csr_array([[1j]]))
    hg = Hypergraph.from_lists([[0]], num_nodes=1, hyperedge_weight=[2.0])
    with pytest.raises(ArgumentError, match="hyperedge_weight=None"):
        write_h(hg)
    with pytest.raises(ArgumentTypeError, match="_incidence"):
        write(hg)
    g = Graph.from_edge_index([[], []], num_nodes=1, directed=True)
    with pytest.raises(ArgumentError, match="node_ids"):
        write(Converted(g, ["a"]))
    with pytest.raises(ArgumentError, match=r"_replace\(x=None\)"):
        write(Converted(g, x=torch.ones(1, 1)))
