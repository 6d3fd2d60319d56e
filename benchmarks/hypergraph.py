"""Whole networks: HGNN and HGNN+ on 50,000 vertices, GCN at Cora's size, against PyG and DHG.

    OMP_NUM_THREADS=1 python benchmarks/hypergraph.py

An epoch is forward, cross-entropy, backward and a step of Adam, dropout off; inference is one forward in eval mode.
"MLP only" is the same network without its structure: what no message passing can go below. Peers get the weights of
ours first and must give the same logits. PyG's HypergraphConv has no symmetric normalisation, so HGNN on it is its
sum with our scaled features, the same work.
"""

from __future__ import annotations

from collections.abc import Callable

import cases
import harness
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.models import GCN, HGNN, HGNNP
from hgraph.structure import Graph, Hypergraph


class Dense(nn.Module):
    """The network with its structure taken away."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(*sizes[:2]), nn.Linear(*sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x).relu())


class OnPyG(nn.Module):
    """Two PyG `HypergraphConv`, linear maps with bias first; HGNN puts them between D_v^1/2 and D_v^-1/2."""

    def __init__(self, model: nn.Module, hypergraph: Hypergraph, *, symmetric: bool) -> None:
        from torch_geometric.nn import HypergraphConv

        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(c.linear.in_features, c.linear.out_features) for c in convs(model))
        self.conv = nn.ModuleList()
        for own, conv in zip(self.linear, convs(model), strict=True):
            own.load_state_dict(conv.linear.state_dict())
            peer = HypergraphConv(conv.linear.out_features, conv.linear.out_features, bias=False)
            peer.lin = nn.Identity()
            self.conv.append(peer)
        v2e = hypergraph.v2e
        self.index = torch.stack([v2e.indices, v2e.target]).long()
        root = hypergraph.vertex_degree().float().sqrt().unsqueeze(1)
        self.root = root if symmetric else None
        self.inverse = torch.where(root > 0, 1 / root, 0.0)

    def smooth(self, i: int, x: Tensor) -> Tensor:
        x = self.linear[i](x)
        if self.root is None:
            return self.conv[i](x, self.index)
        return self.root * self.conv[i](self.inverse * x, self.index)

    def forward(self, x: Tensor) -> Tensor:
        return self.smooth(1, self.smooth(0, x).relu())


class OnDHG(nn.Module):
    """The network of DHG's own layers."""

    def __init__(self, model: nn.Module, hypergraph: Hypergraph, kind: str) -> None:
        import dhg

        super().__init__()
        self.hypergraph = dhg.Hypergraph(hypergraph.num_vertices, hypergraph.to_lists())
        layer = {"HGNN": dhg.nn.HGNNConv, "HGNN+": dhg.nn.HGNNPConv}[kind]
        self.conv = nn.ModuleList()
        for i, own in enumerate(convs(model)):
            peer = layer(own.linear.in_features, own.linear.out_features, drop_rate=0.0, is_last=i == 1)
            peer.theta.load_state_dict(own.linear.state_dict())
            self.conv.append(peer)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv[1](self.conv[0](x, self.hypergraph), self.hypergraph)


class OnPyGGCN(nn.Module):
    """The two-layer GCN of PyG's layers, normalisation cached."""

    def __init__(self, model: GCN, edge_index: Tensor) -> None:
        from torch_geometric.nn import GCNConv

        super().__init__()
        self.edge_index = edge_index
        self.conv = nn.ModuleList()
        for own in convs(model):
            peer = GCNConv(*own.weight.shape, cached=True)
            peer.load_state_dict({"lin.weight": own.weight.T, "bias": own.bias})
            self.conv.append(peer)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv[1](self.conv[0](x, self.edge_index).relu(), self.edge_index)


class Bound(nn.Module):
    """One of our models with its structure."""

    def __init__(self, model: nn.Module, structure: Graph | Hypergraph) -> None:
        super().__init__()
        self.model, self.structure = model, structure

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x, self.structure)


def convs(model: nn.Module) -> list[nn.Module]:
    return [model.conv1, model.conv2]


def installed(make: Callable[[], nn.Module]) -> nn.Module | None:
    try:
        return make()
    except ImportError as error:
        print(f"left out: {error}")
        return None


def compare(
    name: str, networks: dict[str, nn.Module | None], x: Tensor, y: Tensor, report: harness.Report, seconds: float
) -> None:
    """Check, then time training epochs and inference."""
    models = {n: m for n, m in networks.items() if m is not None}

    def infer(model: nn.Module) -> harness.Method:
        def run() -> Tensor:
            with torch.no_grad():
                return model(x)

        return run

    def train(model: nn.Module) -> harness.Method:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

        def epoch() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return epoch

    for model in models.values():
        model.eval()
    inference = {n: infer(m) for n, m in models.items()}
    harness.check_equal({n: m for n, m in inference.items() if n != "MLP only"}, rtol=1e-3)
    timing = {"seconds": seconds, "threads": report.threads}
    report.add(f"{name} inference", harness.interleaved(inference, **timing))
    epochs = {n: train(m) for n, m in models.items()}
    report.add(f"{name} training epoch", harness.interleaved(epochs, **timing))


def main() -> None:
    arguments = harness.setup(__doc__.splitlines()[0])
    report = harness.Report(arguments.csv or "hypergraph.csv", threads=arguments.threads)
    torch.manual_seed(0)
    if arguments.only in "HGNN+ 50k":
        hypergraph, x, y = cases.hypergraph50k()
        for name, kind in (("HGNN+", HGNNP), ("HGNN", HGNN)):
            model = kind(64, 64, 16, dropout=0.0)
            networks = {
                "hgraph": Bound(model, hypergraph),
                "MLP only": Dense(64, 64, 16),
                "PyG HypergraphConv": installed(lambda m=model, n=name: OnPyG(m, hypergraph, symmetric=n == "HGNN")),
                "DHG": installed(lambda m=model, n=name: OnDHG(m, hypergraph, n)),
            }
            compare(f"{name} 50k", networks, x, y, report, arguments.seconds)
    if arguments.only in "GCN Cora size":
        edge_index, x, y = cases.cora()
        model = GCN(1433, 16, 7, dropout=0.0)
        graph = Graph.from_edge_index(edge_index, num_nodes=2708, directed=False)
        networks = {
            "hgraph": Bound(model, graph),
            "MLP only": Dense(1433, 16, 7),
            "PyG GCNConv cached": installed(lambda: OnPyGGCN(model, edge_index)),
        }
        compare("GCN Cora size", networks, x, y, report, arguments.seconds)
    report.write()


if __name__ == "__main__":
    main()
