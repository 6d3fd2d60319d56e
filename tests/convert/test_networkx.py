"""networkx: round trips of all four classes and of bipartite graphs, directions, and errors."""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import Graph, Hypergraph
from hgraph.convert import (
    ABSENT,
    Converted,
    from_networkx,
    from_networkx_bipartite,
    to_networkx,
    to_networkx_bipartite,
)
from hgraph.errors import ArgumentError, ArgumentTypeError

CHECK = settings(max_examples=40, deadline=None, derandomize=True)
KINDS = (None, "integers", "strings", "both")
CLASSES = {
    nx.DiGraph: {"parallel": False},
    nx.MultiDiGraph: {"parallel": True},
    nx.Graph: {"parallel": False, "undirected": True},
    nx.MultiGraph: {"parallel": True, "undirected": True},
}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
@CHECK
@given(data=st.data())
def test_round_trip(cls, graphs, content_of, data):
    c = data.draw(graphs(**CLASSES[cls], ids=KINDS, attrs=True))
    g = to_networkx(c, cls, weight="w", x="feature", y="label")
    assert type(g) is cls
    assert g.number_of_nodes() == c.structure.num_nodes
    has = {name: name if value is not None else None for name, value in {"feature": c.x, "label": c.y}.items()}
    again = from_networkx(
        g, weight="w" if c.structure.adj.weight is not None else None, x=has["feature"], y=has["label"]
    )
    keys = again.edge_attrs.get("key")
    assert (keys is not None) == (g.is_multigraph() and g.number_of_edges() > 0)
    rest = {name: column for name, column in again.edge_attrs.items() if name != "key"}
    assert content_of(again._replace(edge_attrs=rest)) == content_of(c)
    # a second round trip, now with keys
    assert nx.utils.graphs_equal(to_networkx(again, cls, weight="w", x="feature", y="label"), g)


@CHECK
@given(data=st.data())
def test_bipartite_round_trip(hypergraphs, content_of, data):
    c = data.draw(hypergraphs(attrs=True))
    c = c._replace(hyperedge_ids=[f"e{j}" for j in range(c.structure.num_hyperedges)])
    g = to_networkx_bipartite(c, weight="w")
    hg = c.structure
    again = from_networkx_bipartite(
        g,
        weight=None if hg.v2e.weight is None else "w",
        hyperedge_weight=None if hg.hyperedge_weight is None else "weight",
        node_weight=None if hg.node_weight is None else "weight",
        x=None if c.x is None else "x",
        y=None if c.y is None else "y",
    )
    assert content_of(again) == content_of(c)


def test_an_edge_points_from_source_to_target():
    """For an edge u -> v, v receives messages from u: row v of the adjacency contains u."""
    c = from_networkx(nx.DiGraph([("u", "v")]))
    assert c.structure.edge_index.tolist() == [[0], [1]]
    assert c.structure.adj.dense().tolist() == [[0, 0], [1, 0]]
    assert list(to_networkx(c).edges) == [("u", "v")]


def test_an_undirected_edge_is_stored_twice_and_a_loop_once():
    c = from_networkx(nx.Graph([(0, 1), (1, 1)]))
    assert c.structure.edge_index.tolist() == [[1, 0, 1], [0, 1, 1]]
    assert not c.structure.directed


def test_columns_follow_the_edges():
    g = nx.MultiDiGraph()
    g.add_edge("b", "a", key="k", w=2, kind="x")
    g.add_edge("a", "b", w=3)
    g.add_edge("b", "a", w=4)
    g.graph["name"] = "three"
    c = from_networkx(g, weight="w")
    assert c.node_ids == ["b", "a"]
    assert c.structure.edge_index.tolist() == [[1, 0, 0], [0, 1, 1]]
    assert c.structure.adj.weight.tolist() == [3, 2, 4]
    assert c.edge_attrs["kind"] == [ABSENT, "x", ABSENT]
    assert c.edge_attrs["key"] == [0, "k", 1]
    assert c.meta == {"name": "three"}


def test_without_a_name_the_weight_stays_an_attribute():
    c = from_networkx(nx.Graph([(0, 1, {"weight": 2})]))
    assert c.structure.adj.weight is None
    assert c.edge_attrs == {"weight": [2, 2]}


def test_features_of_several_attributes():
    g = nx.empty_graph(2)
    nx.set_node_attributes(g, {0: 1, 1: np.float32(2)}, "a")
    nx.set_node_attributes(g, {0: np.array([3.0, 4.0]), 1: torch.tensor([5.0, 6.0])}, "b")
    nx.set_node_attributes(g, {0: 7, 1: 0.5}, "z")
    c = from_networkx(g, x=["b", "a"], y="z")
    assert c.x.tolist() == [[3, 4, 1], [5, 6, 2]]
    assert c.y.tolist() == [7, 0.5]
    assert c.node_attrs == {}
    assert c.data().num_nodes == 2
    assert from_networkx(g, x="a", y="a").x.shape == (2, 1)


@pytest.mark.parametrize("bad", [None, True, "2", float("nan"), "lacking"])
def test_a_weight_must_be_a_number_everywhere(bad):
    g = nx.DiGraph([("a", "b", {"w": 1}), ("b", "c", {} if bad == "lacking" else {"w": bad})])
    with pytest.raises(ArgumentError, match=r"weight='w'.*\('b', 'c'\)"):
        from_networkx(g, weight="w")


def test_refusals():
    two = Graph.from_edge_index([[0, 0], [1, 1]], num_nodes=2, directed=True, duplicates="keep")
    with pytest.raises(ArgumentError, match="MultiDiGraph"):
        to_networkx(two)
    one = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    with pytest.raises(ArgumentError, match="0 -> 1 without its reverse"):
        to_networkx(one, nx.Graph)
    with pytest.raises(ArgumentError, match="1 -> 0 without its reverse"):
        to_networkx(Graph.from_edge_index([[1], [0]], num_nodes=2, directed=True), nx.Graph)
    skew = Graph.from_edge_index([[0, 1], [1, 0]], num_nodes=2, directed=True, weight=[1.0, 2.0])
    with pytest.raises(ArgumentError, match="without its reverse"):
        to_networkx(skew, nx.MultiGraph)
    with pytest.raises(ArgumentTypeError, match="bipartite"):
        to_networkx(Hypergraph.from_lists([[0]], num_nodes=1))
    with pytest.raises(ArgumentError, match="unused"):
        to_networkx(Converted(one, node_attrs={"x": [1, 2]}, x=torch.ones(2, 1)))
    with pytest.raises(ArgumentError, match="'key'"):
        from_networkx(_keyed())
    with pytest.raises(ArgumentError, match="distinct keys"):
        to_networkx(Converted(two, edge_attrs={"key": ["k", "k"]}), nx.MultiDiGraph)
    with pytest.raises(ArgumentTypeError, match="networkx graph"):
        from_networkx([(0, 1)])


def _keyed():
    g = nx.MultiGraph([(0, 1)])
    g.edges[0, 1, 0]["key"] = 3
    return g


def test_bipartite_refusals():
    g = nx.Graph([("a", "e")])
    with pytest.raises(ArgumentError, match="bipartite=0 or 1"):
        from_networkx_bipartite(g)
    nx.set_node_attributes(g, 0, "bipartite")
    with pytest.raises(ArgumentError, match="two sides"):
        from_networkx_bipartite(g)
    with pytest.raises(ArgumentTypeError, match="undirected"):
        from_networkx_bipartite(nx.DiGraph())
    hg = Hypergraph.from_lists([[0]], num_nodes=1)
    with pytest.raises(ArgumentError, match="'same'"):
        to_networkx_bipartite(Converted(hg, ["same"], ["same"]))
    with pytest.raises(ArgumentError, match="unused"):
        to_networkx_bipartite(Converted(hg, node_attrs={"bipartite": [3]}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("node_ids", ["a"]),
        ("node_ids", ["a", "a"]),
        ("x", torch.ones(3, 1)),
        ("y", torch.ones(1)),
        ("node_attrs", {"q": [1]}),
        ("edge_attrs", {"q": [1, 2]}),
        ("hyperedge_ids", [1]),
    ],
)
def test_a_converted_must_match_its_structure(field, value):
    one = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    with pytest.raises(ArgumentError, match=field):
        to_networkx(Converted(one)._replace(**{field: value}))
