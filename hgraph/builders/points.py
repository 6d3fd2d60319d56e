"""Graphs and hypergraphs of points: nearest neighbors, radius neighborhoods, clusters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hgraph.checks import real, whole
from hgraph.data.derived import structure_builder
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["kmeans_hypergraph", "knn_graph", "knn_hypergraph", "radius_hypergraph"]

_SPARE = 16  # candidates beyond k, so that rounding in the fast search rarely affects the k nearest


@structure_builder
def knn_hypergraph(
    x: Any,
    k: int,
    *,
    metric: str = "euclidean",
    include_self: bool = True,
    batch: Any = None,
    chunk: int = 2048,
) -> Hypergraph:
    r"""One hyperedge per point: the point itself and its k nearest neighbors.

    .. math:: e_i = \{i\} \cup \operatorname{arg\,k\,min}_{j \ne i} \lVert x_i - x_j \rVert_2

    Exact: distances are sums of squares in float64, so duplicates have equal distances, and ties go to the points
    of smaller index. Large inputs are searched with matrix products first; the nearest candidates are then measured
    exactly, and points where rounding might matter are searched without products. The result does not depend on
    ``chunk``. Gradients do not flow to ``x``.

    Args:
        x: [N, F] points, floats or integers, without NaN or infinity.
        k: number of neighbors, 0 .. N-1.
        metric: ``"euclidean"``; or ``"cosine"``, which divides each point by its length first, so that only directions
            are compared; points of length 0 are not changed.
        include_self: whether point i is a member of hyperedge i.
        batch: [N] integers, the example of each point, or None; each point gets at most k neighbors, from its example.
        chunk: number of points per chunk: memory O(N k + N F + chunk^2 + chunk k F), time O(N^2 F).

    Returns:
        N nodes and N hyperedges of k + 1 members (k without ``include_self``, fewer in a small example of a batch).

    Raises:
        ArgumentError: not two dimensions, values that are not finite, k or chunk out of range, an unknown metric, or a
            batch whose length is not N.
        ArgumentTypeError: complex points.

    >>> knn_hypergraph([[0.0], [1.0], [5.0]], k=1).to_lists()
    [[0, 1], [0, 1], [1, 2]]
    """
    found = _neighbors(x, k, metric, batch, chunk)
    n = found.num_points
    node, hyperedge = found.neighbor, found.point
    if include_self:
        each = torch.arange(n)
        node, hyperedge = torch.cat([each, node]), torch.cat([each, hyperedge])
    return Hypergraph.from_coo(node=node, hyperedge=hyperedge, num_nodes=n, num_hyperedges=n).to(found.device)


@structure_builder
def knn_graph(
    x: Any, k: int, *, metric: str = "euclidean", batch: Any = None, directed: bool = True, chunk: int = 2048
) -> Graph:
    r"""Connect each point with its k nearest neighbors: point i receives messages from them.

    Use it for layers over graphs, on points of one example or of a batch; the neighbors are those of `knn_hypergraph`.

    .. math:: \mathcal N(i) = \operatorname{arg\,k\,min}_{j \ne i} \lVert x_i - x_j \rVert_2

    Args:
        x: [N, F] points, floats or integers, without NaN or infinity.
        k: number of neighbors, 0 .. N-1.
        metric: ``"euclidean"`` or ``"cosine"``, as in `knn_hypergraph`.
        batch: [N] integers, the example of each point, or None; each point gets at most k neighbors, from its example.
        directed: if False, each missing reverse edge is added.
        chunk: number of points per chunk, see `knn_hypergraph`.

    Returns:
        N nodes, without self-loops and weights.

    Raises:
        ArgumentError: as `knn_hypergraph`.

    >>> knn_graph([[0.0], [1.0], [5.0]], k=1).edge_index.tolist()
    [[1, 0, 1], [0, 1, 2]]
    >>> knn_graph([[0.0], [1.0], [5.0], [6.0]], k=1, batch=[0, 1, 0, 1]).edge_index.tolist()
    [[2, 3, 0, 1], [0, 1, 2, 3]]
    """
    found = _neighbors(x, k, metric, batch, chunk)
    pairs = torch.stack([found.neighbor, found.point])
    return Graph.from_edge_index(pairs, num_nodes=found.num_points, directed=directed).to(found.device)


def nearest_to(x: Tensor, others: Tensor, k: int, *, metric: str = "euclidean", chunk: int = 2048) -> Tensor:
    """For each point of ``x`` [N, F], its k nearest of ``others`` [M, F], as ids [N, min(k, M)]; ties as above.

    >>> nearest_to(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0], [5.0]]), 2).tolist()
    [[0, 1]]
    """
    x, others = _points(x)[0], _points(others)[0]
    if metric == "cosine":
        x, others = _unit(x), _unit(others)
    both, k = torch.cat([others, x]), min(k, len(others))
    found = [torch.empty(0, k, dtype=torch.long)]
    for rows in torch.arange(len(others), len(both)).split(chunk):
        distance = _distances(both, rows, torch.arange(len(others)).expand(len(rows), -1))
        chosen = _smallest(distance, k)
        found.append(torch.arange(len(others)).expand(len(rows), -1)[chosen].view(len(rows), k))
    return torch.cat(found)


class _Found(NamedTuple):
    """Pairs of a point and one of its nearest neighbors, by point, then by neighbor; the device of the points."""

    num_points: int
    point: Tensor
    neighbor: Tensor
    device: torch.device


def _neighbors(x: Any, k: int, metric: str, batch: Any, chunk: int) -> _Found:
    x, device = _points(x)
    n = len(x)
    whole("k", k, 0, max(n - 1, 0), f"there are {n} points")
    whole("chunk", chunk, 1)
    if metric not in ("euclidean", "cosine"):
        raise ArgumentError("metric", "'euclidean' or 'cosine'", repr(metric))
    if metric == "cosine":
        x = _unit(x)
    points, neighbors = [torch.empty(0, dtype=torch.long)], [torch.empty(0, dtype=torch.long)]
    for own in _examples(batch, n):
        part = x if len(own) == n else x[own]
        count = min(k, max(len(own) - 1, 0))
        search = _nearest if len(own) <= max(chunk, count + _SPARE + 1) else _nearest_by_products
        for rows in torch.arange(len(own)).split(chunk) if len(own) else ():
            points.append(own[rows].repeat_interleave(count))
            neighbors.append(own[search(part, rows, count, chunk).flatten()])
    return _Found(n, torch.cat(points), torch.cat(neighbors), device)


def _examples(batch: Any, n: int) -> list[Tensor]:
    """The points of each example, ascending."""
    if batch is None:
        return [torch.arange(n)]
    batch = torch.as_tensor(batch).cpu()
    if batch.shape != (n,) or batch.is_floating_point() or batch.is_complex() or batch.dtype == torch.bool:
        raise ArgumentError("batch", f"{n} integers, one per point", f"{batch.dtype} {list(batch.shape)}")
    order = torch.argsort(batch, stable=True)
    return list(order.split(torch.unique(batch, return_counts=True)[1].tolist()))


def _unit(x: Tensor) -> Tensor:
    """Rows of length one; rows of zeros stay. Divided by their largest value first, so that squares do not overflow."""
    largest = x.abs().amax(1, keepdim=True) if x.shape[1] else x.new_ones(len(x), 1)
    x = x / torch.where(largest > 0, largest, 1)
    length = x.square().sum(1, keepdim=True).sqrt()
    return x / torch.where(length > 0, length, 1)


@structure_builder
def radius_hypergraph(x: Any, radius: float, *, include_self: bool = True, chunk: int = 2048) -> Hypergraph:
    r"""One hyperedge per point: all points within ``radius``.

    .. math:: e_i = \{j : \lVert x_i - x_j \rVert_2 \le r\}

    Args:
        x: [N, F] points, floats or integers, without NaN or infinity.
        radius: 0 or more, in the units of x; a distance is the root of a sum of squares in float64.
        include_self: whether point i is a member of hyperedge i.
        chunk: number of points per chunk, compared with all others: memory O(chunk N), time O(N^2 F).

    Raises:
        ArgumentError: not two dimensions, values that are not finite, radius or chunk out of range.

    >>> radius_hypergraph([[0.0], [1.0], [5.0]], 1.0).to_lists()
    [[0, 1], [0, 1], [2]]
    """
    x, device = _points(x)
    real("radius", radius, "a finite number, 0 or more")
    whole("chunk", chunk, 1)
    members, sizes = [torch.empty(0, dtype=torch.long)], [torch.empty(0, dtype=torch.long)]
    norm = x.square().sum(1)
    for rows in torch.arange(len(x)).split(chunk) if len(x) else ():
        near = torch.addmm(norm, x[rows], x.T, alpha=-2).add_(norm[rows, None])
        row, column = (near <= radius**2 + _rounding(norm, rows, x.shape[1])).nonzero().unbind(1)
        exact = torch.cat([(x[rows[r]] - x[c]).square().sum(1) for r, c in _parts(row, column)])
        inside = exact.sqrt() <= radius
        if not include_self:
            inside &= rows[row] != column
        members.append(column[inside])
        sizes.append(torch.bincount(row[inside], minlength=len(rows)))
    return _one_a_point(torch.cat(members), torch.cat(sizes), device)


@structure_builder
def kmeans_hypergraph(x: Any, num_clusters: int, *, seed: int = 0) -> Hypergraph:
    """One hyperedge per k-means cluster: each point is in exactly one.

    Args:
        x: [N, F] points, floats or integers, without NaN or infinity.
        num_clusters: M, 1 .. N; fewer if there are fewer distinct points.
        seed: random seed for the initial centers.

    Source: Lloyd's algorithm with k-means++ centers, from scikit-learn.

    >>> kmeans_hypergraph([[0.0], [0.1], [5.0]], 2).hyperedge_degree().sort().values.tolist()
    [1, 2]
    """
    x, device = _points(x)
    n = len(x)
    whole("num_clusters", num_clusters, 1, n, f"there are {n} points")
    from sklearn.cluster import KMeans

    distinct = len(np.unique(x.numpy(), axis=0)) if num_clusters > 1 else 1
    label = KMeans(min(num_clusters, distinct), n_init=1, random_state=seed).fit_predict(x.numpy())
    _, label = np.unique(label, return_inverse=True)
    return Hypergraph.from_coo(node=np.arange(n), hyperedge=label, num_nodes=n, num_hyperedges=int(label.max()) + 1).to(
        device
    )


# ---------------------------------------------------------------------- searching


def _nearest_by_products(x: Tensor, rows: Tensor, k: int, chunk: int) -> Tensor:
    """The same as `_nearest`, with scikit-learn's blocked matrix products, exact distances and a proof."""
    from sklearn.neighbors import NearestNeighbors

    centered = (x - x.mean(0)).numpy()  # small norms, small rounding errors
    search = NearestNeighbors(n_neighbors=k + _SPARE + 1, algorithm="brute").fit(centered)
    far, candidates = search.kneighbors(centered[rows.numpy()])
    found = torch.from_numpy(candidates).sort(dim=1).values  # ascending ids, for tie-breaking
    exact = _distances(x, rows, found).masked_fill(rows[:, None] == found, torch.inf)
    chosen = _smallest(exact, k)
    members = found[chosen].view(len(rows), k)
    # All other points are farther than the farthest candidate, except for rounding in the products.
    norm = torch.from_numpy(centered).square().sum(1)
    beyond = torch.from_numpy(far[:, -1]).square() - 2 * _rounding(norm, rows, x.shape[1])[:, 0]
    farthest = exact.masked_fill(~chosen, 0).amax(1).square() if k else torch.zeros(len(rows))
    doubtful = (farthest >= beyond).nonzero().flatten()
    if len(doubtful) and k:
        members[doubtful] = _nearest(x, rows[doubtful], k, chunk)
    return members


def _nearest(x: Tensor, rows: Tensor, k: int, chunk: int) -> Tensor:
    """[R, k]: the k nearest neighbors of the points ``rows``, ids ascending; compares one block at a time."""
    best = x.new_empty(len(rows), 0)
    best_id = rows.new_empty(len(rows), 0)
    for columns in torch.arange(x.shape[0]).split(chunk):
        # No matrix product: |a|^2 + |b|^2 - 2ab rounds differently for equal points, so ties would be broken at random.
        distance = torch.cdist(x[rows], x[columns], compute_mode="donot_use_mm_for_euclid_dist")
        distance = distance.masked_fill(rows[:, None] == columns, torch.inf)
        best = torch.cat([best, distance], dim=1)
        best_id = torch.cat([best_id, columns.expand(len(rows), -1)], dim=1)
        if best.shape[1] > k:
            chosen = _smallest(best, k)
            best, best_id = best[chosen].view(len(rows), k), best_id[chosen].view(len(rows), k)
    return best_id


def _distances(x: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """[R, C]: distances from each of ``rows`` to its row of ``others`` [R, C], with the same sums as `_nearest`."""
    exact = "donot_use_mm_for_euclid_dist"
    parts = zip(rows.split(256), others.split(256), strict=True)
    return torch.cat([torch.cdist(x[r][:, None], x[o], compute_mode=exact)[:, 0] for r, o in parts])


def _smallest(values: Tensor, k: int) -> Tensor:
    """Boolean [R, C] with k True per row: the smallest values; ties go to the leftmost.

    `torch.topk` alone does not specify the order of ties.
    """
    if k == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    bound = values.topk(k, dim=1, largest=False).values[:, -1:]
    below, tied = values < bound, values == bound
    return below | (tied & (tied.cumsum(1) <= k - below.sum(1, keepdim=True)))


def _rounding(norm: Tensor, rows: Tensor, width: int) -> Tensor:
    """[R, 1]: bound on the rounding error of |a|^2 + |b|^2 - 2ab in float64."""
    largest = norm.amax().sqrt() + norm[rows, None].sqrt()
    return (2 * width + 16) * torch.finfo(torch.float64).eps * largest.square()


# ---------------------------------------------------------------------- arguments and results


def _points(x: Any) -> tuple[Tensor, torch.device]:
    """[N, F] in float64 on the CPU, and the original device."""
    try:
        x = torch.as_tensor(x).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError("x", "points [N, F]", f"{type(x).__name__} ({error})") from None
    if x.dim() != 2:
        raise ArgumentError("x", "shape [N, F]", f"shape {list(x.shape)}")
    if x.is_complex():
        raise ArgumentTypeError("x", "real points", x.dtype)
    if not bool(x.isfinite().all()):
        row = int((~x.isfinite()).any(1).nonzero()[0, 0])
        raise ArgumentError("x", "finite points", f"NaN or infinity in row {row}", "Fill or drop missing values first")
    return x.double().cpu().contiguous(), x.device


def _parts(row: Tensor, column: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Chunks of pairs, so that the difference of their points stays small."""
    return list(zip(row.split(1 << 16), column.split(1 << 16), strict=True))


def _one_a_point(members: Tensor, sizes: Tensor, device: torch.device) -> Hypergraph:
    """N hyperedges on N nodes from the concatenated members of each."""
    n = len(sizes)
    hyperedge = torch.arange(n).repeat_interleave(sizes)
    return Hypergraph.from_coo(node=members, hyperedge=hyperedge, num_nodes=n, num_hyperedges=n).to(device)
