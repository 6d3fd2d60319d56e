"""Hypergraph layers against loops over the sums of their papers, and their limit cases."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from hgraph.errors import ArgumentError
from hgraph.nn import (
    AllDeepSetsConv,
    AllSetTransformerConv,
    EDHNNConv,
    HGNNPConv,
    HNHNConv,
    HypergraphAttentionConv,
    HypergraphConv,
    HyperSAGEConv,
    SheafHypergraphConv,
    UniGATConv,
    UniGCNConv,
    UniGINConv,
    UniSAGEConv,
)
from hgraph.nn.hypergraph.mlp import set_mlp
from hgraph.structure import Hypergraph

LAYERS = {
    "AllDeepSetsConv": lambda: AllDeepSetsConv(3, 16),
    "AllSetTransformerConv": lambda: AllSetTransformerConv(3, 4, num_heads=2),
    "EDHNNConv": lambda: EDHNNConv(3, hidden_channels=16),
    "HNHNConv": lambda: HNHNConv(3, 2, hyperedge_channels=16),
    "HypergraphAttentionConv": lambda: HypergraphAttentionConv(3, 2, num_heads=2),
    "HypergraphConv": lambda: HypergraphConv(3, 2),
    "HyperSAGEConv": lambda: HyperSAGEConv(3, 2),
    "HyperSAGEConv of cubes": lambda: HyperSAGEConv(3, 2, power=3.0),
    "SheafHypergraphConv": lambda: SheafHypergraphConv(3, 2, stalk_dim=1),
    "UniGATConv": lambda: UniGATConv(3, 2, num_heads=2),
    "UniGINConv": lambda: UniGINConv(3, 2),
    "UniSAGEConv": lambda: UniSAGEConv(3, 2),
}

AGGREGATE = importlib.import_module("hgraph.ops.aggregate")


def made(build):
    """The layer in float64 and eval mode; attention vectors and biases away from 0."""
    torch.manual_seed(1)
    layer = build().double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer.requires_grad_(False)


class Sums:
    """A hypergraph as lists: members of hyperedges, hyperedges of nodes, h(v, e), w and both degrees."""

    def __init__(self, hypergraph):
        v2e = hypergraph.v2e
        values = torch.ones(v2e.num_edges) if v2e.weight is None else v2e.weight
        self.h = {(v, e): h for e, v, h in zip(v2e.target.tolist(), v2e.indices.tolist(), values.tolist(), strict=True)}
        self.num_nodes, self.num_hyperedges = hypergraph.num_nodes, hypergraph.num_hyperedges
        w = hypergraph.hyperedge_weight
        self.w = [1.0] * self.num_hyperedges if w is None else w.tolist()
        self.members = [[v for v, e in self.h if e == edge] for edge in range(self.num_hyperedges)]
        self.edges = [[e for v, e in self.h if v == node] for node in range(self.num_nodes)]
        self.d_e = [sum(self.h[v, e] for v in members) for e, members in enumerate(self.members)]
        self.d_v = [sum(self.w[e] * self.h[v, e] for e in edges) for v, edges in enumerate(self.edges)]

    def mean_e(self, x):
        """[M, D]: averages over the members, weighted by h."""
        rows = [
            sum((self.h[v, e] * x[v] for v in members), torch.zeros_like(x[0])) / self.d_e[e] if members and self.d_e[e]
            else torch.zeros_like(x[0]) for e, members in enumerate(self.members)
        ]  # fmt: skip
        return torch.stack(rows) if rows else x.new_zeros(0, x.shape[1])

    def sum_v(self, z, width):
        """[N, D]: sums over the hyperedges of a node, weighted by w h."""
        rows = [sum((self.w[e] * self.h[v, e] * z[e] for e in edges), torch.zeros(width, dtype=torch.float64))
                for v, edges in enumerate(self.edges)]  # fmt: skip
        return torch.stack(rows)

    def mean_v(self, z, width):
        degree = torch.tensor([d if d else 1.0 for d in self.d_v], dtype=torch.float64).unsqueeze(1)
        return self.sum_v(z, width) / degree


def softmax(scores):
    top = max(scores)
    each = [math.exp(s - top) for s in scores]
    return [e / sum(each) for e in each]


def leaky(x):
    return x if x > 0 else 0.2 * x


def positive(hypergraph):
    """The hypergraph with the sizes of its weights, as attention needs them."""
    v2e, w = hypergraph.v2e, hypergraph.hyperedge_weight
    new = v2e.with_weight(None if v2e.weight is None else v2e.weight.abs() + 0.1)
    return Hypergraph(new, None if w is None else w.abs() + 0.1)


def features(hypergraph):
    return torch.randn(hypergraph.num_nodes, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize("normalize", ["row", "sym"])
def test_hypergraphconv_parity(hypergraph, close, normalize):
    layer, x = made(lambda: HypergraphConv(3, 2, normalize=normalize)), features(hypergraph)
    sums, y = Sums(hypergraph), x @ layer.linear.weight.T
    if normalize == "row":
        expected = sums.mean_v(sums.mean_e(y), 2)
    else:
        root = torch.tensor([abs(d) ** -0.5 if d else 0.0 for d in sums.d_v], dtype=torch.float64).unsqueeze(1)
        expected = root * sums.sum_v(sums.mean_e(root * y), 2)
    close(layer(x, hypergraph), expected + layer.bias)
    close(layer.from_prepared(layer.prepare(x, hypergraph), hypergraph), expected + layer.bias)


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_hypergraphattentionconv_parity(hypergraph, close, concat, given):
    hypergraph = positive(hypergraph)
    layer, x = made(lambda: HypergraphAttentionConv(3, 2, num_heads=2, concat=concat)), features(hypergraph)
    sums = Sums(hypergraph)
    z = torch.randn(sums.num_hyperedges, 3, dtype=torch.float64) if given else sums.mean_e(x)
    heads = []
    for head in range(2):
        theta = layer.linear.weight.unflatten(0, (2, 2))[head]
        y, of_edges = x @ theta.T, z @ theta.T
        a, b = layer.node_score[head], layer.hyperedge_score[head]
        alpha = {}
        for v, edges in enumerate(sums.edges):
            scores = [leaky(float(a @ y[v] + b @ of_edges[e])) + math.log(sums.h[v, e]) for e in edges]
            for e, weight in zip(edges, softmax(scores) if scores else [], strict=True):
                alpha[v, e] = weight
        mean = [sum(alpha[v, e] * y[v] for v in members) / sum(alpha[v, e] for v in members) if members else None
                for e, members in enumerate(sums.members)]  # fmt: skip
        out = torch.zeros(sums.num_nodes, 2, dtype=torch.float64)
        for v, edges in enumerate(sums.edges):
            total = sum(sums.w[e] * alpha[v, e] for e in edges)
            for e in edges:
                out[v] += sums.w[e] * alpha[v, e] * mean[e] / total
        heads.append(out)
    expected = torch.cat(heads, 1) if concat else (heads[0] + heads[1]) / 2
    close(layer(x, hypergraph, z if given else None), expected + layer.bias)


def test_hypergraph_attention_with_hyperedges_of_another_width(hypergraph, close):
    """Features of hyperedges that a matrix brings to the width of the nodes, through a map of their own."""
    hypergraph = positive(hypergraph)
    x, z = features(hypergraph), torch.randn(hypergraph.num_hyperedges, 5, dtype=torch.float64)
    layer, plain = (
        made(lambda: HypergraphAttentionConv((3, 5), 2, num_heads=2)),
        made(LAYERS["HypergraphAttentionConv"]),
    )
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(layer.get_parameter(name))
        matrix = torch.randn(3, 5, dtype=torch.float64)
        layer.hyperedge_linear.weight.copy_(plain.linear.weight @ matrix)
    close(layer(x, hypergraph, z), plain(x, hypergraph, z @ matrix.T))
    with pytest.raises(ArgumentError, match="z: expected shape .* got None"):
        layer(x, hypergraph)


@pytest.mark.parametrize(("alpha", "beta"), [(-1.5, -0.5), (0.0, 0.0), (-1.0, -2.0)])
def test_hnhnconv_parity(hypergraph, close, alpha, beta):
    hypergraph = positive(hypergraph)
    layer, x, sums = made(lambda: HNHNConv(3, 2, alpha=alpha, beta=beta)), features(hypergraph), Sums(hypergraph)
    y = layer.to_hyperedges(x)
    z = torch.zeros(sums.num_hyperedges, 2, dtype=torch.float64)
    for e, members in enumerate(sums.members):
        weights = [sums.h[v, e] * sums.d_v[v] ** beta for v in members]
        for v, weight in zip(members, weights, strict=True):
            z[e] += weight * y[v] / sum(weights)
    y = layer.to_nodes(z.relu())
    out = torch.zeros(sums.num_nodes, 2, dtype=torch.float64)
    for v, edges in enumerate(sums.edges):
        weights = [sums.w[e] * sums.h[v, e] * sums.d_e[e] ** alpha for e in edges]
        for e, weight in zip(edges, weights, strict=True):
            out[v] += weight * y[e] / sum(weights)
    close(layer(x, hypergraph), out)


@pytest.mark.parametrize("skip", [False, True])
def test_unigatconv_parity(hypergraph, close, skip):
    hypergraph = positive(hypergraph)
    layer, x, sums = made(lambda: UniGATConv(3, 2, num_heads=2, skip=skip)), features(hypergraph), Sums(hypergraph)
    heads = []
    for head in range(2):
        y = x @ layer.linear.weight.unflatten(0, (2, 2))[head].T
        z, out = sums.mean_e(y), torch.zeros(sums.num_nodes, 2, dtype=torch.float64)
        for v, edges in enumerate(sums.edges):
            scores = [leaky(float(layer.node_score[head] @ y[v] + layer.hyperedge_score[head] @ z[e]))
                      + math.log(sums.w[e] * sums.h[v, e]) for e in edges]  # fmt: skip
            for e, weight in zip(edges, softmax(scores) if scores else [], strict=True):
                out[v] += weight * z[e]
        heads.append(out + y if skip else out)
    close(layer(x, hypergraph), torch.cat(heads, 1))


def test_uniginconv_parity(hypergraph, close):
    layer, x, sums = made(LAYERS["UniGINConv"]), features(hypergraph), Sums(hypergraph)
    y = layer.linear(x)
    close(layer(x, hypergraph), (1 + layer.eps) * y + sums.sum_v(sums.mean_e(y), 2))


def test_unisageconv_parity(hypergraph, close):
    x, sums = features(hypergraph), Sums(hypergraph)
    total, mean = made(LAYERS["UniSAGEConv"]), made(lambda: UniSAGEConv(3, 2, reduce="mean"))
    y = total.linear(x)
    close(total(x, hypergraph), y + sums.sum_v(sums.mean_e(y), 2))
    y = mean.linear(x)
    close(mean(x, hypergraph), y + sums.mean_v(sums.mean_e(y), 2))


def test_alldeepsetsconv_parity(hypergraph, close):
    layer, x, sums = made(LAYERS["AllDeepSetsConv"]), features(hypergraph), Sums(hypergraph)
    u = layer.encode_nodes(x).relu()
    total = [sum((sums.h[v, e] * u[v] for v in members), torch.zeros(16, dtype=torch.float64))
             for e, members in enumerate(sums.members)]  # fmt: skip
    total = torch.stack(total) if total else u.new_zeros(0, 16)
    u = layer.encode_hyperedges(layer.decode_hyperedges(total).relu()).relu()
    close(layer(x, hypergraph), layer.decode_nodes(sums.sum_v(u, 16)).relu())


def test_allsettransformerconv_parity(hypergraph, close):
    hypergraph = positive(hypergraph)
    layer, x, sums = made(LAYERS["AllSetTransformerConv"]), features(hypergraph), Sums(hypergraph)

    def pooled(pool, x, groups, weight):
        rows = []
        for t, sources in enumerate(groups):
            heads = []
            for head in range(2):
                at = slice(2 * head, 2 * head + 2)
                query = pool.query[head]
                keys, values = (x @ m.weight[at].T + m.bias[at] for m in (pool.key, pool.value))
                scores = [leaky(float(query @ keys[s])) + math.log(weight(t, s)) for s in sources]
                each = zip(sources, softmax(scores) if scores else [], strict=True)
                heads.append(query + sum((a * values[s] for s, a in each), torch.zeros(2, dtype=torch.float64)))
            rows.append(torch.cat(heads))
        y = pool.norm(torch.stack(rows)) if rows else x.new_zeros(0, 4)
        return pool.last_norm(y + pool.mlp(y).relu())

    z = pooled(layer.to_hyperedges, x, sums.members, lambda e, v: sums.h[v, e]).relu()
    expected = pooled(layer.to_nodes, z, sums.edges, lambda v, e: sums.w[e] * sums.h[v, e])
    close(layer(x, hypergraph), expected)


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("depths", [(2, 2, 2), (0, 0, 1), (1, 1, 0), (0, 3, 2)])
def test_edhnnconv_parity(hypergraph, close, depths, reduce, monkeypatch):
    layer = made(lambda: EDHNNConv(3, num_mlp_layers=depths, alpha=0.3, reduce=reduce))
    x, sums = features(hypergraph), Sums(hypergraph)
    x0, u = torch.randn_like(x), layer.node_mlp(x)
    if reduce == "mean":
        z = sums.mean_e(u)
    else:
        z = [
            sum((sums.h[v, e] * u[v] for v in m), torch.zeros(3, dtype=torch.float64))
            for e, m in enumerate(sums.members)
        ]
        z = torch.stack(z) if z else u.new_zeros(0, 3)
    received = torch.zeros_like(x)
    for (v, e), h in sums.h.items():
        scale = sums.d_v[v] if reduce == "mean" else 1.0
        message = z[e] if layer.incidence_mlp is None else layer.incidence_mlp(torch.cat([x[v], z[e]]))
        received[v] += sums.w[e] * h * message / scale if scale else 0.0
    expected = layer.update_mlp(0.7 * received + 0.3 * x0)
    close(layer(x, hypergraph, x0), expected)
    monkeypatch.setattr(AGGREGATE, "_edges_per_chunk", lambda adj, features: 3)
    x.requires_grad_()
    out = layer(x, hypergraph, x0)
    close(out, expected)
    (chunked,) = torch.autograd.grad(out.sum(), x)
    monkeypatch.setattr(
        importlib.import_module("hgraph.ops.aggregate"), "_edges_per_chunk", lambda adj, features: 1 << 20
    )
    (whole,) = torch.autograd.grad(layer(x, hypergraph, x0).sum(), x)
    close(chunked, whole)


# ---------------------------------------------------------------------- limit cases

CYCLE = [[0, 1], [1, 2], [2, 3], [3, 0]]


def test_of_equal_degrees_unigcn_sage_and_gat_are_means(close):
    """On a cycle as 2-uniform hypergraph each is half the node and half the mean of its neighbors."""
    hypergraph = Hypergraph.from_lists(CYCLE, num_nodes=4)
    x = features(hypergraph)
    half = 0.5 * x + 0.25 * (x.roll(1, 0) + x.roll(-1, 0))
    gat, sage, gcn = made(lambda: UniGATConv(3, 2)), made(LAYERS["UniSAGEConv"]), made(lambda: UniGCNConv(3, 2))
    with torch.no_grad():
        gat.node_score.zero_()
        gat.hyperedge_score.zero_()
    close(gat(x, hypergraph), gat.linear(half))
    close(gcn(x, hypergraph), gcn.linear(half))
    close(sage(x, hypergraph), sage.linear(x + 2 * half))


def test_constant_attention_is_the_convolution(close):
    """With equal scores both steps average over equally many hyperedges of a regular hypergraph."""
    hypergraph = Hypergraph.from_lists(CYCLE, num_nodes=4)
    layer, x = made(lambda: HypergraphAttentionConv(3, 2)), features(hypergraph)
    with torch.no_grad():
        layer.node_score.zero_()
        layer.hyperedge_score.zero_()
    plain = made(lambda: HypergraphConv(3, 2))
    plain.load_state_dict({k: v for k, v in layer.state_dict().items() if "score" not in k})
    close(layer(x, hypergraph), plain(x, hypergraph))


def test_hypergraph_conv_gives_isolated_nodes_the_bias():
    hypergraph = Hypergraph.from_lists([[0, 1]], num_nodes=3)
    layer = made(LAYERS["HypergraphConv"])
    assert torch.equal(layer(features(hypergraph), hypergraph)[2], layer.bias)


def test_singletons(close):
    hypergraph = Hypergraph.from_lists([], num_nodes=4).with_singletons()
    x = features(hypergraph)
    for name, factor in (("UniSAGEConv", 2.0), ("UniGINConv", 2.0)):
        layer = made(LAYERS[name])
        eps = float(layer.eps) if name == "UniGINConv" else 0.0
        close(layer(x, hypergraph), (factor + eps) * layer.linear(x))
    gat = made(lambda: UniGATConv(3, 2))
    close(gat(x, hypergraph), gat.linear(x))


def test_deep_sets_of_identities_are_the_plain_sums(close):
    hypergraph = Hypergraph.from_lists([[0, 1, 2], [2, 3], [1]], num_nodes=5)
    layer = made(lambda: AllDeepSetsConv(3, 3, num_mlp_layers=0))
    x, h = features(hypergraph).abs(), hypergraph.incidence().double()
    close(layer(x, hypergraph), h @ h.T @ x)


def test_ed_hnn_limits(close):
    hypergraph = Hypergraph.from_lists([[0, 1, 2], [2, 3], [1]], num_nodes=5)
    other = Hypergraph.from_lists([[0, 4], [1, 3]], num_nodes=5)
    x, x0 = features(hypergraph), torch.randn(5, 3, dtype=torch.float64)
    first_only = made(lambda: EDHNNConv(3, alpha=1.0))
    close(first_only(x, hypergraph, x0), first_only(x, other, x0))
    mean = made(lambda: EDHNNConv(3, num_mlp_layers=(0, 0, 0), alpha=0.0))
    plain = HGNNPConv(3, 3, bias=False).double()
    with torch.no_grad():
        plain.linear.weight.copy_(torch.eye(3))
    close(mean(x, hypergraph), plain(x, hypergraph))


@pytest.mark.parametrize("name", LAYERS)
def test_order_of_hyperedges_does_not_matter(name, close):
    members = [[0, 1, 2], [2, 3], [1, 4, 0], [4]]
    one = Hypergraph.from_lists(members, num_nodes=6, hyperedge_weight=[1.0, 2.0, 0.5, 3.0])
    other = Hypergraph.from_lists(members[::-1], num_nodes=6, hyperedge_weight=[3.0, 0.5, 2.0, 1.0])
    layer, x = made(LAYERS[name]), features(one)
    close(layer(x, one), layer(x, other))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("members", [[], [[]], [[0], [1]], [[0, 1, 2, 3]], [[0, 1], [0, 1]]])
def test_small_structures_give_finite_values_and_gradients(name, members):
    hypergraph = Hypergraph.from_lists(members, num_nodes=4)
    layer, x = made(LAYERS[name]), features(hypergraph).requires_grad_()
    out = layer(x, hypergraph)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad is None or x.grad.isfinite().all()


@pytest.mark.parametrize("name", LAYERS)
def test_hyperedge_weights_act(name):
    members = [[0, 1, 2], [2, 3], [1, 3, 0]]
    one, other = (Hypergraph.from_lists(members, num_nodes=4, hyperedge_weight=w) for w in ([1.0, 1, 1], [1.0, 4, 1]))
    layer, x = made(LAYERS[name]), features(one)
    assert not torch.allclose(layer(x, one), layer(x, other))


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(("build", "message"), [
    (lambda: HypergraphConv(3, 2, normalize="col"), "normalize: expected 'row' or 'sym', got 'col'"),
    (lambda: UniSAGEConv(3, 2, reduce="max"), "reduce: expected 'sum' or 'mean', got 'max'"),
    (lambda: EDHNNConv(3, alpha=2.0), "alpha: expected a weight from 0 to 1"),
    (lambda: EDHNNConv(3, reduce="max"), "reduce: expected 'mean' or 'sum'"),
    (lambda: EDHNNConv(3, num_mlp_layers=(1, 1)), "num_mlp_layers: expected three numbers"),
    (lambda: AllSetTransformerConv(3, 4, num_heads=3), "num_heads: expected a divisor of out_channels = 4, got 3"),
    (lambda: set_mlp(3, 4, 5, 0, dropout=0, norm=True), "out_channels: expected 3, like in_channels, got 5"),
])  # fmt: skip
def test_arguments(build, message):
    with pytest.raises(ArgumentError, match=message):
        build()


@pytest.mark.parametrize("name", ["UniGATConv", "HypergraphAttentionConv", "AllSetTransformerConv"])
def test_attention_refuses_negative_weights_by_name(name):
    hypergraph = Hypergraph.from_coo(node=[0, 1, 1], hyperedge=[0, 0, 1], num_nodes=2, num_hyperedges=2,
                                     weight=[2.0, -1.0, 3.0])  # fmt: skip
    with pytest.raises(ArgumentError, match="weight: expected no negative weight, got -1"):
        made(LAYERS[name])(features(hypergraph), hypergraph)


# ---------------------------------------------------------------------- HyperSAGE and sheaves


@pytest.mark.parametrize("power", [1.0, 3.0, -1.0])
def test_hypersageconv_parity(hypergraph, close, power):
    hypergraph = positive(hypergraph)
    layer, x, sums = made(lambda: HyperSAGEConv(3, 2, power=power)), features(hypergraph).abs(), Sums(hypergraph)

    def lifted(mean):
        return torch.where(mean == 0, 0.0, mean.clamp(min=1e-300) ** (1 / power))

    z = lifted(sums.mean_e(x.clamp(min=1e-7) ** power)) if power != 1 else sums.mean_e(x)
    m = lifted(sums.mean_v(z.clamp(min=1e-7) ** power, 3)) if power != 1 else sums.mean_v(z, 3)
    total = x + m
    close(layer(x, hypergraph), layer.linear(total / total.norm(dim=1, keepdim=True).clamp(min=1e-12)))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "none"])
def test_sheafhypergraphconv_parity(hypergraph, close, activation):
    hypergraph = positive(hypergraph)
    layer = made(lambda: SheafHypergraphConv(3, 2, stalk_dim=2, activation=activation))
    sums, n = Sums(hypergraph), hypergraph.num_nodes
    x = torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    act = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "none": lambda t: t}[activation]
    nodes = x.view(n, 2, 3).mean(1)
    edges, y = sums.mean_e(nodes), layer.linear(x.view(n, 2, 3))
    maps = {(v, e): act(layer.node_map(nodes[v]) + layer.hyperedge_map(edges[e])) for v, e in sums.h}
    degree = torch.zeros(n, 2, dtype=torch.float64)
    for (v, e), f in maps.items():
        degree[v] += sums.w[e] * f * f
    root = torch.where(degree == 0, 0.0, degree.clamp(min=1e-300) ** -0.5).unsqueeze(-1)
    out = y.clone()
    for (v, e), f in maps.items():
        inner = sum(maps[u, e].unsqueeze(-1) * root[u] * y[u] for u in sums.members[e])
        own = 2 * f.unsqueeze(-1) * root[v] * y[v]
        out[v] -= root[v] * sums.w[e] / len(sums.members[e]) * f.unsqueeze(-1) * (own - inner)
    close(layer(x, hypergraph), out.flatten(1) + layer.bias)


def test_a_sheaf_of_ones_over_pairs_is_the_graph_laplacian(close):
    hypergraph = Hypergraph.from_lists(CYCLE, num_nodes=4)
    layer = made(lambda: SheafHypergraphConv(3, 3, stalk_dim=1, activation="none", bias=False))
    with torch.no_grad():
        for part in (layer.node_map, layer.hyperedge_map):
            part.weight.zero_()
        layer.node_map.bias.fill_(1.0)
        layer.linear.weight.copy_(torch.eye(3))
    x = features(hypergraph)
    laplacian = x - 0.5 * (x.roll(1, 0) + x.roll(-1, 0))  # normalized by the degree 2
    close(layer(x, hypergraph), x - 0.5 * laplacian)


def test_layers_with_weights_by_features_take_one_example():
    hypergraph = Hypergraph.from_lists(CYCLE, num_nodes=4)
    for layer, width in ((HypergraphAttentionConv(3, 2), 3), (SheafHypergraphConv(3, 2, stalk_dim=2), 6)):
        with pytest.raises(ArgumentError, match=rf"x: expected shape \[N, {width}\], got shape \[2, 4, {width}\]"):
            layer(torch.ones(2, 4, width), hypergraph)


def test_large_powers_neither_overflow_nor_vanish():
    """The mean of a large power is near the largest of a hyperedge, in float32 as in float64."""
    hypergraph = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=5)
    layer = HyperSAGEConv(2, 2, power=40.0)
    for scale in (1e-6, 1.0, 1e6):
        x = scale * torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
        found = layer(x, hypergraph).double()
        torch.testing.assert_close(found, layer.double()(x.double(), hypergraph), rtol=1e-4, atol=1e-4)
        layer.float()
    with pytest.raises(ArgumentError, match="power: expected a number other than 0 in -50 .. 50, got 60"):
        HyperSAGEConv(2, 2, power=60.0)


def test_features_of_hyperedges_and_first_features_must_fit():
    hypergraph = Hypergraph.from_lists(CYCLE, num_nodes=4)
    layer, x = HypergraphAttentionConv(3, 2), torch.ones(4, 3)
    for z in (torch.ones(9, 3), torch.ones(4, 2), torch.ones(3)):
        with pytest.raises(ArgumentError, match=r"z: expected shape \[4, 3\], a row per hyperedge"):
            layer(x, hypergraph, z)
    with pytest.raises(ArgumentError, match="hyperedge_weight: expected no negative weight, got -1"):
        layer(x, Hypergraph.from_lists(CYCLE, num_nodes=4, hyperedge_weight=[-1.0, 3, 1, 3]))
    with pytest.raises(ArgumentError, match=r"x0: expected shape \[4, 3\], like x, got shape \[3\]"):
        EDHNNConv(3)(x, hypergraph, torch.ones(3))
