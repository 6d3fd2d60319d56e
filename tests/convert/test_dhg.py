"""DHG: round trips of Graph, DiGraph and Hypergraph, against DHG's own matrices, and what DHG cannot represent."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import Graph, Hypergraph, convert
from hgraph.convert import Converted
from hgraph.errors import ArgumentError, ArgumentTypeError, MissingPackageError

# DHG creates sparse tensors without choosing whether torch checks them.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")

CHECK = settings(max_examples=40, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def dhg():
    return pytest.importorskip("dhg", reason="needs dhg")


@pytest.mark.parametrize("kind", ["graph", "digraph"])
@CHECK
@given(data=st.data())
def test_graph_round_trip(dhg, graphs, kind, data):
    g = data.draw(graphs(parallel=False, undirected=kind == "graph", empty=False)).structure
    out = getattr(convert, f"to_dhg_{kind}")(g)
    again = convert.from_dhg(out, weighted=g.adj.weight is not None)
    assert again.structure.equal(g)
    assert again.node_ids == range(g.num_nodes)


@CHECK
@given(data=st.data())
def test_hypergraph_round_trip(dhg, hypergraphs, data):
    c = data.draw(hypergraphs(weighted=False, empties=False, repeats=False, empty=False))
    hg = c.structure
    out = convert.to_dhg_hypergraph(c)
    assert out.num_e == hg.num_hyperedges
    if hg.num_hyperedges:
        assert torch.equal(out.H.to_dense(), hg.incidence())
    again = convert.from_dhg(out, weighted=hg.hyperedge_weight is not None, node_weighted=hg.node_weight is not None)
    assert again.structure.equal(hg)
    assert again.hyperedge_attrs == {}


def test_directions_and_weights_are_those_of_dhg(dhg):
    g = Graph.from_edge_index([[0], [1]], num_nodes=3, directed=True, weight=[2.0])
    out = convert.to_dhg_digraph(g)
    assert out.A.to_dense()[0, 1] == 2  # DHG's rows are sources
    assert convert.from_dhg(out).structure.adj.dense()[1, 0] == 2  # ours are targets
    both = convert.from_dhg(dhg.Graph(2, [(0, 1), (1, 1)], [3.0, 4.0])).structure
    assert both.adj.dense().tolist() == [[0, 3], [3, 4]]


def test_groups_are_preserved(dhg):
    hg = dhg.Hypergraph(3, [(0, 1)])
    hg.add_hyperedges([(0, 1), (1, 2)], group_name="knn")
    c = convert.from_dhg(hg, weighted=False)
    assert c.structure.to_lists() == [[0, 1], [0, 1], [1, 2]]
    assert c.hyperedge_attrs == {"group": ["main", "knn", "knn"]}
    out = convert.to_dhg_hypergraph(c)
    assert out.group_names == ["main", "knn"]
    assert out.num_e_of_group("knn") == 2
    with pytest.raises(ArgumentError, match="take turns"):
        convert.to_dhg_hypergraph(c._replace(hyperedge_attrs={"group": ["a", "b", "a"]}))
    with pytest.raises(ArgumentError, match="names of groups"):
        convert.to_dhg_hypergraph(c._replace(hyperedge_attrs={"group": [1, 2, 3]}))


def test_weights_that_are_dropped_must_be_one(dhg):
    hg = dhg.Hypergraph(2, [(0, 1)], e_weight=[2.0], v_weight=[1.0, 3.0])
    with pytest.raises(ArgumentError, match="weighted: expected True .* a weight 2"):
        convert.from_dhg(hg, weighted=False, node_weighted=True)
    with pytest.raises(ArgumentError, match="node_weighted: expected True .* a weight 3"):
        convert.from_dhg(hg)
    assert convert.from_dhg(hg, node_weighted=True).structure.node_weight.tolist() == [1, 3]


def test_structures_that_dhg_cannot_represent(dhg):
    def graph(ends, **options):
        return Graph.from_edge_index(ends, num_nodes=2, directed=True, **options)

    with pytest.raises(ArgumentError, match="to_dhg_digraph"):
        convert.to_dhg_graph(graph([[0], [1]]))
    with pytest.raises(ArgumentError, match="parallel"):
        convert.to_dhg_digraph(graph([[0, 0], [1, 1]], duplicates="keep"))
    with pytest.raises(ArgumentError, match="at least one node"):
        convert.to_dhg_digraph(Graph.from_edge_index([[], []], num_nodes=0, directed=True))
    with pytest.raises(ArgumentError, match="hyperedge 1"):
        convert.to_dhg_hypergraph(Hypergraph.from_lists([[0], []], num_nodes=1))
    with pytest.raises(ArgumentError, match="0 and 2 with the same members"):
        convert.to_dhg_hypergraph(Hypergraph.from_lists([[0, 1], [1], [1, 0]], num_nodes=2))
    with pytest.raises(ArgumentError, match="with_weight"):
        convert.to_dhg_hypergraph(Hypergraph.from_incidence([[2.0]]))
    one = Hypergraph.from_lists([[0]], num_nodes=1)
    for field, value in {"node_ids": ["a"], "x": torch.ones(1, 1), "hyperedge_attrs": {"a": [1]}}.items():
        with pytest.raises(ArgumentError, match=field):
            convert.to_dhg_hypergraph(Converted(one)._replace(**{field: value}))
    with pytest.raises(ArgumentTypeError, match="to_dhg_hypergraph"):
        convert.to_dhg_graph(one)
    with pytest.raises(ArgumentTypeError, match="DHG Graph"):
        convert.from_dhg(one)


def test_without_dhg_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dhg", None)
    with pytest.raises(MissingPackageError, match=r"hgraph\[dhg\]"):
        convert.from_dhg(None)
