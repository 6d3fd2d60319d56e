"""Whole networks: HGNN and HGNN+ on 50,000 nodes, GCN and GAT at the sizes of Cora and ogbn-arxiv.

An epoch is forward, cross-entropy, backward and an Adam step, without dropout; inference is one forward in eval mode.
"MLP only" is the same network without its structure; a tighter limit includes the necessary sums of GCN and the
hypergraph networks, as plain C++ loops. Peers get the same initial weights and must return the same logits
and the same gradient of the first layer's weight.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.benchmarks import cases, networks, reference
from hgraph.benchmarks.harness import PEERS, Case, Method, own, without_gradient
from hgraph.models import GAT, GCN, HGNN, HGNNP
from hgraph.structure import Adjacency, Graph, Hypergraph

PREPARED = "hgraph, A x kept"  # the first layer's sum over constant features is computed before timing
Networks = tuple[dict[str, nn.Module], nn.Module, Tensor, Tensor]  # networks that must agree, MLP only, x, y


def installed(makers: Mapping[str, Callable[[], nn.Module]]) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for name, make in makers.items() if PEERS["take part"] else ():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name} skipped: {error}", flush=True)
    return found


@functools.lru_cache(1)  # inference and training of one network are consecutive
def hypergraph_networks(kind: type[nn.Module]) -> Networks:
    hypergraph, x, y = cases.hypergraph50k()
    torch.manual_seed(0)
    model, symmetric = kind(64, 64, 16, dropout=0.0), kind is HGNN
    layer = "HGNNConv" if symmetric else "HGNNPConv"
    peers: dict[str, Callable[[], nn.Module]] = {
        "PyG HypergraphConv": lambda: networks.HypergraphOnPyG(model, hypergraph, symmetric=symmetric),
        "DHG": lambda: networks.OnDHG(model, hypergraph, layer),
    }
    ours = {"hgraph": networks.Bound(model, hypergraph), PREPARED: networks.Prepared(model, hypergraph, x)}
    return {**ours, **installed(peers)}, networks.Dense(64, 64, 16), x, y


def _graph(size: str) -> tuple[Graph, Tensor, Tensor, int, int, int]:
    if size == "cora":
        edge_index, x, y = cases.cora()
        return Graph.from_edge_index(edge_index, num_nodes=len(x), directed=False), x, y, 1433, 16, 7
    edge_index, x, y = cases.arxiv()
    return Graph.from_edge_index(edge_index, num_nodes=len(x), directed=True), x, y, 128, 128, 40


@functools.lru_cache(1)
def gcn_networks(size: str) -> Networks:
    graph, x, y, features, hidden, classes = _graph(size)
    torch.manual_seed(0)
    model = GCN(features, hidden, classes, dropout=0.0)
    peers: dict[str, Callable[[], nn.Module]] = {
        "PyG edge_index, cached": lambda: networks.GCNOnPyG(model, graph, csr=False),
        "PyG CSR": lambda: networks.GCNOnPyG(model, graph, csr=True),
    }
    if size == "cora":
        peers["DHG"] = lambda: networks.OnDHG(model, graph, "GCNConv")
    dense, ours = networks.Dense(features, hidden, classes), {"hgraph": networks.Bound(model, graph)}
    if size == "arxiv":
        ours[PREPARED] = networks.Prepared(model, graph, x)
    return {**ours, **installed(peers)}, dense, x, y


@functools.lru_cache(1)
def gat_networks(size: str) -> Networks:
    graph, x, y, features, _, classes = _graph(size)
    torch.manual_seed(0)
    model = GAT(features, 8, classes, num_heads=8, dropout=0.0)
    peers: dict[str, Callable[[], nn.Module]] = {"PyG GATConv": lambda: networks.GATOnPyG(model, graph)}
    dense = networks.Dense(features, 64, classes)
    return {"hgraph": networks.Bound(model, graph), **installed(peers)}, dense, x, y


def inference(make: Callable[[], Networks], name: str) -> Case:
    found, dense, x, _ = make()
    methods = {}
    for which, model in found.items():
        call = without_gradient(partial(model.eval(), x))
        methods |= own(call) if which == "hgraph" else {which: call}
    limits = _limits(without_gradient(partial(dense.eval(), x)), found["hgraph"], training=False)
    return Case(name, methods, limits, rtol=1e-3)


def epochs(make: Callable[[], Networks], name: str) -> Case:
    found, dense, x, y = make()
    methods, checks = {}, {}
    for which, model in found.items():
        epoch, check = _epoch(model.train(), x, y), _gradient(model, x, y)
        methods |= own(epoch) if which == "hgraph" else {which: epoch}
        checks |= own(check) if which == "hgraph" else {which: check}
    # All gradients are computed at the common initial weights, because training then diverges.
    gradients = {which: check() for which, check in checks.items()}
    saved: dict[str, Method] = {which: partial(gradients.__getitem__, which) for which in gradients}
    limits = _limits(_epoch(dense.train(), x, y), found["hgraph"], training=True)
    return Case(name, methods, limits, checks=saved, rtol=1e-3)


def _limits(dense: Method, network: nn.Module, *, training: bool) -> dict[str, Method]:
    """The MLP; and the MLP plus the sums of the network, each as a plain C++ loop; GAT has no plain sums."""
    limits, sums = {"limit: MLP only": dense}, []
    if reference.library() is not None and not isinstance(network.model, GAT):
        sums = _sums(networks.convs(network.model), network.structure, training)
    if sums and {width for _, width in sums} <= set(reference.WIDTHS):
        inputs = [(step, torch.randn(step.num_sources, width)) for step, width in sums]
        limits["limit: MLP and its sums by C++ loops"] = lambda: (
            dense(),
            [reference.reduce_rows(step, x) for step, x in inputs],
        )
    return limits


def _sums(convs: list[nn.Module], structure: Graph | Hypergraph, training: bool) -> list[tuple[Adjacency, int]]:
    """Structure and width of each sum, on the narrower side of each layer; in training also of the backward."""
    if isinstance(structure, Hypergraph):
        steps = structure.v2e.normalize("row"), structure.e2v.normalize("row")
    else:
        steps = (structure.adj.add_self_loops().normalize("row"),)
    sizes = [conv.linear.weight.shape[::-1] for conv in convs]
    sums = [(step, min(size)) for size in sizes for step in steps]
    if training:  # no backward through the first sum if it is over features, which need no gradient
        first_is_of_features = sizes[0][1] >= sizes[0][0]
        sums += [(step.transpose(), width) for step, width in sums[first_is_of_features:]]
    return sums


def _epoch(model: nn.Module, x: Tensor, y: Tensor) -> Method:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def epoch() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return epoch


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Method:
    """Gradient of the first layer's weight [F, H]."""
    if isinstance(model, (networks.Bound, networks.Prepared)):
        weight = networks.convs(model.model)[0].linear.weight
    else:
        weight = model.first()

    def call() -> tuple[Tensor]:
        grad = torch.autograd.grad(F.cross_entropy(model(x), y), weight)[0]
        return (grad.T,)

    return call


def suite(device: str) -> Mapping[str, Callable[[], Case]]:
    made: dict[str, Callable[[], Case]] = {}
    kinds: dict[str, Callable[[], Networks]] = {
        "HGNN+ 50k": partial(hypergraph_networks, HGNNP),
        "HGNN 50k": partial(hypergraph_networks, HGNN),
        "GCN Cora": partial(gcn_networks, "cora"),
        "GAT Cora": partial(gat_networks, "cora"),
        "GCN arxiv": partial(gcn_networks, "arxiv"),
        "GAT arxiv": partial(gat_networks, "arxiv"),
    }
    for kind, make in kinds.items():
        made[f"{kind} inference"] = partial(inference, make, f"{kind} inference")
        made[f"{kind} training epoch"] = partial(epochs, make, f"{kind} training epoch")
    return made
