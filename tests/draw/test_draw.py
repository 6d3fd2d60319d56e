"""Pictures: what is drawn, what is refused, and that nothing needs a display."""

import sys
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib._pylab_helpers import Gcf
from matplotlib.collections import LineCollection, PatchCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from hgraph import Adjacency, Graph, Hypergraph
from hgraph.draw import layout as _layout
from hgraph.draw import marks as draw
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.testing import degenerate_adjacencies, random_adjacency, random_graph, random_hypergraph

DEGENERATE = degenerate_adjacencies()


@pytest.fixture
def ax():
    return Figure().subplots()


def vertices(ax):
    """Centers of the dots."""
    dots = [c for c in ax.collections if isinstance(c, PatchCollection)]
    return np.concatenate([[path.vertices.mean(0) for path in c.get_paths()] for c in dots if c.get_paths()])


def hulls(ax):
    return [p for p in ax.patches if isinstance(p, Polygon) and p.get_fill()]


# ---------------------------------------------------------------------- matrices


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("bins", [3, 256])
def test_every_matrix_is_drawn(name, bins, ax):
    assert DEGENERATE[name].draw(ax, bins=bins) is ax
    ax.figure.canvas.draw()


def test_matrix_cells_are_the_entries(ax):
    adj = random_adjacency(6, 4, 15, weighted=True)
    adj.draw(ax)
    image = ax.images[0].get_array()
    np.testing.assert_allclose(image.filled(0), adj.dense().numpy())
    assert ax.get_xlabel() == "source"
    assert ax.images[0].get_extent() == [-0.5, 3.5, 5.5, -0.5]  # row 0 on top
    assert ax.images[0].norm.vmin == -ax.images[0].norm.vmax


def test_large_matrices_show_shares(ax):
    adj = random_adjacency(1000, 50, 4000)
    adj.draw(ax, bins=10)
    image = ax.images[0].get_array().filled(0)
    expected = adj.dense().numpy().reshape(10, 100, 10, 5).sum((1, 3)) / 500
    np.testing.assert_allclose(image, expected, rtol=1e-6)
    assert "a pixel is about 100 x 5 entries" in ax.get_title()


def test_shares_are_written_as_percentages():
    axes = random_adjacency(100, 50, 400).draw(bins=10)
    axes.figure.canvas.draw()
    (bar,) = (other for other in axes.figure.axes if other is not axes)
    texts = [t.get_text() for t in bar.yaxis.get_ticklabels()]
    assert any(texts)
    assert all(t.endswith(" %") for t in texts if t)


def test_no_ticks_where_there_are_no_rows(ax):
    Adjacency.from_coo(target=[], source=[], num_targets=0, num_sources=3).draw(ax)
    assert len(ax.get_yticks()) == 0
    assert len(ax.get_xticks()) > 0


@pytest.mark.parametrize("structure", [Adjacency.eye(3), random_graph(4, 4), random_hypergraph(4, 2, 5)])
def test_a_file_name_instead_of_axes_is_answered(structure):
    with pytest.raises(ArgumentTypeError, match=r"ax: expected matplotlib axes or None, got 'x.png'.*savefig"):
        structure.draw("x.png")


def test_bins_are_checked(ax):
    with pytest.raises(ArgumentError, match="bins: expected a number of pixels >= 1, got 0"):
        Adjacency.eye(3).draw(ax, bins=0)


# ---------------------------------------------------------------------- graphs


@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("joined", [False, True])
def test_small_graphs(n, joined, ax):
    index = [list(range(n - 1)), list(range(1, n))] if joined and n else [[], []]
    Graph.from_edge_index(index, num_nodes=n, directed=True).draw(ax, names=range(n), labels=torch.arange(n))
    ax.figure.canvas.draw()
    assert len(ax.texts) == max(n, 1)  # without vertices it says so


def test_undirected_edges_are_drawn_once_with_their_weight(ax):
    g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False, weight=[1.0, 4.0])
    g.draw(ax)
    lines = next(c for c in ax.collections if isinstance(c, LineCollection))
    assert len(lines.get_segments()) == 2
    assert lines.get_linewidths()[1] > lines.get_linewidths()[0] > 0
    assert not any(isinstance(c, PolyCollection) for c in ax.collections)
    assert len(vertices(ax)) == 3


def test_directed_edges_have_heads_and_loops_rings(ax):
    Graph.from_edge_index([[0, 1, 2], [1, 2, 2]], num_nodes=3, directed=True).draw(ax)
    heads = next(c for c in ax.collections if isinstance(c, PolyCollection))
    assert len(heads.get_paths()) == 2
    assert len(ax.patches) == 1


def test_layout_hangs_on_the_seed():
    g = random_graph(30, 60)
    found = [vertices(g.draw(Figure().subplots(), seed=s)) for s in (0, 0)]
    np.testing.assert_array_equal(*found)


def test_dots_do_not_hide_each_other(ax):
    karate = nx.karate_club_graph()
    index = torch.tensor(list(karate.edges)).T
    Graph.from_edge_index(index, num_nodes=34, directed=False).draw(ax, names=range(34))
    at = vertices(ax)
    distance = np.linalg.norm(at[:, None] - at, axis=-1) + np.eye(34) * 9
    radius = (
        float(np.ptp(next(c for c in ax.collections if isinstance(c, PatchCollection)).get_paths()[0].vertices[:, 0]))
        / 2
    )
    assert distance.min() > 1.5 * radius


# ---------------------------------------------------------------------- hypergraphs


def inside(point, outline):
    """Whether a convex outline holds a point."""
    edge, to = np.roll(outline, -1, 0) - outline, point - outline
    side = edge[:, 0] * to[:, 1] - edge[:, 1] * to[:, 0]
    return bool((side > 0).all() or (side < 0).all())


def test_hulls_hold_their_members(ax):
    lists = [[0, 1, 2, 3], [3, 4], [5], [4, 6, 7], []]
    Hypergraph.from_lists(lists, num_nodes=9).draw(ax)
    at, found = vertices(ax), hulls(ax)
    assert len(found) == 4
    assert len({h.get_facecolor()[:3] for h in found}) == 4  # those that meet differ
    for members in lists[:4]:
        assert any(all(inside(at[v], h.get_xy()[:-1]) for v in members) for h in found)
    assert "1 hyperedge without members" in ax.get_title()
    ax.figure.canvas.draw()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_hull_is_the_rounded_convex_hull(count):
    points = np.random.default_rng(0).normal(size=(count, 2))
    outline = _layout.rounded_hull(points, 0.5)
    distance = np.linalg.norm(outline[:, None] - points, axis=-1).min(1)
    np.testing.assert_allclose(distance, 0.5, rtol=1e-9)
    assert all(inside(p, outline) for p in points)
    line = _layout.rounded_hull(np.array([[0.0, 0], [1, 0], [2, 0]]), 0.5)
    np.testing.assert_allclose([line.min(0), line.max(0)], [[-0.5, -0.5], [2.5, 0.5]], atol=2e-3)


def test_weights_are_line_widths(ax):
    Hypergraph.from_lists([[0, 1], [2, 3]], num_nodes=4, hyperedge_weight=[1.0, 3.0]).draw(ax)
    widths = sorted(p.get_linewidth() for p in ax.patches if not p.get_fill())
    assert widths[1] > 1.5 * widths[0] > 0


@pytest.mark.parametrize(
    ("lists", "n"), [([], 0), ([[]], 0), ([[]], 1), ([[0]], 1), ([[], []], 3), ([[0, 1], [0, 1]], 2), ([[0]] * 9, 1)]
)
def test_degenerate_hypergraphs(lists, n, ax):
    hg = Hypergraph.from_lists(lists, num_nodes=n)
    hg.draw(ax, labels=["a"] * n, names=["Ada"] * n)
    ax.figure.canvas.draw()
    assert len(hulls(ax)) == sum(bool(e) for e in lists)


def test_legend_names_the_classes(ax):
    hg = random_hypergraph(20, 8, 30)
    hg.draw(ax, labels=[*range(18), -1, -1])
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert texts == ["missing", *(f"class {k}" for k in range(18))]
    looks = {
        (tuple(map(tuple, c.get_facecolor())), tuple(map(tuple, c.get_edgecolor())))
        for c in ax.collections
        if isinstance(c, PatchCollection)
    }
    assert len(looks) == 19
    assert Hypergraph.from_lists([[0]], num_nodes=1).draw(Figure().subplots()).get_legend() is None


def test_large_ones_are_thinned_and_say_so(ax):
    Hypergraph.from_lists([[i, i + 9] for i in range(30)], num_nodes=40).draw(ax, max_hyperedges=5)
    assert len(hulls(ax)) == 5
    assert "the first 5 of 30 hyperedges" in ax.get_title()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [0, 1]}, r"labels: expected 4 entries \(one per node\), got shape \[2\]"),
        ({"names": "abc"}, r"names: expected 4 strings \(one per node\), got 3"),
        ({"max_hyperedges": -1}, r"max_hyperedges: expected a number >= 0, got -1"),
    ],
)
def test_wrong_options_are_named(options, message, ax):
    with pytest.raises(ArgumentError, match=message):
        random_hypergraph(4, 3, 6).draw(ax, **options)


def test_huge_ones_are_refused(ax):
    many = draw.MAX_NODES + 1
    with pytest.raises(ArgumentError, match=r"at most 1,500 nodes to draw, got 1,501.*subhypergraph"):
        Hypergraph.from_lists([], num_nodes=many).draw(ax, form="hulls")
    with pytest.raises(ArgumentError, match=r"at most 1,500.*subgraph"):
        Graph.from_edge_index([[], []], num_nodes=many, directed=True).draw(ax)


# ---------------------------------------------------------------------- where it is drawn


def test_a_given_axes_is_used_and_equal(ax):
    g = random_graph(5, 6)
    assert g.draw(ax) is ax
    assert ax.get_aspect() == 1
    assert not ax.axison


def test_without_pyplot_a_plain_figure_is_made(monkeypatch):
    for name in ("matplotlib.pyplot", "IPython"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("matplotlib.pyplot", raising=False)  # else it would not be imported again below
    before = set(Gcf.figs)  # other tests of this process may have left some
    hg = Hypergraph.from_lists([[0, 1]], num_nodes=2)
    plain = hg.draw()
    plain.figure.canvas.draw()
    assert "matplotlib.pyplot" not in sys.modules  # drawing does not bring it in either
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    assert set(pyplot.get_fignums()) == before
    shown = hg.draw()
    (number,) = set(pyplot.get_fignums()) - before
    assert pyplot.figure(number) is shown.figure
    pyplot.close(shown.figure)


def test_in_a_notebook_the_figure_shows_by_itself(monkeypatch):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: object()))
    shown = Adjacency.eye(3).draw()
    assert pyplot.figure(pyplot.get_fignums()[-1]) is shown.figure
    pyplot.close(shown.figure)


def test_names_keep_out_of_each_others_way():
    """Two dots beside each other, one below, and a name that can only stand above."""
    at = np.array([[0.0, 0.0], [0.5, 0.0], [0.2, -0.5], [9.0, 9.0]])
    size, extents = np.full(4, 0.1), np.array([[1.0, 0.2]] * 4)
    anchors, ways = _layout.place_names(at, size, extents)
    assert ways[3].tolist() == [0, 1]
    low = anchors + (ways - 1) / 2 * extents
    for i in range(4):
        for j in range(i):
            shared = np.minimum(low[i] + extents[i], low[j] + extents[j]) - np.maximum(low[i], low[j])
            assert (shared <= 1e-9).any(), (i, j)


def test_names_stand_beside_lines():
    """A dot that lines meet from the left, from below and from the upper right."""
    at, size, extents = np.zeros((1, 2)), np.full(1, 0.1), np.array([[1.0, 0.2]])
    along = np.linspace(0.1, 2, 40)[:, None]
    lines = np.concatenate([along * way for way in ([-1, 0], [0, -1], [0.7, 0.3])])
    anchors, ways = _layout.place_names(at, size, extents, lines)
    low = (anchors + (ways - 1) / 2 * extents)[0]
    assert not ((lines > low) & (lines < low + extents[0])).all(1).any()
    assert _layout.place_names(at, size, extents)[1].tolist() == [[0, 1]]


# ---------------------------------------------------------------------- the form of hypergraphs


def squares(ax):
    dots = [c for c in ax.collections if isinstance(c, PatchCollection)]
    return [path for c in dots for path in c.get_paths() if len(path.vertices) == 5]


def overlapping():
    """Ten hyperedges of most of twelve nodes."""
    return Hypergraph.from_lists([[v for v in range(12) if v % 10 != e] for e in range(10)], num_nodes=12)


def test_hulls_where_they_can_be_read_and_squares_where_not(ax):
    chain = Hypergraph.from_lists([[0, 1, 2], [2, 3, 4], [4, 5, 6]], num_nodes=7)
    assert len(hulls(chain.draw(ax))) == 3
    hg = overlapping()
    ax = hg.draw(Figure().subplots(), labels=["x"] * 12, hyperedge_names=[f"E{e}" for e in range(10)])
    assert not hulls(ax)
    assert len(squares(ax)) == 10
    lines = next(c for c in ax.collections if isinstance(c, LineCollection))
    assert len(lines.get_segments()) == hg.num_incidences
    assert {t.get_text() for t in ax.texts} >= {f"E{e}" for e in range(10)}
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["x", "hyperedge"]
    assert len(hulls(hg.draw(Figure().subplots(), form="hulls"))) == 10
    assert len(squares(chain.draw(Figure().subplots(), form="bipartite"))) == 3


def test_hypergraphs_of_hundreds_of_nodes_are_matrices(ax):
    order = np.random.default_rng(0).permutation(200)
    lists = [
        [int(order[v]) for v in range(5 * e, 5 * e + 10)] for e in np.random.default_rng(1).permutation(39).tolist()
    ]
    hg = Hypergraph.from_lists(lists, num_nodes=200)
    hg.draw(ax)
    image = ax.images[0].get_array()
    assert image.shape == (39, 200)
    row, column = np.nonzero(image.filled(0))
    assert len(row) == hg.num_incidences
    flipped = np.corrcoef(row, column)[0, 1]
    assert abs(flipped) > 0.98  # a chain of hyperedges is a diagonal again
    assert "200 nodes, 39 hyperedges" in ax.get_title()
    small = overlapping().draw(Figure().subplots(), form="matrix", labels=["x"] * 12)
    assert small.images
    assert "a matrix shows no labels or names" in small.get_title()
    with pytest.raises(ArgumentError, match="labels: expected 200 entries"):
        hg.draw(Figure().subplots(), labels=["x"])


@pytest.mark.parametrize("form", ["auto", "hulls", "bipartite", "matrix"])
@pytest.mark.parametrize("lists", [[], [[]], [[0]], [[0, 1, 2]], [[], [0, 1]]])
def test_every_form_of_degenerate_hypergraphs(form, lists, ax):
    for n in (3, 0 if not any(lists) else 3):
        Hypergraph.from_lists(lists, num_nodes=n).draw(ax, form=form).figure.canvas.draw()


def test_wrong_forms_and_names_of_hyperedges():
    hg = Hypergraph.from_lists([[0, 1]], num_nodes=2)
    with pytest.raises(ArgumentError, match="form: expected 'auto', 'hulls', 'bipartite' or 'matrix'"):
        hg.draw(form="hull")
    with pytest.raises(ArgumentError, match="hyperedge_names: expected 1 strings"):
        hg.draw(hyperedge_names=["a", "b"])
