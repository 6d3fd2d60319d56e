"""Networks over hypergraphs against dense matrices of their papers, limit cases, and published sizes."""

from __future__ import annotations

import math

import pytest
import torch

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models import (
    EDHNN,
    LEGCN,
    TFHNN,
    AllDeepSets,
    AllSetTransformer,
    HyperGCN,
    HyperND,
    PhenomNN,
    SheafHyperGNN,
    Stack,
    UniGCNII,
    registry,
)
from hgraph.models.hypergraph.diffusion import diffuse, diffuse_nonlinear, smoothing
from hgraph.models.hypergraph.mediators import mediator_graph
from hgraph.structure import Hypergraph
from hgraph.testing import random_hypergraph

MEMBERS = [[0, 1, 2], [2, 3], [1], [0, 4, 3, 2], []]
PLAIN = Hypergraph.from_lists(MEMBERS, num_nodes=6)
HEAVY = Hypergraph.from_lists(MEMBERS, num_nodes=6, hyperedge_weight=[0.5, 2.0, 1.0, 3.0, 1.0])
WEIGHTED = random_hypergraph(7, 5, 14, seed=3, weighted=True)
HYPERGRAPHS = {"plain": PLAIN, "heavy": HEAVY, "weighted": WEIGHTED}


@pytest.fixture(params=HYPERGRAPHS)
def hypergraph(request):
    return HYPERGRAPHS[request.param]


def close(actual, expected, tolerance=1e-11):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def features(hypergraph, width=3, seed=0):
    return torch.rand(hypergraph.num_nodes, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def made(kind, *sizes, **options):
    torch.manual_seed(2)
    return kind(*sizes, **options).double().eval()


def inverse(x, power):
    return torch.where(x == 0, 0.0, torch.where(x == 0, 1.0, x) ** power)


def dense(hypergraph):
    """H [N, M], w [M], d_v [N], d_e [M] in float64."""
    h = hypergraph.incidence().double()
    w = hypergraph.hyperedge_weight
    w = torch.ones(h.shape[1], dtype=torch.float64) if w is None else w.double()
    return h, w, h @ w, h.sum(0)


def expansion(hypergraph, by_size):
    """D^-1/2 (K + I) D^-1/2 of the star or the clique expansion."""
    h, w, _, d_e = dense(hypergraph)
    k = h @ torch.diag(w * inverse(d_e, -1.0) if by_size else w) @ h.T + torch.eye(len(h), dtype=torch.float64)
    root = inverse(k.sum(1), -0.5)
    return root.unsqueeze(1) * k * root


# ---------------------------------------------------------------------- diffusion


@pytest.mark.parametrize("by_size", [True, False])
def test_smoothing_is_the_normalized_expansion(hypergraph, by_size):
    x = features(hypergraph)
    close(smoothing(hypergraph, x.dtype, by_size=by_size)(x), expansion(hypergraph, by_size) @ x)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_diffuse_is_a_power_series(hypergraph, steps):
    x, matrix, alpha = features(hypergraph), expansion(hypergraph, True), 0.3
    expected = (1 - alpha) ** steps * torch.linalg.matrix_power(matrix, steps) @ x
    for l in range(steps):
        expected = expected + alpha * (1 - alpha) ** l * torch.linalg.matrix_power(matrix, l) @ x
    close(diffuse(x, hypergraph, steps, alpha), expected)


def test_diffuse_limits():
    x = features(PLAIN)
    assert torch.equal(diffuse(x, PLAIN, 4, 1.0), x)
    close(diffuse(x, PLAIN, 2, 0.0), torch.linalg.matrix_power(expansion(PLAIN, True), 2) @ x)
    lone = Hypergraph.from_lists([], num_nodes=6)
    close(diffuse(x, lone, 3, 0.2), x)


@pytest.mark.parametrize("power", [1.0, 2.0, 0.5, -1.0])
def test_nonlinear_diffusion(hypergraph, power):
    x = features(hypergraph) + 0.1
    h, w, d_v, d_e = dense(hypergraph)
    root = inverse(d_v, -0.5).unsqueeze(1)

    def means(f):
        f = root * f
        each = inverse(d_e, -1.0).unsqueeze(1) * (h.T @ (f if power == 1 else f.clamp(min=1e-6) ** power))
        return each if power == 1 else torch.where(each == 0, 0.0, torch.where(each == 0, 1.0, each) ** (1 / power))

    def scaled(f):
        return f / (2 * means(f).square().sum().sqrt())

    u = f = scaled(x)
    for _ in range(4):
        f = scaled(0.6 * root * (h @ (w.unsqueeze(1) * means(f))) + 0.4 * u)
    close(diffuse_nonlinear(x, hypergraph, power=power, num_steps=4, alpha=0.4), f)


def test_nonlinear_diffusion_limits():
    x = features(PLAIN) + 0.1
    u = diffuse_nonlinear(x, PLAIN, power=2, num_steps=5, alpha=1.0)
    close(u / u[0, 0], x / x[0, 0])  # alpha 1 keeps the features, but for their size
    close(diffuse_nonlinear(7 * x, PLAIN, power=2, num_steps=5, alpha=0.3),
          diffuse_nonlinear(x, PLAIN, power=2, num_steps=5, alpha=0.3))  # fmt: skip


def test_diffusions_are_cached_for_constant_features_alone():
    x = features(PLAIN)
    first = diffuse(x, PLAIN, 2, 0.1)
    assert diffuse(x, PLAIN, 2, 0.1) is first
    assert diffuse(x, PLAIN, 3, 0.1) is not first
    assert diffuse(x, HEAVY, 2, 0.1) is not first
    again = diffuse(x, PLAIN, 2, 0.1)
    x.mul_(2)
    close(diffuse(x, PLAIN, 2, 0.1), 2 * again)
    x.requires_grad_()
    diffuse(x, PLAIN, 2, 0.1).sum().backward()
    close(x.grad, diffuse(torch.ones_like(x), PLAIN, 2, 0.1))  # the operator is symmetric


def test_caches_notice_writes_to_the_structure_and_evaluation_does_not_break_training():
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0, 1.0])
    torch.manual_seed(0)
    for build in (lambda: TFHNN(3, 32, 2), lambda: HyperND(3, 32, 2), lambda: HyperGCN(3, 32, 2)):
        hypergraph = Hypergraph.from_lists(MEMBERS, num_nodes=6, hyperedge_weight=weight.clone())
        net, x = build().eval(), features(PLAIN).float()
        with torch.inference_mode():
            before = net(x, hypergraph).clone()
        net(x, hypergraph).sum().backward()
        hypergraph.hyperedge_weight.mul_(torch.tensor([5.0, 1, 1, 0.1, 1]))
        after = net(x, hypergraph)
        torch.testing.assert_close(after, net(x.clone(), hypergraph))
        assert not torch.allclose(after, before)
        with torch.inference_mode():
            made = features(PLAIN).float()
            first = net(made, hypergraph)
            assert not torch.allclose(net(made.mul_(3).add_(made[:1] ** 2), hypergraph), first)


@pytest.mark.parametrize("build", [
    lambda: TFHNN(3, 4, 2), lambda: HyperND(3, 4, 2), lambda: HyperGCN(3, 4, 2), lambda: PhenomNN(3, 4, 2),
    lambda: UniGCNII(3, 4, 2), lambda: EDHNN(3, 4, 2), lambda: SheafHyperGNN(3, 4, 2), lambda: LEGCN(3, 4, 2),
    lambda: AllDeepSets(3, 4, 2), lambda: AllSetTransformer(3, 4, 2),
])  # fmt: skip
def test_other_structures_and_swapped_arguments_are_refused(build):
    net, x = build(), torch.ones(6, 3)
    with pytest.raises(ArgumentTypeError, match="structure: expected a Hypergraph, got Graph"):
        net(x, PLAIN.clique())
    with pytest.raises(ArgumentTypeError, match=r"structure: expected a Hypergraph, got Tensor"):
        net(PLAIN, x)


def test_tfhnn_parity():
    x, net = features(PLAIN), made(TFHNN, 3, 5, 2, num_steps=3, alpha=0.2)
    close(net(x, PLAIN), net.mlp(diffuse(x, PLAIN, 3, 0.2)))


def test_hypernd_parity():
    x, net = features(PLAIN), made(HyperND, 3, 5, 2, power=2.0, num_steps=4)
    close(net(x, PLAIN), net.mlp(diffuse_nonlinear(x, PLAIN, power=2.0, num_steps=4, alpha=0.5)))


# ---------------------------------------------------------------------- networks


@pytest.mark.parametrize("norm", [True, False])
def test_unigcnii_parity(hypergraph, norm):
    net, x = made(UniGCNII, 3, 4, 2, num_layers=3, alpha=0.2, lam=0.7, norm=norm), features(hypergraph)
    h, w, d_v, d_e = dense(hypergraph)
    mean = inverse(d_e, -1.0).unsqueeze(1) * h.T
    step = inverse(d_v, -0.5).unsqueeze(1) * h @ torch.diag(w * inverse(mean @ d_v, -0.5)) @ mean
    y = y0 = net.linear(x).relu()
    for layer, linear in enumerate(net.maps, 1):
        y = step @ y
        if norm:
            y = y / y.norm(dim=1, keepdim=True).clamp(min=1e-12)
        y, beta = 0.8 * y + 0.2 * y0, math.log(0.7 / layer + 1)
        y = ((1 - beta) * y + beta * y @ linear.weight.T).relu()
    close(net(x, hypergraph), net.out(y))


def test_unigcnii_limits():
    x = features(PLAIN)
    own = made(UniGCNII, 3, 4, 2, num_layers=3, alpha=1.0)
    assert torch.equal(own(x, PLAIN), own(x, HEAVY))  # the structure is not used
    unmapped = made(UniGCNII, 3, 4, 2, lam=0.0)
    before = unmapped(x, PLAIN)
    torch.nn.init.normal_(unmapped.maps[0].weight)
    assert torch.equal(unmapped(x, PLAIN), before)


def test_legcn_parity(hypergraph):
    net, x = made(LEGCN, 3, 4, 2), features(hypergraph)
    torch.nn.init.normal_(net.bias1)
    torch.nn.init.normal_(net.bias2)
    pairs = [(v, e) for e, v in zip(hypergraph.v2e.target.tolist(), hypergraph.v2e.indices.tolist(), strict=True)]
    matrix = torch.tensor(
        [[2.0 if i == j else float(a[0] == b[0] or a[1] == b[1]) for j, b in enumerate(pairs)]
         for i, a in enumerate(pairs)], dtype=torch.float64)  # fmt: skip
    matrix = matrix / matrix.sum(1, keepdim=True)
    y = matrix @ torch.stack([x[v] for v, _ in pairs]) @ net.linear1.weight.T + net.bias1
    y = matrix @ y.relu() @ net.linear2.weight.T + net.bias2
    expected = torch.zeros(hypergraph.num_nodes, 2, dtype=torch.float64)
    for node in range(hypergraph.num_nodes):
        own = [y[i] for i, (v, _) in enumerate(pairs) if v == node]
        if own:
            expected[node] = torch.stack(own).mean(0)
    close(net(x, hypergraph), expected)


@pytest.mark.parametrize("compatibility", [False, True])
def test_phenomnn_parity(hypergraph, compatibility):
    lams = 0.7, 2.0
    net = made(PhenomNN, 3, 4, 2, num_steps=3, lam_clique=lams[0], lam_star=lams[1], compatibility=compatibility)
    x, a = features(hypergraph), 1 / 3.7
    a_c, a_s = expansion(hypergraph, False), expansion(hypergraph, True)
    d_c, d_s = torch.diag(a_c.sum(1)), torch.diag(a_s.sum(1))
    q = lams[0] * d_c + lams[1] * d_s + torch.eye(len(x), dtype=torch.float64)
    y = y0 = net.linear(x).relu()
    for _ in range(3):
        clique, star = a_c @ y, a_s @ y
        if compatibility:
            b0, b1 = net.matrices
            clique = a_c @ y @ (b0 + b0.T) - d_c @ y @ b0 @ b0.T
            star = (d_s - a_s) @ y + a_s @ y @ (b1 + b1.T) - d_s @ y @ b1 @ b1.T
        y = (1 - a) * y + a * torch.linalg.inv(q) @ (lams[0] * clique + lams[1] * star + y0)
    close(net(x, hypergraph), net.out(y.relu()))


def test_phenomnn_comes_to_its_fixed_point():
    net, x = made(PhenomNN, 3, 4, 2, num_steps=400, lam_clique=1.0, lam_star=2.0, step_size=1.0), features(HEAVY)
    y0, eye = net.linear(x).relu(), torch.eye(6, dtype=torch.float64)
    a_c, a_s = expansion(HEAVY, False), expansion(HEAVY, True)
    energy = eye + torch.diag(a_c.sum(1)) - a_c + 2 * (torch.diag(a_s.sum(1)) - a_s)
    close(net(x, HEAVY), net.out(torch.linalg.solve(energy, y0).relu()), 1e-9)


def test_unigat_of_several_heads_stacks():
    entry = registry.find("unigat")
    net = entry.load()(**entry.arguments(None, 6, in_channels=3, num_classes=2, num_heads=4))
    assert net(features(PLAIN).float(), PLAIN).shape == (6, 2)


def test_edhnn_parity():
    net, x = made(EDHNN, 3, 8, 2, num_layers=3), features(HEAVY)
    y = y0 = net.linear(x).relu()
    for _ in range(3):
        y = net.conv(y, HEAVY, y0).relu()
    close(net(x, HEAVY), net.classifier(y))


def of_all_set(kind):
    net, x = made(kind, 3, 8, 2, num_layers=2), features(HEAVY)
    y = net.convs[1](net.convs[0](x, HEAVY).relu(), HEAVY).relu()
    close(net(x, HEAVY), net.classifier(y))
    alone = made(kind, 3, 8, 2, num_layers=0)
    close(alone(x, HEAVY), alone.classifier(x))


def test_alldeepsets_parity():
    of_all_set(AllDeepSets)


def test_allsettransformer_parity():
    of_all_set(AllSetTransformer)


def test_hypergcn_parity():
    net, x = made(HyperGCN, 3, 4, 2, mediators=False, seed=3), features(HEAVY)
    graph = mediator_graph(HEAVY, x, mediators=False, seed=3)
    close(net(x, HEAVY), net.convs[1](net.convs[0](x, graph).relu(), graph))


def test_hypergcn_keeps_its_graph_while_the_inputs_stay(monkeypatch):
    calls = []
    build = lambda *args, **options: calls.append(options) or mediator_graph(*args, **options)  # noqa: E731
    monkeypatch.setattr("hgraph.models.hypergraph.hypergcn.mediator_graph", build)
    net, x = made(HyperGCN, 3, 4, 2), features(PLAIN)
    net(x, PLAIN), net(x, PLAIN)
    assert len(calls) == 1
    net(x, HEAVY)
    assert len(calls) == 2


def test_sheafhypergnn_parity():
    net, x = made(SheafHyperGNN, 3, 4, 2), features(HEAVY)
    y = torch.nn.functional.elu(net.convs[0](net.linear(x), HEAVY))
    close(net(x, HEAVY), net.out(net.convs[1](y, HEAVY)))


# ---------------------------------------------------------------------- sizes as published


CORA = (1433, 64, 7)
SIZES = {
    "HCHA": (lambda: Stack("HypergraphConv", *CORA), 92_231),
    "HNHN": (lambda: Stack("HNHNConv", *CORA), 96_447),
    "HNHN with wide hyperedges": (lambda: Stack("HNHNConv", *CORA, hyperedge_channels=64), 100_551),
    "UniGCN": (lambda: Stack("UniGCNConv", *CORA), 92_160),
    "UniSAGE": (lambda: Stack("UniSAGEConv", *CORA), 92_160),
    "UniGIN": (lambda: Stack("UniGINConv", *CORA), 92_162),
    "UniGAT": (lambda: Stack("UniGATConv", *CORA), 92_302),
    "UniGCNII": (lambda: UniGCNII(*CORA, num_layers=2), 100_423),
    "AllDeepSets": (lambda: AllDeepSets(*CORA), 125_369 - 256),  # the published one holds norms that it never calls
    "AllSetTransformer": (lambda: AllSetTransformer(*CORA), 209_863 - 256),
    "ED-HNN": (lambda: EDHNN(*CORA, num_layers=8, num_classifier_layers=2), 126_471),
    "ED-HNN of Cora": (lambda: EDHNN(*CORA, num_mlp_layers=(0, 0, 1)), 96_519),
    "ED-HNN of Cora, 256 wide": (lambda: EDHNN(1433, 256, 7, num_mlp_layers=(0, 0, 1)), 435_207),
    "HyperND": (lambda: HyperND(*CORA), 92_359),
    "TF-HNN": (lambda: TFHNN(*CORA), 92_359),
    "HyperGCN": (lambda: HyperGCN(*CORA), 92_231),
    "HyperGCN, 16 wide": (lambda: HyperGCN(1433, 16, 7), 23_063),
    "LEGCN": (lambda: LEGCN(*CORA), 92_231),
    "PhenomNN": (lambda: PhenomNN(*CORA), 92_231),
    "PhenomNN with matrices": (lambda: PhenomNN(*CORA, compatibility=True), 92_231 + 2 * 64 * 64),
}


@pytest.mark.parametrize("name", SIZES)
def test_number_of_parameters(name):
    build, expected = SIZES[name]
    assert sum(p.numel() for p in build().parameters()) == expected


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(("build", "message"), [
    (lambda: UniGCNII(3, 4, 2, alpha=1.5), "alpha: expected a weight from 0 to 1, got 1.5"),
    (lambda: UniGCNII(3, 4, 2, lam=-1), "lam: expected a finite number, 0 or more, got -1"),
    (lambda: PhenomNN(3, 4, 2, lam_star=-1.0), "lam_clique, lam_star: expected weights of 0 or more"),
    (lambda: PhenomNN(3, 4, 2, step_size=2.0), "step_size: expected more than 0, at most 1, got 2.0"),
    (lambda: diffuse(features(PLAIN), PLAIN, -1, 0.5), "num_steps: expected 0 or more, got -1"),
    (lambda: diffuse(features(PLAIN), PLAIN, 1, 2), "alpha: expected a weight from 0 to 1, got 2"),
    (lambda: diffuse(torch.ones(3, 2), PLAIN, 1, 0.5), r"x: expected shape \[..., 6, F\], got shape \[3, 2\]"),
    (lambda: diffuse_nonlinear(features(PLAIN), PLAIN, power=0, num_steps=1, alpha=0.5), "power: expected a number"),
])  # fmt: skip
def test_arguments(build, message):
    with pytest.raises(ArgumentError, match=message):
        build()
