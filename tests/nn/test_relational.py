"""Layers over knowledge graphs against their papers' sums written as loops in float64, and their limit cases."""

from __future__ import annotations

import pytest
import torch

from hgraph.errors import ArgumentError
from hgraph.nn import GCNConv, RGCNConv
from hgraph.structure import Graph, KnowledgeGraph
from hgraph.testing import random_knowledge_graph

N, R, D, OUT = 8, 3, 4, 6
GRAPHS = {
    "plain": random_knowledge_graph(N, 24, R, seed=1),
    "weighted": random_knowledge_graph(N, 24, R, seed=2, weighted=True),
    "few": random_knowledge_graph(N, 3, R, seed=3),
    "no facts": random_knowledge_graph(N, 0, R),
}


@pytest.fixture(params=list(GRAPHS))
def kg(request):
    return GRAPHS[request.param]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomized(layer):
    layer = layer.double()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed))
    return layer


def edges_of(kg):
    """(head, relation, tail, weight or None) of each triple."""
    weights = [None] * kg.num_edges if kg.adj.weight is None else kg.adj.weight.double()
    return [(*triple, w) for triple, w in zip(kg.triples.tolist(), weights, strict=True)]


# ---------------------------------------------------------------------- RGCN


def matrices(layer):
    """[R, F, F'] of the relations, assembled as in the paper."""
    blocks = torch.stack([torch.block_diag(*parts) for parts in layer.weight])
    return blocks if layer.share is None else torch.einsum("rb,bij->rij", layer.share, blocks)


@pytest.mark.parametrize("options", [{}, {"num_bases": 2}, {"num_blocks": 2}, {"root": False, "bias": False}])
def test_rgcnconv_parity(kg, options):
    layer, x = randomized(RGCNConv(D, OUT, R, **options)), draw(N, D, seed=9)
    facts, each = edges_of(kg), matrices(layer)
    expected = []
    for v in range(N):
        out = torch.zeros(OUT).double()
        for h, r, t, w in facts:
            if h == v:
                prob = 1 / sum(a == h and b == r for a, b, _, _ in facts) if w is None else w
                out = out + prob * x[t] @ each[r]
        out = out if layer.root is None else out + x[v] @ layer.root
        expected.append(out if layer.bias is None else out + layer.bias)
    torch.testing.assert_close(layer(x, kg), torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"num_blocks": 2}])
def test_rgcn_by_relation_gradients(options):
    kg, layer = random_knowledge_graph(4, 6, R, seed=2, weighted=True), randomized(RGCNConv(D, 2, R, **options))
    names, values = zip(*layer.named_parameters(), strict=True)

    def call(x, weight, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, state, (x, kg.with_weight(weight)))

    arguments = (draw(4, D, seed=9).requires_grad_(), kg.adj.weight.double().requires_grad_(), *values)
    assert torch.autograd.gradcheck(call, arguments)
    layer(arguments[0], kg).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


def test_rgcn_by_relation_batches_and_bits():
    kg, layer, x = GRAPHS["plain"], randomized(RGCNConv(D, OUT, R)), draw(3, N, D, seed=9)
    torch.testing.assert_close(layer(x, kg), torch.stack([layer(one, kg) for one in x]), rtol=1e-12, atol=1e-12)
    assert torch.equal(layer(x, kg), layer(x, kg))
    assert layer(draw(0, N, D), kg).shape == (0, N, OUT)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    head, relation, tail = kg.triples.unbind(1)
    moved = KnowledgeGraph.from_triples(
        head=order[head], relation=relation, tail=order[tail], num_nodes=N, num_relations=R, duplicates="keep"
    )
    other = torch.empty_like(x).index_copy(1, order, x)
    torch.testing.assert_close(layer(other, moved)[:, order], layer(x, kg), rtol=1e-12, atol=1e-12)


def test_one_relation_with_symmetric_weights_is_gcn():
    graph = Graph.from_edge_index([[0, 1, 2, 5, 2], [1, 2, 3, 0, 5]], num_nodes=N, directed=False)
    loops = graph.adj.add_self_loops()
    gcn, layer = randomized(GCNConv(D, OUT)), randomized(RGCNConv(D, OUT, 1, root=False))
    with torch.no_grad():
        layer.weight[0, 0], layer.bias[:] = gcn.linear.weight.T, gcn.bias
    head, tail = loops.target.long(), loops.indices.long()
    again = KnowledgeGraph.from_triples(
        head=head, relation=torch.zeros_like(head), tail=tail, num_nodes=N, num_relations=1, duplicates="keep"
    )
    weight = loops.normalize("sym").weight.double()
    x = draw(N, D, seed=9)
    torch.testing.assert_close(layer(x, again.with_weight(weight)), gcn(x, graph), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_bases": 2, "num_blocks": 2}, "at most one of the two"),
        ({"num_blocks": 3}, "divisor"),
        ({"num_bases": 0}, "1 or more"),
    ],
)
def test_rgcn_wrong_arguments(options, match):
    with pytest.raises(ArgumentError, match=match):
        RGCNConv(D, OUT, R, **options)


def test_rgcn_checks_relations():
    with pytest.raises(ArgumentError, match="3 relations"):
        RGCNConv(D, OUT, R)(torch.randn(N, D), random_knowledge_graph(N, 5, 2))
