"""Hypergraphs over the pixels of an image: patches of a grid, superpixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hgraph.checks import real, whole
from hgraph.errors import ArgumentError
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["grid_graph", "patch_hypergraph", "superpixel_hypergraph"]


def grid_graph(height: int, width: int, *, diagonal: bool = False) -> Graph:
    """Grid of pixels joined to adjacent pixels; pixel (r, c) is node ``r * width + c``.

    Args:
        height: rows.
        width: columns.
        diagonal: 8 neighbors instead of 4.

    >>> grid_graph(2, 3).degree().tolist()
    [2, 3, 2, 2, 3, 2]
    """
    pixel = _pixels(height, width)
    pairs = [(pixel[:, :-1], pixel[:, 1:]), (pixel[:-1], pixel[1:])]
    if diagonal:
        pairs += [(pixel[:-1, :-1], pixel[1:, 1:]), (pixel[:-1, 1:], pixel[1:, :-1])]
    source, target = (np.concatenate([pair[side].reshape(-1) for pair in pairs]) for side in (0, 1))
    return Graph.from_edge_index(np.stack([source, target]), num_nodes=height * width, directed=False)


def patch_hypergraph(height: int, width: int, patch: int, *, stride: int | None = None) -> Hypergraph:
    """One hyperedge per square patch of pixels, row by row; patches at the right and bottom border may be smaller.

    Args:
        height: rows of the image; pixel (r, c) is node ``r * width + c``.
        width: columns.
        patch: side of a patch in pixels.
        stride: distance between patches; None is ``patch`` (no overlap), at most ``patch`` (no gaps).

    >>> patch_hypergraph(2, 3, 2).to_lists()
    [[0, 1, 3, 4], [2, 5]]
    """
    stride = patch if stride is None else stride
    whole("patch", patch, 1)
    whole("stride", stride, 1, patch, "a larger one would skip pixels")
    pixel = _pixels(height, width)
    patches = [
        pixel[top : top + patch, left : left + patch].reshape(-1).tolist()
        for top in _starts(height, patch, stride)
        for left in _starts(width, patch, stride)
    ]
    return Hypergraph.from_lists(patches, num_nodes=height * width)


def superpixel_hypergraph(
    image: Any, num_segments: int, *, compactness: float = 0.1, iterations: int = 10
) -> Hypergraph:
    r"""One hyperedge per superpixel: a connected patch of similar pixels; each pixel is in exactly one.

    .. math:: D^2 = \lVert c_i - c_k \rVert^2 + m^2 \, \lVert p_i - p_k \rVert^2 / S^2,
        \qquad S = \sqrt{H W / K}

    Local k-means from a regular grid of K centers: a pixel may only join the nine centers around its grid cell.
    Pieces disconnected from the main part of their segment are then merged into an adjacent segment.

    Args:
        image: [C, H, W] values, usually in 0 .. 1 (any number of channels C).
        num_segments: K, approximate number; the grid of centers is rounded to whole rows and columns.
        compactness: m; larger values give squarer segments. In the units of the image.
        iterations: iterations of k-means.

    Source: Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", 2012, eq. 3, in the
    the image's own color space.

    >>> halves = torch.zeros(1, 4, 8)
    >>> halves[:, :, 4:] = 1
    >>> superpixel_hypergraph(halves, 2).hyperedge_degree().tolist()
    [16, 16]
    """
    image = torch.as_tensor(image).detach().double().cpu()
    if image.dim() != 3 or image.numel() == 0:
        raise ArgumentError("image", "a nonempty image [C, H, W]", f"shape {list(image.shape)}")
    if not bool(image.isfinite().all()):
        raise ArgumentError("image", "finite values", "NaN or infinity")
    height, width = image.shape[1:]
    whole("num_segments", num_segments, 1, height * width, "the number of pixels")
    real("compactness", compactness, "a finite number, 0 or more")
    whole("iterations", iterations, 1)
    label = _joined_up(_local_kmeans(image.numpy(), num_segments, compactness, iterations))
    _, label = np.unique(label.reshape(-1), return_inverse=True)
    return Hypergraph.from_coo(
        node=np.arange(height * width),
        hyperedge=label,
        num_nodes=height * width,
        num_hyperedges=int(label.max()) + 1,
    )


def _local_kmeans(image: np.ndarray, num_segments: int, compactness: float, iterations: int) -> np.ndarray:
    """[H, W]: the segment of each pixel."""
    height, width = image.shape[1:]
    step = np.sqrt(height * width / num_segments)
    rows = int(np.clip(round(height / step), 1, height))
    columns = int(np.clip(round(num_segments / rows), 1, width))
    r, c = np.divmod(np.arange(height * width), width)
    place = np.stack([r + 0.5, c + 0.5], axis=1) * (compactness / step)
    points = np.concatenate([image.reshape(len(image), -1).T, place], axis=1)  # [H W, C + 2]: D is Euclidean
    cell_row, cell_column = r * rows // height, c * columns // width
    label = cell_row * columns + cell_column
    offsets = [(dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)]
    near = np.stack([cell_row[:, None], cell_column[:, None]], axis=-1) + np.array(offsets)  # [H W, 9, 2]
    outside = ((near < 0) | (near >= [rows, columns])).any(axis=-1)
    near_label = np.where(outside, 0, near[..., 0] * columns + near[..., 1])
    for _ in range(iterations):
        count = np.maximum(np.bincount(label, minlength=rows * columns), 1)
        sums = [np.bincount(label, weights=p, minlength=rows * columns) for p in points.T]
        center = np.stack(sums, axis=1) / count[:, None]
        distance = np.stack(
            [((points - center[near_label[:, j]]) ** 2).sum(axis=1) for j in range(len(offsets))], axis=1
        )
        empty = np.bincount(label, minlength=rows * columns)[near_label] == 0
        chosen = np.where(outside | empty, np.inf, distance).argmin(axis=1)
        label, before = np.take_along_axis(near_label, chosen[:, None], axis=1)[:, 0], label
        if np.array_equal(label, before):
            break
    return label.reshape(height, width)


def _joined_up(label: np.ndarray) -> np.ndarray:
    """Make segments connected: keep the largest piece of each and fill the others from its border."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    height, width = label.shape
    source, target = grid_graph(height, width).edge_index.numpy()
    flat = label.reshape(-1).copy()
    same = flat[source] == flat[target]
    links = coo_array((np.ones(same.sum()), (source[same], target[same])), shape=(flat.size, flat.size))
    piece = connected_components(links, directed=False)[1]
    size = np.bincount(piece)
    of_piece = np.zeros(len(size), dtype=np.int64)
    of_piece[piece] = flat
    order = np.lexsort((np.arange(len(size)), -size, of_piece))
    main = np.zeros(len(size), dtype=bool)
    main[order[np.unique(of_piece[order], return_index=True)[1]]] = True
    known = main[piece]
    while not known.all():
        border = known[source] & ~known[target]
        flat[target[border]] = flat[source[border]]  # several neighbors: the last one wins, deterministically
        known[target[border]] = True
    return flat.reshape(height, width)


def _pixels(height: int, width: int) -> np.ndarray:
    for name, value in (("height", height), ("width", width)):
        whole(name, value, 1)
    return np.arange(height * width).reshape(height, width)


def _starts(length: int, patch: int, stride: int) -> range:
    """Starts of patches: as many as needed to cover the length."""
    return range(0, max(length - patch, 0) + stride, stride)
