"""Sparse matrices of scipy and torch: adjacency and incidence, in both directions.

Only the coordinate format can hold parallel edges (repeated entries), so matrices are returned in that format;
``.tocsr()`` and similar methods convert them and add up repeated entries.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hgraph.convert.converted import Converted, prepare, refuse
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = [
    "from_scipy",
    "from_scipy_incidence",
    "from_torch_sparse",
    "from_torch_sparse_incidence",
    "to_scipy",
    "to_scipy_incidence",
    "to_torch_sparse",
    "to_torch_sparse_incidence",
]

Rows = Literal["source", "target"]
Duplicates = Literal["error", "sum", "keep"]

_BESIDE = ("node_ids", "hyperedge_ids", "x", "y", "node_attrs", "hyperedge_attrs", "edge_attrs", "meta")


class _Entries(NamedTuple):
    row: Tensor
    col: Tensor
    value: Tensor
    shape: tuple[int, int]


# ---------------------------------------------------------------------- adjacency


def from_scipy(
    matrix: Any, *, rows: Rows = "source", weighted: bool = True, duplicates: Duplicates = "error"
) -> Converted:
    """The graph of a square scipy sparse matrix (any format); every stored entry is an edge, stored zeros included.

    Args:
        matrix: [N, N], sparse matrix or array.
        rows: ``"source"``: entry (i, j) is the edge i -> j, as in ``scipy.sparse.csgraph`` and networkx;
            ``"target"``: j -> i, as in an `Adjacency`. An undirected graph is a symmetric matrix.
        weighted: whether values are weights (floats keep their type; integers and booleans become float64). False
            requires a matrix of ones.
        duplicates: what to do with repeated entries of a coordinate matrix (see `Adjacency.from_coo`).

    Raises:
        ArgumentError: not square, repeated entries, or values other than one with ``weighted=False``.

    >>> import scipy.sparse
    >>> from_scipy(scipy.sparse.csr_array([[0.0, 2.0], [0.0, 0.0]])).structure.edge_index.tolist()
    [[0], [1]]
    """
    return _graph(_scipy_entries(matrix), rows, weighted, duplicates)


def to_scipy(graph: Graph | Converted, *, rows: Rows = "source") -> Any:
    """The N x N ``scipy.sparse.coo_array`` of a graph; ones if unweighted.

    Parallel edges are separate entries until ``.tocsr()`` or a similar method adds them up.

    Args:
        graph: the graph; a `Converted` must not have other attributes.
        rows: the meaning of rows (see :func:`from_scipy`).

    >>> to_scipy(Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)).toarray().tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    return _to_scipy(_adjacency(graph, "a matrix"), transposed=_check_rows(rows) == "source")


def from_torch_sparse(
    matrix: Tensor, *, rows: Rows = "source", weighted: bool = True, duplicates: Duplicates = "error"
) -> Converted:
    """The graph of a square sparse tensor (COO, CSR or CSC); arguments as for :func:`from_scipy`.

    >>> from_torch_sparse(torch.eye(2).to_sparse_csr(), weighted=False).structure
    Graph(2 nodes, 2 edges, cpu)
    """
    return _graph(_torch_entries(matrix), rows, weighted, duplicates)


def to_torch_sparse(graph: Graph | Converted, *, rows: Rows = "source") -> Tensor:
    """The N x N sparse COO tensor of a graph; ones if unweighted (see :func:`to_scipy`).

    It is marked as coalesced if there are no parallel edges; ``.to_sparse_csr()`` converts it.

    >>> to_torch_sparse(Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)).to_dense().tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    adj = _adjacency(graph, "a tensor")
    return _to_torch(adj.transpose() if _check_rows(rows) == "source" else adj)


# ---------------------------------------------------------------------- incidence


def from_scipy_incidence(matrix: Any, *, weighted: bool = True, duplicates: Duplicates = "error") -> Converted:
    """The hypergraph of an N x M scipy sparse incidence matrix; every stored entry is an incidence.

    Args:
        matrix: [N, M], rows are nodes.
        weighted: whether values are incidence weights; False requires a matrix of ones.
        duplicates: what to do with repeated entries (see `Hypergraph.from_coo`).

    Raises:
        ArgumentError: repeated entries, or values other than one with ``weighted=False``.

    >>> import scipy.sparse
    >>> from_scipy_incidence(scipy.sparse.csc_array([[1, 0], [1, 0]]), weighted=False).structure.to_lists()
    [[0, 1], []]
    """
    return _hypergraph(_scipy_entries(matrix), weighted, duplicates)


def to_scipy_incidence(hypergraph: Hypergraph | Converted) -> Any:
    """The N x M ``scipy.sparse.coo_array`` of a hypergraph's incidence weights; ones if unweighted.

    Raises:
        ArgumentError: hyperedge or node weights, which a matrix cannot hold.

    >>> to_scipy_incidence(Hypergraph.from_lists([[0, 1], []], num_nodes=2)).toarray().tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    return _to_scipy(_incidence(hypergraph, "a matrix"), transposed=True)


def from_torch_sparse_incidence(
    matrix: Tensor, *, weighted: bool = True, duplicates: Duplicates = "error"
) -> Converted:
    """The hypergraph of an N x M sparse incidence tensor; arguments as for :func:`from_scipy_incidence`.

    >>> from_torch_sparse_incidence(torch.ones(2, 1).to_sparse(), weighted=False).structure.to_lists()
    [[0, 1]]
    """
    return _hypergraph(_torch_entries(matrix), weighted, duplicates)


def to_torch_sparse_incidence(hypergraph: Hypergraph | Converted) -> Tensor:
    """The N x M sparse COO tensor of a hypergraph's incidence weights (see :func:`to_scipy_incidence`).

    >>> to_torch_sparse_incidence(Hypergraph.from_lists([[0, 1]], num_nodes=2)).to_dense().tolist()
    [[1.0], [1.0]]
    """
    return _to_torch(_incidence(hypergraph, "a tensor").transpose())


# ---------------------------------------------------------------------- entries in


def _scipy_entries(matrix: Any) -> _Entries:
    if not hasattr(matrix, "tocoo"):
        hint = "Convert a dense matrix with scipy.sparse.csr_array(matrix)"
        raise ArgumentTypeError("matrix", "a scipy sparse matrix or array", type(matrix).__name__, hint)
    if matrix.ndim != 2:
        raise ArgumentError("matrix", "two dimensions", f"shape {list(matrix.shape)}")
    coo = matrix.tocoo()
    # Copies: scipy may share its arrays with the caller, but structures are immutable.
    row, col = torch.from_numpy(coo.row.astype("int64")), torch.from_numpy(coo.col.astype("int64"))
    values = coo.data.astype(coo.dtype.newbyteorder("="), copy=True)
    if values.dtype.kind not in "fiub":
        raise ArgumentTypeError("matrix", "real numbers", values.dtype)
    floating = values if values.dtype.name in ("float16", "float32", "float64") else values.astype("float64")
    return _Entries(row, col, torch.from_numpy(floating), matrix.shape)


def _torch_entries(matrix: Any) -> _Entries:
    if not isinstance(matrix, Tensor) or matrix.layout not in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc):
        got = matrix.layout if isinstance(matrix, Tensor) else type(matrix).__name__
        raise ArgumentTypeError("matrix", "a sparse COO, CSR or CSC tensor", got, "Convert it with tensor.to_sparse()")
    if matrix.dim() != 2 or matrix.dense_dim():
        raise ArgumentError("matrix", "two sparse dimensions", f"shape {list(matrix.shape)}")
    if matrix.is_complex():
        raise ArgumentTypeError("matrix", "real numbers", matrix.dtype)
    coo = matrix.detach().to_sparse_coo()
    row, col = coo._indices().clone()  # not coalesced: that would add up repeated entries
    values = coo._values().clone()
    return _Entries(
        row, col, values if values.is_floating_point() else values.double(), (matrix.shape[0], matrix.shape[1])
    )


def _weights(entries: _Entries, weighted: bool) -> Tensor | None:
    if weighted:
        return entries.value
    if bool((entries.value != 1).any()):
        other = float(entries.value[entries.value != 1][0])
        raise ArgumentError("weighted", "True for values other than 1", f"False and a value {other:g}")
    return None


def _graph(entries: _Entries, rows: Rows, weighted: bool, duplicates: Duplicates) -> Converted:
    if entries.shape[0] != entries.shape[1]:
        hint = "Use the function that ends in _incidence for an incidence matrix"
        raise ArgumentError("matrix", "a square matrix", f"shape {list(entries.shape)}", hint)
    ends = (entries.col, entries.row) if _check_rows(rows) == "source" else (entries.row, entries.col)
    adj = Adjacency.from_coo(
        target=ends[0],
        source=ends[1],
        weight=_weights(entries, weighted),
        num_targets=entries.shape[0],
        num_sources=entries.shape[0],
        duplicates=duplicates,
    )
    return Converted(Graph(adj), range(entries.shape[0]), range(0))


def _hypergraph(entries: _Entries, weighted: bool, duplicates: Duplicates) -> Converted:
    hg = Hypergraph.from_coo(
        node=entries.row,
        hyperedge=entries.col,
        weight=_weights(entries, weighted),
        num_nodes=entries.shape[0],
        num_hyperedges=entries.shape[1],
        duplicates=duplicates,
    )
    return Converted(hg, range(entries.shape[0]), range(entries.shape[1]))


def _check_rows(rows: Rows) -> Rows:
    if rows not in ("source", "target"):
        raise ArgumentError("rows", "'source' or 'target'", repr(rows))
    return rows


# ---------------------------------------------------------------------- entries out


def _adjacency(graph: Graph | Converted, target: str) -> Adjacency:
    structure, c = prepare(graph, Graph, "Use the function that ends in _incidence for a hypergraph")
    refuse(c, target, *_BESIDE)
    return structure.adj


def _incidence(hypergraph: Hypergraph | Converted, target: str) -> Adjacency:
    structure, c = prepare(hypergraph, Hypergraph, "Use the function without _incidence for a graph")
    refuse(c, target, *_BESIDE, "hyperedge_weight", "node_weight")
    return structure.v2e


def _values(adj: Adjacency) -> Tensor:
    if adj.weight is None:
        return torch.ones(adj.num_edges, device=adj.device)
    return adj.weight.detach()


def _to_scipy(adj: Adjacency, *, transposed: bool) -> Any:
    import scipy.sparse

    values = _values(adj)
    values = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values  # unsupported in scipy
    # Copies: changes to the matrix must not affect the structure.
    target, source, data = (t.cpu().numpy().copy() for t in (adj.target, adj.indices, values))
    if transposed:
        return scipy.sparse.coo_array((data, (source, target)), shape=adj.shape[::-1])
    return scipy.sparse.coo_array((data, (target, source)), shape=adj.shape)


def _to_torch(adj: Adjacency) -> Tensor:
    index = torch.stack([adj.target, adj.indices]).long()
    same = (index[:, 1:] == index[:, :-1]).all(0) if adj.num_edges else index.new_zeros(0, dtype=torch.bool)
    return torch.sparse_coo_tensor(
        index, _values(adj).clone(), adj.shape, is_coalesced=not bool(same.any()), check_invariants=False
    )
