"""Splits for link and hyperedge prediction: nothing held out is in what training sees, and `check` would notice."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hgraph import Data, Graph, HyperedgeSplit, Hypergraph, LinkSplit, Split
from hgraph.builders import erdos_renyi_graph, uniform_hypergraph
from hgraph.errors import ArgumentError, DataError


def pairs(edge_index: torch.Tensor) -> set[tuple[int, int]]:
    return {(s, t) for s, t in edge_index.T.tolist()}


def weighted(graph: Graph, seed: int = 0) -> Graph:
    weight = torch.rand(graph.num_edges, generator=torch.Generator().manual_seed(seed))
    return Graph(graph.adj.with_weight(weight))


def room_for_negatives(graph: Graph, share: float) -> bool:
    """Whether twice the share of the links is no more than the pairs that no edge joins."""
    joined = graph.adj.with_weight(None).dense().bool()
    free = int((~(joined | torch.eye(len(joined), dtype=torch.bool))).sum())
    return 2 * share * graph.num_edges + 2 <= free


# ---------------------------------------------------------------------- links


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 14), st.booleans(), st.integers(0, 99), st.sampled_from([0.0, 0.1, 0.3]))
def test_links_are_divided_and_hidden_both_ways(n, directed, seed, share):
    graph = weighted(erdos_renyi_graph(n, 0.3, directed=directed, seed=seed)).add_self_loops()
    assume(room_for_negatives(graph, share))
    split = LinkSplit.random(graph, val_fraction=share, test_fraction=share, seed=seed)
    split.validate(graph)
    everything = pairs(graph.edge_index)
    symmetric = all((t, s) in everything for s, t in everything)
    hidden = pairs(split.val) | pairs(split.test)
    both = hidden | ({(t, s) for s, t in hidden} if symmetric else set())
    assert pairs(split.structure.edge_index) == everything - both
    inside = split.structure.adj
    assert torch.equal(inside.dense(), graph.adj.dense() * (inside.with_weight(None).dense() > 0))  # weights kept
    negatives = pairs(split.val_negatives) | pairs(split.test_negatives)
    assert len(negatives) == split.val.shape[1] + split.test.shape[1]
    assert not negatives & (everything | ({(t, s) for s, t in everything} if symmetric else set()))
    assert all(s != t for s, t in negatives)


def test_shares_and_seeds():
    graph = erdos_renyi_graph(60, 0.2, seed=0)
    links = graph.num_edges // 2
    one, same, other = (LinkSplit.random(graph, val_fraction=0.1, test_fraction=0.2, seed=s) for s in (1, 1, 2))
    assert (one.val.shape[1], one.test.shape[1]) == (round(0.1 * links), round(0.2 * links))
    assert all(torch.equal(getattr(one, p), getattr(same, p)) for p in ("train", "val", "test", "test_negatives"))
    assert not torch.equal(one.test, other.test)


def test_negatives_are_uniform_and_found_in_dense_graphs():
    """All pairs but two are edges: the two are the negatives, in the dense search as in the sparse one."""
    full = [(i, j) for i in range(6) for j in range(i) if (i, j) not in {(1, 0), (5, 3)}]
    graph = Graph.from_edge_index(torch.tensor(full).T, num_nodes=6, directed=False)
    split = LinkSplit.random(graph, val_fraction=0.0, test_fraction=2 / 13, seed=0)
    assert pairs(split.test_negatives) == {(0, 1), (3, 5)}
    with pytest.raises(ArgumentError, match="at least 4 pairs without an edge"):
        LinkSplit.random(graph, val_fraction=0.0, test_fraction=4 / 13)
    sparse = Graph.from_edge_index([[0], [1]], num_nodes=4, directed=False)
    counts = {}
    for seed in range(1500):
        # Half of 1 link rounds to 0, three quarters to 1.
        (pair,) = pairs(LinkSplit.random(sparse, val_fraction=0.0, test_fraction=0.75, seed=seed).test_negatives)
        counts[pair] = counts.get(pair, 0) + 1
    assert set(counts) == {(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    assert all(abs(c - 300) < 5 * (1500 * 0.2 * 0.8) ** 0.5 for c in counts.values())


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.booleans(), st.integers(0, 99))
def test_nothing_seen_in_training_is_younger_than_what_is_held_out(n, directed, seed):
    graph = erdos_renyi_graph(n, 0.3, directed=directed, seed=seed)
    time = torch.randint(0, 6, (graph.num_edges,), generator=torch.Generator().manual_seed(seed))
    assume(room_for_negatives(graph, 0.4))  # ample: parts follow equal times
    split = LinkSplit.by_time(graph, time, val_fraction=0.2, test_fraction=0.2)
    split.validate(graph)
    everything = pairs(graph.edge_index)
    symmetric = all((t, s) in everything for s, t in everything)
    age = {(s, t): int(a) for (s, t), a in zip(graph.edge_index.T.tolist(), time, strict=True)}
    if symmetric:
        age = {(s, t): min(a, age[(t, s)]) for (s, t), a in age.items()}
    stages = [[age[p] for p in pairs(part)] for part in (split.train, split.val, split.test)]
    for earlier, later in ((0, 1), (0, 2), (1, 2)):
        if stages[earlier] and stages[later]:
            assert max(stages[earlier]) < min(stages[later])


def leaky_links(split: LinkSplit, graph: Graph) -> dict[str, LinkSplit]:
    s, t = split.test[:, 0].tolist()
    one_way = torch.cat([split.structure.edge_index, torch.tensor([[t], [s]])], dim=1)
    return {
        "the whole graph": dataclasses.replace(split, structure=graph),
        "one direction of a test link": dataclasses.replace(
            split, structure=Graph.from_edge_index(one_way, num_nodes=graph.num_nodes, directed=True)
        ),
        "a link in two parts": dataclasses.replace(split, val=torch.cat([split.val, split.test[:, :1]], dim=1)),
        "the reverse in another part": dataclasses.replace(
            split, val=torch.cat([split.val, split.test[:, :1].flip(0)], dim=1)
        ),
        "a link nowhere": dataclasses.replace(split, test=split.test[:, 1:]),
        "a negative that is an edge": dataclasses.replace(split, test_negatives=split.train[:, :1].flip(0)),
        "a negative twice": dataclasses.replace(split, val_negatives=split.test_negatives[:, :1]),
    }


@pytest.mark.parametrize("number", range(7))
def test_link_leaks_are_noticed(number):
    graph = erdos_renyi_graph(12, 0.4, seed=1)
    split = LinkSplit.random(graph, val_fraction=0.2, test_fraction=0.2)
    name, leak = list(leaky_links(split, graph).items())[number]
    with pytest.raises(DataError, match="split"):
        leak.validate(graph)
        pytest.fail(name)


def test_link_arguments_are_checked():
    graph = erdos_renyi_graph(5, 0.5, seed=0)
    with pytest.raises(ArgumentError, match="with a sum below 1"):
        LinkSplit.random(graph, val_fraction=0.5, test_fraction=0.5)
    with pytest.raises(ArgumentError, match="time: expected"):
        LinkSplit.by_time(graph, [1.0])
    with pytest.raises(ArgumentError, match="finite"):
        LinkSplit.by_time(graph, torch.full((graph.num_edges,), torch.nan))
    twice = Graph.from_edge_index([[0, 0], [1, 1]], num_nodes=2, directed=True, duplicates="keep")
    with pytest.raises(ArgumentError, match="parallel"):
        LinkSplit.random(twice)


# ---------------------------------------------------------------------- hyperedges


def some(seed: int, weighted: bool = False) -> Hypergraph:
    """30 hyperedges of 1 to 4 among 8 nodes: equal ones are there."""
    sizes = torch.randint(1, 5, (30,), generator=torch.Generator().manual_seed(seed)).tolist()
    hg = uniform_hypergraph(8, 30, sizes, seed=seed)
    return hg.with_hyperedge_weight(torch.arange(30.0)) if weighted else hg


@pytest.mark.parametrize("seed", range(6))
def test_equal_hyperedges_stay_on_one_side(seed):
    hg = some(seed, weighted=seed % 2 == 1)
    split = HyperedgeSplit.random(hg, val_fraction=0.2, test_fraction=0.3, seed=seed)
    split.validate(hg)
    lists = hg.to_lists()
    train, val, test = ({tuple(lists[e]) for e in part.tolist()} for part in (split.train, split.val, split.test))
    assert not train & val
    assert not train & test
    assert not val & test
    assert len(split.train) + len(split.val) + len(split.test) == 30
    different = len({tuple(e) for e in lists})
    assert (len(val), len(test)) == (round(0.2 * different), round(0.3 * different))
    assert {tuple(e) for e in split.structure.to_lists()} == train
    assert split.structure.num_nodes == 8


def test_negatives_are_twins_of_their_positives():
    hg = uniform_hypergraph(200, 40, 6, seed=0)
    split = HyperedgeSplit.random(hg, val_fraction=0.2, test_fraction=0.3, exchanged=0.5)
    known = {tuple(e) for e in hg.to_lists()}
    for ids, negatives in ((split.val, split.val_negatives), (split.test, split.test_negatives)):
        assert negatives.num_hyperedges == len(ids)
        for e, twin in zip(ids.tolist(), negatives.to_lists(), strict=True):
            assert tuple(twin) not in known
            assert len(twin) == 6
            assert len(set(twin) & set(hg.to_lists()[e])) == 3


def test_where_no_negative_is_there_none_is_made():
    """All pairs of three nodes are hyperedges, and the triple has nobody to exchange."""
    hg = Hypergraph.from_lists([[0, 1], [1, 2], [0, 2], [0, 1, 2]], num_nodes=3)
    split = HyperedgeSplit.random(hg, val_fraction=0.0, test_fraction=0.75)
    split.validate(hg)
    assert split.test_negatives.num_hyperedges == 0


def test_later_hyperedges_that_repeat_earlier_ones_are_in_no_part():
    hg = Hypergraph.from_lists([[0, 1], [2, 3], [0, 1], [1, 2], [4, 5], [1, 2]], num_nodes=6)
    split = HyperedgeSplit.by_time(hg, [0, 1, 4, 3, 5, 5], val_fraction=2 / 6, test_fraction=2 / 6)
    split.validate(hg)
    assert [split.train.tolist(), split.val.tolist(), split.test.tolist()] == [[0, 1], [3], [4]]


def leaky_hyperedges(split: HyperedgeSplit, hg: Hypergraph) -> dict[str, HyperedgeSplit]:
    more = torch.cat([split.train, split.test[:1]])
    again = Hypergraph.from_lists([*split.structure.to_lists(), hg.to_lists()[int(split.test[0])]], num_nodes=8)
    return {
        "the whole hypergraph": dataclasses.replace(split, structure=hg),
        "a test hyperedge in the structure": dataclasses.replace(split, structure=again),
        "a hyperedge in two parts": dataclasses.replace(split, train=more),
        "an id that is none": dataclasses.replace(split, val=torch.tensor([30])),
        "a negative that is a hyperedge": dataclasses.replace(split, test_negatives=split.structure),
    }


@pytest.mark.parametrize("number", range(5))
def test_hyperedge_leaks_are_noticed(number):
    hg = some(0)
    split = HyperedgeSplit.random(hg)
    name, leak = list(leaky_hyperedges(split, hg).items())[number]
    with pytest.raises(DataError, match="split"):
        leak.validate(hg)
        pytest.fail(name)


def test_equal_members_under_another_number_are_a_leak():
    hg = Hypergraph.from_lists([[0, 1], [2, 3], [1, 0]], num_nodes=4)
    ids = torch.tensor([0, 1]), torch.tensor([], dtype=torch.long), torch.tensor([2])
    empty = Hypergraph.from_lists([], num_nodes=4)
    structure = Hypergraph.from_lists([[0, 1], [2, 3]], num_nodes=4)
    with pytest.raises(DataError, match="same members"):
        HyperedgeSplit(structure, *ids, empty, empty).validate(hg)


def test_hyperedge_arguments_are_checked():
    with pytest.raises(ArgumentError, match="exchanged"):
        HyperedgeSplit.random(some(0), exchanged=0)
    with pytest.raises(ArgumentError, match="time: expected 30"):
        HyperedgeSplit.by_time(some(0), [1.0])
    nothing = Hypergraph.from_lists([], num_nodes=3)
    assert HyperedgeSplit.random(nothing).structure.equal(nothing)


# ---------------------------------------------------------------------- nodes in time, and devices


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 99))
def test_nodes_of_the_test_come_after_all_that_training_knows(times, seed):
    structure = erdos_renyi_graph(len(times), 0.3, seed=seed)
    time = torch.tensor(times, dtype=torch.long)
    split = Split.by_time(structure, time, val_fraction=0.2, test_fraction=0.3)
    split.validate(Data(structure, torch.ones(len(times), 1), torch.zeros(len(times), dtype=torch.long)))
    assert split.setting == "production"
    assert torch.equal(split.unseen, split.test)
    assert len(split.train) + len(split.val) + len(split.test) == len(times)
    stages = [time[split.train], time[split.val], time[split.test]]
    for earlier, later in ((0, 1), (0, 2), (1, 2)):
        if len(stages[earlier]) and len(stages[later]):
            assert stages[earlier].max() < stages[later].min()


@pytest.mark.parametrize("kind", [LinkSplit, HyperedgeSplit])
def test_data_hold_splits_of_what_is_to_be_predicted(kind):
    structure = (
        Graph.from_edge_index([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]], num_nodes=5, directed=False)
        if kind is LinkSplit
        else Hypergraph.from_lists([[0, 1], [1, 2], [2, 3], [3, 4], [0, 4]], num_nodes=5)
    )
    split = kind.random(structure, val_fraction=0.2, test_fraction=0.2)
    data = Data(structure, torch.ones(5, 1), torch.full((5,), -1), {"default": split}).validate()
    assert data.split("default", kind) is split
    with pytest.raises(ArgumentError, match=f"split: expected a Split, got 'default', a {kind.__name__}"):
        data.split()
    leaky = dataclasses.replace(split, structure=structure)
    with pytest.raises(DataError, match="split: the training .*graph (is|does) not"):
        dataclasses.replace(data, splits={"default": leaky}).validate()


def test_splits_move():
    graph = erdos_renyi_graph(9, 0.4, seed=0)
    assert LinkSplit.random(graph).to("meta").structure.adj.indices.device.type == "meta"
    assert HyperedgeSplit.random(some(0)).to("meta").test.device.type == "meta"


# ---------------------------------------------------------------------- two sides


def shop(users=30, items=12, seed=0):
    """A bipartite graph of users and items."""
    draw = torch.Generator().manual_seed(seed)
    pairs = (torch.rand(users, items, generator=draw) < 0.3).nonzero().T
    index = torch.stack([pairs[0], pairs[1] + users])
    kind = (torch.arange(users + items) >= users).long()
    return Graph.from_edge_index(index, num_nodes=users + items, directed=False), kind


@pytest.mark.checked(
    "splits",
    "`node_type=` makes negatives of a bipartite graph join its two sides; without it, a note says that they may not.",
)
@pytest.mark.parametrize("make", ["random", "by_time"])
def test_typed_negatives_join_the_two_sides(make, caplog):
    graph, kind = shop()
    more = {"time": torch.arange(graph.num_edges)} if make == "by_time" else {}
    split = getattr(LinkSplit, make)(graph, node_type=kind, val_fraction=0.1, test_fraction=0.2, **more)
    split.validate(graph)
    assert split.test_negatives.shape == split.test.shape
    for pairs in (split.val_negatives, split.test_negatives):
        assert (kind[pairs].sum(0) == 1).all()
    assert not caplog.text
    plain = getattr(LinkSplit, make)(graph, val_fraction=0.1, test_fraction=0.2, **more)
    assert (kind[plain.test_negatives].sum(0) != 1).any()
    assert "bipartite graph" in caplog.text


def test_types_of_a_directed_graph_keep_their_order():
    index = torch.tensor([[0, 0, 1, 2, 3], [4, 5, 5, 6, 4]])
    graph = Graph.from_edge_index(index, num_nodes=7, directed=True)
    kind = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    split = LinkSplit.random(graph, node_type=kind, val_fraction=0.2, test_fraction=0.4)
    negatives = torch.cat([split.val_negatives, split.test_negatives], dim=1)
    assert (kind[negatives[0]] == 0).all()
    assert (kind[negatives[1]] == 1).all()
    with pytest.raises(ArgumentError, match="pairs of these types without an edge"):
        full = Graph.from_edge_index([[0, 0, 1, 1], [2, 3, 2, 3]], num_nodes=4, directed=False)
        LinkSplit.random(full, node_type=[0, 0, 1, 1], val_fraction=0.25, test_fraction=0.25)
    with pytest.raises(ArgumentError, match="node_type: expected 7 integers"):
        LinkSplit.random(graph, node_type=[0.5] * 7)


@pytest.mark.parametrize(("edges", "two_sides"), [
    ([[0, 0, 1, 1, 2], [3, 4, 3, 4, 3]], False),  # a cycle and an edge: as many links as nodes
    ([[0, 0, 0, 1, 1, 1], [2, 3, 4, 2, 3, 4]], True),
    ([[0, 0, 0, 1, 1, 1, 2], [2, 3, 4, 2, 3, 4, 3]], False),
])  # fmt: skip
def test_two_sides_are_found(edges, two_sides):
    from hgraph.data.negatives import is_bipartite

    assert is_bipartite(Graph.from_edge_index(edges, num_nodes=6, directed=False)) is two_sides
