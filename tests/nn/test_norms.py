"""Norms, jumping knowledge and dropout of structures against their equations."""

import math

import pytest
import torch

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models.stack import Stack
from hgraph.nn import GCNConv, HGNNPConv, drop_edges, drop_hyperedges
from hgraph.nn.jumping import JumpingKnowledge
from hgraph.nn.norms import GraphNorm, PairNorm
from hgraph.ops import propagate
from hgraph.testing import random_graph, random_hypergraph


def rows(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (1, 3)])
def test_graph_norm_as_a_loop(shape, close):
    norm, x = GraphNorm(3).double(), rows(*shape)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(3))
    gamma, beta, alpha = (p.tolist() for p in (norm.weight, norm.bias, norm.mean_scale))
    expected = torch.empty_like(x)
    for one, out in zip(x.view(-1, *shape[-2:]), expected.view(-1, *shape[-2:]), strict=True):
        for d in range(3):
            moved = [v - alpha[d] * math.fsum(one[:, d].tolist()) / len(one) for v in one[:, d].tolist()]
            root = math.sqrt(math.fsum(m * m for m in moved) / len(one) + 1e-5)
            out[:, d] = torch.tensor([gamma[d] * m / root + beta[d] for m in moved], dtype=torch.float64)
    close(norm(x), expected)


@pytest.mark.parametrize("individually", [True, False])
def test_pair_norm_as_a_loop(individually, close):
    x, norm = rows(6, 3), PairNorm(2.0, individually=individually)
    moved = x - x.mean(0)
    lengths = [float(row @ row) for row in moved]
    total = [length if individually else sum(lengths) / 6 for length in lengths]
    close(norm(x), torch.stack([2 * row / math.sqrt(t + 1e-5) for row, t in zip(moved, total, strict=True)]))


def test_pair_norm_keeps_the_mean_squared_distance_of_all_pairs():
    x = PairNorm(eps=0.0)(rows(6, 3))
    assert float(torch.cdist(x, x).square().mean()) == pytest.approx(2.0)


@pytest.mark.parametrize("mode", ["cat", "max", "lstm"])
def test_jumping_knowledge_of_a_batch_is_that_of_each_example(mode):
    jump = JumpingKnowledge(mode, channels=4, num_layers=3).double()
    outputs = [rows(2, 5, 4) + i for i in range(3)]
    whole = jump(outputs)
    assert whole.shape == (2, 5, 12 if mode == "cat" else 4)
    torch.testing.assert_close(whole[1], jump([out[1] for out in outputs]))


def test_weights_of_the_lstm_sum_to_one(close):
    jump = JumpingKnowledge("lstm", channels=4, num_layers=3).double()
    close(jump([rows(5, 4)] * 3), rows(5, 4))


# ---------------------------------------------------------------------- dropout of structures


@pytest.mark.parametrize("weighted", [True, False])
def test_sums_over_dropped_edges_keep_their_expectation(weighted):
    torch.manual_seed(0)
    graph, x = random_graph(8, 30, seed=1, weighted=weighted), rows(8, 2)
    mean = sum(propagate(drop_edges(graph, 0.3).adj, x) for _ in range(1500)) / 1500
    torch.testing.assert_close(mean, propagate(graph.adj, x), rtol=0.05, atol=0.15)


def test_dropped_edges_are_a_valid_structure_with_the_order_of_edges():
    torch.manual_seed(0)
    graph = random_graph(8, 30, seed=1, weighted=True)
    kept = drop_edges(graph, 0.5)
    kept.adj.validate()
    left = {
        (t, s): w
        for t, s, w in zip(*(v.tolist() for v in (graph.adj.target, graph.adj.indices, graph.adj.weight)), strict=True)
    }
    for t, s, w in zip(*(v.tolist() for v in (kept.adj.target, kept.adj.indices, kept.adj.weight)), strict=True):
        assert 0.5 * w == pytest.approx(left[t, s])
    assert 0 < kept.num_edges < 30


def test_incidences_and_hyperedges_are_dropped():
    torch.manual_seed(0)
    hg = random_hypergraph(8, 10, 40, seed=1, weighted=True)
    fewer, empty = drop_edges(hg, 0.5), drop_hyperedges(hg, 0.5)
    for one in (fewer, empty):
        one.v2e.validate()
        assert one.num_hyperedges == hg.num_hyperedges
    assert 0 < fewer.num_incidences < hg.num_incidences
    for before, after in zip(hg.to_lists(), empty.to_lists(), strict=True):
        assert after in ([], before)
    torch.testing.assert_close(empty.hyperedge_weight, 2 * hg.hyperedge_weight)


def test_nothing_is_dropped_outside_training():
    graph, hg = random_graph(8, 30, seed=1), random_hypergraph(8, 10, 40, seed=1)
    assert drop_edges(graph, 0.5, training=False) is graph
    assert drop_hyperedges(hg, 0.5, training=False) is hg
    assert drop_hyperedges(hg, 0.0) is hg


# ---------------------------------------------------------------------- the stack


@pytest.mark.parametrize("options", [{"norm": n} for n in ("batch", "layer", "graph", "pair")]
                         + [{"residual": True}, {"initial": 0.2}, {"drop_edges": 0.4}]
                         + [{"jump": j} for j in ("cat", "max", "lstm")])  # fmt: skip
def test_options_of_a_stack_act(options):
    """Another output than without, logits for every node, and gradients in every parameter."""
    torch.manual_seed(0)
    graph, x = random_graph(8, 30, seed=1), rows(8, 5).float()
    plain, other = (Stack(GCNConv, 5, 4, 3, num_layers=3, dropout=0.0, **more) for more in ({}, options))
    other.load_state_dict(plain.state_dict(), strict=False) if "jump" not in options else None
    out = other(x, graph)
    assert out.shape == (8, 3)
    assert not torch.allclose(out, plain(x, graph))
    out.square().sum().backward()
    assert all(p.grad is not None for p in other.parameters())


def test_a_deep_stack_with_pair_norm_keeps_nodes_apart():
    torch.manual_seed(0)
    graph, x = random_graph(30, 200, seed=1), rows(30, 8).float()
    spread = {}
    for norm in (None, "pair"):
        torch.manual_seed(0)
        hidden = Stack(GCNConv, 8, 8, 8, num_layers=16, dropout=0.0, norm=norm)(x, graph).detach()
        spread[norm] = float(hidden.std(0).mean() / hidden.abs().mean())
    assert spread["pair"] > 3 * spread[None]


def test_dropped_edges_change_nothing_in_eval_mode():
    hg, x = random_hypergraph(8, 10, 40, seed=1), rows(8, 5).float()
    model = Stack(HGNNPConv, 5, 4, 3, drop_edges=0.5).eval()
    assert torch.equal(model(x, hg), model(x, hg))
    model.train()
    torch.manual_seed(1)
    assert not torch.equal(model(x, hg), model(x, hg))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: drop_edges(random_graph(3, 4, seed=0), 1.5), "p: expected a probability"),
        (lambda: drop_edges(torch.ones(3), 0.5), "a Graph or Hypergraph"),
        (lambda: drop_hyperedges(random_graph(3, 4, seed=0), 0.5), "a Hypergraph"),
        (lambda: JumpingKnowledge("sum"), "mode"),
        (lambda: JumpingKnowledge("lstm"), "channels, num_layers"),
        (lambda: GraphNorm(3)(torch.ones(3)), r"shape \[..., N, 3\]"),
        (lambda: Stack(GCNConv, 5, 4, 3, norm="graf"), "norm.*graph"),
        (lambda: Stack(GCNConv, 5, 4, 3, initial=2.0), "initial"),
    ],
)
def test_errors(call, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        call()


@pytest.mark.parametrize("norm", [GraphNorm(2), PairNorm(), PairNorm(individually=True)])
@pytest.mark.parametrize("scale", [300.0, 1.0])
def test_norms_in_half_precision(norm, scale):
    """The squares of 300 are beyond float16, as is the sum of 100,000 ones."""
    x = scale * torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0))
    out = norm(x.half())
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.float(), norm(x), rtol=2e-3, atol=2e-3)


def test_batch_norm_of_a_stack_is_over_all_nodes_of_all_examples():
    stack, graph = Stack("GCNConv", 3, 4, 2, norm="batch", dropout=0.0), random_graph(6, 12, seed=0)
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    hidden = stack.conv1(x, graph)
    seen = hidden.flatten(0, 1)
    normal = (seen - seen.mean(0)) / (seen.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(stack(x, graph), stack.conv2(normal.view_as(hidden).relu(), graph))
