"""Token graphs: set algebra, composition and receptive fields against `Adjacency`; parts, orders, files and plots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from hgraph import Adjacency, TokenGraph, load, patterns
from hgraph.draw.tokens import pixel_densities
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError
from hgraph.testing import adjacencies, degenerate_adjacencies


@st.composite
def graphs(draw, targets=None, sources=None, most=7, ordered=False):
    """Token graphs of random runs, which overlap, touch, repeat and are empty."""
    t = draw(st.integers(0, most)) if targets is None else targets
    s = draw(st.integers(0, most)) if sources is None else sources
    runs = (
        draw(st.lists(st.tuples(st.integers(0, t - 1), st.integers(0, s), st.integers(0, s)), max_size=12)) if t else []
    )
    order = draw(st.permutations(range(t))) if ordered and t == s else None
    row, start, stop = ([r[k] for r in runs] for k in range(3))
    return TokenGraph.from_runs(row=row, start=start, stop=stop, num_targets=t, num_sources=s, order=order)


@st.composite
def pair_of_graphs(draw):
    t, s, ordered = draw(st.integers(0, 7)), draw(st.integers(0, 7)), draw(st.booleans())
    return draw(graphs(t, s, ordered=ordered)), draw(graphs(t, s, ordered=draw(st.booleans())))


def runs_are_canonical(graph):
    line = graph.line()
    assert (line.last > line.first).all()
    assert (line.first[1:] > line.last[:-1]).all()
    assert torch.equal(graph.indptr.diff().cumsum(0), graph.indptr[1:])


# ---------------------------------------------------------------------- algebra


@given(pair_of_graphs())
def test_set_algebra_is_that_of_adjacency(pair):
    a, b = pair
    for symbol in ("__or__", "__and__", "__sub__"):
        ours = getattr(a, symbol)(b)
        runs_are_canonical(ours)
        assert ours.adjacency().equal(getattr(a.adjacency(), symbol)(b.adjacency()))


@given(st.data())
def test_composition_is_that_of_adjacency(data):
    t, m, s = (data.draw(st.integers(0, 7)) for _ in range(3))
    a, b = data.draw(graphs(t, m)), data.draw(graphs(m, s))
    both = a @ b
    runs_are_canonical(both)
    assert both.adjacency().equal(a.adjacency() @ b.adjacency())


@given(graphs(6, 6, ordered=True), st.integers(0, 4))
def test_receptive_fields_are_those_of_adjacency(graph, layers):
    field = graph.reach(layers)
    assert field.adjacency().equal(graph.adjacency().reach(layers))
    hops = graph.first_hop()
    for target in range(6):
        row = graph.first_hop(target)
        assert torch.equal(row, hops[target])
        within = ((row >= 0) & (row <= layers)).nonzero().flatten()
        assert torch.equal(within.int(), field.adjacency().select(torch.tensor([target])).indices.int())


@given(adjacencies(weighted=False))
def test_from_adjacency_keeps_the_edges(adj):
    once = adj | adj
    assert TokenGraph.from_adjacency(adj).adjacency().equal(once)


def test_heads_and_examples_are_broadcast():
    n = 12
    heads = TokenGraph.per_head([patterns.causal(n), patterns.sliding_window(n, 3), patterns.power(n)])
    examples = patterns.padded(n, [5, 12])
    both = heads & examples
    assert (heads.shape, both.shape) == ((1, 3, n, n), (2, 3, n, n))
    two = both @ both
    for e in range(2):
        for h in range(3):
            one = heads.of(head=h) & examples.of(example=e)
            assert both.of(example=e, head=h).equal(one)
            assert two.of(example=e, head=h).equal(one @ one)
            assert both.adjacency(example=e, head=h).equal(one.adjacency())
    assert TokenGraph.per_example([both.of(example=0, head=1), both.of(example=1, head=1)]).equal(
        TokenGraph.per_head([patterns.sliding_window(n, 3)]) & examples
    )
    assert TokenGraph.per_head([examples, examples]).equal(TokenGraph.per_example(
        [TokenGraph.per_head([examples.of(example=e)] * 2) for e in range(2)]
    ))  # fmt: skip


def test_large_windows_compose_exactly():
    window = patterns.sliding_window(5000, 100, causal=True)
    assert (window @ window).equal(patterns.sliding_window(5000, 199, causal=True))
    assert window.reach(3).equal(patterns.sliding_window(5000, 298, causal=True))


# ---------------------------------------------------------------------- parts


@given(graphs(6, 6, ordered=True), st.lists(st.integers(0, 5), max_size=8))
def test_select_is_that_of_adjacency(graph, rows):
    rows = torch.tensor(rows, dtype=torch.long)
    assert graph.select(rows).adjacency().equal(graph.adjacency().select(rows))


def test_orders_only_move_the_runs():
    graph = patterns.axial((4, 6), 0)
    assert graph.num_runs == 24
    assert graph.natural().num_runs == 96
    assert graph.natural().order is None
    assert graph.equal(graph.natural())
    assert (graph | graph).order is not None
    assert (graph | patterns.axial((4, 6), 1)).order is None
    assert not graph.equal(patterns.axial((4, 6), 1))


# ---------------------------------------------------------------------- files, errors


def test_damaged_files_are_refused(tmp_path):
    from dataclasses import replace

    good = patterns.sliding_window(6, 2)
    for bad in (
        replace(good, indptr=good.indptr.flip(0)),
        replace(good, stop=good.stop + 7),
        replace(good, start=good.stop.clone()),
        replace(good, extent=torch.empty(1, 1, 7, 6, 0)),
        replace(good, order=torch.zeros(6, dtype=torch.long)),
    ):
        bad.save(tmp_path / "bad.safetensors")
        with pytest.raises(DataError, match="damaged|divide|sorted"):
            load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: g | patterns.full(3), ArgumentError, r"expected graphs of the same shape \(4, 4\), got \(3, 3\)"),
        (lambda g: g | Adjacency.eye(4), ArgumentTypeError, "expected token graphs, got Adjacency"),
        (lambda g: g @ patterns.full(3), ArgumentError, "b with 4 targets"),
        (lambda g: g.reach(-1), ArgumentError, "layers"),
        (lambda g: patterns.full(2, 3).reach(1), ArgumentError, "square"),
        (lambda g: g.first_hop(4), ArgumentError, r"target: expected 0 \.\. 3, got 4"),
        (lambda g: patterns.causal(10_000).first_hop(), ArgumentError, "first_hop"),
        (lambda g: patterns.padded(3, [1, 2]).first_hop(), ArgumentError, r"graph.of\(example=e\)"),
        (lambda g: g.tiles(0), ArgumentError, "block_size: expected a whole number, 1 or more, got 0"),
        (lambda g: g.select([4]), ArgumentError, "rows"),
        (lambda g: patterns.padded(3, [1, 2]).of(example=2), ArgumentError, r"example: expected 0 \.\. 1, got 2"),
        (lambda g: patterns.padded(3, [1, 2]) | patterns.padded(3, [1, 2, 3]), ArgumentError,
         "equal numbers of examples"),
        (lambda g: TokenGraph.from_adjacency(g), ArgumentTypeError, "adj: expected an Adjacency, got TokenGraph"),
        (lambda g: TokenGraph.per_head([g, patterns.full(3)]), ArgumentError, "one graph per head of 4 x 4"),
        (lambda g: g.draw(kind="circle"), ArgumentError, "kind: expected 'matrix', 'graph' or 'layers', got 'circle'"),
        (lambda g: patterns.causal(500).draw(kind="graph"), ArgumentError, "at most 128 tokens"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(patterns.causal(4))


# ---------------------------------------------------------------------- plots


@pytest.mark.parametrize("kind", ["matrix", "graph", "layers"])
@pytest.mark.parametrize(
    "graph", [patterns.power(20), patterns.axial((4, 5), 0), patterns.none(3), patterns.sink_band(8, [2, 4])], ids=str
)
def test_every_kind_is_drawn(graph, kind):
    ax = Figure().subplots()
    assert graph.draw(ax, kind=kind, head=graph.num_heads - 1) is ax
    ax.figure.canvas.draw()


@pytest.mark.parametrize("adj", degenerate_adjacencies().values(), ids=degenerate_adjacencies())
@pytest.mark.parametrize("bins", [3, 256])
def test_any_structure_is_drawn_as_matrix(adj, bins):
    TokenGraph.from_adjacency(adj).draw(Figure().subplots(), bins=bins).figure.canvas.draw()


@given(graphs(most=9), st.integers(1, 9))
def test_pixels_are_densities(graph, bins):
    if not graph.num_targets * graph.num_sources:
        return
    densities, dense = pixel_densities(graph, bins), graph.adjacency().dense().numpy()
    rows = np.arange(graph.num_targets) * min(bins, graph.num_targets) // graph.num_targets
    columns = np.arange(graph.num_sources) * min(bins, graph.num_sources) // graph.num_sources
    for r in range(densities.shape[0]):
        for c in range(densities.shape[1]):
            np.testing.assert_allclose(densities[r, c], dense[rows == r][:, columns == c].mean())


def test_layers_show_the_receptive_field():
    ax = patterns.power(32).draw(Figure().subplots(), kind="layers", layers=3)
    assert ax.get_title() == "3 layers: token 31 receives from 26 of 32"
    assert int(patterns.power(32).reach(3).degree()[0, 0, 31]) == 26
