"""The networks of other libraries, with our weights: they must return the same logits and gradients."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.models import GAT, GCN
from hgraph.structure import Graph, Hypergraph


def convs(model: nn.Module) -> list[nn.Module]:
    return [model.conv1, model.conv2]


class Bound(nn.Module):
    """One of our models with its structure."""

    def __init__(self, model: nn.Module, structure: Graph | Hypergraph) -> None:
        super().__init__()
        self.model, self.structure = model, structure

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x, self.structure)


class Prepared(nn.Module):
    """The same model for constant features: the parameter-free part of the first layer is cached."""

    def __init__(self, model: nn.Module, structure: Graph | Hypergraph, x: Tensor) -> None:
        super().__init__()
        self.model, self.structure = copy.deepcopy(model), structure
        self.prepared = self.model.conv1.prepare(x, structure)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.model.conv1
        structure = (self.structure,) if isinstance(self.structure, Hypergraph) else ()
        return self.model.conv2(conv.from_prepared(self.prepared, *structure).relu(), self.structure)


class Dense(nn.Module):
    """The network without its structure: a lower bound for message passing."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(*sizes[:2]), nn.Linear(*sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x).relu())


class HypergraphOnPyG(nn.Module):
    """Two PyG `HypergraphConv`, linear maps with bias first.

    That layer has no symmetric normalization, so HGNN is computed as its sum between D_v^1/2 and D_v^-1/2: the same
    work.
    """

    def __init__(self, model: nn.Module, hypergraph: Hypergraph, *, symmetric: bool) -> None:
        from torch_geometric.nn import HypergraphConv

        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(c.linear.in_features, c.linear.out_features) for c in convs(model))
        self.conv = nn.ModuleList()
        for linear, conv in zip(self.linear, convs(model), strict=True):
            linear.load_state_dict(conv.linear.state_dict())
            peer = HypergraphConv(conv.linear.out_features, conv.linear.out_features, bias=False)
            peer.lin = nn.Identity()
            self.conv.append(peer)
        v2e = hypergraph.v2e
        self.index = torch.stack([v2e.indices, v2e.target]).long()
        root = hypergraph.node_degree().float().sqrt().unsqueeze(1)
        self.root = root if symmetric else None
        self.inverse = torch.where(root > 0, 1 / root, 0.0)

    def first(self) -> nn.Parameter:
        return self.linear[0].weight

    def smooth(self, i: int, x: Tensor) -> Tensor:
        x = self.linear[i](x)
        if self.root is None:
            return self.conv[i](x, self.index)
        return self.root * self.conv[i](self.inverse * x, self.index)

    def forward(self, x: Tensor) -> Tensor:
        return self.smooth(1, self.smooth(0, x).relu())


class OnDHG(nn.Module):
    """The network with the layers of DHG."""

    def __init__(self, model: nn.Module, structure: Graph | Hypergraph, layer: str) -> None:
        import dhg

        super().__init__()
        if isinstance(structure, Hypergraph):
            self.structure = dhg.Hypergraph(structure.num_nodes, structure.to_lists())
        else:
            pairs = structure.edge_index[:, structure.adj.indices < structure.adj.target]
            self.structure = dhg.Graph(structure.num_nodes, pairs.T.tolist())
        self.conv = nn.ModuleList()
        for i, conv in enumerate(convs(model)):
            weight, bias = conv.linear.weight, conv.bias if conv.linear.bias is None else conv.linear.bias
            peer = getattr(dhg.nn, layer)(weight.shape[1], weight.shape[0], drop_rate=0.0, is_last=i == 1)
            peer.theta.load_state_dict({"weight": weight, "bias": bias})
            self.conv.append(peer)

    def first(self) -> nn.Parameter:
        return self.conv[0].theta.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.conv[1](self.conv[0](x, self.structure), self.structure)


class GCNOnPyG(nn.Module):
    """The two-layer GCN with PyG's layers and cached normalization; over edge_index, or over a CSR matrix."""

    def __init__(self, model: GCN, graph: Graph, *, csr: bool) -> None:
        from torch_geometric.nn import GCNConv

        super().__init__()
        adj = graph.adj.add_self_loops()  # PyG always adds them to a matrix
        parts = (adj.indptr.long(), adj.indices.long(), torch.ones(adj.num_edges))
        matrix = torch.sparse_csr_tensor(*parts, adj.shape, check_invariants=False)
        self.structure = matrix if csr else graph.edge_index
        self.conv = nn.ModuleList()
        for conv in convs(model):
            peer = GCNConv(conv.in_channels, conv.out_channels, cached=True, add_self_loops=not csr)
            peer.load_state_dict({"lin.weight": conv.linear.weight, "bias": conv.bias})
            self.conv.append(peer)

    def first(self) -> nn.Parameter:
        return self.conv[0].lin.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.conv[1](self.conv[0](x, self.structure).relu(), self.structure)


class GATOnPyG(nn.Module):
    """The two-layer GAT with PyG's layers; self-loops are in its edge_index already."""

    def __init__(self, model: GAT, graph: Graph) -> None:
        from torch_geometric.nn import GATConv

        super().__init__()
        self.structure = graph.add_self_loops().edge_index
        self.conv = nn.ModuleList()
        for conv in convs(model):
            size = (conv.in_channels, conv.out_channels)
            peer = GATConv(*size, heads=conv.num_heads, concat=conv.concat, add_self_loops=False)
            scores = {"att_src": conv.source_score.unsqueeze(0), "att_dst": conv.target_score.unsqueeze(0)}
            peer.load_state_dict({**scores, "lin.weight": conv.linear.weight, "bias": conv.bias})
            self.conv.append(peer)

    def first(self) -> nn.Parameter:
        return self.conv[0].lin.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.conv[1](F.elu(self.conv[0](x, self.structure)), self.structure)
