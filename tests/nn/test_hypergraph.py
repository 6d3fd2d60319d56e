"""HGNNConv and HGNNPConv against loops over the sums of their papers, and their limit cases."""

from __future__ import annotations

import pytest
import torch

from hgraph.errors import ArgumentError
from hgraph.nn import HGNNConv, HGNNPConv, UniGCNConv
from hgraph.nn.hypergraph import TwoStepConv
from hgraph.structure import Hypergraph


def parts(hypergraph):
    """h(v, e) as {(v, e): number}, the hyperedge weights, and both degrees, by loops."""
    v2e = hypergraph.v2e
    h = torch.ones(v2e.num_edges) if v2e.weight is None else v2e.weight
    entries = {}
    for e, v, value in zip(v2e.target.tolist(), v2e.indices.tolist(), h.double().tolist(), strict=True):
        entries[v, e] = value
    w = [1.0] * hypergraph.num_hyperedges
    if hypergraph.hyperedge_weight is not None:
        w = hypergraph.hyperedge_weight.double().tolist()
    d_v, d_e = [0.0] * hypergraph.num_nodes, [0.0] * hypergraph.num_hyperedges
    for (v, e), value in entries.items():
        d_v[v] += w[e] * value
        d_e[e] += value
    return entries, w, d_v, d_e


def power(degree, exponent):
    return 0.0 if degree == 0 else degree**exponent


def by_loops(x, hypergraph, layer, front, back):
    """x'_v = d_v^front sum_e w_e h(v, e) d_e^-1 sum_u h(u, e) d_u^back (x_u Theta + bias); no degree gives 0."""
    entries, w, d_v, d_e = parts(hypergraph)
    z = x @ layer.linear.weight.T + layer.linear.bias
    out = torch.zeros_like(z)
    for (v, e), h_v in entries.items():
        for (u, other), h_u in entries.items():
            if other == e:
                back_factor = power(d_v[u], back) if back else 1.0
                out[v] += power(d_v[v], front) * w[e] * h_v * power(d_e[e], -1) * h_u * back_factor * z[u]
    return out


def layer_of(kind, width=2, **options):
    torch.manual_seed(1)
    return kind(3, width, **options).double()


def features(hypergraph):
    return torch.randn(hypergraph.num_nodes, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


# ---------------------------------------------------------------------- parity


@pytest.mark.parametrize("width", [2, 5])  # narrower and wider: the map comes first or between the steps
def test_hgnnconv_parity(hypergraph, close, width):
    layer, x = layer_of(HGNNConv, width), features(hypergraph)
    close(layer(x, hypergraph), by_loops(x, hypergraph, layer, -0.5, -0.5))


@pytest.mark.parametrize("width", [2, 5])  # narrower and wider: the map comes first or between the steps
def test_hgnnpconv_parity(hypergraph, close, width):
    layer, x = layer_of(HGNNPConv, width), features(hypergraph)
    close(layer(x, hypergraph), by_loops(x, hypergraph, layer, -1, 0))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("width", [2, 5])
def test_unigcnconv_parity(hypergraph, close, width, bias):
    layer, x = layer_of(UniGCNConv, width, bias=bias), features(hypergraph)
    entries, w, d_v, d_e = parts(hypergraph)
    z = layer.linear(x)
    out = torch.zeros_like(z)
    for (v, e), h in entries.items():
        members = {u: entries[u, other] / d_e[e] for u, other in entries if other == e and d_e[e]}
        mean_degree = sum(prob * d_v[u] for u, prob in members.items())
        mean = sum((prob * z[u] for u, prob in members.items()), torch.zeros_like(z[0]))
        out[v] += power(d_v[v], -0.5) * w[e] * h * power(mean_degree, -0.5) * mean
    close(layer(x, hypergraph), out)


@pytest.mark.parametrize("width", [2, 5])
@pytest.mark.parametrize("kind", [HGNNConv, HGNNPConv, UniGCNConv])
def test_of_prepared_features_is_the_layer(kind, hypergraph, close, width):
    layer, x = layer_of(kind, width), features(hypergraph)
    prepared = layer.prepare(x, hypergraph)
    close(layer.from_prepared(prepared, hypergraph), layer(x, hypergraph))
    with torch.no_grad():
        layer.linear.weight.mul_(2)  # parameters are not in what was prepared
    close(layer.from_prepared(prepared, hypergraph), layer(x, hypergraph))
    with pytest.raises(ArgumentError, match="x: expected"):
        layer.prepare(x[:, :1], hypergraph)


@pytest.mark.parametrize("kind", [HGNNConv, HGNNPConv])
def test_parity_with_dense_matrices(kind, hypergraph, close):
    """Feng et al., HGNN, AAAI 2019: the matrices of the equation, written out."""
    h = hypergraph.incidence().double()
    w = torch.ones(hypergraph.num_hyperedges).double()
    w = w if hypergraph.hyperedge_weight is None else hypergraph.hyperedge_weight.double()
    d_v, d_e = h @ w, h.sum(0)
    powers = lambda d, p: torch.where(d == 0, 0, d.clamp(min=1e-300) ** p)  # noqa: E731
    front, back = (powers(d_v, -0.5), powers(d_v, -0.5)) if kind is HGNNConv else (powers(d_v, -1), 1.0)
    smooth = front[:, None] * h * w * powers(d_e, -1) @ h.T * back
    layer, x = layer_of(kind), features(hypergraph)
    close(layer(x, hypergraph), smooth @ layer.linear(x))


# ---------------------------------------------------------------------- limits


def test_hgnn_on_a_clique_of_pairs():
    """Feng et al., HGNN, AAAI 2019: off-diagonals 1/2 d_u^-1/2 d_v^-1/2 on each pair."""
    pairs = [[0, 1], [0, 2], [1, 2], [2, 3], [3, 4]]
    hypergraph = Hypergraph.from_lists(pairs, num_nodes=5)
    layer = HGNNConv(5, 5, bias=False).double()
    with torch.no_grad():
        layer.linear.weight.copy_(torch.eye(5))
        operator = layer(torch.eye(5, dtype=torch.float64), hypergraph)
    degree = hypergraph.node_degree().double()
    expected = torch.diag(torch.full((5,), 0.5, dtype=torch.float64))
    for u, v in pairs:
        expected[u, v] = expected[v, u] = 0.5 * degree[u] ** -0.5 * degree[v] ** -0.5
    torch.testing.assert_close(operator, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_hgnn_operator_is_symmetric_with_eigenvalues_in_zero_to_one(weighted):
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0]).double() if weighted else None
    hypergraph = Hypergraph.from_lists([[0, 1, 2], [2, 3], [0, 1, 2, 3, 4], []], num_nodes=6, hyperedge_weight=weight)
    layer = HGNNConv(6, 6, bias=False).double()
    with torch.no_grad():
        layer.linear.weight.copy_(torch.eye(6))
        operator = layer(torch.eye(6, dtype=torch.float64), hypergraph)
    torch.testing.assert_close(operator, operator.T, rtol=0, atol=1e-14)
    values = torch.linalg.eigvalsh(operator)
    assert values.min() > -1e-12
    assert abs(values.max() - 1) < 1e-12  # its eigenvector is sqrt(d_v)


@pytest.mark.parametrize("kind", [HGNNConv, HGNNPConv, UniGCNConv])
@pytest.mark.parametrize("members", [[], [[]], [[], []]])
def test_empty_structure_gives_zero(kind, members):
    hypergraph = Hypergraph.from_lists(members, num_nodes=4)
    out = kind(3, 2)(torch.randn(4, 3), hypergraph)
    assert torch.equal(out, torch.zeros(4, 2))


def test_singletons_do_not_mix_nodes(close):
    hypergraph = Hypergraph.from_lists([], num_nodes=4).with_singletons()
    x = features(hypergraph)
    for kind in (HGNNConv, HGNNPConv, UniGCNConv):
        layer = layer_of(kind)
        close(layer(x, hypergraph), layer.linear(x))


def test_unigcn_of_equal_degrees_is_hgnnp(close):
    hypergraph = Hypergraph.from_lists([[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]], num_nodes=4)
    x, unigcn, hgnnp = features(hypergraph), layer_of(UniGCNConv), layer_of(HGNNPConv, bias=False)
    close(unigcn(x, hypergraph), hgnnp(x, hypergraph))


def test_one_hyperedge_of_all_gives_the_mean(close):
    hypergraph = Hypergraph.from_lists([[0, 1, 2, 3]], num_nodes=4, hyperedge_weight=torch.tensor([3.0]))
    x = features(hypergraph)
    for kind in (HGNNConv, HGNNPConv):
        layer = layer_of(kind)
        close(layer(x, hypergraph), layer.linear(x).mean(0).expand(4, 2))


def test_hgnnp_keeps_constants_where_there_is_a_hyperedge():
    """Averages of averages: constant in, constant out; so the bias arrives unchanged."""
    hypergraph = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=5)
    layer = layer_of(HGNNPConv)
    out = layer(torch.zeros(5, 3, dtype=torch.float64), hypergraph)
    torch.testing.assert_close(out[:4], layer.linear.bias.expand(4, 2), rtol=0, atol=1e-15)
    assert not out[4].any()


@pytest.mark.parametrize("kind", [HGNNConv, HGNNPConv])
def test_repeated_hyperedge_counts_as_one_of_double_weight(kind, close):
    twice = Hypergraph.from_lists([[0, 1], [0, 1], [1, 2]], num_nodes=3)
    heavy = Hypergraph.from_lists([[0, 1], [1, 2]], num_nodes=3, hyperedge_weight=torch.tensor([2.0, 1.0]))
    layer, x = layer_of(kind), features(twice)
    close(layer(x, twice), layer(x, heavy))


@pytest.mark.parametrize("kind", [HGNNConv, HGNNPConv])
def test_scaling_all_hyperedge_weights_changes_nothing(kind, close):
    members, weight = [[0, 1], [1, 2, 3], [0, 3]], torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    one, other = (Hypergraph.from_lists(members, num_nodes=4, hyperedge_weight=c * weight) for c in (1.0, 7.0))
    layer, x = layer_of(kind), features(one)
    close(layer(x, one), layer(x, other))


# ---------------------------------------------------------------------- learned hyperedge weights


@pytest.mark.parametrize("kind", [HGNNConv, HGNNPConv])
def test_gradient_to_learned_hyperedge_weights(kind):
    hypergraph = Hypergraph.from_lists([[0, 1, 2], [2, 3], [0, 3, 4], []], num_nodes=6)
    layer, x = layer_of(kind), features(hypergraph)
    weight = (torch.rand(4, dtype=torch.float64) + 0.5).requires_grad_()
    call = lambda w: layer(x, hypergraph.with_hyperedge_weight(w))  # noqa: E731
    assert torch.autograd.gradcheck(call, (weight,))
    grad = torch.autograd.grad(call(weight).square().sum(), weight)[0]
    assert grad[:3].abs().min() > 0
    assert grad[3] == 0  # the empty hyperedge has no messages


@pytest.mark.parametrize("kind", [HGNNConv, HGNNPConv])
def test_learned_weights_are_used_in_each_step(kind):
    hypergraph = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    learned = hypergraph.with_hyperedge_weight(weight)
    layer, x = layer_of(kind).float(), features(hypergraph).float()
    optimizer = torch.optim.SGD([weight], lr=1.0)
    with torch.no_grad():
        before = layer(x, learned)
    layer(x, learned).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        after = layer(x, learned)
    assert not torch.equal(before, after)
    fresh = hypergraph.with_hyperedge_weight(weight.detach().clone())
    assert torch.equal(after, layer(x, fresh))


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", [HGNNConv, HGNNPConv])
def test_wrong_number_of_nodes_is_named(kind):
    hypergraph = Hypergraph.from_lists([[0, 1]], num_nodes=3)
    with pytest.raises(ArgumentError, match=r"x: expected shape"):
        kind(3, 2)(torch.randn(4, 3), hypergraph)


def test_compiled_classes_of_one_name_keep_their_own_weights():
    def made(factor):
        class Scaled(TwoStepConv):
            @staticmethod
            def operators(hypergraph):
                return hypergraph.v2e.with_weight(factor * hypergraph.v2e.weight), hypergraph.e2v

        return layer_of(Scaled, bias=False)

    hypergraph = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    x = features(hypergraph)
    for layer in (made(1.0), made(10.0)):
        torch._dynamo.reset()
        torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(x, hypergraph), layer(x, hypergraph))
