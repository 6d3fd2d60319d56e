"""XGI: round trips of its networks through HIF."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import Hypergraph, convert
from hgraph.convert import Converted, from_hif
from hgraph.errors import ArgumentError, MissingPackageError

KINDS = (None, "integers", "strings", "both")


@pytest.fixture(scope="module")
def xgi():
    return pytest.importorskip("xgi", reason="needs xgi")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_round_trip(xgi, hypergraphs, content_of, data):
    c = data.draw(hypergraphs(weighted=False, ids=KINDS, attrs=True))
    hg = c.structure
    c = c._replace(edge_attrs={}, meta={"name": "one"})
    out = convert.to_xgi(c, x="feature", y="label")
    assert out.num_nodes == hg.num_nodes
    assert out.num_edges == hg.num_hyperedges
    again = convert.from_xgi(
        out,
        hyperedge_weight=None if hg.hyperedge_weight is None else "weight",
        node_weight=None if hg.node_weight is None else "weight",
        x=None if c.x is None else "feature",
        y=None if c.y is None else "label",
    )
    assert content_of(again) == content_of(c)
    assert again.meta == {"name": "one", "network-type": "undirected"}


def test_members_and_attributes(xgi):
    network = xgi.Hypergraph()
    network.add_nodes_from(["lonely"])
    network.add_edge(["a", "b"], idx="e", weight=2.5, kind="x")
    c = convert.from_xgi(network, hyperedge_weight="weight")
    members = [{c.node_ids[v] for v in e} for e in c.structure.to_lists()]
    assert members == [{"a", "b"}]
    assert c.structure.hyperedge_weight.tolist() == [2.5]
    assert set(c.node_ids) == {"lonely", "a", "b"}
    assert c.hyperedge_attrs == {"kind": ["x"]}


def test_directed_hypergraphs_and_complexes(xgi, content_of):
    network = xgi.DiHypergraph([([1, 2], [2, 3])])
    c = convert.from_xgi(network)
    pairs = zip(c.structure.v2e.indices.tolist(), c.edge_attrs["direction"], strict=True)
    assert sorted((c.node_ids[v], d) for v, d in pairs) == [(1, "tail"), (2, "head"), (2, "tail"), (3, "head")]
    again = convert.to_xgi(c)
    assert isinstance(again, xgi.DiHypergraph)
    assert content_of(convert.from_xgi(again)) == content_of(c)
    triangle = convert.to_xgi(
        from_hif({"network-type": "asc", "incidences": [{"edge": 0, "node": i} for i in range(3)]})
    )
    assert isinstance(triangle, xgi.SimplicialComplex)
    assert convert.from_xgi(triangle).structure.num_hyperedges == triangle.num_edges


def test_structures_that_xgi_cannot_represent(xgi):
    with pytest.raises(ArgumentError, match="with_weight"):
        convert.to_xgi(Hypergraph.from_incidence([[2.0]]))
    one = Converted(Hypergraph.from_lists([[0]], num_nodes=1))
    with pytest.raises(ArgumentError, match="edge_attrs"):
        convert.to_xgi(one._replace(edge_attrs={"a": [1]}))
    with pytest.raises(ArgumentError, match="head or tail"):
        convert.to_xgi(one._replace(meta={"network-type": "directed"}))


def test_without_xgi_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "xgi", None)
    with pytest.raises(MissingPackageError, match=r"hgraph\[hif\]"):
        convert.from_xgi(None)
