"""The layers against PyG and DHG with the same weights, where these are installed."""

from __future__ import annotations

import pytest
import torch

from hgraph.nn import GATConv, GCNConv, HGNNConv, HGNNPConv
from hgraph.structure import Hypergraph
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
        pyg.GATConv(5, 3, num_heads=4, concat=concat).double(),
        GATConv(5, 3, num_heads=4, concat=concat).double(),
    )
    torch.nn.init.normal_(peer.bias)
    state = {"linear.weight": peer.lin.weight, "target_score": peer.att_dst[0], "source_score": peer.att_src[0]}
    own.load_state_dict({**state, "bias": peer.bias})
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
