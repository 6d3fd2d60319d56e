"""Expansions of hypergraphs, against loops over their hyperedges."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import Hypergraph
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.testing import hypergraphs, random_hypergraph

SOME = settings(max_examples=40, deadline=None, derandomize=True)
EMPTY = [
    Hypergraph.from_lists([], num_nodes=0),
    Hypergraph.from_lists([], num_nodes=3),
    Hypergraph.from_lists([[]], num_nodes=0),
    Hypergraph.from_lists([[], []], num_nodes=2),
    Hypergraph.from_lists([[0]], num_nodes=1),
]
either = st.booleans().flatmap(lambda weighted: hypergraphs(weighted=weighted))


def check_clique(hg):
    matrix = hg.incidence().double()
    expected = torch.zeros(hg.num_nodes, hg.num_nodes, dtype=torch.float64)
    for e, members in enumerate(hg.to_lists()):
        w = 1.0 if hg.hyperedge_weight is None else float(hg.hyperedge_weight[e])
        for u in members:
            for v in members:
                if u != v:
                    expected[u, v] += w * matrix[u, e] * matrix[v, e]
    clique = hg.clique()
    torch.testing.assert_close(clique.adj.dense().double(), expected, rtol=1e-6, atol=1e-7)
    assert clique.adj.weight is not None  # also without nodes: the kind must not depend on the data
    assert clique.num_edges == int((expected != 0).sum())


def check_line(hg):
    sets = [set(m) for m in hg.to_lists()]
    expected = torch.tensor(
        [[float(len(a & b)) * (i != j) for j, b in enumerate(sets)] for i, a in enumerate(sets)]
    ).reshape(len(sets), len(sets))
    line = hg.line()
    assert torch.equal(line.adj.dense(), expected)
    assert line.num_edges == int((expected > 0).sum())


def check_star(hg):
    n, size = hg.num_nodes, hg.num_nodes + hg.num_hyperedges
    expected = torch.zeros(size, size)
    expected[:n, n:] = hg.incidence()
    expected[n:, :n] = hg.incidence().T
    star = hg.star()
    assert torch.equal(star.adj.dense(), expected)
    assert not star.directed
    assert (star.adj.weight is None) == (hg.v2e.weight is None)


def check_dual(hg):
    dual = hg.dual()
    assert torch.equal(dual.incidence(), hg.incidence().T)
    assert dual.hyperedge_weight is hg.node_weight
    assert dual.node_weight is hg.hyperedge_weight
    assert dual.dual().equal(hg)


CHECKS = [check_clique, check_line, check_star, check_dual]


@pytest.mark.parametrize("check", CHECKS)
@SOME
@given(either)
def test_expansions(check, hg):
    check(hg)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("hg", [*EMPTY, random_hypergraph(6, 5, 14, weighted=True)], ids=repr)
def test_expansions_of_empty_and_weighted_ones(check, hg):
    check(hg)


def test_learned_weights_reach_the_clique():
    hg = random_hypergraph(5, 4, 11)
    weight = torch.rand(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: hg.with_hyperedge_weight(w).clique().adj.weight, weight)


# ---------------------------------------------------------------------- parts


@SOME
@given(hypergraphs(weighted=True), st.data())
def test_touching_and_subhypergraph(hg, data):
    ids = st.integers(0, hg.num_nodes - 1)
    chosen = data.draw(st.lists(ids, unique=True)) if hg.num_nodes else []
    nodes = torch.tensor(chosen, dtype=torch.long)
    lists = hg.to_lists()
    touching = [e for e, members in enumerate(lists) if set(members) & set(chosen)]
    assert hg.touching(nodes).tolist() == touching
    sub = hg.subhypergraph(nodes)
    assert sub.num_nodes == len(chosen)
    assert sub.to_lists() == [sorted(chosen.index(v) for v in lists[e] if v in chosen) for e in touching]
    assert torch.equal(sub.hyperedge_weight, hg.hyperedge_weight[touching])


def test_subhypergraph_carries_every_weight():
    hg = random_hypergraph(7, 5, 18, weighted=True)
    nodes = torch.tensor([5, 0, 3])
    sub, touching = hg.subhypergraph(nodes), hg.touching(nodes)
    assert torch.equal(sub.incidence(), hg.incidence()[nodes][:, touching])
    assert torch.equal(sub.node_weight, hg.node_weight[nodes])
    assert torch.equal(sub.hyperedge_weight, hg.hyperedge_weight[touching])


def test_subhypergraph_refuses():
    hg = random_hypergraph(4, 3, 6)
    with pytest.raises(ArgumentError, match="nodes: expected distinct nodes, got repeated"):
        hg.subhypergraph(torch.tensor([1, 1]))
    with pytest.raises(ArgumentError, match="nodes: expected nodes in 0 .. 3, got 4"):
        hg.touching(torch.tensor([4]))
    with pytest.raises(ArgumentTypeError, match="nodes: .*mask"):
        hg.subhypergraph(torch.tensor([True, False, True, True]))


@SOME
@given(either)
def test_with_singletons(hg):
    lists = hg.to_lists()
    lonely = [[v] for v in range(hg.num_nodes) if not any(v in members for members in lists)]
    full = hg.with_singletons()
    assert full.to_lists() == lists + lonely
    assert full.with_singletons().equal(full)
    if hg.hyperedge_weight is not None:
        assert full.hyperedge_weight.tolist() == hg.hyperedge_weight.tolist() + [1.0] * len(lonely)


def test_with_singletons_keeps_incidence_and_node_weights():
    hg = Hypergraph.from_coo(
        node=[0, 1], hyperedge=[0, 0], num_nodes=3, num_hyperedges=1,
        weight=[2.0, 3.0], node_weight=[4.0, 5.0, 6.0],
    ).with_singletons()  # fmt: skip
    assert hg.incidence().tolist() == [[2, 0], [3, 0], [0, 1]]
    assert hg.node_weight.tolist() == [4, 5, 6]
    assert hg.hyperedge_weight is None
