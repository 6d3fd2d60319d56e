"""The layers against PyG and DHG with the same weights, where these are installed."""

from __future__ import annotations

import pytest
import torch

from hgraph.nn import (
    ChebConv,
    EdgeConv,
    GATConv,
    GatedGCNConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    HGNNConv,
    HGNNPConv,
    SGConv,
    TAGConv,
    TransformerConv,
)
from hgraph.structure import Graph, Hypergraph
from hgraph.testing import random_graph


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.fixture
def pyg():
    return pytest.importorskip("torch_geometric.nn", reason="needs PyG: pip install hgraph[pyg]")


@pytest.fixture
def dhg():
    return pytest.importorskip("dhg", reason="needs DHG: pip install hgraph[dhg]")


@pytest.mark.parametrize("weighted", [False, True])
def test_gcn_as_pyg(pyg, weighted):
    graph, x = random_graph(20, 70, seed=1, weighted=weighted), torch.randn(20, 5, dtype=torch.float64)
    peer, own = pyg.GCNConv(5, 3).double(), GCNConv(5, 3).double()
    torch.nn.init.normal_(peer.bias)
    own.load_state_dict({"linear.weight": peer.lin.weight, "bias": peer.bias})
    weight = None if graph.adj.weight is None else graph.adj.weight.double()
    same(own(x, graph), peer(x, graph.edge_index, weight))


@pytest.mark.parametrize("concat", [True, False])
def test_gat_as_pyg(pyg, concat):
    graph, x = random_graph(20, 70, seed=2), torch.randn(20, 5, dtype=torch.float64)
    peer, own = (
        pyg.GATConv(5, 3, heads=4, concat=concat).double(),
        GATConv(5, 3, num_heads=4, concat=concat).double(),
    )
    torch.nn.init.normal_(peer.bias)
    state = {"linear.weight": peer.lin.weight, "target_score": peer.att_dst[0], "source_score": peer.att_src[0]}
    own.load_state_dict({**state, "bias": peer.bias})
    same(own(x, graph), peer(x, graph.edge_index))


MLP = {f"mlp.{i}.{part}": f"nn.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")}
BOTH = ("weight", "bias")


def mlp(*widths):
    return torch.nn.Sequential(torch.nn.Linear(*widths[:2]), torch.nn.ReLU(), torch.nn.Linear(*widths[1:]))


def linears(**names):
    return {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in names.items() for part in BOTH}


PYG_LAYERS = {
    "SGConv": (lambda p: p.SGConv(5, 3, K=3), lambda: SGConv(5, 3, num_hops=3), linears(linear="lin")),
    "GINConv": (lambda p: p.GINConv(mlp(5, 3, 3), eps=0.5), lambda: GINConv(5, 3, eps=0.5), MLP),
    "GINEConv": (
        lambda p: p.GINEConv(mlp(5, 3, 3), eps=0.5, edge_dim=4),
        lambda: GINConv(5, 3, eps=0.5, edge_channels=4),
        MLP | linears(edge_linear="lin"),
    ),
    "GATv2Conv": (
        lambda p: p.GATv2Conv(5, 3, heads=4),
        lambda: GATv2Conv(5, 3, num_heads=4),
        linears(linear="lin_l", target_linear="lin_r") | {"score": "att", "bias": "bias"},
    ),
    "TransformerConv": (
        lambda p: p.TransformerConv(5, 3, heads=4),
        lambda: TransformerConv(5, 3, num_heads=4),
        linears(query="lin_query", key="lin_key", value="lin_value", skip="lin_skip"),
    ),
    "EdgeConv": (
        lambda p: p.EdgeConv(mlp(10, 3, 3)), lambda: EdgeConv(5, 3, mlp=mlp(10, 3, 3)), MLP,
    ),
    "ResGatedGraphConv": (
        lambda p: p.ResGatedGraphConv(5, 3, bias=False),
        lambda: GatedGCNConv(5, 3, normalize=False),
        linears(target_gate="lin_key", source_gate="lin_query", value="lin_value")
        | {"linear.weight": "lin_skip.weight"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYG_LAYERS)
def test_graph_layers_as_pyg(pyg, name):
    """Equal weights, equal outputs and gradients, on a graph with isolated nodes and without self-loops."""
    make_peer, make_own, names = PYG_LAYERS[name]
    torch.manual_seed(0)
    peer, own = make_peer(pyg).double(), make_own().double()
    state = {key: value.squeeze(0) if key == "att" else value for key, value in peer.state_dict().items()}
    own.load_state_dict({ours: state[theirs] for ours, theirs in names.items()}, strict=False)
    left = set(own.state_dict()) - set(names)
    for parameter in left & {"linear.bias"}:
        torch.nn.init.zeros_(own.get_parameter(parameter))
    assert left <= {"eps", "linear.bias"}
    graph = random_graph(20, 50, seed=3)
    keep = graph.edge_index[0] != graph.edge_index[1]
    graph = Graph.from_edge_index(graph.edge_index[:, keep], num_nodes=22, directed=True)
    x = torch.randn(22, 5, dtype=torch.float64)
    edge = torch.randn(graph.num_edges, 4, dtype=torch.float64) if name == "GINEConv" else None
    results = []
    for call in (lambda z: own(z, graph, *([] if edge is None else [edge])),
                 lambda z: peer(z, graph.edge_index, **({} if edge is None else {"edge_attr": edge}))):  # fmt: skip
        z = x.clone().requires_grad_()
        out = call(z)
        results.append((out, torch.autograd.grad(out.square().sum(), z)[0]))
    for a, b in zip(*results, strict=True):
        same(a, b)


def test_tag_and_cheb_as_pyg(pyg):
    graph, x = random_graph(20, 50, seed=3), torch.randn(20, 5, dtype=torch.float64)
    pairs = graph.edge_index[:, graph.edge_index[0] != graph.edge_index[1]]
    graph = Graph.from_edge_index(pairs, num_nodes=20, directed=False)
    for peer, own in ((pyg.TAGConv(5, 3, K=2), TAGConv(5, 3, num_hops=2)), (pyg.ChebConv(5, 3, K=3), ChebConv(5, 3))):
        peer, own = peer.double(), own.double()
        maps = torch.cat([linear.weight for linear in peer.lins], 1)
        own.load_state_dict({"linear.weight": maps, "linear.bias": peer.bias})
        same(own(x, graph), peer(x, graph.edge_index))


@pytest.mark.filterwarnings("ignore::UserWarning:dhg", "ignore:Sparse")
@pytest.mark.parametrize("layer", ["hgnn", "hgnnp"])
@pytest.mark.parametrize("weighted", [False, True])
def test_hypergraph_layers_as_dhg(dhg, layer, weighted):
    members = [[0, 1, 2], [2, 3], [3, 4, 5, 6], [6, 0], [1, 4, 6], [7]]
    weight = [0.5, 2.0, 1.0, 1.5, 0.25, 3.0] if weighted else None
    own_hg = Hypergraph.from_lists(
        members, num_nodes=9, hyperedge_weight=None if weight is None else torch.tensor(weight)
    )
    peer_hg = dhg.Hypergraph(9, members, weight)
    kind = {"hgnn": dhg.nn.HGNNConv, "hgnnp": dhg.nn.HGNNPConv}[layer]
    peer, own = kind(5, 3, drop_rate=0.0, is_last=True), {"hgnn": HGNNConv, "hgnnp": HGNNPConv}[layer](5, 3)
    own.linear.load_state_dict(peer.theta.state_dict())
    x = torch.randn(9, 5)
    torch.testing.assert_close(own(x, own_hg), peer(x, peer_hg), rtol=1e-5, atol=1e-6)


def test_hgnnp_as_pyg(pyg):
    """PyG's HypergraphConv is D^-1 H B^-1 H^T X Theta, HGNN+ without bias (its W enters only D: so none here)."""
    members = [[0, 1, 2], [2, 3], [3, 4, 5, 6], [6, 0], [1, 4, 6], [7]]
    own_hg = Hypergraph.from_lists(members, num_nodes=9)
    peer, own = pyg.HypergraphConv(5, 3, bias=False).double(), HGNNPConv(5, 3, bias=False).double()
    own.linear.load_state_dict({"weight": peer.lin.weight})
    x = torch.randn(9, 5, dtype=torch.float64)
    index = torch.stack([own_hg.v2e.indices, own_hg.v2e.target]).long()
    same(own(x, own_hg), peer(x, index))
