"""DGL: round trips of homogeneous graphs, and what DGL cannot represent."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import Graph, Hypergraph, convert
from hgraph.convert import Converted
from hgraph.errors import ArgumentError, ArgumentTypeError, MissingPackageError


@pytest.fixture(scope="module")
def dgl():
    try:
        import dgl
    except (ImportError, OSError) as error:  # OSError: built for another torch
        pytest.skip(f"needs dgl ({type(error).__name__})")
    return dgl


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_round_trip(dgl, graphs, content_of, data):
    c = data.draw(graphs(attrs=True))
    n, e = c.structure.num_nodes, c.structure.num_edges
    c = c._replace(node_attrs={"a": torch.arange(n)}, edge_attrs={"b": torch.rand(e, 2)})
    out = convert.to_dgl(c, weight="w", x="feature", y="label")
    assert (out.num_nodes(), out.num_edges()) == (n, e)
    assert torch.equal(out.in_degrees(), c.structure.adj.with_weight(None).target_degree().long())
    again = convert.from_dgl(
        out,
        weight=None if c.structure.adj.weight is None else "w",
        x=None if c.x is None else "feature",
        y=None if c.y is None else "label",
    )
    assert content_of(again) == content_of(c)
    assert again.structure.equal(c.structure)


def test_columns_follow_the_edges(dgl):
    g = dgl.graph((torch.tensor([2, 0]), torch.tensor([1, 1])), num_nodes=4)
    g.edata["w"] = torch.tensor([[5.0], [6.0]])
    g.edata["kind"] = torch.tensor([50, 60])
    c = convert.from_dgl(g, weight="w")
    assert c.structure.edge_index.tolist() == [[0, 2], [1, 1]]
    assert c.structure.adj.weight.tolist() == [6, 5]
    assert c.edge_attrs["kind"].tolist() == [60, 50]


def test_refusals(dgl):
    one = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    for field, value in {"node_ids": ["a", "b"], "meta": {"a": 1}, "node_attrs": {"a": [1, 2]}}.items():
        with pytest.raises(ArgumentError, match=field):
            convert.to_dgl(Converted(one)._replace(**{field: value}))
    with pytest.raises(ArgumentTypeError, match="star"):
        convert.to_dgl(Hypergraph.from_lists([[0]], num_nodes=1))
    with pytest.raises(ArgumentError, match="weight"):
        convert.from_dgl(convert.to_dgl(one), weight="w")
    pair = dgl.heterograph({("a", "to", "b"): ([0], [0])})
    with pytest.raises(ArgumentError, match="to_homogeneous"):
        convert.from_dgl(pair)


def test_without_dgl(monkeypatch):
    monkeypatch.setitem(sys.modules, "dgl", None)
    one = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    with pytest.raises(MissingPackageError, match="'dgl'; install it as its documentation"):
        convert.to_dgl(one)
    with pytest.raises(ArgumentTypeError, match="DGLGraph"):
        convert.from_dgl(one)
