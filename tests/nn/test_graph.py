"""GCNConv and GATConv against loops over the sums of their papers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import GATConv, GCNConv, SAGEConv
from hgraph.nn.graph._steps import with_loops
from hgraph.structure import Graph
from hgraph.testing import random_adjacency, random_graph
from hgraph.train import seeded


def attended(graph):
    """For each node its (source, weight) pairs, with separate parallel edges."""
    weight = torch.ones(graph.num_edges) if graph.adj.weight is None else graph.adj.weight
    out = [[] for _ in range(graph.num_nodes)]
    for target, source, w in zip(
        graph.adj.target.tolist(), graph.adj.indices.tolist(), weight.double().tolist(), strict=True
    ):
        out[target].append((source, w))
    return out


def gcn_by_loops(x, graph, weight, bias):
    """Kipf and Welling, eq. 8: Â = A + I where the loop is missing, d_i = sum_j Â_ij."""
    rows = [edges if any(j == i for j, _ in edges) else [*edges, (i, 1.0)] for i, edges in enumerate(attended(graph))]
    degree = [math.fsum(w for _, w in edges) for edges in rows]
    root = [0.0 if d == 0 else d**-0.5 for d in degree]
    z = x @ weight
    out = torch.zeros_like(z)
    for i, edges in enumerate(rows):
        for j, w in edges:
            out[i] += root[i] * w * root[j] * z[j]
    return out + bias


def gat_by_loops(x, graph, layer):
    """Velickovic et al., eq. 1 to 4, over N(i) and i itself."""
    rows = [edges if any(j == i for j, _ in edges) else [*edges, (i, 1.0)] for i, edges in enumerate(attended(graph))]
    z = layer.linear(x).view(len(x), layer.num_heads, -1)
    out = torch.zeros_like(z)
    for h in range(layer.num_heads):
        for i, edges in enumerate(rows):
            score = [
                F.leaky_relu(layer.target_score[h] @ z[i, h] + layer.source_score[h] @ z[j, h], layer.negative_slope)
                for j, _ in edges
            ]
            prob = torch.softmax(torch.stack(score), 0)
            out[i, h] = sum(a * z[j, h] for a, (j, _) in zip(prob, edges, strict=True))
    out = out.flatten(1) if layer.concat else out.mean(1)
    return out + layer.bias


def layer_of(kind, *arguments, **options):
    torch.manual_seed(0)
    layer = kind(*arguments, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return layer


def features(graph):
    return torch.randn(graph.num_nodes, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize("width", [2, 5])  # narrower and wider: the map comes first or last
def test_gcnconv_parity(graph, close, width):
    layer, x = layer_of(GCNConv, 3, width), features(graph)
    close(layer(x, graph), gcn_by_loops(x, graph, layer.linear.weight.T, layer.bias))


@pytest.mark.parametrize("concat", [True, False])
def test_gatconv_parity(graph, close, concat):
    layer, x = layer_of(GATConv, 3, 2, num_heads=3, concat=concat, negative_slope=0.3), features(graph)
    close(layer(x, graph), gat_by_loops(x, graph, layer))


def test_without_bias_nothing_is_added(graph):
    for kind in (GCNConv, GATConv):
        layer, x = layer_of(kind, 3, 2, bias=False), features(graph)
        assert layer.bias is None
        with_bias = kind(3, 2).double()
        with_bias.load_state_dict({**layer.state_dict(), "bias": torch.tensor([3.0, -1.0])})
        torch.testing.assert_close(layer(x, graph) + torch.tensor([3.0, -1.0]), with_bias(x, graph))


# ---------------------------------------------------------------------- features of edges, and nodes of two kinds


def gat_with_edges_by_loops(x, graph, edge, layer):
    """Lv et al.: a third term inside the LeakyReLU; the loop that a graph lacks has the features 0."""
    z = layer.linear(x).view(len(x), layer.num_heads, -1)
    w = layer.edge_linear(edge).unflatten(1, (layer.num_heads, -1))
    ends = list(zip(graph.adj.target.tolist(), graph.adj.indices.tolist(), strict=True))
    out = torch.zeros_like(z)
    for h in range(layer.num_heads):
        a, b, c = layer.target_score[h], layer.source_score[h], layer.edge_score[h]
        for i in range(len(x)):
            own = [(j, w[e, h] @ c) for e, (t, j) in enumerate(ends) if t == i]
            own += [] if any(j == i for j, _ in own) else [(i, 0.0)]
            score = [F.leaky_relu(a @ z[i, h] + b @ z[j, h] + extra, layer.negative_slope) for j, extra in own]
            prob = torch.softmax(torch.stack(score), 0)
            out[i, h] = sum(p * z[j, h] for p, (j, _) in zip(prob, own, strict=True))
    return (out.flatten(1) if layer.concat else out.mean(1)) + layer.bias


def edges_of(graph, width=4, seed=3):
    return torch.randn(graph.num_edges, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("concat", [True, False])
def test_gatconv_parity_with_edge_features(graph, close, concat):
    layer, x = layer_of(GATConv, 3, 2, num_heads=3, concat=concat, edge_channels=4), features(graph)
    close(layer(x, graph, edges_of(graph)), gat_with_edges_by_loops(x, graph, edges_of(graph), layer))


def test_gat_with_edge_features_of_zero_is_the_layer_without(graph, close):
    layer, x = layer_of(GATConv, 3, 2, num_heads=2, edge_channels=4), features(graph)
    plain = layer_of(GATConv, 3, 2, num_heads=2)
    plain.load_state_dict({name: value for name, value in layer.state_dict().items() if "edge" not in name})
    close(layer(x, graph, torch.zeros(graph.num_edges, 4).double()), plain(x, graph))


def test_gat_batches_of_edge_features_and_other_orders_of_edges(close):
    pairs = torch.tensor([[3, 0, 1, 2, 0], [0, 1, 2, 3, 2]])
    order = torch.tensor([4, 2, 0, 3, 1])
    graph, other = (Graph.from_edge_index(p, num_nodes=4, directed=True) for p in (pairs, pairs[:, order]))
    layer, x = layer_of(GATConv, 3, 2, num_heads=2, edge_channels=4), torch.randn(2, 4, 3).double()
    edge = torch.randn(2, 5, 4).double()
    out = layer(x, graph, torch.stack([graph.adj.sort_edges(e) for e in edge]))
    for i in range(2):
        close(out[i], layer(x[i], graph, graph.adj.sort_edges(edge[i])))
        close(out[i], layer(x[i], other, other.adj.sort_edges(edge[i][order])))
    close(layer(x, graph, graph.adj.sort_edges(edge[0]))[1], layer(x[1], graph, graph.adj.sort_edges(edge[0])))


def test_gat_stores_no_row_of_values_per_edge():
    """The largest tensor saved for the backward pass has E * max(H, D) numbers, not E * H * F'."""
    graph = random_graph(40, 1200, seed=1)
    layer, x = GATConv(3, 64, num_heads=4, edge_channels=5), torch.randn(40, 3)
    edge, sizes = torch.randn(graph.num_edges, 5), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        layer(x, graph, edge).sum().backward()
    assert max(sizes) <= max(graph.num_edges * 5, 40 * 4 * 64)


def bipartite():
    return random_adjacency(5, 7, 16, seed=2), *(
        torch.randn(n, f, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n, f in ((7, 3), (5, 4))
    )


@pytest.mark.parametrize("edge_channels", [None, 2])
def test_gatconv_parity_between_nodes_of_two_kinds(close, edge_channels):
    adj, x_source, x_target = bipartite()
    layer = layer_of(GATConv, (3, 4), 2, num_heads=2, edge_channels=edge_channels)
    value, query = layer.linear(x_source).view(7, 2, 2), layer.target_linear(x_target).view(5, 2, 2)
    edge = None if edge_channels is None else torch.randn(adj.num_edges, 2).double()
    out = torch.zeros(5, 2, 2).double()
    for h in range(2):
        for i in range(5):
            score, sources = [], []
            for e, (t, j) in enumerate(zip(adj.target.tolist(), adj.indices.tolist(), strict=True)):
                if t == i:
                    extra = 0 if edge is None else layer.edge_score[h] @ layer.edge_linear(edge[e]).view(2, 2)[h]
                    s = layer.target_score[h] @ query[i, h] + layer.source_score[h] @ value[j, h] + extra
                    score.append(F.leaky_relu(s, 0.2))
                    sources.append(j)
            for p, j in zip(torch.softmax(torch.stack(score), 0) if score else [], sources, strict=True):
                out[i, h] += p * value[j, h]
    close(layer((x_source, x_target), adj, edge), out.flatten(1) + layer.bias)


@pytest.mark.parametrize("reduce", ["mean", "sum", "max"])
@pytest.mark.parametrize("width", [2, 5])  # narrower and wider: the map comes first or last
def test_sageconv_parity(graph, close, reduce, width):
    layer, x = layer_of(SAGEConv, 3, width, reduce=reduce), features(graph)
    out = layer.target_linear(x).clone()
    for i, edges in enumerate(attended(graph)):
        if not edges:
            continue
        rows, w = x[[j for j, _ in edges]], torch.tensor([w for _, w in edges]).double()
        total = {"max": rows.max(0).values, "sum": w @ rows, "mean": w @ rows / w.sum() if w.sum() else 0 * rows[0]}
        out[i] += layer.linear.weight @ total[reduce]
    close(layer(x, graph), out)


@pytest.mark.parametrize("reduce", ["mean", "sum", "max"])
def test_sageconv_parity_between_nodes_of_two_kinds(close, reduce):
    adj, x_source, x_target = bipartite()
    adj = adj.with_weight(None)
    layer = layer_of(SAGEConv, (3, 4), 2, reduce=reduce)
    out = layer.target_linear(x_target).clone()
    for i in range(5):
        own = [j for t, j in zip(adj.target.tolist(), adj.indices.tolist(), strict=True) if t == i]
        if own:
            rows = x_source[own]
            out[i] += layer.linear(rows.max(0).values if reduce == "max" else getattr(rows, reduce)(0))
    close(layer((x_source, x_target), adj), out)


@pytest.mark.parametrize("kind", [GATConv, SAGEConv])
def test_layers_between_two_kinds_compile_and_differentiate(kind):
    adj, x_source, x_target = bipartite()
    layer = layer_of(kind, (3, 4), 2)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled((x_source, x_target), adj), layer((x_source, x_target), adj))
    tensors = [x_source.requires_grad_(), x_target.requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b: layer((a, b), adj), tensors, fast_mode=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda adj, s, t: GATConv((3, 4), 2)(s, adj), "x: expected a pair"),
        (lambda adj, s, t: SAGEConv((3, 4), 2)((t, s), adj), r"x_source: expected shape \[..., 7, 3\]"),
        (lambda adj, s, t: SAGEConv((3, 4), 2)((s, t), Graph(random_adjacency(3, 3, 2))), "an Adjacency"),
        (lambda adj, s, t: GATConv((3, 4, 5), 2), "in_channels: expected a number, or a pair"),
        (lambda adj, s, t: GATConv((3, 0), 2), "in_channels"),
        (lambda adj, s, t: GATConv(3, 2, edge_channels=0), "edge_channels"),
        (lambda adj, s, t: GATConv((3, 4), 2, edge_channels=2)((s, t), adj), "edge_features: expected shape"),
        (lambda adj, s, t: GATConv((3, 4), 2)((s, t), adj, torch.ones(16, 2)), "edge_features: expected None"),
        (lambda adj, s, t: GATConv((3, 4), 2, edge_channels=2)((s, t), adj, torch.ones(15, 2)), "sort_edges"),
        (lambda adj, s, t: SAGEConv(3, 2, reduce="min"), "reduce"),
    ],
)
def test_errors_of_pairs_and_edge_features(call, message):
    adj, x_source, x_target = bipartite()
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        call(adj, x_source.float(), x_target.float())


# ---------------------------------------------------------------------- limits


def test_gcn_without_edges_is_linear(close):
    graph = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.long), num_nodes=4, directed=True)
    layer, x = layer_of(GCNConv, 3, 2), features(graph)
    close(layer(x, graph), layer.linear(x) + layer.bias)


def test_gcn_with_explicit_loops_is_the_same(graph, close):
    layer, x = layer_of(GCNConv, 3, 2), features(graph)
    close(layer(x, graph.add_self_loops()), layer(x, graph))


def test_gat_with_explicit_loops_is_the_same(graph, close):
    layer, x = layer_of(GATConv, 3, 2, num_heads=2), features(graph)
    close(layer(x, graph.add_self_loops()), layer(x, graph))


@pytest.mark.parametrize("kind", [GCNConv, GATConv])
def test_loops_as_edges_and_as_separate_terms_are_the_same(kind, graph, close):
    """Learned weights are not cached, so loops are not made edges there."""
    layer, x = layer_of(kind, 3, 2), features(graph).requires_grad_()
    weight = torch.ones(graph.num_edges).double() if graph.adj.weight is None else graph.adj.weight.double()
    learned = Graph(graph.adj.with_weight(weight.clone().requires_grad_()))
    graph = Graph(graph.adj.with_weight(weight))
    assert with_loops(graph)[1] is None
    assert with_loops(graph)[0] is with_loops(graph)[0]
    assert with_loops(learned)[0] is learned.adj
    close(layer(x, learned), layer(x, graph))
    grads = [torch.autograd.grad(layer(x, g).square().sum(), [x, *layer.parameters()]) for g in (learned, graph)]
    for one, other in zip(*grads, strict=True):
        close(one, other)


@pytest.mark.parametrize("kind", [GCNConv, GATConv])
def test_with_and_without_a_cached_graph(kind, graph):
    layer, x = layer_of(kind, 3, 2), features(graph)
    with torch.no_grad():
        silent = layer(x, graph)
        assert torch.equal(layer(x, graph), silent)
    assert torch.equal(layer(x, graph), silent)


@pytest.mark.parametrize("width", [2, 5])
def test_gcn_of_prepared_features_is_the_layer(width, graph, close):
    layer, x = layer_of(GCNConv, 3, width), features(graph)
    prepared = layer.prepare(x, graph)
    close(layer.from_prepared(prepared), layer(x, graph))
    with torch.no_grad():
        layer.linear.weight.mul_(2)  # parameters are not in what was prepared
    close(layer.from_prepared(prepared), layer(x, graph))
    with pytest.raises(ArgumentError, match="x: expected"):
        layer.prepare(x[:, :2], graph)


def test_gat_with_equal_scores_is_the_mean(close):
    graph = Graph.from_edge_index([[0, 1, 2], [3, 3, 3]], num_nodes=4, directed=True)
    layer, x = layer_of(GATConv, 3, 2, bias=False), features(graph)
    torch.nn.init.zeros_(layer.source_score)
    close(layer(x, graph)[3], layer.linear(x).mean(0))


def test_gat_does_not_read_edge_weights(graph):
    layer, x = layer_of(GATConv, 3, 2), features(graph)
    other = Graph(graph.adj.with_weight(torch.full((graph.num_edges,), 7.0)))
    assert torch.equal(layer(x, graph), layer(x, other))


def test_gat_with_large_scores():
    graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    layer = layer_of(GATConv, 3, 2, num_heads=2).float()
    x = 1e4 * features(graph).float()
    x.requires_grad_()
    out = layer(x, graph)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()


def test_gat_half_scores_of_loops_as_exact_as_those_of_edges():
    """Two nodes with equal features get equal weights, whether a loop is an edge or added by the layer."""
    graph = Graph.from_edge_index([[0, 1], [1, 0]], num_nodes=2, directed=True)
    layer = layer_of(GATConv, 3, 2, num_heads=1, bias=False).bfloat16()
    x = torch.tensor([[3.7, -2.9, 5.3]] * 2).bfloat16()
    with torch.no_grad():
        layer.target_score.fill_(1.7)
        layer.source_score.fill_(0.9)
    torch.testing.assert_close(layer(x, graph), layer(x, graph.add_self_loops()), rtol=2**-8, atol=0)
    torch.testing.assert_close(layer(x, graph), layer.linear(x), rtol=2**-8, atol=0)


# ---------------------------------------------------------------------- dropout


def test_gat_dropout_only_in_training_and_right_on_average():
    graph = Graph.from_edge_index([[0, 1, 2], [3, 3, 3]], num_nodes=4, directed=True)
    layer, x = layer_of(GATConv, 3, 2, dropout=0.4), features(graph)
    exact = layer.eval()(x, graph)
    assert torch.equal(exact, layer(x, graph))
    layer.train()
    torch.manual_seed(0)
    draws = torch.stack([layer(x, graph) for _ in range(600)])
    assert not torch.equal(draws[0], draws[1])
    error = (draws.mean(0) - exact).abs()
    assert (error <= 5 * draws.std(0) / 600**0.5 + 1e-12).all()
    # the loop is dropped too: node 0 only receives from itself, so it gets b or b + z / 0.6
    values = {tuple(row.tolist()) for row in (draws[:, 0] - layer.bias).round(decimals=9)}
    assert len(values) == 2


# ---------------------------------------------------------------------- errors


def test_errors_name_what_is_wrong():
    graph = Graph.from_edge_index([[0], [1]], num_nodes=3, directed=True)
    with pytest.raises(ArgumentError, match="heads"):
        GATConv(3, 2, num_heads=0)
    with pytest.raises(ArgumentError, match="shape"):
        GCNConv(3, 2)(torch.randn(4, 3), graph)
    with pytest.raises(ArgumentError, match="shape"):
        GATConv(3, 2)(torch.randn(4, 3), graph)
    with pytest.raises((ArgumentTypeError, RuntimeError)):
        GCNConv(3, 2)(torch.ones(3, 3, dtype=torch.long), graph)


@pytest.mark.parametrize("kind", [GCNConv, GATConv])
def test_states_of_before_the_weight_was_stored_by_output_load(kind):
    layer, other = kind(3, 5), kind(3, 5)
    older = {name: value.clone() for name, value in layer.state_dict().items()}
    older["weight"] = older.pop("linear.weight").T.contiguous()
    other.load_state_dict(older)
    for name, value in layer.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


@pytest.mark.parametrize("kind", [GCNConv, GATConv])
def test_the_seed_draws_the_weight_by_input(kind):
    with seeded(0):
        expected = torch.nn.init.xavier_uniform_(torch.empty(3, 5))
    with seeded(0):
        layer = kind(3, 5)
    assert torch.equal(layer.linear.weight.T, expected)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with seeded(0):
        layer.reset_parameters()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
