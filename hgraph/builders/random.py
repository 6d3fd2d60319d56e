"""Random graphs and hypergraphs: each edge or incidence is drawn with its own probability.

All functions take ``seed``: the same seed gives the same structure. Time and memory are linear in the number of edges
drawn, not in the N^2 pairs or N M cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hgraph.checks import count, numbers, seed_of, whole
from hgraph.errors import ArgumentError
from hgraph.memory import check_memory
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = [
    "chung_lu_graph",
    "chung_lu_hypergraph",
    "erdos_renyi_graph",
    "erdos_renyi_hypergraph",
    "stochastic_block_graph",
    "stochastic_block_hypergraph",
    "uniform_graph",
    "uniform_hypergraph",
]

Pairs = tuple[np.ndarray, np.ndarray]


_PAIR = 64  # bytes per drawn pair, including the structure


def erdos_renyi_graph(num_nodes: int, p: float, *, directed: bool = False, seed: int = 0) -> Graph:
    r"""Each pair of nodes is joined with probability ``p``, independently; no self-loops.

    .. math:: P(\{i, j\} \in E) = p

    Args:
        num_nodes: N.
        p: probability of an edge, 0 .. 1.
        directed: whether (i, j) and (j, i) are drawn separately.
        seed: random seed.

    Source: Gilbert, "Random graphs", 1959 (the model usually named after Erdos and Renyi).

    >>> erdos_renyi_graph(5, 1.0).num_edges, erdos_renyi_graph(5, 1.0, directed=True).num_edges
    (20, 20)
    """
    return stochastic_block_graph([whole("num_nodes", num_nodes)], [[p]], directed=directed, seed=seed)


def erdos_renyi_hypergraph(num_nodes: int, num_hyperedges: int, p: float, *, seed: int = 0) -> Hypergraph:
    r"""Each node is a member of each hyperedge with probability ``p``, independently.

    .. math:: P(v \in e) = p

    For small p there may be hyperedges without members, and isolated nodes.

    >>> erdos_renyi_hypergraph(4, 3, 1.0).num_incidences
    12
    """
    n, m = whole("num_nodes", num_nodes), whole("num_hyperedges", num_hyperedges)
    return stochastic_block_hypergraph([n], [m], [[p]], seed=seed)


def uniform_graph(num_nodes: int, num_edges: int, *, directed: bool = False, seed: int = 0) -> Graph:
    """A uniformly random graph with N nodes and ``num_edges`` edges; no self-loops, no repeated edge.

    Args:
        num_nodes: N.
        num_edges: number of pairs; in an undirected graph each counts once here and twice in ``Graph.num_edges``.
        directed: whether pairs are ordered.
        seed: random seed.

    Source: Erdos and Renyi, "On random graphs I", 1959.

    >>> uniform_graph(6, 4).num_edges
    8
    """
    n = whole("num_nodes", num_nodes)
    total = _pairs_among(n, directed)
    whole("num_edges", num_edges, 0, total, f"pairs of {n} nodes")
    check_memory("num_edges", _PAIR * num_edges, f"{num_edges:,}")
    if total >= 2**63:
        raise ArgumentError("num_nodes", "fewer than 2**63 possible pairs", f"{n:,} nodes")
    codes = _random(seed).choice(total, num_edges, replace=False, shuffle=False)
    return _graph(n, [(_ordered if directed else _unordered)(codes, n)], directed)


def uniform_hypergraph(num_nodes: int, num_hyperedges: int, size: int | Sequence[int], *, seed: int = 0) -> Hypergraph:
    """Hyperedges of given sizes with distinct, uniformly random members.

    Hyperedges may be equal: see `Hypergraph.without_repeats`.

    Args:
        num_nodes: N.
        num_hyperedges: M.
        size: members of every hyperedge (a k-uniform hypergraph), or of each [M].
        seed: random seed.

    >>> uniform_hypergraph(9, 2, 3).hyperedge_degree().tolist()
    [3, 3]
    """
    n, m = whole("num_nodes", num_nodes), whole("num_hyperedges", num_hyperedges)
    count("num_nodes", n, 16), count("num_hyperedges", m, 16)
    sizes = numbers("size", size, f"one whole number, or {m}")
    if (sizes != np.floor(sizes)).any():
        raise ArgumentError("size", f"one whole number, or {m}", repr(size))
    sizes = np.broadcast_to(sizes, (m,) if sizes.ndim == 0 else sizes.shape).astype(np.int64)
    if sizes.shape != (m,):
        raise ArgumentError("size", f"one number, or {m} (one per hyperedge)", f"shape {list(sizes.shape)}")
    if m and not (sizes.min() >= 0 and sizes.max() <= n):
        raise ArgumentError("size", f"0 .. {n} members (there are {n} nodes)", f"{sizes.min()} .. {sizes.max()}")
    check_memory("size", _PAIR * float(sizes.sum(dtype=np.float64)), f"{sizes.sum(dtype=np.float64):,.0f} incidences")
    rng = _random(seed)
    drawn = []
    for k in np.unique(sizes):
        hyperedges = np.flatnonzero(sizes == k)
        members = _subsets(rng, len(hyperedges), int(k), n)
        drawn.append((members.reshape(-1), np.repeat(hyperedges, k)))
    return _hypergraph(n, m, drawn)


def chung_lu_graph(degree: Any, *, seed: int = 0) -> Graph:
    r"""A graph with expected degrees: the probability of an edge is proportional to the product of degrees.

    .. math:: P(\{i, j\} \in E) = \min\bigl(1, d_i d_j / \textstyle\sum_k d_k\bigr)

    Args:
        degree: [N] expected degrees, not negative. The actual expectation is lower by the excluded self-loop,
            d_i^2 / sum d, and by the minimum. No self-loops.
        seed: random seed.

    Source: Chung and Lu, "Connected components in random graphs with given expected degree sequences", 2002.

    >>> chung_lu_graph([0.0, 3.0, 3.0, 3.0]).degree()[0].item()
    0
    """
    d = _degrees("degree", degree)
    rng, total, drawn = _random(seed), max(d.sum(), 1e-300), []
    classes = list(_similar(d))
    for a, first in enumerate(classes):
        for b, second in enumerate(classes[: a + 1]):
            bound = min(1.0, d[first].max() * d[second].max() / total)
            i, j = _unordered_cells(rng, len(first), bound) if a == b else _cells(rng, len(first), len(second), bound)
            drawn.append(_thinned(rng, (first[i], second[j]), lambda i, j: d[i] * d[j] / total, bound))
    return _graph(len(d), drawn, directed=False)


def chung_lu_hypergraph(node_degree: Any, hyperedge_degree: Any, *, seed: int = 0) -> Hypergraph:
    r"""A hypergraph with expected degrees on both sides.

    .. math:: P(v \in e) = \min\bigl(1, d_v d_e / \sqrt{\textstyle\sum_u d_u \sum_f d_f}\bigr)

    Args:
        node_degree: [N] expected numbers of hyperedges, not negative.
        hyperedge_degree: [M] expected numbers of members. If the two sums differ, both sides are scaled to their
            geometric mean.
        seed: random seed.

    Source: Aksoy, Kolda, Pinar, "Measuring and modeling bipartite graphs with community structure", 2017.

    >>> chung_lu_hypergraph([2.0] * 50, [10.0] * 10).num_incidences > 0
    True
    """
    d, s = _degrees("node_degree", node_degree), _degrees("hyperedge_degree", hyperedge_degree)
    rng, total, drawn = _random(seed), max(float(np.sqrt(d.sum() * s.sum())), 1e-300), []
    for nodes in _similar(d):
        for hyperedges in _similar(s):
            bound = min(1.0, d[nodes].max() * s[hyperedges].max() / total)
            v, e = _cells(rng, len(nodes), len(hyperedges), bound)
            drawn.append(_thinned(rng, (nodes[v], hyperedges[e]), lambda v, e: d[v] * s[e] / total, bound))
    return _hypergraph(len(d), len(s), drawn)


def stochastic_block_graph(sizes: Sequence[int], p: Any, *, directed: bool = False, seed: int = 0) -> Graph:
    r"""Nodes in K communities, where the probability of an edge depends only on the two communities.

    .. math:: P(\{i, j\} \in E) = p_{c(i)\, c(j)}

    Args:
        sizes: nodes of each community; the first ``sizes[0]`` nodes are community 0, and so on.
        p: [K, K] probabilities; symmetric unless ``directed``, then ``p[a, b]`` is that of an edge from a to b.
        directed: whether pairs are ordered.
        seed: random seed.

    Source: Holland, Laskey, Leinhardt, "Stochastic blockmodels", 1983.

    >>> g = stochastic_block_graph([2, 3], [[1.0, 0.0], [0.0, 1.0]])
    >>> g.degree().tolist()
    [1, 1, 2, 2, 2]
    """
    start = _offsets("sizes", sizes)
    p = _chances(p, len(sizes), len(sizes))
    if not directed and not np.array_equal(p, p.T):
        raise ArgumentError("p", "a symmetric matrix", "an asymmetric matrix", "Pass directed=True to use it")
    rng, drawn = _random(seed), []
    for a, first in enumerate(sizes):
        for b, second in enumerate(sizes if directed else sizes[: a + 1]):
            if a != b:
                i, j = _cells(rng, first, second, p[a, b])
            elif directed:
                i, j = _ordered_cells(rng, first, p[a, a])
            else:
                i, j = _unordered_cells(rng, first, p[a, a])
            drawn.append((i + start[a], j + start[b]))
    return _graph(int(start[-1]), drawn, directed)


def stochastic_block_hypergraph(
    sizes: Sequence[int], hyperedge_sizes: Sequence[int], p: Any, *, seed: int = 0
) -> Hypergraph:
    r"""Nodes in K communities and hyperedges of L types; community and type set the probability of membership.

    The probability depends only on the community and the type.

    .. math:: P(v \in e) = p_{c(v)\, c(e)}

    Args:
        sizes: nodes of each community, numbered in that order.
        hyperedge_sizes: hyperedges of each of the L types, numbered in that order.
        p: [K, L] probabilities.
        seed: random seed.

    Source: Larremore, Clauset, Jacobs, "Efficiently inferring community structure in bipartite networks", 2014.

    >>> stochastic_block_hypergraph([2, 1], [1, 1], [[1.0, 0.0], [0.0, 1.0]]).to_lists()
    [[0, 1], [2]]
    """
    rows, columns = _offsets("sizes", sizes), _offsets("hyperedge_sizes", hyperedge_sizes)
    p = _chances(p, len(sizes), len(hyperedge_sizes))
    rng, drawn = _random(seed), []
    for a, first in enumerate(sizes):
        for b, second in enumerate(hyperedge_sizes):
            v, e = _cells(rng, first, second, p[a, b])
            drawn.append((v + rows[a], e + columns[b]))
    return _hypergraph(int(rows[-1]), int(columns[-1]), drawn)


# ---------------------------------------------------------------------- drawing cells by number


def _cells(rng: np.random.Generator, rows: int, columns: int, p: float) -> Pairs:
    """Cells of a rows x columns table, each drawn with probability p."""
    row, column = np.divmod(_numbers(rng, rows * columns, p), max(columns, 1))
    return row, column


def _unordered_cells(rng: np.random.Generator, n: int, p: float) -> Pairs:
    """Pairs i > j of n, each drawn with probability p."""
    return _unordered(_numbers(rng, _pairs_among(n, directed=False), p), n)


def _ordered_cells(rng: np.random.Generator, n: int, p: float) -> Pairs:
    """Pairs i != j of n, each drawn with probability p."""
    return _ordered(_numbers(rng, _pairs_among(n, directed=True), p), n)


def _numbers(rng: np.random.Generator, total: int, p: float) -> np.ndarray:
    """Each of 0 .. total-1 with probability p: draws the count, then the numbers, without visiting the others."""
    if not total:
        return np.empty(0, np.int64)
    if total >= 2**63:
        raise ArgumentError("sizes", "fewer than 2**63 possible pairs", f"{total:.3g}")
    check_memory("p", _PAIR * total * p, f"about {total * p:,.0f} pairs")
    return rng.choice(total, rng.binomial(total, p), replace=False, shuffle=False)


def _unordered(codes: np.ndarray, n: int) -> Pairs:
    """Decode c = i (i - 1) / 2 + j to the pair i > j, corrected for rounding of the square root."""
    i = ((1 + np.sqrt(1 + 8 * codes.astype(np.float64))) / 2).astype(np.int64)
    i -= i * (i - 1) // 2 > codes
    i += i * (i + 1) // 2 <= codes
    return i, codes - i * (i - 1) // 2


def _ordered(codes: np.ndarray, n: int) -> Pairs:
    """Decode c = i (n - 1) + j' to the pair i != j, where j' skips i."""
    i, j = np.divmod(codes, max(n - 1, 1))
    return i, j + (j >= i)


def _pairs_among(n: int, directed: bool) -> int:
    return n * (n - 1) if directed else n * (n - 1) // 2


def _thinned(rng: np.random.Generator, pairs: Pairs, chance: Callable[..., np.ndarray], bound: float) -> Pairs:
    """Thin pairs drawn with probability ``bound`` to their own probabilities, which are no larger."""
    keep = rng.random(len(pairs[0])) * bound < np.minimum(chance(*pairs), 1.0)
    return pairs[0][keep], pairs[1][keep]


def _similar(values: np.ndarray) -> Iterator[np.ndarray]:
    """Ids of positive values, grouped so that values in a group differ by at most a factor of two."""
    positive = np.flatnonzero(values > 0)
    exponent = np.frexp(values[positive])[1]
    for e in np.unique(exponent):
        yield positive[exponent == e]


def _subsets(rng: np.random.Generator, count: int, size: int, n: int) -> np.ndarray:
    """[count, size]: uniform subsets of 0 .. n-1 by Floyd's method, vectorized over rows."""
    if 2 * size > n:  # draw the complement instead: fewer steps
        left_out = _subsets(rng, count, n - size, n)
        kept = np.ones((count, n), dtype=bool)
        np.put_along_axis(kept, left_out, False, axis=1)
        return np.nonzero(kept)[1].reshape(count, size)
    chosen = np.empty((count, size), dtype=np.int64)
    for step, last in enumerate(range(n - size, n)):
        candidate = rng.integers(0, last + 1, count)
        taken = (chosen[:, :step] == candidate[:, None]).any(axis=1)
        chosen[:, step] = np.where(taken, last, candidate)
    return chosen


# ---------------------------------------------------------------------- arguments and results


def _random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed_of(seed))


def _offsets(name: str, sizes: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([whole(name, s) for s in sizes], dtype=np.int64)])


def _chances(p: Any, rows: int, columns: int) -> np.ndarray:
    p = numbers("p", p, f"probabilities [{rows}, {columns}]")
    if p.shape != (rows, columns):
        raise ArgumentError("p", f"probabilities [{rows}, {columns}]", f"shape {list(p.shape)}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ArgumentError("p", "probabilities in 0 .. 1", f"{p.min()} .. {p.max()}")
    return p


def _degrees(name: str, values: Any) -> np.ndarray:
    values = numbers(name, values, "a list of finite numbers, 0 or more")
    if values.ndim != 1 or not (np.isfinite(values) & (values >= 0)).all():
        raise ArgumentError(name, "a list of finite numbers, 0 or more", f"shape {list(values.shape)}, {values}")
    return values


def _graph(n: int, drawn: list[Pairs], directed: bool) -> Graph:
    return Graph.from_edge_index(np.stack(_joined(drawn)), num_nodes=n, directed=directed)


def _hypergraph(n: int, m: int, drawn: list[Pairs]) -> Hypergraph:
    node, hyperedge = _joined(drawn)
    return Hypergraph.from_coo(node=node, hyperedge=hyperedge, num_nodes=n, num_hyperedges=m)


def _joined(drawn: list[Pairs]) -> Pairs:
    nothing = np.empty(0, dtype=np.int64)
    return np.concatenate([nothing, *(a for a, _ in drawn)]), np.concatenate([nothing, *(b for _, b in drawn)])
