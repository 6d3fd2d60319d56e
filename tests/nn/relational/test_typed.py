"""HGT and HAN against their papers' sums written as loops in float64, and what they owe."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hgraph.errors import ArgumentError
from hgraph.nn import HANConv, HGTConv
from hgraph.structure import Graph, KnowledgeGraph
from hgraph.testing import assert_layout_independent, random_graph, random_knowledge_graph

IN, R, TYPES, PATHS = 4, 3, 2, 2


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(layer, seed=0):
    layer = layer.double()
    with torch.no_grad():
        for at, parameter in enumerate(layer.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed + at))
    return layer


@pytest.mark.parametrize("facts", [30, 3, 0])
@pytest.mark.parametrize("typed", [True, False])
@torch.no_grad()
def test_hgtconv_parity(facts, typed):
    n, heads, width = 7, 2, 2
    kg = random_knowledge_graph(n, facts, R, seed=1)
    kinds = [v % TYPES if typed else 0 for v in range(n)]
    head, relation, tail = kg.triples.unbind(1)
    kg = KnowledgeGraph.from_triples(
        head=head, relation=relation, tail=tail, num_nodes=n, num_relations=R, duplicates="keep",
        node_type=kinds if typed else None,
    )  # fmt: skip
    layer, x = randomised(HGTConv(IN, R, num_types=TYPES if typed else 1, num_heads=heads)), draw(n, IN, seed=20)

    def through(which, v, row):
        return row @ layer.weight[which, kinds[v]] + layer.bias[which, kinds[v]]

    expected = []
    for v in range(n):
        own = [(r, t) for h, r, t in kg.triples.tolist() if h == v]
        heard = torch.zeros(IN).double()
        for i in range(heads):
            part = slice(i * width, (i + 1) * width)
            query = through(1, v, x[v])[part]
            scores = [
                float(through(0, t, x[t])[part] @ layer.attention[r, i] @ query * layer.prior[r, i] / math.sqrt(width))
                for r, t in own
            ]
            for score, (r, t) in zip(scores, own, strict=True):
                share = math.exp(score) / sum(math.exp(s) for s in scores)
                heard[part] += share * through(2, t, x[t])[part] @ layer.message[r, i]
        expected.append(x[v] + through(3, v, F.gelu(heard)))
    torch.testing.assert_close(layer(x, kg), torch.stack(expected), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_hanconv_parity():
    n, heads, width = 6, 2, 3
    graphs = [random_graph(n, 12, seed=1), random_graph(n, 0)]
    layer, x = randomised(HANConv(IN, width, PATHS, num_heads=heads, semantic_channels=5)), draw(n, IN, seed=20)
    paths = []
    for conv, graph in zip(layer.paths, graphs, strict=True):
        value = (x @ conv.weight).view(n, heads, width)
        rows = []
        for v in range(n):
            near = sorted({v, *graph.adj.indices[graph.adj.target == v].tolist()})
            out = []
            for i in range(heads):
                pairs = [value[v, i] @ conv.target_score[i] + value[u, i] @ conv.source_score[i] for u in near]
                shares = torch.softmax(F.leaky_relu(torch.stack(pairs), 0.2), 0)
                out.append(sum(share * value[u, i] for share, u in zip(shares, near, strict=True)))
            rows.append(F.elu(torch.cat(out) + conv.bias))
        paths.append(torch.stack(rows))
    each = [sum(float(layer.query @ torch.tanh(row @ layer.weight + layer.bias)) for row in z) / n for z in paths]
    shares = [math.exp(w) / sum(math.exp(o) for o in each) for w in each]
    expected = sum(share * z for share, z in zip(shares, paths, strict=True))
    torch.testing.assert_close(layer(x, graphs), expected, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------------- what both owe


def test_gradients(case):
    layer, structure = randomised(case.build()), case.structure(4, seed=1, facts=6)
    x = draw(4, IN, seed=20).requires_grad_()
    names, values = zip(*layer.named_parameters(), strict=True)

    def call(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, structure))

    assert torch.autograd.gradcheck(call, (x, *values), fast_mode=True)
    layer(x, structure).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


def test_layouts_decide_nothing(case):
    layer, structure = randomised(case.build()), case.structure(6, seed=1)
    names, values = zip(*layer.named_parameters(), strict=True)

    def call(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, structure))

    assert_layout_independent(call, draw(6, IN, seed=20), *values, tolerance=1e-11)


def test_state_dict_round_trip(case, tmp_path):
    one, other, structure = randomised(case.build()), randomised(case.build(), 50), case.structure(6)
    x = draw(6, IN, seed=20)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    assert not torch.equal(one(x, structure), other(x, structure))
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(one(x, structure), other(x, structure))


def test_same_bits_no_edges_no_vertices_and_draws_anew(case):
    layer, structure, x = case.build(), case.structure(30), torch.randn(30, IN)
    assert torch.equal(layer(x, structure), layer(x, structure))
    assert layer(torch.randn(5, IN), case.structure(5, facts=0)).isfinite().all()
    assert layer(torch.empty(0, IN), case.structure(0, facts=0)).shape[0] == 0
    before = [p.clone() for p in layer.parameters() if p.dim() > 1]
    layer.reset_parameters()
    changed = [
        not torch.equal(a, b) for a, b in zip(before, (p for p in layer.parameters() if p.dim() > 1), strict=True)
    ]
    assert any(changed)


def test_vertices_called_otherwise_hear_the_same():
    n, order = 8, torch.randperm(8, generator=torch.Generator().manual_seed(0))
    x = draw(n, IN, seed=20)
    moved_x = torch.empty_like(x).index_copy(0, order, x)
    kg = random_knowledge_graph(n, 30, R, seed=1)
    head, relation, tail = kg.triples.unbind(1)
    moved = KnowledgeGraph.from_triples(
        head=order[head], relation=relation, tail=order[tail], num_nodes=n, num_relations=R, duplicates="keep"
    )
    hgt = randomised(HGTConv(IN, R))
    torch.testing.assert_close(hgt(moved_x, moved)[order], hgt(x, kg), rtol=1e-12, atol=1e-12)
    graphs = [random_graph(n, 20, seed=s) for s in (1, 2)]
    others = [Graph.from_edge_index(order[g.edge_index], num_nodes=n, directed=True) for g in graphs]
    han = randomised(HANConv(IN, 3, PATHS))
    torch.testing.assert_close(han(moved_x, others)[order], han(x, graphs), rtol=1e-12, atol=1e-12)


def test_what_is_wrong_is_said():
    with pytest.raises(ArgumentError, match="a divisor of 4"):
        HGTConv(4, R, num_heads=3)
    with pytest.raises(ArgumentError, match="3 relations"):
        HGTConv(IN, R)(torch.randn(5, IN), random_knowledge_graph(5, 9, 2))
    with pytest.raises(ArgumentError, match="shape"):
        HGTConv(IN, R)(torch.randn(2, 5, IN), random_knowledge_graph(5, 9, R))
    graph = random_graph(5, 9)
    for graphs, got in ((graph, "one Graph"), ([graph], "1")):
        with pytest.raises(ArgumentError, match=f"2 graphs, one a meta-path, got {got}"):
            HANConv(IN, 3, PATHS)(torch.randn(5, IN), graphs)
