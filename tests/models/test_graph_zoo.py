"""Networks over graphs against dense matrices in float64, and their limit cases."""

import math

import pytest
import torch
import torch.nn.functional as F

from hgraph.errors import ArgumentError
from hgraph.models import APPNP, GCN, GCNII, GPS, H2GCN, LINKX, correct_and_smooth, propagate_labels
from hgraph.nn import GCNConv, GPSConv
from hgraph.structure import Graph
from hgraph.testing import random_graph


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def made(build):
    torch.manual_seed(0)
    return build().double().eval()


@pytest.fixture(params=["directed", "weighted", "isolated", "none"])
def graph(request):
    if request.param == "isolated":
        return Graph.from_edge_index([[0, 1, 3], [1, 0, 3]], num_nodes=6, directed=True)
    if request.param == "none":
        return Graph.from_edge_index([[], []], num_nodes=4, directed=True)
    return random_graph(9, 25, seed=1, weighted=request.param == "weighted")


def matrix(graph, loops):
    n, a = graph.num_nodes, torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    weight = torch.ones(graph.num_edges) if graph.adj.weight is None else graph.adj.weight
    for t, s, w in zip(graph.adj.target.tolist(), graph.adj.indices.tolist(), weight.tolist(), strict=True):
        a[t, s] += w
    if loops:
        there = {t for t, s in zip(graph.adj.target.tolist(), graph.adj.indices.tolist(), strict=True) if t == s}
        for i in set(range(n)) - there:
            a[i, i] = 1.0
    degree = a.sum(1)
    root = torch.where(degree == 0, 0.0, degree**-0.5)
    return root[:, None] * a * root


def features(graph):
    return torch.randn(graph.num_nodes, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_appnp_parity(graph):
    model, x, a = made(lambda: APPNP(4, 5, 3, num_hops=6, alpha=0.2)), features(graph), matrix(graph, True)
    z = h = model.out(model.linear(x).relu())
    for _ in range(6):
        z = 0.8 * a @ z + 0.2 * h
    close(model(x, graph), z)


def test_appnp_of_many_steps_is_personalized_pagerank():
    graph = random_graph(9, 40, seed=3)
    model, x = made(lambda: APPNP(4, 5, 3, num_hops=400, alpha=0.3)), features(graph)
    h = model.out(model.linear(x).relu())
    exact = torch.linalg.solve(torch.eye(9, dtype=torch.float64) - 0.7 * matrix(graph, True), 0.3 * h)
    close(model(x, graph), exact)


def test_gcnii_parity(graph):
    model, x, a = made(lambda: GCNII(4, 5, 3, num_layers=4, alpha=0.2, lam=0.7)), features(graph), matrix(graph, True)
    h = h0 = model.linear(x).relu()
    for layer, linear in enumerate(model.maps, 1):
        y, beta = 0.8 * a @ h + 0.2 * h0, math.log(0.7 / layer + 1)
        h = F.relu((1 - beta) * y + beta * y @ linear.weight.T)
    close(model(x, graph), model.out(h))


def test_h2gcn_parity(graph):
    model, x, n = made(lambda: H2GCN(4, 5, 3)), features(graph), graph.num_nodes
    there = torch.zeros(n, n, dtype=torch.bool)
    there[graph.adj.target.long(), graph.adj.indices.long()] = True
    eye, rings = torch.eye(n, dtype=torch.bool), []
    two = (there.double() @ there.double() > 0) & ~there & ~eye
    for ring in (there & ~eye, two):
        ring = ring.double()
        rows, columns = (torch.where(d == 0, 0.0, d**-0.5) for d in (ring.sum(1), ring.sum(0)))
        rings.append(rows[:, None] * ring * columns)
    rounds = [model.linear(x).relu()]
    for _ in range(2):
        rounds.append(torch.cat([ring @ rounds[-1] for ring in rings], 1))
    close(model(x, graph), torch.cat(rounds, 1) @ model.out.weight.T)


def test_linkx_parity(graph):
    model, x, n = made(lambda: LINKX(4, 5, 3, num_nodes=graph.num_nodes)), features(graph), graph.num_nodes
    a = torch.zeros(n, n, dtype=torch.float64)
    weight = torch.ones(graph.num_edges) if graph.adj.weight is None else graph.adj.weight
    for t, s, w in zip(graph.adj.target.tolist(), graph.adj.indices.tolist(), weight.tolist(), strict=True):
        a[t, s] += w
    h_a, h_x = a @ model.neighbors + model.neighbor_bias, model.linear(x)
    close(model(x, graph), model.out((model.mixed(torch.cat([h_a, h_x], 1)) + h_a + h_x).relu()))


def test_linkx_is_of_one_graph():
    with pytest.raises(ArgumentError, match="expected num_nodes=5 nodes, got"):
        LINKX(4, 5, 3, num_nodes=5)(torch.ones(4, 4), random_graph(4, 6, seed=0))


@pytest.mark.parametrize("conv", [None, "gcn"])
def test_gpsconv_parity(graph, conv):
    layer = made(lambda: GPSConv(4, conv=None if conv is None else GCNConv(4, 4), num_heads=2))
    x = features(graph)
    own = layer.attention
    q, k, v = (linear(x).view(-1, 2, 2) for linear in (own.query, own.key, own.value))
    heads = [torch.softmax(q[:, h] @ k[:, h].T / math.sqrt(2), 1) @ v[:, h] for h in range(2)]
    attended = own.out(torch.cat(heads, 1))
    both = layer.norms[0](x + layer.conv(x, graph)) + layer.norms[1](x + attended)
    close(layer(x, graph), layer.norms[2](both + layer.mlp(both)))


def test_gps_parity(graph):
    model, x = made(lambda: GPS(4, 8, 3)), features(graph)
    h = model.linear(x)
    for layer in model.layers:
        both = layer.norms[0](h + layer.conv(h, graph)) + layer.norms[1](h + layer.attention(h[None])[0])
        h = layer.norms[2](both + layer.mlp(both))
    close(model(x, graph), model.out(h))


def test_gps_sees_nodes_that_no_edge_connects_and_gcn_does_not():
    graph = Graph.from_edge_index([[0, 1], [1, 0]], num_nodes=3, directed=True)
    for model, sees in ((made(lambda: GPS(4, 8, 3)), True), (made(lambda: GCN(4, 8, 3)), False)):
        x = features(graph).requires_grad_()
        (gradient,) = torch.autograd.grad(model(x, graph)[0].sum(), x)
        assert bool(gradient[2].any()) == sees


# ---------------------------------------------------------------------- without training


def undirected(graph):
    """Each edge of the graph that points to a later node, and to the node itself, in both directions."""
    own = graph.adj.target >= graph.adj.indices
    weight = None if graph.adj.weight is None else graph.adj.weight[own]
    return Graph.from_edge_index(graph.edge_index[:, own], num_nodes=graph.num_nodes, directed=False, weight=weight)


def test_labels_as_a_matrix_power(graph):
    graph = undirected(graph)
    y, train = torch.arange(graph.num_nodes) % 3, torch.tensor([0, 2])
    start = torch.zeros(graph.num_nodes, 3, dtype=torch.float64)
    start[train] = F.one_hot(y[train], 3).double()
    z = start
    for _ in range(7):
        z = 0.8 * matrix(graph, False) @ z + 0.2 * start
    found = propagate_labels(graph, y, train, 3, num_hops=7, alpha=0.8)
    torch.testing.assert_close(found.double(), z, rtol=1e-5, atol=1e-6)


def test_labels_of_other_nodes_are_not_read():
    graph, y, train = undirected(random_graph(9, 25, seed=1)), torch.arange(9) % 3, torch.tensor([0, 4])
    changed = y.clone()
    changed[[1, 2, 3]] = -1
    probabilities = torch.rand(9, 3).softmax(1)
    assert torch.equal(propagate_labels(graph, y, train, 3), propagate_labels(graph, changed, train, 3))
    both = (correct_and_smooth(graph, probabilities, labels, train) for labels in (y, changed))
    assert torch.equal(*both)


def test_correct_and_smooth_mends_a_classifier_on_blocks():
    """Two blocks of nodes, a classifier that is right for 65 %: neighbors mend it."""
    made = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    pairs = torch.randint(200, (2, 3000), generator=made)
    pairs = pairs[:, (y[pairs[0]] == y[pairs[1]]) | (torch.rand(3000, generator=made) < 0.2)]
    pairs = pairs.sort(0).values.unique(dim=1)
    graph = Graph.from_edge_index(pairs, num_nodes=200, directed=False)
    wrong = torch.rand(200, generator=made) > 0.65
    probabilities = F.one_hot(torch.where(wrong, 1 - y, y), 2).double() * 0.4 + 0.3
    before = float((probabilities.argmax(1) == y).double().mean())
    after = float((correct_and_smooth(graph, probabilities, y, torch.arange(20)).argmax(1) == y).double().mean())
    assert before < 0.72
    assert after > 0.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: propagate_labels(g, torch.zeros(3).long(), torch.tensor([0]), 2), r"y: expected shape \[9\]"),
        (lambda g: propagate_labels(g, torch.full((9,), -1), torch.tensor([0]), 2), "a node whose label is missing"),
        (lambda g: propagate_labels(g, torch.zeros(9).long(), torch.tensor([0]), 2, alpha=2.0), "alpha"),
        (lambda g: correct_and_smooth(g, torch.ones(3, 2), torch.zeros(9).long(), torch.tensor([0])), r"\[9, C\]"),
        (lambda g: propagate_labels(g, torch.full((9,), 2), torch.tensor([0]), 2), r"classes 0 .. 1 on the training"),
        (
            lambda g: propagate_labels(random_graph(9, 25, seed=1), torch.zeros(9).long(), torch.tensor([0]), 2),
            "undirected",
        ),
        (lambda g: APPNP(4, 5, 3, alpha=1.5), "alpha"),
        (lambda g: GCNII(4, 5, 3, lam=-1.0), "lam"),
        (lambda g: GPSConv(4, 5), "out_channels: expected 4"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(undirected(random_graph(9, 25, seed=1)))
