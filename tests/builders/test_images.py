"""Grids, patches and superpixels."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from hgraph.builders import grid_graph, patch_hypergraph, superpixel_hypergraph
from hgraph.errors import ArgumentError


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (3, 1), (3, 4)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_grid_connects_pixels_at_distance_one(height, width, diagonal):
    adjacent = grid_graph(height, width, diagonal=diagonal).adj.dense()
    for a in range(height * width):
        for b in range(height * width):
            down, right = abs(a // width - b // width), abs(a % width - b % width)
            near = max(down, right) == 1 if diagonal else down + right == 1
            assert bool(adjacent[a, b]) == near


@pytest.mark.parametrize(
    ("height", "width", "patch", "stride"), [(4, 6, 2, 2), (5, 7, 3, 2), (2, 2, 5, 5), (4, 4, 3, 1)]
)
def test_patches_cover_every_pixel(height, width, patch, stride):
    hg = patch_hypergraph(height, width, patch, stride=stride)
    assert (hg.node_degree() >= 1).all()
    assert len({tuple(e) for e in hg.to_lists()}) == hg.num_hyperedges  # no hyperedge is listed twice
    for members in hg.to_lists():
        rows, columns = {v // width for v in members}, {v % width for v in members}
        assert len(members) == len(rows) * len(columns)  # a rectangle
        assert min(rows) % stride == 0
        assert max(rows) - min(rows) < patch
    if stride == patch:
        assert (hg.node_degree() == 1).all()


def connected(members: list[int], height: int, width: int) -> bool:
    return nx.is_connected(nx.grid_2d_graph(height, width).subgraph([divmod(v, width) for v in members]))


@pytest.mark.parametrize("compactness", [0.0, 0.1, 10.0])
@pytest.mark.parametrize(("height", "width", "segments"), [(1, 1, 1), (7, 5, 6), (16, 16, 9), (4, 20, 80)])
def test_superpixels_are_a_partition_into_connected_segments(height, width, segments, compactness):
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    hg = superpixel_hypergraph(image, segments, compactness=compactness)
    assert (hg.node_degree() == 1).all()
    assert (hg.hyperedge_degree() >= 1).all()
    assert all(connected(e, height, width) for e in hg.to_lists())
    assert 0.3 * segments <= hg.num_hyperedges <= 1.5 * segments
    assert hg.equal(superpixel_hypergraph(image, segments, compactness=compactness))


def test_superpixels_follow_the_edges_of_the_image():
    """Four stripes that do not match a regular grid of four columns: no segment crosses a border."""
    image = torch.zeros(1, 20, 20)
    for stripe, left in enumerate((0, 3, 9, 14)):
        image[:, :, left:] = float(stripe)
    for members in superpixel_hypergraph(image, 16).to_lists():
        assert len(set(image.flatten()[members].tolist())) == 1


def test_high_compactness_gives_the_grid():
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    squares = patch_hypergraph(8, 8, 4)
    assert superpixel_hypergraph(image, 4, compactness=1e6).equal(squares)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grid_graph(0, 3), "height: expected a whole number, 1 or more"),
        (lambda: patch_hypergraph(3, 3, 0), "patch"),
        (lambda: patch_hypergraph(3, 3, 2, stride=3), "stride: expected 1 .. 2"),
        (lambda: superpixel_hypergraph(torch.ones(3, 3), 2), r"image: expected a nonempty image"),
        (lambda: superpixel_hypergraph(torch.ones(1, 0, 3), 2), "a nonempty image"),
        (lambda: superpixel_hypergraph(torch.full((1, 2, 2), float("nan")), 2), "finite"),
        (lambda: superpixel_hypergraph(torch.ones(1, 2, 2), 5), "num_segments: expected 1 .. 4"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
