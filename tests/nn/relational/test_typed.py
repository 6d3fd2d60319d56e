"""HGT and HAN against their papers' sums written as loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hgraph.errors import ArgumentError
from hgraph.nn import HANConv, HGTConv
from hgraph.structure import KnowledgeGraph
from hgraph.testing import random_graph, random_knowledge_graph

IN, R, TYPES, PATHS = 4, 3, 2, 2


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomized(layer, seed=0):
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
    layer, x = randomized(HGTConv(IN, R, num_types=TYPES if typed else 1, num_heads=heads)), draw(n, IN, seed=20)

    def through(which, v, row):
        return row @ layer.weight[which, kinds[v]] + layer.bias[which, kinds[v]]

    expected = []
    for v in range(n):
        own = [(r, t) for h, r, t in kg.triples.tolist() if h == v]
        attended = torch.zeros(IN).double()
        for i in range(heads):
            part = slice(i * width, (i + 1) * width)
            query = through(1, v, x[v])[part]
            scores = [
                float(through(0, t, x[t])[part] @ layer.attention[r, i] @ query * layer.prior[r, i] / math.sqrt(width))
                for r, t in own
            ]
            for score, (r, t) in zip(scores, own, strict=True):
                prob = math.exp(score) / sum(math.exp(s) for s in scores)
                attended[part] += prob * through(2, t, x[t])[part] @ layer.message[r, i]
        expected.append(x[v] + through(3, v, F.gelu(attended)))
    torch.testing.assert_close(layer(x, kg), torch.stack(expected), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_hanconv_parity():
    n, heads, width = 6, 2, 3
    graphs = [random_graph(n, 12, seed=1), random_graph(n, 0)]
    layer, x = randomized(HANConv(IN, width, PATHS, num_heads=heads, semantic_channels=5)), draw(n, IN, seed=20)
    paths = []
    for conv, graph in zip(layer.paths, graphs, strict=True):
        value = conv.linear(x).view(n, heads, width)
        rows = []
        for v in range(n):
            near = sorted({v, *graph.adj.indices[graph.adj.target == v].tolist()})
            out = []
            for i in range(heads):
                pairs = [value[v, i] @ conv.target_score[i] + value[u, i] @ conv.source_score[i] for u in near]
                probs = torch.softmax(F.leaky_relu(torch.stack(pairs), 0.2), 0)
                out.append(sum(prob * value[u, i] for prob, u in zip(probs, near, strict=True)))
            rows.append(F.elu(torch.cat(out) + conv.bias))
        paths.append(torch.stack(rows))
    each = [sum(float(layer.query @ torch.tanh(row @ layer.weight + layer.bias)) for row in z) / n for z in paths]
    probs = [math.exp(w) / sum(math.exp(o) for o in each) for w in each]
    expected = sum(prob * z for prob, z in zip(probs, paths, strict=True))
    torch.testing.assert_close(layer(x, graphs), expected, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------------- limit cases and errors


def test_no_edges():
    kg = random_knowledge_graph(5, 0, R)
    assert HGTConv(IN, R)(torch.randn(5, IN), kg).isfinite().all()
    assert HANConv(IN, 3, PATHS)(torch.randn(5, IN), [random_graph(5, 0)] * PATHS).isfinite().all()


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match="a divisor of 4"):
        HGTConv(4, R, num_heads=3)
    with pytest.raises(ArgumentError, match="3 relations"):
        HGTConv(IN, R)(torch.randn(5, IN), random_knowledge_graph(5, 9, 2))
    with pytest.raises(ArgumentError, match="shape"):
        HGTConv(IN, R)(torch.randn(2, 5, IN), random_knowledge_graph(5, 9, R))
    graph = random_graph(5, 9)
    for graphs, got in ((graph, "one Graph"), ([graph], "1")):
        with pytest.raises(ArgumentError, match=f"2 graphs, one per meta-path, got {got}"):
            HANConv(IN, 3, PATHS)(torch.randn(5, IN), graphs)
