"""`reorder`: the same structure under other numbers, and what goes along with it."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import Data, Graph, Hypergraph, Split, propagate, reorder
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.testing import hypergraphs, random_graph, random_hypergraph

SOME = settings(max_examples=25, deadline=None, derandomize=True)
METHODS = ("rcm", "degree", "cluster")
GRAPHS = [
    Graph.from_edge_index(torch.empty(2, 0, dtype=torch.long), num_nodes=0, directed=True),
    Graph.from_edge_index(torch.empty(2, 0, dtype=torch.long), num_nodes=3, directed=False),
    Graph.from_edge_index([[0, 0, 2], [0, 1, 1]], num_nodes=4, directed=True),  # a loop, an isolated node
    Graph.from_edge_index([[0, 0, 2], [1, 1, 0]], num_nodes=3, directed=True, duplicates="keep"),
    random_graph(17, 60, weighted=True),
]


def ring(n, seed=0):
    """A ring under random numbers: what its neighbors are called says nothing."""
    name = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return Graph.from_edge_index(torch.stack([name, name.roll(1)]), num_nodes=n, directed=False)


def blocks(groups, size, seed=0):
    """Cliques under random numbers, joined to a chain by one edge each."""
    generator = torch.Generator().manual_seed(seed)
    inside = torch.combinations(torch.arange(size))
    edges = torch.cat([inside + g * size for g in range(groups)])
    bridges = torch.stack([torch.arange(1, groups) * size - 1, torch.arange(1, groups) * size], 1)
    name = torch.randperm(groups * size, generator=generator)
    return Graph.from_edge_index(name[torch.cat([edges, bridges])].T, num_nodes=groups * size, directed=False), name


def entries(adj):
    """(target, source, weight) of every edge, as a sorted list."""
    weight = [1.0] * adj.num_edges if adj.weight is None else adj.weight.tolist()
    return sorted(zip(adj.target.tolist(), adj.indices.tolist(), weight, strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("graph", GRAPHS, ids=repr)
def test_the_same_edges_under_other_numbers(method, graph):
    moved = reorder(graph, method)
    order = moved.order.tolist()
    assert sorted(order) == list(range(graph.num_nodes))
    assert moved.hyperedge_order is None
    back = [(order[t], order[s], w) for t, s, w in entries(moved.result.adj)]
    assert sorted(back) == entries(graph.adj)
    # Edge by edge: new edge i is old edge edge_order[i].
    old, new, at = graph.adj, moved.result.adj, moved.edge_order
    assert torch.equal(moved.order[new.target.long()], old.target[at].long())
    assert torch.equal(moved.order[new.indices.long()], old.indices[at].long())
    assert old.weight is None or torch.equal(new.weight, old.weight[at])


@pytest.mark.parametrize("method", METHODS)
@SOME
@given(st.booleans().flatmap(lambda weighted: hypergraphs(weighted=weighted)))
def test_hypergraphs_keep_members_and_weights(method, hg):
    moved = reorder(hg, method)
    order, hyperedges = moved.order.tolist(), moved.hyperedge_order.tolist()
    assert sorted(order) == list(range(hg.num_nodes))
    assert sorted(hyperedges) == list(range(hg.num_hyperedges))
    old, new = hg.to_lists(), moved.result.to_lists()
    assert [sorted(order[v] for v in members) for members in new] == [old[e] for e in hyperedges]
    assert torch.equal(moved.result.incidence(), hg.incidence()[moved.order][:, moved.hyperedge_order])
    for weight, by in (("hyperedge_weight", moved.hyperedge_order), ("node_weight", moved.order)):
        before = getattr(hg, weight)
        assert before is None or torch.equal(getattr(moved.result, weight), before[by])


@pytest.mark.parametrize("method", METHODS)
def test_messages_are_equivariant_and_rows_come_back(method):
    graph = random_graph(23, 90, weighted=True)
    x = torch.randn(23, 3, dtype=torch.float64)
    moved = reorder(graph, method)
    assert torch.equal(moved.unsort(moved.sort(x)), x)
    assert torch.equal(moved.sort(moved.unsort(x)), x)
    torch.testing.assert_close(
        moved.unsort(propagate(moved.result.adj, moved.sort(x))), propagate(graph.adj, x), rtol=1e-12, atol=1e-12
    )
    ids = torch.tensor([3, 0, 22])
    assert torch.equal(moved.order[moved.new_ids(ids)], ids)


@pytest.mark.parametrize("method", METHODS)
def test_values_of_edges_still_come_in_the_order_of_the_input(method):
    source, target = torch.tensor([2, 0, 1, 3]), torch.tensor([1, 3, 0, 0])
    graph = Graph.from_edge_index(torch.stack([source, target]), num_nodes=4, directed=True)
    moved = reorder(graph, method)
    values = torch.tensor([10.0, 20.0, 30.0, 40.0])
    in_rows = moved.result.adj.sort_edges(values)
    assert torch.equal(in_rows, graph.adj.sort_edges(values)[moved.edge_order])
    assert torch.equal(moved.result.adj.unsort_edges(in_rows), values)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_order_each_time(method):
    graph = random_graph(40, 160)
    assert torch.equal(reorder(graph, method).order, reorder(graph, method).order)


def test_rcm_brings_neighbors_together():
    def far(g):
        return int((g.adj.target - g.adj.indices).abs().max())

    graph = ring(200)
    assert far(graph) > 150
    assert far(reorder(graph, "rcm").result) <= 2


def test_rcm_of_a_hypergraph_brings_members_together():
    name = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    chain = Hypergraph.from_lists([name[i : i + 4].tolist() for i in range(0, 57, 3)], num_nodes=60)
    spread = [max(m) - min(m) for m in reorder(chain, "rcm").result.to_lists()]
    assert max(spread) <= 8


def test_clusters_lie_together():
    graph, name = blocks(12, 8)
    group = torch.empty(96, dtype=torch.long)
    group[name] = torch.arange(96) // 8
    changes = int((reorder(graph, "cluster").sort(group).diff() != 0).sum())
    assert changes <= 14  # 11 if every clique were found whole


def test_degree_puts_hubs_first():
    graph = Graph.from_edge_index([[0, 0, 1, 2, 3], [1, 3, 3, 3, 4]], num_nodes=6, directed=False)
    assert reorder(graph, "degree").order.tolist() == [3, 0, 1, 2, 4, 5]


def labeled(structure, target="node", **meta):
    rows = {"node": structure.num_nodes, "hyperedge": 9, "edge": getattr(structure, "num_edges", 0)}[target]
    x = torch.arange(structure.num_nodes * 2.0).view(-1, 2)
    return Data(structure, x, torch.arange(rows) % 2, meta=meta, target=target)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("structure", [random_graph(30, 90), random_hypergraph(30, 9, 60)], ids=repr)
def test_data_goes_along_with_its_splits_and_names(method, structure):
    data = labeled(structure, node_names=[f"v{i}" for i in range(30)], class_names=["a", "b"])
    split = Split.per_class(structure, data.y, num_train_per_class=4, num_val_per_class=3)
    production = Split.production(data, split)
    data = dataclasses.replace(data, splits={"default": split, "production": production})
    moved = reorder(data, method)
    new = moved.result.validate()  # every split is proved again
    assert torch.equal(new.x, data.x[moved.order])
    assert torch.equal(new.y, data.y[moved.order])
    assert new.meta["class_names"] == ["a", "b"]
    assert new.meta["node_names"] == [f"v{i}" for i in moved.order.tolist()]
    for name, old in data.splits.items():
        for part in ("train", "val", "test"):  # the same nodes in the same order
            assert torch.equal(moved.order[getattr(new.splits[name], part)], getattr(old, part))
    assert sorted(moved.order[new.splits["production"].observed].tolist()) == production.observed.tolist()


def test_labels_of_hyperedges_and_edges_go_along():
    hg = random_hypergraph(20, 9, 40)
    moved = reorder(labeled(hg, "hyperedge", hyperedge_time=torch.arange(9)), "rcm")
    assert torch.equal(moved.result.y, (torch.arange(9) % 2)[moved.hyperedge_order])
    assert torch.equal(moved.result.meta["hyperedge_time"], moved.hyperedge_order)
    graph = random_graph(20, 50)
    moved = reorder(labeled(graph, "edge"), "degree")
    assert torch.equal(moved.result.y, (torch.arange(graph.num_edges) % 2)[moved.edge_order])


def test_what_cannot_be_renumbered_is_refused():
    graph = random_graph(5, 8)
    with pytest.raises(ArgumentError, match="method"):
        reorder(graph, "metis")
    with pytest.raises(ArgumentTypeError, match="structure"):
        reorder(graph.adj)
    with pytest.raises(ArgumentError, match="new_ids"):
        reorder(labeled(graph, links={"train": {}}))
    with pytest.raises(ArgumentError, match="5 rows"):
        reorder(graph).sort(torch.zeros(4))
