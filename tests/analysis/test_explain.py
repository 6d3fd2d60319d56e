"""Explanations against brute force, on planted causes, and of networks that ignore weights."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hgraph.analysis import counterfactual, draw_explanation, explain_node, fidelity
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models import GAT, GCN, HGNN, LINKX, Stack
from hgraph.structure import Adjacency, Graph, Hypergraph
from hgraph.testing import random_graph, random_hypergraph
from hgraph.train import fit, seeded

IN = 4


@pytest.fixture
def close():
    return lambda a, b: torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


class Linear(nn.Module):
    """Two steps of plain sums: its outputs are linear in the features, and in the parts of the last step."""

    def __init__(self, layer):
        super().__init__()
        self.conv = layer

    def forward(self, x, structure):
        return self.conv(x, structure)


def network(structure, layers=2):
    layer = "GINConv" if isinstance(structure, Graph) else "UniGINConv"
    with seeded(0):
        return Stack(layer, IN, 8, 3, num_layers=layers, dropout=0.5).double()


def features(n):
    return torch.randn(n, IN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


STRUCTURES = {
    "graph": random_graph(9, 20, seed=1),
    "weighted graph": random_graph(9, 20, seed=1, weighted=True),
    "hypergraph": random_hypergraph(9, 5, 16, seed=1),
    "weighted hypergraph": random_hypergraph(9, 5, 16, seed=1, weighted=True),
}
PARTS = [
    (name, over)
    for name in STRUCTURES
    for over in (("edges", "nodes") if "hyper" not in name else ("memberships", "hyperedges", "nodes"))
]


def without(structure, x, over, part):
    """The features and the structure without one part, rebuilt from lists."""
    if over == "nodes":
        x = x.clone()
        x[part] = 0
        return x, structure
    if isinstance(structure, Graph):
        keep = [i for i in range(structure.num_edges) if i != part]
        weight = None if structure.adj.weight is None else structure.adj.weight[keep]
        pairs = structure.edge_index[:, keep]
        return x, Graph.from_edge_index(pairs, num_nodes=structure.num_nodes, directed=True, weight=weight)
    e, v = structure.v2e.target.long(), structure.v2e.indices.long()
    keep = torch.tensor([(i != part if over == "memberships" else int(e[i]) != part) for i in range(len(e))])
    weight = None if structure.v2e.weight is None else structure.v2e.weight[keep]
    return x, Hypergraph.from_coo(
        node=v[keep], hyperedge=e[keep], num_nodes=structure.num_nodes, num_hyperedges=structure.num_hyperedges,
        weight=weight, hyperedge_weight=structure.hyperedge_weight, node_weight=structure.node_weight,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "over"), PARTS)
def test_removal_is_the_difference_of_two_outputs(name, over, close):
    structure, x = STRUCTURES[name], features(9)
    model = network(structure).eval()
    found = explain_node(model, x, structure, 2, over=over, method="removal", target=1)
    whole = model(x, structure)[2, 1]
    expected = [whole - model(*without(structure, x, over, i))[2, 1] for i in range(len(found.scores))]
    close(found.scores, torch.stack(expected).detach())
    assert found.output == whole.item()


def scaled(structure, x, over, part, factor):
    """The features and the structure with the weight of one part, or the features of one node, times a factor."""
    factors = torch.ones(len(x) if over == "nodes" else 99, dtype=torch.float64)
    factors[part] = factor
    if over == "nodes":
        return x * factors[:, None], structure
    old = lambda w, n: factors[:n] if w is None else w.double() * factors[:n]  # noqa: E731
    if isinstance(structure, Graph):
        return x, Graph(structure.adj.with_weight(old(structure.adj.weight, structure.num_edges)))
    if over == "memberships":
        v2e = structure.v2e.with_weight(old(structure.v2e.weight, structure.v2e.num_edges))
        return x, dataclasses.replace(structure, v2e=v2e)
    weight = old(structure.hyperedge_weight, structure.num_hyperedges)
    return x, dataclasses.replace(structure, hyperedge_weight=weight)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(("name", "over"), PARTS)
def test_gradients_match_finite_differences(name, over, normalized):
    """Also in networks that divide by degrees, where a part acts without the features of its ends."""
    structure, x, step = STRUCTURES[name], features(9), 1e-6
    model = network(structure).eval()
    if normalized:
        with seeded(0):
            layer = GCN if isinstance(structure, Graph) else HGNN
            model = layer(IN, 8, 3).double().eval()
    found = explain_node(model, x, structure, 2, over=over, method="gradient", target=1)
    for part in range(len(found.scores)):
        up, down = (model(*scaled(structure, x, over, part, 1 + s))[2, 1] for s in (step, -step))
        assert found.scores[part].item() == pytest.approx(((up - down) / (2 * step)).item(), abs=1e-7)


@pytest.mark.parametrize("build", [lambda: GCN(IN, 8, 3), lambda: LINKX(IN, 8, 3, num_nodes=9)])
def test_removal_of_any_part_that_matters_has_a_score(build):
    """Through degrees and through vectors of neighbors, edges act that carry no features to the node."""
    graph, x = STRUCTURES["graph"], features(9)
    with seeded(0):
        model = build().double().eval()
    found = explain_node(model, x, graph, 2, method="removal", target=1)
    for part in range(graph.num_edges):
        lost = model(x, graph)[2, 1] - model(*without(graph, x, "edges", part))[2, 1]
        assert found.scores[part].item() == pytest.approx(lost.item(), abs=1e-12)


def test_explanations_inside_of_no_grad_and_inference_mode():
    graph, x = STRUCTURES["graph"], features(9)
    for method in ("gradient", "integrated", "mask", "removal"):
        expected = explain_node(network(graph), x, graph, 2, method=method, steps=3)
        with torch.no_grad():
            assert torch.equal(
                explain_node(network(graph), x, graph, 2, method=method, steps=3).scores, expected.scores
            )
    with torch.inference_mode(), pytest.raises(ArgumentError, match="inference_mode"):
        explain_node(network(graph), x, graph, 2)


def test_one_step_of_the_integral_is_at_its_middle():
    graph, x = STRUCTURES["graph"], features(9)
    one, slope = (
        explain_node(network(graph), x, graph, 2, method=m, steps=1).scores for m in ("integrated", "gradient")
    )
    assert not torch.equal(one, slope)


@pytest.mark.parametrize("name", ["graph", "weighted graph"])
def test_all_methods_agree_on_a_linear_network(name, close):
    """One sum of neighbors: a part contributes what is lost without it."""
    from hgraph.nn import GINConv

    graph, x = STRUCTURES[name], features(9)
    model = Linear(GINConv(IN, 3, mlp=nn.Linear(IN, 3))).double()
    scores = [
        explain_node(model, x, graph, 2, method=how, target=1).scores for how in ("gradient", "integrated", "removal")
    ]
    close(scores[0], scores[2])
    close(scores[1], scores[2])


@pytest.mark.parametrize(("name", "over"), [("graph", "edges"), ("hypergraph", "nodes"), ("graph", "nodes")])
def test_integrated_scores_sum_to_the_whole_difference(name, over):
    structure, x = STRUCTURES[name], features(9)
    model = network(structure).eval()
    found = explain_node(model, x, structure, 2, over=over, method="integrated", target=1, steps=2000)
    base, place = torch.zeros_like(x), structure
    if over == "edges":
        base, place = x, Graph(structure.adj.keep(torch.zeros(structure.num_edges, dtype=torch.bool)))
    difference = (model(x, structure) - model(base, place))[2, 1].item()
    allowed = 1e-3 * found.scores.abs().sum().item()  # a ReLU that turns on or off between two steps
    assert found.scores.sum().item() == pytest.approx(difference, abs=allowed)


def test_parts_that_cannot_reach_the_node_have_no_score():
    path = Graph.from_edge_index([[0, 1, 2, 3], [1, 2, 3, 4]], num_nodes=6, directed=True)
    found = explain_node(network(path, 2), features(6), path, 3, method="removal")
    assert found.reached.tolist() == [False, True, True, False]  # two steps back from node 3
    assert found.scores[~found.reached].abs().sum() == 0
    chain = Hypergraph.from_lists([[0, 1], [1, 2], [2, 3], [4, 5]], num_nodes=6)
    assert explain_node(network(chain, 1), features(6), chain, 0).reached.tolist() == [True, True, False, False]
    assert len(found.top(99)) == 2


@pytest.mark.parametrize("method", ["gradient", "integrated", "mask", "removal"])
def test_a_node_without_neighbors_has_an_empty_explanation(method):
    graph = Graph.from_edge_index([[0], [1]], num_nodes=3, directed=False)
    found = explain_node(network(graph), features(3), graph, 2, method=method)
    assert not found.reached.any()
    assert found.scores.tolist() == [0, 0]
    assert len(found.top(5)) == 0
    assert fidelity(network(graph), features(3), graph, found, top_k=3)["fidelity"] == 0


def test_networks_that_ignore_weights_are_explained_by_removal_only():
    graph, x = STRUCTURES["graph"], features(9).float()
    with seeded(0):
        model = GAT(IN, 8, 3)
    for method in ("gradient", "integrated", "mask"):
        with pytest.raises(ArgumentError, match='Use method="removal"'):
            explain_node(model, x, graph, 2, method=method)
    assert explain_node(model, x, graph, 2, method="removal").scores.abs().sum() > 0
    assert explain_node(model, x, graph, 2, method="gradient", over="nodes").scores.abs().sum() > 0


def test_the_network_is_not_changed():
    graph, x = STRUCTURES["graph"], features(9)
    model = network(graph).train()
    model.conv1.eps.requires_grad_(False) if isinstance(model.conv1.eps, nn.Parameter) else None
    before = {name: value.clone() for name, value in model.state_dict().items()}
    needed = [p.requires_grad for p in model.parameters()]
    first = explain_node(model, x, graph, 2, method="mask", steps=3)
    assert torch.equal(first.scores, explain_node(model, x, graph, 2, method="mask", steps=3).scores)
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == needed
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def voting():
    """A node whose class is the sign of the sum of its neighbors: three say yes, one says no."""
    graph = Graph.from_edge_index([[1, 2, 3, 4], [0, 0, 0, 0]], num_nodes=5, directed=True)
    from hgraph.nn import GINConv

    model = Linear(GINConv(1, 2, mlp=nn.Linear(1, 2, bias=False)))
    model.conv.mlp.weight.data = torch.tensor([[0.0], [1.0]])
    return model, torch.tensor([[0.0], [3.0], [1.0], [1.0], [-2.5]]), graph


def test_counterfactuals_change_the_class_with_few_parts():
    model, x, graph = voting()
    assert model(x, graph)[0].argmax() == 1
    removed = counterfactual(model, x, graph, 0)
    assert graph.edge_index[0, removed].tolist() == [1]
    assert counterfactual(model, x, graph, 1) is None  # it has no neighbors
    assert counterfactual(model, x + 10, graph, 0, max_size=2) is None
    nodes = counterfactual(model, x, graph, 0, over="nodes")
    assert nodes.tolist() == [1]


def test_fidelity_of_the_true_cause_is_the_highest():
    model, x, graph = voting()
    found = explain_node(model, x, graph, 0, method="removal")
    best = fidelity(model, x, graph, found, top_k=1)
    assert best["fidelity"] > 0.3
    assert best["sparsity"] == 0.75
    assert fidelity(model, x, graph, found, top_k=4)["sufficiency_loss"] == pytest.approx(0)
    worst = type(found)(**{**vars(found), "scores": -found.scores})
    assert fidelity(model, x, graph, worst, top_k=1)["fidelity"] < best["fidelity"]


@pytest.mark.parametrize(("name", "over"), PARTS)
def test_pictures(name, over):
    structure, x = STRUCTURES[name], features(9)
    found = explain_node(network(structure), x, structure, 2, over=over, method="removal")
    ax = draw_explanation(structure, found, top_k=3, names=[f"n{i}$" for i in range(9)], labels=torch.arange(9) % 2)
    ax.figure.canvas.draw()
    assert over in ax.get_title()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x, g: explain_node(m, x, g, 9), ArgumentError, "node"),
        (lambda m, x, g: explain_node(m, x, g, 0, target=3), ArgumentError, "target"),
        (lambda m, x, g: explain_node(m, x, g, 0, method="lime"), ArgumentError, "method"),
        (
            lambda m, x, g: explain_node(m, x, g, 0, over="hyperedges"),
            ArgumentError,
            "over: expected one of edges, nodes",
        ),
        (lambda m, x, g: explain_node(m, x, g.adj, 0), ArgumentTypeError, "a Graph or Hypergraph"),
        (lambda m, x, g: counterfactual(m, x, g, 0, max_size=0), ArgumentError, "max_size"),
        (lambda m, x, g: explain_node(m, x, g, 0).top(-1), ArgumentError, "count"),
        (lambda m, x, g: draw_explanation(g, explain_node(m, x, g, 0), names=["a"]), ArgumentError, "names"),
        (lambda m, x, g: explain_node(Stack("GCNConv", IN, 8, 1).double(), x, g, 0), ArgumentError, "C >= 2 classes"),
    ],
)
def test_errors(call, error, message):
    graph = STRUCTURES["graph"]
    with pytest.raises(error, match=message):
        call(network(graph), features(9), graph)


def test_kept_edges():
    adj = Adjacency.from_coo(target=[0, 1, 1], source=[1, 0, 1], num_targets=3, num_sources=2, weight=torch.arange(3.0))
    kept = adj.keep(torch.tensor([False, True, True]))
    assert (kept.shape, kept.target.tolist(), kept.indices.tolist(), kept.weight.tolist()) == (
        (3, 2),
        [1, 1],
        [0, 1],
        [1, 2],
    )
    with pytest.raises(ArgumentError, match="one per edge"):
        adj.keep(torch.tensor([True]))


# ---------------------------------------------------------------------- planted causes


def precision(model, x, structure, nodes, truth, draw):
    """Mean precision at k of each method, where k is the number of true parts."""
    found = {name: [] for name in ("gradient", "integrated", "mask", "removal", "random")}
    for v in nodes:
        for name, values in found.items():
            explained = explain_node(model, x, structure, v, method="gradient" if name == "random" else name)
            top = explained.top(len(truth[v])).tolist()
            if name == "random":
                candidates = explained.reached.nonzero().flatten().tolist()
                top = draw.sample(candidates, min(len(truth[v]), len(candidates)))
            values.append(len(set(top) & truth[v]) / len(truth[v]))
    return {name: sum(values) / len(values) for name, values in found.items()}


def planted_hyperedge(seed):
    """A node is in class 1 if one of its hyperedges has a flagged node: this hyperedge is the cause."""
    draw, n = random.Random(seed), 80
    lists = [sorted(draw.sample(range(n), draw.choice((3, 4)))) for _ in range(70)]
    flagged = set(draw.sample(range(n), 8))
    truth = {v: {i for i, own in enumerate(lists) if v in own and flagged & set(own) - {v}} for v in range(n)}
    x, y = torch.ones(n, 2), torch.tensor([int(bool(truth[v])) for v in range(n)])
    x[:, 1] = torch.tensor([float(v in flagged) for v in range(n)])
    hg = Hypergraph.from_lists(lists, num_nodes=n)
    with seeded(seed):
        model = Stack("UniGINConv", 2, 16, 2, dropout=0.0)
    fit(model, (x, hg), lambda out: F.cross_entropy(out, y), epochs=200, lr=0.02, progress=False)
    right = model(x, hg).argmax(1) == y
    nodes = [v for v in range(n) if y[v] == 1 and right[v] and v not in flagged][:12]
    return precision(model, x, hg, nodes, truth, draw)


def planted_motif(seed):
    """A node is in class 1 if it is in a house of five nodes: the edges of the house are the cause."""
    draw, base, edges = random.Random(seed), 60, []
    for v in range(1, base):
        edges += [(u, v) for u in set(draw.choices(range(v), k=2))]
    houses = {}
    for first in range(base, base + 60, 5):
        a, b, c, d, e = range(first, first + 5)
        own = [(a, b), (b, c), (c, d), (a, d), (a, e), (b, e)]
        edges += [*own, (draw.randrange(base), draw.randrange(first, first + 5))]
        houses |= {v: {frozenset(pair) for pair in own} for v in range(first, first + 5)}
    n = base + 60
    graph = Graph.from_edge_index(torch.tensor(edges).T, num_nodes=n, directed=False)
    x, y = torch.ones(n, 1), (torch.arange(n) >= base).long()
    with seeded(seed):
        model = Stack("GINConv", 1, 16, 2, num_layers=3, dropout=0.0)
    fit(model, (x, graph), lambda out: F.cross_entropy(out, y), epochs=300, lr=0.01, progress=False)
    pairs = [frozenset(pair) for pair in graph.edge_index.T.tolist()]
    nodes = list(range(base, n, 5))
    truth = {v: {i for i, pair in enumerate(pairs) if pair in houses[v]} for v in nodes}
    return precision(model, x, graph, nodes, truth, draw)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "best"), [(planted_hyperedge, ("integrated",)), (planted_motif, ("integrated", "mask"))]
)
def test_planted_causes_are_found_better_than_by_the_gradient_and_by_chance(plant, best):
    """Means over five seeds."""
    runs = [plant(seed) for seed in range(5)]
    mean = {name: sum(run[name] for run in runs) / 5 for name in runs[0]}
    print(plant.__name__, {name: round(value, 3) for name, value in mean.items()})
    for name in best:
        assert mean[name] > mean["gradient"] + 0.05, mean
        assert mean[name] > mean["random"] + 0.05, mean
