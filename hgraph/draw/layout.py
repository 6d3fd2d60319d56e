"""Layouts: a spring layout of each connected component, packed side by side; hulls and their colors."""

from __future__ import annotations

import numpy as np

__all__ = ["hull_colors", "pack", "place_names", "rounded_hull", "seriate", "spring"]


def spring(size: int, pairs: np.ndarray, seed: int) -> np.ndarray:
    """Positions [size, 2] for nodes joined by ``pairs`` [E, 2]; neighbors are about one unit apart.

    networkx lays out each component; large ones would take minutes there, so they use the same
    forces as matrix products (`_forces`).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if size == 0:
        return np.zeros((0, 2))
    matrix = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(size, size)).tocsr()
    count, part = connected_components(matrix, directed=False)
    order = np.argsort(part, kind="stable")
    groups = np.split(order, np.searchsorted(part[order], np.arange(1, count)))
    at = np.zeros((size, 2))
    for group in groups:
        at[group] = _component(matrix[group][:, group], seed)
    return pack(at, groups)


def _component(matrix: object, seed: int) -> np.ndarray:
    """One component, with edges about one unit long and the longer side horizontal."""
    import networkx as nx

    graph = nx.from_scipy_sparse_array(matrix)
    size = len(graph)
    if size == 1:
        return np.zeros((1, 2))
    if size <= 120:  # start from graph distances, so that nothing starts folded
        start = nx.kamada_kawai_layout(graph, weight=None)
        found = nx.spring_layout(graph, pos=start, seed=seed, iterations=15, weight=None)
        at = np.stack([found[v] for v in graph])
    else:
        at = _forces(nx.to_numpy_array(graph, weight=None, dtype=np.float32), seed)
    at = at - at.mean(0)
    at = at @ np.linalg.svd(at, full_matrices=False)[2].T
    ends = np.array(graph.edges)
    ends = ends[ends[:, 0] != ends[:, 1]]
    at = at / max(np.median(np.linalg.norm(at[ends[:, 0]] - at[ends[:, 1]], axis=1)), 1e-9)
    return _separate(at, 0.45) if size <= 400 else at


def _forces(joined: np.ndarray, seed: int) -> np.ndarray:
    """Fruchterman-Reingold layout of a 0/1 matrix, as networkx computes it for small graphs."""
    size = len(joined)
    at = np.random.default_rng(seed).uniform(-1, 1, (size, 2)).astype(np.float32)
    ideal = size**-0.5
    for step in np.linspace(0.2, 0.002, 80 if size < 800 else 50, dtype=np.float32):
        square = (at**2).sum(1)
        distance2 = np.maximum(square[:, None] + square - 2 * (at @ at.T), 1e-4)
        pull = ideal * ideal / distance2
        pull -= joined * np.sqrt(distance2) / ideal
        move = at * pull.sum(1, keepdims=True) - pull @ at
        at += move * (step / np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 0.01))
    return at.astype(float)


def _separate(at: np.ndarray, least: float, rounds: int = 30) -> np.ndarray:
    """Push nodes apart that are closer than ``least``, so that no dot hides another."""
    from scipy.spatial import cKDTree

    at = at + 1e-3 * least * np.stack([np.cos(np.arange(len(at))), np.sin(np.arange(len(at)))], 1)
    for _ in range(rounds):
        pairs = cKDTree(at).query_pairs(least, output_type="ndarray")
        if not len(pairs):
            break
        apart = at[pairs[:, 0]] - at[pairs[:, 1]]
        distance = np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-9)
        push = 0.3 * (least - distance) * apart / distance
        np.add.at(at, pairs[:, 0], push)
        np.add.at(at, pairs[:, 1], -push)
    return at


def pack(at: np.ndarray, groups: list[np.ndarray], gap: float = 0.9) -> np.ndarray:
    """Place groups of positions side by side, largest first, in rows of a roughly square area."""
    boxes = {i: (at[g].min(0), at[g].max(0) - at[g].min(0) + gap) for i, g in enumerate(groups)}
    order = sorted(boxes, key=lambda i: (-len(groups[i]), -boxes[i][1][1]))
    area = sum(float(np.prod(extent)) for _, extent in boxes.values())
    wide = max([float(extent[0]) for _, extent in boxes.values()] + [1.25 * area**0.5])
    out, left, top, height = at.copy(), 0.0, 0.0, 0.0
    for i in order:
        low, extent = boxes[i]
        if left > 0 and left + extent[0] > wide * 1.0001:
            left, top, height = 0.0, top - height, 0.0
        out[groups[i]] += np.array([left, top - extent[1]]) - low
        left, height = left + extent[0], max(height, extent[1])
    return out


def place_names(
    at: np.ndarray, size: np.ndarray, extents: np.ndarray, lines: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of names: above their dot, or wherever around it they cover less of other elements.

    Args:
        at: [N, 2] the dots, in plot units.
        size: [N] their radii.
        extents: [N, 2] widths and heights of the names.
        lines: [K, 2] points of lines that names should not cover, or None.

    Returns:
        [N, 2] anchors, and [N, 2] the directions in which the names extend from them: -1, 0 (both ways) or 1.
    """
    ways = np.array([[0, 1], [0, -1], [1, 0], [-1, 0], [1, 1], [1, -1], [-1, 1], [-1, -1]])
    low, high = at - size[:, None], at + size[:, None]  # occupied boxes: dots, then the names placed so far
    if lines is not None and len(lines) and len(size):
        low = np.vstack([low, lines - size.mean() / 2])
        high = np.vstack([high, lines + size.mean() / 2])
    anchors, directions = np.empty_like(at), np.empty((len(at), 2), dtype=int)
    for i in np.argsort(-at[:, 1], kind="stable"):  # from the top, as most names are above their dot
        anchor = at[i] + 1.3 * size[i] * ways
        start = anchor + (ways - 1) / 2 * extents[i]
        shared = np.minimum(start[:, None] + extents[i], high) - np.maximum(start[:, None], low)
        best = int(np.prod(np.maximum(shared, 0), axis=2).sum(1).argmin())
        anchors[i], directions[i] = anchor[best], ways[best]
        low, high = np.vstack([low, start[best]]), np.vstack([high, start[best] + extents[i]])
    return anchors, directions


def rounded_hull(points: np.ndarray, radius: float) -> np.ndarray:
    """The outline of all discs of that radius around the points: circle, capsule or rounded convex polygon."""
    from scipy.spatial import ConvexHull

    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    rim = (points[:, None] + radius * np.stack([np.cos(angle), np.sin(angle)], 1)).reshape(-1, 2)
    return rim[ConvexHull(rim).vertices]


def hull_colors(members: list[np.ndarray], count: int) -> list[int]:
    """Greedy coloring: each hyperedge takes the color least used by overlapping hyperedges, then the rarest."""
    chosen: list[int] = []
    sets = [set(m.tolist()) for m in members]
    for mine in sets:
        met = [0] * count
        for color, other in zip(chosen, sets, strict=False):
            met[color] += 1 + 1000 * len(mine & other)
        chosen.append(met.index(min(met)))
    return chosen


def seriate(row: np.ndarray, column: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of rows and columns of a 0/1 matrix, so that entries gather near a diagonal.

    Rows and columns are sorted by the mean place of their entries, in turn; those without entries come last.
    """
    at = np.arange(columns, dtype=float)
    for _ in range(30):
        of_rows = _ranks(_means(row, at[column], rows))
        at = _ranks(_means(column, of_rows[row], columns))
    return of_rows.astype(int), at.astype(int)


def _means(owner: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    count = np.bincount(owner, minlength=size)
    return np.where(count > 0, np.bincount(owner, values, minlength=size) / np.maximum(count, 1), np.inf)


def _ranks(values: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks
