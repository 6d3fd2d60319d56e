"""Positional encodings: node features computed from the structure, for layers that do not use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.memory import check_memory
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["laplacian_encoding", "random_walk_encoding"]

_DENSE = 512  # nodes up to which all eigenvectors are computed
_NUMBERS = 1 << 24  # in the probabilities of one block of starting nodes


def laplacian_encoding(structure: Graph | Hypergraph, num_vectors: int) -> Tensor:
    r"""The eigenvectors of the normalized Laplacian with the smallest eigenvalues, without the first.

    Use it as additional features for layers with attention to all nodes, such as `hgraph.nn.GPSConv`. In training, flip
    the sign of each column at random, because the sign of an eigenvector is arbitrary.

    .. math:: L v_k = \lambda_k v_k, \qquad L = I - D^{-1/2} A D^{-1/2} \quad\text{or}\quad
              L = I - D_v^{-1/2} H W D_e^{-1} H^\top D_v^{-1/2}

    for graphs, with edges in both directions, and for hypergraphs. Column k is :math:`v_{k+1}`, of length one, with the
    sign that makes the entry of largest absolute value positive. The eigenvalue 0 has one eigenvector per connected
    component; only the first is left out.

    An iterative solver computes them; on long, path-like structures it converges slowly (a path of 4,000 nodes: half a
    minute).

    Args:
        structure: a graph or hypergraph of N nodes; weights must not be negative.
        num_vectors: K, the number of columns.

    Returns:
        [N, K] float32. Only N - 1 eigenvectors are left, so further columns are 0.

    Raises:
        ArgumentError: negative weights, or less than one column.
        ArgumentTypeError: neither a `Graph` nor a `Hypergraph`.

    Source: Dwivedi et al., "Benchmarking Graph Neural Networks", JMLR 2023, eq. 6; for hypergraphs Zhou, Huang and
    Schölkopf, "Learning with Hypergraphs", NeurIPS 2006, section 4.

    >>> path = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> laplacian_encoding(path, 2).round(decimals=3).abs().tolist()
    [[0.7070000171661377, 0.5], [0.0, 0.7070000171661377], [0.7070000171661377, 0.5]]
    """
    whole("num_vectors", num_vectors, 1)
    affinity = _affinity(structure)
    count = affinity.size
    wanted = min(num_vectors, max(count - 1, 0))
    out = np.zeros((count, num_vectors))
    if wanted:
        vectors = _largest(affinity, wanted + 1)[:, 1:]
        strongest = np.abs(vectors).argmax(0)
        out[:, :wanted] = vectors * np.where(vectors[strongest, np.arange(wanted)] < 0, -1, 1)
    return torch.from_numpy(out).float().to(structure.device)


def random_walk_encoding(structure: Graph | Hypergraph, num_steps: int) -> Tensor:
    r"""The probabilities that a random walk is back at its start after 1, 2, ..., K steps.

    Use it as additional features where the neighborhood of a node matters, such as the rings of molecules. Unlike
    eigenvectors, it has no arbitrary signs.

    .. math:: p_{ik} = (P^k)_{ii}, \qquad P = D^{-1} A \quad\text{or}\quad P = D_v^{-1} H W D_e^{-1} H^\top

    for graphs, with edges in both directions, and for hypergraphs, where a walk goes to a hyperedge and from there to
    one of its members. A node without neighbors gets 0.

    The cost is K steps for each node of the largest connected component, so it is cheap for batches of many small
    structures.

    Args:
        structure: a graph or hypergraph of N nodes; weights must not be negative.
        num_steps: K.

    Returns:
        [N, K] float32.

    Raises:
        ArgumentError: negative weights, or less than one step.
        ArgumentTypeError: neither a `Graph` nor a `Hypergraph`.

    Source: Dwivedi et al., "Graph Neural Networks with Learnable Structural and Positional Representations", ICLR 2022,
    eq. 14.

    >>> triangle = Graph.from_edge_index([[0, 1, 2], [1, 2, 0]], num_nodes=3, directed=False)
    >>> random_walk_encoding(triangle, 3)[0].tolist()
    [0.0, 0.5, 0.25]
    """
    whole("num_steps", num_steps, 1)
    affinity = _affinity(structure)
    count, back = affinity.size, _inverse(affinity.degree, 1.0)
    out = np.zeros((count, num_steps))
    if not count:
        return torch.from_numpy(out).float().to(structure.device)
    # Walks stay in their component: nodes of different components can start in the same column.
    component = affinity.components()
    order = np.argsort(component, kind="stable")
    first = np.searchsorted(component[order], np.arange(component.max() + 1))
    column = np.empty(count, dtype=np.int64)
    column[order] = np.arange(count) - first[component[order]]
    width = max(_NUMBERS // count, 1)
    for begin in range(0, int(column.max()) + 1, width):
        starts = np.flatnonzero((column >= begin) & (column < begin + width))
        there = np.zeros((count, min(width, int(column.max()) + 1 - begin)))
        there[starts, column[starts] - begin] = 1.0
        for k in range(num_steps):
            there = back * (affinity @ there)  # row i: probabilities to go from i to the start of each column
            out[starts, k] = there[starts, column[starts] - begin]
    return torch.from_numpy(out).float().to(structure.device)


@dataclass(frozen=True)
class _Affinity:
    """A for a graph, with its edges in both directions, and H W / D_e H^T for a hypergraph, without forming it."""

    matrix: Any  # [N, N], or H [N, M]
    scale: np.ndarray | None  # [M] for a hypergraph

    @property
    def size(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def degree(self) -> np.ndarray:
        return self @ np.ones((self.size, 1))

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        return self.matrix @ x if self.scale is None else self.matrix @ (self.scale * (self.matrix.T @ x))

    def components(self) -> np.ndarray:
        """The connected component of each node."""
        from scipy.sparse import block_array
        from scipy.sparse.csgraph import connected_components

        square = self.matrix if self.scale is None else block_array([[None, self.matrix], [self.matrix.T, None]])
        return connected_components(square, directed=False)[1][: self.size]


def _affinity(structure: Graph | Hypergraph) -> _Affinity:
    if not isinstance(structure, (Graph, Hypergraph)):
        raise ArgumentTypeError("structure", "a Graph or Hypergraph", type(structure).__name__)
    from scipy.sparse import csr_array

    adj = structure.adj if isinstance(structure, Graph) else structure.e2v
    weight = np.ones(adj.num_edges) if adj.weight is None else adj.weight.detach().double().cpu().numpy()
    of = None if isinstance(structure, Graph) else structure.hyperedge_weight
    columns = np.ones(adj.num_sources) if of is None else of.detach().double().cpu().numpy()
    if not (np.isfinite(weight).all() and np.isfinite(columns).all()):
        raise ArgumentError("weight", "finite weights", "NaN or infinity")
    if (weight < 0).any() or (columns < 0).any():
        raise ArgumentError("weight", "weights of 0 or more", "negative weights")
    parts = (weight, adj.indices.cpu().numpy(), adj.indptr.cpu().numpy())
    matrix = csr_array(parts, shape=(adj.num_targets, adj.num_sources), copy=True)  # the sums change it in place
    matrix.sum_duplicates()
    if isinstance(structure, Graph):
        return _Affinity(matrix.maximum(matrix.T).tocsr(), None)
    return _Affinity(matrix, (columns * _inverse(matrix.sum(0), 1.0))[:, None])


def _inverse(values: np.ndarray, power: float) -> np.ndarray:
    """values ** -power, and 0 where a value is 0."""
    return np.where(values > 0, np.where(values > 0, values, 1.0) ** -power, 0.0)


def _largest(affinity: _Affinity, count: int) -> np.ndarray:
    """The eigenvectors of I - L with the largest eigenvalues, in their order; the start of the solver is fixed."""
    size, root = affinity.size, _inverse(affinity.degree, 0.5)
    if size <= max(_DENSE, 2 * count):
        check_memory("num_vectors", 24 * size**2, f"all eigenvectors of {size:,} nodes")
        return np.linalg.eigh(root * (affinity @ np.diag(root[:, 0])))[1][:, ::-1][:, :count]
    if not root.any():
        return np.zeros((size, count))  # without edges, every vector is an eigenvector
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    def product(x: np.ndarray) -> np.ndarray:
        return root * (affinity @ (root * x.reshape(size, -1)))

    operator = LinearOperator((size, size), matvec=product, matmat=product, dtype=np.float64)
    start = np.random.default_rng(0).uniform(0.5, 1.5, size)
    try:
        values, vectors = eigsh(operator, count, which="LA", v0=start)
    except ArpackError as error:
        hint = "Use fewer columns, or random_walk_encoding"
        raise ArgumentError("num_vectors", "a number for which the solver converges", count - 1, hint) from error
    return vectors[:, np.argsort(-values, kind="stable")]
