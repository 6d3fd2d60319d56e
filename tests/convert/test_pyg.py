"""PyTorch Geometric: round trips of Data, HyperGraphData and HeteroData, compared with how PyG reads them."""

import sys

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hgraph import Graph, Hypergraph, convert
from hgraph.convert import ABSENT, Converted
from hgraph.errors import ArgumentError, ArgumentTypeError, MissingPackageError

CHECK = settings(max_examples=60, deadline=None, derandomize=True)
KINDS = (None, "integers", "strings", "both")


@pytest.fixture(scope="module")
def pyg():
    return pytest.importorskip("torch_geometric.data", reason="needs torch-geometric")


def hyper_class():
    from torch_geometric.data.hypergraph_data import HyperGraphData

    return HyperGraphData


def filled(attrs, name=None):
    """Columns that PyG can represent: without missing values."""
    return {name or key: [0 if v is ABSENT else v for v in column] for key, column in attrs.items()}


def named(weight, name):
    return None if weight is None else name


def without_ids(attrs):
    return {k: v for k, v in attrs.items() if not k.endswith("_ids")}


@CHECK
@given(data=st.data())
def test_data_round_trip(pyg, graphs, content_of, data):
    c = data.draw(graphs(ids=KINDS, attrs=True))
    c = c._replace(node_attrs=filled(c.node_attrs), edge_attrs=filled(c.edge_attrs, "edge_color"), meta={"name": "g"})
    n, e = c.structure.num_nodes, c.structure.num_edges
    assume(n != e or not c.edge_attrs)  # PyG takes a list of N entries for a node attribute
    out = convert.to_pyg(c)
    out.validate()
    assert out.num_nodes == n
    assert out.num_edges == e
    again = convert.from_pyg(out, weight=named(c.structure.adj.weight, "edge_weight"))
    assert content_of(again) == content_of(c)
    assert again.structure.equal(c.structure)
    assert again.meta == {"name": "g"}


@CHECK
@given(data=st.data())
def test_hypergraph_round_trip(pyg, hypergraphs, content_of, data):
    c = data.draw(hypergraphs(ids=KINDS, attrs=True))
    hg = c.structure
    assume(hg.num_hyperedges == 0 or int(hg.hyperedge_degree().ne(0)[-1]))
    c = c._replace(
        node_attrs=filled(c.node_attrs),
        hyperedge_attrs=filled(c.hyperedge_attrs, "edge_color"),
        edge_attrs=filled(c.edge_attrs, "incidence_color"),
    )
    out = convert.to_pyg_hypergraph(c)
    assert out.num_edges == hg.num_hyperedges
    again = convert.from_pyg_hypergraph(
        out,
        weight=named(hg.v2e.weight, "incidence_weight"),
        hyperedge_weight=named(hg.hyperedge_weight, "hyperedge_weight"),
        node_weight=named(hg.node_weight, "node_weight"),
    )
    assert content_of(again) == content_of(c)


@CHECK
@given(data=st.data())
def test_hetero_round_trip(pyg, hypergraphs, content_of, data):
    c = data.draw(hypergraphs(ids=KINDS, attrs=True))
    hg = c.structure
    c = c._replace(**{name: filled(getattr(c, name)) for name in ("node_attrs", "hyperedge_attrs", "edge_attrs")})
    out = convert.to_pyg_hetero(c, nodes="author", hyperedges="paper", relation="writes")
    assert out["author"].num_nodes == hg.num_nodes
    assert out["paper"].num_nodes == hg.num_hyperedges
    names = {
        "weight": named(hg.v2e.weight, "edge_weight"),
        "hyperedge_weight": named(hg.hyperedge_weight, "weight"),
        "node_weight": named(hg.node_weight, "weight"),
    }
    again = convert.from_pyg_hetero(out, **names)
    assert content_of(again) == content_of(c)
    assert again.meta == {"node_types": ("author", "paper"), "edge_type": ("author", "writes", "paper")}
    assert content_of(convert.from_pyg_hetero(convert.to_pyg_hetero(again), **names)) == content_of(c)
    # the dual: papers as nodes
    dual = convert.from_pyg_hetero(
        out,
        nodes="paper",
        weight=names["weight"],
        hyperedge_weight=names["node_weight"],
        node_weight=names["hyperedge_weight"],
    )
    assert dual.structure.equal(hg.dual())


def test_an_edge_points_from_source_to_target(pyg):
    data = pyg.Data(edge_index=torch.tensor([[0, 2], [1, 1]]), num_nodes=3, edge_attr=torch.tensor([[5.0], [6.0]]))
    c = convert.from_pyg(data, weight="edge_attr")
    assert c.structure.adj.dense().tolist() == [[0, 0, 0], [5, 0, 6], [0, 0, 0]]
    assert convert.to_pyg(c).edge_index.tolist() == [[0, 2], [1, 1]]


def test_messages_are_those_of_pyg(pyg):
    """The same sums over incoming edges as PyG's own layers compute."""
    from torch_geometric.nn import SimpleConv

    import hgraph

    index = torch.randint(6, (2, 20), generator=torch.Generator().manual_seed(0))
    x, weight = torch.rand(6, 3), torch.rand(20)
    c = convert.from_pyg(pyg.Data(x=x, edge_index=index, edge_weight=weight), weight="edge_weight")
    expected = SimpleConv()(x, index, weight)
    torch.testing.assert_close(hgraph.propagate(c.structure.adj, x), expected)


def test_columns_follow_the_edges_and_masks_make_a_split(pyg):
    data = pyg.Data(
        x=torch.rand(3, 2),
        y=torch.tensor([0, 1, 0]),
        edge_index=torch.tensor([[0, 1, 2, 0], [2, 0, 0, 1]]),
        edge_attr=torch.tensor([[20], [1], [2], [10]]),
        train_mask=torch.tensor([True, False, False]),
        val_mask=torch.tensor([False, True, False]),
        test_mask=torch.tensor([False, False, True]),
        name="tiny",
    )
    c = convert.from_pyg(data)
    assert c.structure.edge_index.tolist() == [[1, 2, 0, 0], [0, 0, 1, 2]]
    assert c.edge_attrs["edge_attr"].tolist() == [[1], [2], [10], [20]]
    assert c.x is data.x
    assert c.meta == {"name": "tiny"}
    ours = c.data()
    split = ours.split()
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([0], [1], [2])
    assert list(ours.splits) == ["default"]
    wide = {k: v if k == "test_mask" else torch.stack([v, v.roll(0)], 1) for k, v in c.node_attrs.items()}
    assert list(c._replace(node_attrs=wide).data().splits) == ["default", "0", "1"]
    with pytest.raises(ArgumentError, match="y: expected"):
        c._replace(y=None).data()


def test_edges_share_no_memory(pyg):
    data = pyg.Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2, edge_weight=torch.ones(1))
    c = convert.from_pyg(data, weight="edge_weight")
    out = convert.to_pyg(c)
    data.edge_weight += 1
    out.edge_weight += 1
    out.edge_index += 1
    assert c.structure.adj.weight.tolist() == [1]
    assert c.structure.edge_index.tolist() == [[0], [1]]


def test_sizes_are_never_guessed(pyg):
    index = torch.tensor([[0], [1]])
    with pytest.raises(ArgumentError, match="num_nodes"):
        convert.from_pyg(pyg.Data(edge_index=index))
    with pytest.raises(ArgumentError, match="num_nodes or x"):
        convert.from_pyg_hypergraph(hyper_class()(edge_index=index))
    hetero = pyg.HeteroData()
    hetero["a", "to", "a"].edge_index = index
    with pytest.raises(ArgumentError, match="num_nodes"):
        convert.from_pyg_hetero(hetero)
    assert convert.from_pyg(pyg.Data(num_nodes=3)).structure.num_nodes == 3
    assert convert.from_pyg_hypergraph(hyper_class()(edge_index=index, num_nodes=5)).structure.num_nodes == 5


def test_hetero_of_one_type(pyg):
    hetero = pyg.HeteroData(name="one")
    hetero["a"].x = torch.ones(3, 2)
    hetero["a", "to", "a"].edge_index = torch.tensor([[0], [2]])
    hetero["a", "to", "a"].w = torch.tensor([4])
    c = convert.from_pyg_hetero(hetero, weight="w")
    assert c.structure.adj.dense().tolist() == [[0, 0, 0], [0, 0, 0], [4, 0, 0]]
    assert c.x.shape == (3, 2)
    assert c.meta["name"] == "one"
    with pytest.raises(ArgumentError, match="node_weight"):
        convert.from_pyg_hetero(hetero, node_weight="w")


def test_hetero_with_reverse_edges(pyg):
    from torch_geometric.transforms import ToUndirected

    hg = Hypergraph.from_lists([[0, 1], [1], []], num_nodes=3)
    both = ToUndirected()(convert.to_pyg_hetero(hg))
    assert len(both.edge_types) == 2
    assert convert.from_pyg_hetero(both).structure.equal(hg)
    both["hyperedge", "rev_in", "node"].edge_index[1, 0] = 2
    with pytest.raises(ArgumentError, match="exact reverse"):
        convert.from_pyg_hetero(both)


def test_hetero_of_many_types_is_rejected_with_a_hint(pyg):
    hetero = pyg.HeteroData()
    for kind in "ab":
        hetero[kind].x = torch.ones(2, 1)
    for relation in ("likes", "knows"):
        hetero["a", relation, "b"].edge_index = torch.tensor([[0], [1]])
    with pytest.raises(ArgumentError, match=r"likes.*knows.*to_homogeneous"):
        convert.from_pyg_hetero(hetero)
    c = convert.from_pyg(hetero.to_homogeneous())
    assert c.node_attrs["node_type"].tolist() == [0, 0, 1, 1]
    assert c.edge_attrs["edge_type"].tolist() == [0, 1]
    hetero = hetero.edge_type_subgraph([("a", "likes", "b")])
    assert convert.from_pyg_hetero(hetero).structure.num_incidences == 1
    hetero["c"].num_nodes = 1
    with pytest.raises(ArgumentError, match="node types"):
        convert.from_pyg_hetero(hetero)


def test_refusals(pyg):
    one = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    hg = Hypergraph.from_lists([[0], []], num_nodes=2)
    with pytest.raises(ArgumentError, match="to_pyg_hetero"):
        convert.to_pyg_hypergraph(hg)
    with pytest.raises(ArgumentError, match="missing"):
        convert.to_pyg(Converted(one, node_attrs={"a": [1, ABSENT]}))
    with pytest.raises(ArgumentError, match="missing"):
        convert.to_pyg_hetero(Converted(hg, node_attrs={"a": [1, ABSENT]}))
    with pytest.raises(ArgumentError, match="distinct names"):
        convert.to_pyg(Converted(one, node_attrs={"a": [1, 2]}, edge_attrs={"a": [1]}))
    with pytest.raises(ArgumentError, match="distinct names"):
        convert.to_pyg(Converted(one, meta={"num_nodes": 3}))
    with pytest.raises(ArgumentError, match="PyG assigns to the whole graph"):
        convert.to_pyg(Converted(one, meta={"classes": ["x", "y"]}))
    square = Graph.from_edge_index([[0, 1], [1, 0]], num_nodes=2, directed=True)
    with pytest.raises(ArgumentError, match="assigns to the edges"):
        convert.to_pyg(Converted(square, edge_attrs={"w": torch.ones(2)}))
    with pytest.raises(ArgumentError, match="assigns to the hyperedges"):
        convert.to_pyg_hypergraph(Converted(Hypergraph.from_lists([[0]], num_nodes=2), hyperedge_attrs={"w": [1]}))
    with pytest.raises(ArgumentError, match="weight='w'"):
        convert.from_pyg(pyg.Data(num_nodes=2, edge_index=torch.tensor([[0], [1]])), weight="w")
    with pytest.raises(ArgumentTypeError, match="from_pyg_hypergraph"):
        convert.from_pyg(hyper_class()(num_nodes=2))
    with pytest.raises(ArgumentTypeError, match="HeteroData"):
        convert.from_pyg_hetero(pyg.Data(num_nodes=2))
    with pytest.raises(ArgumentTypeError, match="to_pyg"):
        convert.to_pyg_hetero(one)
    with pytest.raises(ArgumentError, match="from_torch_sparse"):
        convert.from_pyg(pyg.Data(adj_t=torch.eye(2).to_sparse_csr()))


def test_without_pyg_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    for module in ("torch_geometric.data", "torch_geometric.data.hypergraph_data"):
        monkeypatch.setitem(sys.modules, module, None)
    one = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    for call in (convert.from_pyg, convert.to_pyg, convert.from_pyg_hypergraph, convert.from_pyg_hetero):
        with pytest.raises(MissingPackageError, match=r"hgraph\[pyg\]"):
            call(one)


@pytest.mark.checked(
    "splits", "A label in a graph of one node is ambiguous: `from_pyg` says how it reads it, and `label_of=` decides."
)
def test_a_label_of_one_node_needs_an_owner(pyg, caplog):
    one = pyg.Data(x=torch.ones(1, 2), edge_index=torch.empty(2, 0, dtype=torch.long), y=torch.tensor([1]))
    assert convert.from_pyg(one).y.tolist() == [1]
    assert "treated as the node's; set label_of= to choose" in caplog.text
    assert convert.from_pyg(one, label_of="node").y.tolist() == [1]
    of_graph = convert.from_pyg(one, label_of="graph")
    assert of_graph.y is None
    assert of_graph.meta["y"].tolist() == [1]


def test_features_of_edges_are_in_the_order_of_the_layers(pyg):
    """The recipe of README.md for converted graphs, and the one for listed edges, give equal outputs."""
    from hgraph import nn

    index = torch.tensor([[3, 0, 2, 1], [2, 1, 1, 3]])
    data = pyg.Data(x=torch.randn(4, 3), edge_index=index, edge_attr=torch.tensor([[5.0], [90.0], [30.0], [60.0]]))
    c = convert.from_pyg(data)
    layer = nn.GATConv(3, 8, num_heads=2, edge_channels=1)
    listed = Graph.from_edge_index(index, num_nodes=4, directed=True)
    expected = layer(data.x, listed, listed.sort_edges(data.edge_attr))
    assert torch.equal(layer(c.x, c.structure, c.edge_attrs["edge_attr"]), expected)
    assert not torch.allclose(layer(c.x, c.structure, c.structure.sort_edges(c.edge_attrs["edge_attr"])), expected)
