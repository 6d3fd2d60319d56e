"""Readouts and pooling of batches against loops over the examples, in float64, and their contracts."""

import math

import pytest
import torch

from hgraph.data import Data, collate, items_of
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import GCNConv, HGNNConv
from hgraph.nn.pooling import SAGPooling, TopKPooling
from hgraph.nn.readout import AttentionReadout, Readout, Set2Set, VirtualNode
from hgraph.structure import Adjacency, Graph, Hypergraph
from hgraph.testing import contracts, random_graph, random_hypergraph
from hgraph.testing.case import Case
from hgraph.testing.compare import assert_all_near

D, B = 3, 4


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def batch_of(n, seed=0):
    """The example of each node, in no order; the last example has no nodes."""
    return torch.randint(B - 1, (n,), generator=torch.Generator().manual_seed(seed))


def inputs(n, seed=0, dtype=torch.float64):
    return randn(n, D, seed=seed + 7, dtype=dtype), items_of(batch_of(n, seed), B)


def rows_of(x, items):
    return (*x.shape[:-2], items.num_targets, None)


BARE = dict.fromkeys(("state_dict", "reset"), "it has no parameters")
ORDER = {"permutation": "examples keep their numbers; test_the_order_of_nodes_does_not_matter renumbers the nodes"}
CASES = {
    "Readout sum": (lambda: Readout("sum"), D),
    "Readout mean": (lambda: Readout("mean"), D),
    "Readout max": (lambda: Readout("max"), D),
    "AttentionReadout": (lambda: AttentionReadout(D), D),
    "AttentionReadout mapped": (lambda: AttentionReadout(D, 2), 2),
    "Set2Set": (lambda: Set2Set(D, num_steps=2), 2 * D),
}


def case(name):
    build, width = CASES[name]
    without = ORDER | BARE if name.startswith("Readout") else ORDER
    return Case(build, inputs, without=without, shape=lambda x, items: (*x.shape[:-2], B, width), roundings=16)


@pytest.mark.parametrize(
    ("name", "clause"),
    [(name, clause) for name in CASES for clause in contracts.LAYER],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_contract(name, clause):
    clause(case(name))


@pytest.mark.parametrize("clause", contracts.LAYER)
def test_contract_of_the_virtual_node(clause):
    clause(Case(lambda: VirtualNode(D), inputs, without={"permutation": ORDER["permutation"]}))


@pytest.fixture(params=[11, 1, 0])
def given(request):
    return inputs(request.param)


def members(items):
    found = [[] for _ in range(items.num_targets)]
    for b, i in zip(items.target.tolist(), items.indices.tolist(), strict=True):
        found[b].append(i)
    return found


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
def test_readout_parity(given, close, reduce):
    x, items = given
    how = {
        "sum": lambda r: r.sum(0),
        "mean": lambda r: r.mean(0),
        "max": lambda r: r.amax(0),
        "min": lambda r: r.amin(0),
    }
    expected = [how[reduce](x[own]) if own else torch.zeros(D, dtype=x.dtype) for own in members(items)]
    close(Readout(reduce)(x, items), torch.stack(expected))


@pytest.mark.parametrize("out", [None, 2])
def test_attentionreadout_parity(given, close, out):
    x, items = given
    layer = AttentionReadout(D, out).double()
    expected = torch.zeros(B, out or D, dtype=x.dtype)
    for b, own in enumerate(members(items)):
        scores = [math.exp(layer.gate(x[i]).item()) for i in own]
        for i, score in zip(own, scores, strict=True):
            expected[b] += score / math.fsum(scores) * (x[i] if out is None else layer.value(x[i]))
    close(layer(x, items), expected)


def test_set2set_parity(given, close):
    x, items = given
    layer = Set2Set(D, num_steps=3).double()
    expected = []
    for own in members(items):
        state = torch.zeros(1, 2 * D, dtype=x.dtype)
        h, c = torch.zeros(1, D, dtype=x.dtype), torch.zeros(1, D, dtype=x.dtype)
        for _ in range(3):
            gates = (
                state @ layer.lstm.weight_ih.T + layer.lstm.bias_ih + h @ layer.lstm.weight_hh.T + layer.lstm.bias_hh
            )
            i, f, g, o = gates.chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            weight = torch.stack([x[j] @ h[0] for j in own]).softmax(0) if own else torch.zeros(0, dtype=x.dtype)
            state = torch.cat([h, (weight[:, None] * x[own]).sum(0, keepdim=True)], -1)
        expected.append(state[0])
    close(layer(x, items), torch.stack(expected))


def test_virtualnode_parity(given, close):
    x, items = given
    layer, state = VirtualNode(D).double(), randn(B, D, seed=3)
    total = state.clone()
    for b, own in enumerate(members(items)):
        for i in own:
            total[b] += x[i]
    new = layer.mlp(total)
    out, found = layer(x, items, state)
    close(found, new)
    close(out, torch.stack([x[i] + new[b] for i, b in enumerate(batch_of(len(x)))]) if len(x) else x)


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_nodes_does_not_matter(name, close):
    x, items = inputs(11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    layer = case(name).module(dtype=torch.float64)
    close(layer(x[order], items_of(batch_of(11)[order], B)), layer(x, items))


def test_two_steps_connect_all_nodes_of_an_example_and_no_others():
    """A virtual node changes the nodes of its own example only."""
    x, items = inputs(11)
    layer, batch = VirtualNode(D).double(), batch_of(11)
    moved = x.clone()
    moved[0] += 1
    changed = (layer(moved, items)[0] != layer(x, items)[0]).any(1)
    assert torch.equal(changed, batch == batch[0])


def test_a_collated_batch_has_its_items():
    parts = [
        Data(random_graph(n, 5, seed=n), torch.full((n, 1), float(n)), torch.tensor(0), target="graph")
        for n in (3, 1, 4)
    ]
    both = collate(parts)
    assert Readout("mean")(both.x, both.items).flatten().tolist() == [3, 1, 4]
    assert both.items is both.items
    assert parts[0].items.shape == (1, 3)


# ---------------------------------------------------------------------- pooling


def structures(n, kind, seed=0):
    return (
        random_graph(n, 3 * n, seed=seed) if kind is Graph else random_hypergraph(n, 5, 2 * n, seed=seed, weighted=True)
    )


@pytest.mark.parametrize("kind", [Graph, Hypergraph])
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("n", [12, 1])
def test_the_best_nodes_of_each_example_stay(kind, ratio, n, close):
    x, items = inputs(n)
    structure, conv = structures(n, kind), (GCNConv if kind is Graph else HGNNConv)(D, 1)
    for layer in (TopKPooling(D, ratio=ratio).double(), SAGPooling(D, ratio=ratio, conv=conv).double()):
        score = (
            layer.conv(x, structure).detach()[:, 0]
            if isinstance(layer, SAGPooling)
            else x @ layer.weight.detach() / layer.weight.detach().norm()
        )
        expected = []
        for own in members(items):
            kept = math.ceil(ratio * len(own) - 1e-9)
            expected += sorted(own, key=lambda i: -score[i].item())[:kept]
        found = layer(x, structure, items)
        assert found.nodes.tolist() == sorted(expected)
        close(found.x, x[found.nodes] * score[found.nodes].tanh()[:, None])
        part = structure.subgraph if kind is Graph else structure.subhypergraph
        assert found.structure.equal(part(found.nodes))
        assert [[found.nodes[i].item() for i in own] for own in members(found.items)] == [
            [i for i in own if i in expected] for own in members(items)
        ]


def test_pooled_graphs_pass_gradients_to_the_scores():
    x, items = inputs(12)
    layer = TopKPooling(D).double()
    first = layer(x, structures(12, Graph), items)
    second = layer(first.x, first.structure, first.items)
    Readout()(second.x, second.items).sum().backward()
    assert layer.weight.grad.abs().min() > 0
    assert second.items.shape == (B, len(second.x))


def test_of_every_example_one_node_stays():
    x, items = inputs(11)
    found = TopKPooling(D, ratio=1e-12).double()(x, structures(11, Graph), items)
    assert [len(own) for own in members(found.items)] == [min(len(own), 1) for own in members(items)]


def test_equal_scores_keep_the_first_nodes_and_a_zero_vector_is_finite():
    layer = TopKPooling(D)
    torch.nn.init.zeros_(layer.weight)
    found = layer(torch.ones(4, D), random_graph(4, 6), items_of(torch.zeros(4).long(), 1))
    assert found.nodes.tolist() == [0, 1]
    assert found.x.tolist() == [[0.0] * D] * 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, i: Readout("median"), ArgumentError, "reduce"),
        (lambda x, i: Readout()(x, batch_of(6)), ArgumentTypeError, "items_of"),
        (lambda x, i: Readout()(x[:5], i), ArgumentError, r"x: expected shape \[..., 6, D\]"),
        (lambda x, i: AttentionReadout(2)(x, i), ArgumentError, r"\[..., N, 2\]"),
        (lambda x, i: AttentionReadout(3, gate=torch.nn.Linear(3, 2))(x, i), ArgumentError, "gate"),
        (lambda x, i: Set2Set(3, num_steps=0), ArgumentError, "num_steps"),
        (lambda x, i: VirtualNode(3)(x, i, torch.zeros(1, 3)), ArgumentError, "state"),
        (lambda x, i: TopKPooling(3, ratio=0.0), ArgumentError, "ratio"),
        (lambda x, i: TopKPooling(3)(x, i, i), ArgumentTypeError, "structure"),
        (lambda x, i: TopKPooling(3)(x, random_graph(6, 9), batch_of(6)), ArgumentTypeError, "items_of"),
        (lambda x, i: SAGPooling(3, conv=GCNConv(3, 2))(x, random_graph(6, 9), i), ArgumentError, "conv"),
        (lambda x, i: TopKPooling(3)(x, random_graph(6, 9), items_of(batch_of(5), B)), ArgumentError, "items"),
    ],
)
def test_errors(call, error, message):
    x, items = inputs(6, dtype=torch.float32)
    assert isinstance(items, Adjacency)
    with pytest.raises(error, match=message):
        call(x, items)


def test_layouts_of_features(close):
    items = inputs(11)[1]
    strided = randn(D, 11, seed=7).T
    for name in CASES:
        layer = case(name).module(dtype=torch.float64)
        assert_all_near(layer(strided, items), layer(strided.contiguous(), items), 1e-12, name)
