"""Positive links of a graph, and negative pairs of nodes without an edge."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.structure.graph import Graph

__all__ = [
    "codes_of",
    "is_bipartite",
    "is_directed",
    "link_mask",
    "links_of_graph",
    "pairs_without_edge",
    "typed_pairs_without_edge",
]


def is_directed(graph: Graph) -> bool:
    """Whether some edge has no reverse edge; ignores weights."""
    return not graph.adj.with_weight(None).equal(graph.adj.with_weight(None).transpose())


def is_bipartite(graph: Graph) -> bool:
    """Whether the graph is bipartite and has enough cycles for this to be meaningful.

    Every forest is bipartite, so forests do not count: there must be more links than nodes with an edge.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    source, target = graph.edge_index.cpu().numpy()
    n = graph.num_nodes
    used = np.unique(np.concatenate([source, target]))
    if not len(used) or int(link_mask(graph).sum()) <= len(used) or bool((source == target).any()):
        return False
    # two copies of each node, edges between the copies: twice as many components exactly for bipartite graphs
    whole = coo_array((np.ones(len(source)), (source, target)), shape=(n, n))
    double = coo_array((np.ones(len(source)), (source, target + n)), shape=(2 * n, 2 * n))
    other = coo_array((np.ones(len(source)), (source + n, target)), shape=(2 * n, 2 * n))
    parts, _ = connected_components(whole, directed=False)
    twice, _ = connected_components(double + other, directed=False)
    return bool(twice == 2 * parts)


def link_mask(graph: Graph) -> Tensor:
    """Which edges of ``adj`` represent a link: no self-loops, and of two directions the one from the smaller id."""
    source, target = graph.edge_index
    return source != target if is_directed(graph) else source < target


def links_of_graph(graph: Graph) -> Tensor:
    """[2, K] every link once."""
    ordered = graph.edge_index[0] * max(graph.num_nodes, 1) + graph.edge_index[1]
    if len(ordered.unique()) != len(ordered):
        hint = 'Build the graph with duplicates="sum"'
        raise ArgumentError("graph", "a graph without parallel edges", "a repeated edge", hint)
    return graph.edge_index[:, link_mask(graph)]


def codes_of(edge_index: Tensor, graph: Graph) -> Tensor:
    """One code per pair of nodes; both directions of an undirected pair have the same code."""
    source, target = edge_index
    if not is_directed(graph):
        source, target = torch.minimum(source, target), torch.maximum(source, target)
    return source * max(graph.num_nodes, 1) + target


def pairs_without_edge(graph: Graph, count: int, seed: int) -> Tensor:
    """[2, count] distinct pairs, uniform among those without an edge (in that direction, for directed graphs)."""
    n, rng = graph.num_nodes, np.random.default_rng(seed)
    directed, edges = is_directed(graph), codes_of(graph.edge_index, graph).unique().cpu().numpy()
    loops = int((graph.edge_index[0] == graph.edge_index[1]).sum())
    total = n * (n - 1) // (1 if directed else 2)
    free = total - (len(edges) - loops)
    if count > free:
        raise ArgumentError("graph", f"at least {count} pairs without an edge, for the negatives", free)
    found = np.empty(0, dtype=np.int64)
    if count > free // 2:  # a small dense graph: enumerate all pairs
        every = np.arange(n * n)
        source, target = np.divmod(every, max(n, 1))
        every = every[source != target if directed else source < target]
        found = rng.permutation(np.setdiff1d(every, edges))
    while len(found) < count:
        source, target = rng.integers(0, n, (2, 2 * count + 16))
        if not directed:
            source, target = np.minimum(source, target), np.maximum(source, target)
        drawn = np.concatenate([found, (source * n + target)[source != target]])
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]  # unique, in the order drawn
        found = drawn[~np.isin(drawn, edges)]
    return torch.from_numpy(np.stack(np.divmod(found[:count], max(n, 1)))).to(graph.device)


def typed_pairs_without_edge(graph: Graph, links: Tensor, node_type: Any, seed: int) -> Tensor:
    """[2, K] pairs without an edge, with the same number per pair of types as ``links`` [2, K]."""
    kind = torch.as_tensor(node_type).cpu()
    if kind.shape != (graph.num_nodes,) or kind.is_floating_point() or kind.dtype == torch.bool:
        raise ArgumentError(
            "node_type", f"{graph.num_nodes} integers (one per node)", f"{kind.dtype} {list(kind.shape)}"
        )
    n, rng, kinds = graph.num_nodes, np.random.default_rng(seed), kind.numpy()
    directed, edges = is_directed(graph), codes_of(graph.edge_index, graph).unique().cpu().numpy()
    ends = kinds[links.cpu().numpy()]
    ends = ends if directed else np.sort(ends, axis=0)
    found = []
    for (one, two), count in _counted(ends):
        left, right = np.flatnonzero(kinds == one), np.flatnonzero(kinds == two)
        codes = np.empty(0, dtype=np.int64)
        for _ in range(100):
            if len(codes) >= count:
                break
            source = rng.choice(left, 2 * count + 16)
            target = rng.choice(right, 2 * count + 16)
            if not directed:
                source, target = np.minimum(source, target), np.maximum(source, target)
            drawn = np.concatenate([codes, (source * n + target)[source != target]])
            drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]  # unique, in the order drawn
            codes = drawn[~np.isin(drawn, edges)]
        if len(codes) < count:
            got = f"{len(codes)} found between the types {one} and {two}"
            raise ArgumentError("graph", f"at least {count} pairs of these types without an edge", got)
        found.append(codes[:count])
    codes = rng.permutation(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
    return torch.from_numpy(np.stack(np.divmod(codes, max(n, 1)))).to(graph.device)


def _counted(ends: np.ndarray) -> list[tuple[tuple[int, int], int]]:
    """Each pair of types with its count."""
    pairs, counts = np.unique(ends, axis=1, return_counts=True)
    return [((int(a), int(b)), int(c)) for a, b, c in zip(pairs[0], pairs[1], counts, strict=True)]
