"""Layers over graphs against loops over the sums of their papers, in float64, and their limit cases."""

import importlib
import math

import pytest
import torch
import torch.nn.functional as F

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import (
    ChebConv,
    EdgeConv,
    GATConv,
    GatedGCNConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    PNAConv,
    SGConv,
    TAGConv,
    TransformerConv,
)
from hgraph.structure import Graph
from hgraph.testing import random_graph
from tests.nn.test_graph import attended, edges_of, features, layer_of


def zeros(n, width):
    return torch.zeros(n, width, dtype=torch.float64)


def matrix(graph, loops):
    """The symmetrically normalized adjacency matrix, with the missing self-loops or without."""
    n = graph.num_nodes
    a = zeros(n, n)
    for i, edges in enumerate(attended(graph)):
        for j, w in edges:
            a[i, j] += w
    if loops:
        for i, edges in enumerate(attended(graph)):
            if not any(j == i for j, _ in edges):
                a[i, i] = 1.0
    degree = a.sum(1)
    root = torch.where(degree == 0, 0.0, degree.abs() ** -0.5)
    return root[:, None] * a * root


@pytest.mark.parametrize("num_hops", [0, 1, 3])
def test_sgconv_parity(graph, close, num_hops):
    layer, x = layer_of(SGConv, 3, 2, num_hops=num_hops), features(graph)
    expected = layer.linear(torch.linalg.matrix_power(matrix(graph, True), num_hops) @ x)
    close(layer(x, graph), expected)
    close(layer.from_prepared(layer.prepare(x, graph)), expected)


@pytest.mark.parametrize("num_hops", [0, 1, 3])
def test_tagconv_parity(graph, close, num_hops):
    layer, x, a = layer_of(TAGConv, 3, 2, num_hops=num_hops), features(graph), matrix(graph, False)
    out = layer.linear.bias + zeros(len(x), 2)
    for k in range(num_hops + 1):
        out = out + torch.linalg.matrix_power(a, k) @ x @ layer.linear.weight[:, 3 * k : 3 * k + 3].T
    close(layer(x, graph), out)


@pytest.mark.parametrize("num_hops", [0, 1, 4])
@pytest.mark.parametrize("largest", [2.0, 1.3])
def test_chebconv_parity(graph, close, num_hops, largest):
    layer, x = layer_of(ChebConv, 3, 2, num_hops=num_hops, largest=largest), features(graph)
    eye = torch.eye(len(x), dtype=torch.float64)
    shifted = 2 / largest * (eye - matrix(graph, False)) - eye
    terms = [eye, shifted]
    while len(terms) <= num_hops:
        terms.append(2 * shifted @ terms[-1] - terms[-2])
    out = layer.linear.bias + zeros(len(x), 2)
    for k in range(num_hops + 1):
        out = out + terms[k] @ x @ layer.linear.weight[:, 3 * k : 3 * k + 3].T
    close(layer(x, graph), out)


@pytest.mark.parametrize("learn_eps", [True, False])
def test_ginconv_parity(graph, close, learn_eps):
    layer, x = layer_of(GINConv, 3, 2, eps=0.3, learn_eps=learn_eps), features(graph)
    total = (1 + layer.eps) * x
    for i, edges in enumerate(attended(graph)):
        for j, w in edges:
            total[i] = total[i] + w * x[j]
    close(layer(x, graph), layer.mlp(total))


def test_ginconv_parity_with_edge_features(graph, close):
    layer, x, edge = layer_of(GINConv, 3, 2, eps=0.3, edge_channels=4), features(graph), edges_of(graph)
    total, at = 1.3 * x, 0
    for i, edges in enumerate(attended(graph)):
        for j, w in edges:
            total[i] = total[i] + w * F.relu(x[j] + layer.edge_linear(edge[at]))
            at += 1
    torch.testing.assert_close(layer(x, graph, edge), layer.mlp(total), rtol=1e-6, atol=1e-6)  # eps is 0.3 in float32


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("edges", [True, False])
def test_gatv2conv_parity(graph, close, concat, share, edges):
    options = {"num_heads": 3, "concat": concat, "share": share, "edge_channels": 4 if edges else None}
    layer, x = layer_of(GATv2Conv, 3, 2, **options), features(graph)
    edge = edges_of(graph) if edges else None
    key = layer.linear(x).unflatten(-1, (3, 2))
    query = key if share else layer.target_linear(x).unflatten(-1, (3, 2))
    extra = layer.edge_linear(edge).unflatten(-1, (3, 2)) if edges else zeros(graph.num_edges * 3, 2).view(-1, 3, 2)
    ends = list(zip(graph.adj.target.tolist(), graph.adj.indices.tolist(), strict=True))
    out = torch.zeros_like(key)
    for h in range(3):
        for i in range(len(x)):
            own = [(j, extra[e, h]) for e, (t, j) in enumerate(ends) if t == i]
            own += [] if any(j == i for j, _ in own) else [(i, torch.zeros(2).double())]
            score = [layer.score[h] @ F.leaky_relu(query[i, h] + key[j, h] + z, 0.2) for j, z in own]
            prob = torch.softmax(torch.stack(score), 0)
            out[i, h] = sum(p * key[j, h] for p, (j, _) in zip(prob, own, strict=True))
    expected = (out.flatten(1) if concat else out.mean(1)) + layer.bias
    close(layer(x, graph) if edge is None else layer(x, graph, edge), expected)


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("gate", [True, False])
def test_transformerconv_parity(graph, close, concat, gate):
    layer, x = layer_of(TransformerConv, 3, 2, num_heads=3, concat=concat, gate=gate), features(graph)
    q, k, v = (m(x).unflatten(-1, (3, 2)) for m in (layer.query, layer.key, layer.value))
    out = torch.zeros_like(v)
    for i, edges in enumerate(attended(graph)):
        if not edges:
            continue
        for h in range(3):
            prob = torch.softmax(torch.stack([q[i, h] @ k[j, h] / math.sqrt(2) for j, _ in edges]), 0)
            out[i, h] = sum(p * v[j, h] for p, (j, _) in zip(prob, edges, strict=True))
    out = out.flatten(1) if concat else out.mean(1)
    own = layer.skip(x)
    beta = torch.sigmoid(layer.gate(torch.cat([out, own, out - own], -1))) if gate else None
    close(layer(x, graph), out + own if beta is None else (1 - beta) * out + beta * own)


@pytest.mark.parametrize("delta", [None, 0.8])
def test_pnaconv_parity(graph, close, delta):
    layer, x = layer_of(PNAConv, 3, 2, mean_log_degree=delta), features(graph)
    degrees = [len(edges) for edges in attended(graph)]
    mean_log = delta or sum(math.log(d + 1) for d in degrees) / len(degrees)
    rows = []
    for i, edges in enumerate(attended(graph)):
        if not edges:
            rows.append(torch.cat([x[i], torch.zeros(36).double()]))
            continue
        m = torch.stack([layer.target_linear(x[i]) + layer.linear(x[j]) for j, _ in edges])
        spread = (m.square().mean(0) - m.mean(0).square()).relu()
        found = torch.cat([m.mean(0), m.amax(0), m.amin(0), (spread + 1e-5).sqrt()])
        scale = math.log(len(edges) + 1) / mean_log
        rows.append(torch.cat([x[i], found, scale * found, found / scale]))
    close(layer(x, graph), layer.out(torch.stack(rows)))


@pytest.mark.parametrize("given", [True, False])
def test_edgeconv_parity(graph, close, given):
    x = features(graph)
    mlp = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    layer = layer_of(EdgeConv, 3, 2, mlp=mlp if given else None)
    out = zeros(len(x), 2)
    for i, edges in enumerate(attended(graph)):
        if edges and given:
            out[i] = torch.stack([layer.mlp(torch.cat([x[i], x[j] - x[i]])) for j, _ in edges]).amax(0)
        elif edges:
            own = layer.target_linear(x[i])
            out[i] = torch.stack([F.relu(layer.linear(x[j] - x[i]) + own) for j, _ in edges]).amax(0)
    close(layer(x, graph), out)


@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_gatedgcnconv_parity(graph, close, edges, normalize):
    layer = layer_of(GatedGCNConv, 3, 2, edge_channels=4 if edges else None, normalize=normalize)
    x, edge, at = features(graph), edges_of(graph), 0
    out = layer.linear(x).clone()
    for i, own in enumerate(attended(graph)):
        total, gates = zeros(1, 2)[0], zeros(1, 2)[0]
        for j, _ in own:
            score = layer.target_gate(x[i]) + layer.source_gate(x[j]) + (layer.edge_gate(edge[at]) if edges else 0)
            total, gates = total + score.sigmoid() * layer.value(x[j]), gates + score.sigmoid()
            at += 1
        out[i] = out[i] + (total / (gates + 1e-6) if normalize else total)
    close(layer(x, graph, edge) if edges else layer(x, graph), out)


# ---------------------------------------------------------------------- limits


def test_one_hop_of_sgc_is_gcn(graph, close):
    sgc, gcn, x = layer_of(SGConv, 3, 2, num_hops=1), layer_of(GCNConv, 3, 2), features(graph)
    gcn.load_state_dict({"linear.weight": sgc.linear.weight, "bias": sgc.linear.bias})
    close(sgc(x, graph), gcn(x, graph))


def test_gatv2_ranks_neighbors_differently_per_node():
    """A query prefers the key that equals it, for every query; one order of the keys for all cannot (section 4.1)."""
    every = [(j, i) for i in range(4) for j in range(4)]
    graph = Graph.from_edge_index(torch.tensor(every).T, num_nodes=4, directed=True)
    layer = layer_of(GATv2Conv, 4, 4, bias=False)
    eye = torch.eye(4).double()
    layer.negative_slope = -1.0  # LeakyReLU is the absolute value
    with torch.no_grad():
        layer.linear.weight.copy_(eye)
        layer.target_linear.weight.copy_(-eye)
        layer.score.fill_(-20.0)  # minus the distance of query and key
    assert layer(eye, graph).argmax(1).tolist() == [0, 1, 2, 3]


def test_a_node_without_neighbors_gets_its_own_part(close):
    graph, x = Graph.from_edge_index([[0], [1]], num_nodes=3, directed=True), torch.randn(3, 3).double()
    for layer in (layer_of(TransformerConv, 3, 2), layer_of(GatedGCNConv, 3, 2)):
        own = layer.skip if isinstance(layer, TransformerConv) else layer.linear
        close(layer(x, graph)[2], own(x[2]))
    edge_conv = layer_of(EdgeConv, 3, 2)
    assert edge_conv(x, graph)[2].tolist() == [0, 0]


def test_chebnet_of_degree_one_tells_neighbors_from_the_node():
    graph = Graph.from_edge_index([[0, 1], [1, 0]], num_nodes=2, directed=True)
    layer = layer_of(ChebConv, 1, 1, num_hops=1, bias=False)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0, 1.0]]))
    assert layer(torch.tensor([[3.0], [1.0]]).double(), graph).flatten().tolist() == [2, -2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: SGConv(3, 2, num_hops=-1), "num_hops"),
        (lambda g: ChebConv(3, 2, largest=0.0), "largest"),
        (lambda g: GATv2Conv(3, 2, num_heads=0), "num_heads"),
        (lambda g: TransformerConv(3, 2, num_heads=0), "num_heads"),
        (lambda g: PNAConv(3, 2, mean_log_degree=0.0), "mean_log_degree"),
        (lambda g: GINConv(3, 2)(torch.ones(3, 3), g, torch.ones(2, 4)), "edge_features: expected None"),
        (lambda g: GatedGCNConv(3, 2, edge_channels=4)(torch.ones(3, 3), g), "sort_edges"),
        (lambda g: GATv2Conv(3, 2, edge_channels=4)(torch.ones(3, 3), g, torch.ones(3, 4)), "sort_edges"),
        (lambda g: PNAConv(3, 2)(torch.ones(3, 4), g), r"in_channels is 3"),
        (lambda g: GatedGCNConv(3, 2, eps=-1.0), "eps"),
        (lambda g: GINConv(3, 2, eps=float("nan")), "eps"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=True))


def test_features_of_edges_are_not_truncated():
    """An integer tensor would turn learned weights of the edges into 0."""
    g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=True)
    for layer in (GATConv, GATv2Conv, GINConv, GatedGCNConv):
        with pytest.raises(ArgumentTypeError, match="edge_features: expected a floating-point tensor"):
            layer(3, 2, edge_channels=4)(torch.ones(3, 3), g, torch.ones(2, 4, dtype=torch.long))


def test_an_empty_mlp_is_the_mlp_of_gin():
    layer, x = GINConv(3, 3, mlp=torch.nn.Sequential()), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True)
    assert layer(x, graph).tolist() == [[1, 2, 3], [5, 7, 9]]


def test_batch_norm_in_edgeconv_sees_all_edges(monkeypatch):
    aggregate = importlib.import_module("hgraph.ops.aggregate")
    mlp = torch.nn.Sequential(torch.nn.Linear(6, 2), torch.nn.BatchNorm1d(2))
    layer, x, graph = EdgeConv(3, 2, mlp=mlp), torch.randn(9, 3), random_graph(9, 30, seed=0)
    whole, mean = layer(x, graph), mlp[1].running_mean.clone()
    mlp[1].reset_running_stats()
    monkeypatch.setattr(aggregate, "_edges_per_chunk", lambda adj, features: 4)
    torch.testing.assert_close(layer(x, graph), whole)
    torch.testing.assert_close(mlp[1].running_mean, mean)


def test_pna_in_half_precision():
    """The mean of squares minus the square of the mean is computed in float32."""
    layer, x = PNAConv(3, 2), 300 * torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    graph = random_graph(9, 30, seed=0)
    exact = layer(x, graph).detach()
    out = layer.half()(x.half(), graph).float()
    torch.testing.assert_close(out, exact, rtol=5e-2, atol=float(5e-3 * exact.abs().max()))
