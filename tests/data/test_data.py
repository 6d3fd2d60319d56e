"""`Data`, `Split`, `Dataset`: checks that catch leaks."""

import dataclasses
import pickle

import pytest
import torch

from hgraph import Data, Dataset, Graph, Hypergraph, Split
from hgraph.errors import ArgumentError, DataError
from hgraph.testing import random_graph, random_hypergraph

N = 40


def labeled(kind="hypergraph", **meta):
    structure = {
        "hypergraph": lambda: random_hypergraph(N, 25, 120, weighted=True),
        "graph": lambda: random_graph(N, 160, weighted=True),
    }[kind]()
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    return Data(structure, x, torch.arange(N) % 2, meta=meta)


def divided(kind="hypergraph"):
    data = labeled(kind)
    return data, Split.per_class(data.structure, data.y, num_train_per_class=5, num_val_per_class=3)


# ---------------------------------------------------------------------- per_class


def test_per_class_draws_so_many_of_each():
    data, split = divided()
    for part, count in ((split.train, 5), (split.val, 3), (split.test, 12)):
        assert torch.bincount(data.y[part]).tolist() == [count, count]
        assert part.tolist() == sorted(part.tolist())
    assert sorted(torch.cat([split.train, split.val, split.test]).tolist()) == list(range(N))
    assert split.setting == "transductive"
    assert split.unseen.tolist() == []
    split.validate(data)


def test_per_class_hangs_on_the_seed_only():
    data = labeled()
    trains = [
        Split.per_class(data.structure, data.y, num_train_per_class=5, num_val_per_class=3, seed=s).train.tolist()
        for s in (0, 0, 1)
    ]
    assert trains[0] == trains[1] != trains[2]


def test_per_class_leaves_out_missing_labels():
    data = labeled()
    y = data.y.clone()
    y[:10] = -1
    split = Split.per_class(data.structure, y, num_train_per_class=5, num_val_per_class=3)
    assert torch.cat([split.train, split.val, split.test]).min() >= 10
    nobody = Split.per_class(data.structure, y * 0 - 1)
    assert len(nobody.train) == len(nobody.val) == len(nobody.test) == 0
    nobody.validate(data)


def test_per_class_refuses_small_classes():
    data = labeled()
    with pytest.raises(
        ArgumentError,
        match="y: expected more than 20 nodes in class 0, got 20.*num_train_per_class=",
    ):
        Split.per_class(data.structure, data.y, num_train_per_class=10, num_val_per_class=10)


# ---------------------------------------------------------------------- production


@pytest.mark.parametrize("kind", ["graph", "hypergraph"])
def test_production_hides_test_nodes(kind):
    data, split = divided(kind)
    hidden = Split.production(data, split, unseen_fraction=0.25, seed=3)
    hidden.validate(data)
    assert hidden.setting == "production"
    assert len(hidden.unseen) == 6
    assert set(hidden.unseen.tolist()) < set(split.test.tolist())
    assert not set(hidden.unseen.tolist()) & set(hidden.observed.tolist())
    assert len(hidden.observed) == N - 6
    size = hidden.structure.num_nodes
    assert size == N - 6
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(hidden, part), getattr(split, part))
    assert torch.equal(Split.production(data, split, unseen_fraction=0.25, seed=3).observed, hidden.observed)
    assert not torch.equal(Split.production(data, split, unseen_fraction=0.25, seed=4).observed, hidden.observed)


@pytest.mark.parametrize("unseen", [0, 1, -0.5, 2])
def test_production_refuses_shares(unseen):
    with pytest.raises(ArgumentError, match=f"unseen_fraction: expected a fraction between 0 and 1, got {unseen}"):
        Split.production(*divided(), unseen_fraction=unseen)


def leaks():
    """Splits that must be refused, by what is wrong."""
    data, split = divided()
    hidden = Split.production(data, split, unseen_fraction=0.25)
    hg, change = hidden.structure, dataclasses.replace
    other = Hypergraph(hg.v2e, hg.hyperedge_weight + 1, hg.node_weight)
    one_more = torch.cat([hidden.observed, hidden.unseen[:1]])
    longer = [*hg.to_lists(), [0, 1]]
    added = Hypergraph.from_lists(longer, num_nodes=hg.num_nodes)
    without_train = hidden.observed[hidden.observed != hidden.train[0]]
    return {
        "train in test": change(split, test=torch.cat([split.test, split.train[:1]])),
        "val in train": change(split, val=torch.cat([split.val, split.train[-1:]])),
        "twice in train": change(split, train=torch.cat([split.train, split.train[:1]])),
        "id too large": change(split, test=torch.cat([split.test[1:], torch.tensor([N])])),
        "negative id": change(split, test=torch.cat([split.test[1:], torch.tensor([-1])])),
        "masks": change(split, train=data.y == 0, val=data.y == 1, test=data.y == 2),
        "whole structure under observed": change(hidden, structure=data.structure),
        "one node more": change(hidden, structure=data.structure.subhypergraph(one_more)),
        "one hyperedge more": change(hidden, structure=added),
        "weights of the whole": change(hidden, structure=other),
        "no weights": change(hidden, structure=hg.with_hyperedge_weight(None)),
        "other order": change(hidden, observed=hidden.observed.flip(0)),
        "observed lies": change(hidden, observed=torch.arange(N)),
        "train hidden": change(hidden, observed=without_train, structure=data.structure.subhypergraph(without_train)),
        "observed twice": change(hidden, observed=torch.cat([hidden.observed, hidden.observed[:1]])),
        "observed out of range": change(hidden, observed=hidden.observed + 10),
        "production called transductive": change(hidden, observed=None),
        "another structure": change(split, structure=random_hypergraph(N, 25, 120, seed=9, weighted=True)),
        "another kind": change(split, structure=random_graph(N, 160)),
    }


@pytest.mark.parametrize("name", leaks())
def test_leaky_splits_are_refused(name):
    data, split = divided()
    with pytest.raises(DataError, match="split: "):
        leaks()[name].validate(data)
    bad = dataclasses.replace(data, splits={"default": split, "bad": leaks()[name]})
    with pytest.raises(DataError, match="split: "):
        bad.validate()


def test_a_leaky_graph_split_is_refused():
    data, split = divided("graph")
    hidden = Split.production(data, split)
    edges = torch.cat([hidden.structure.edge_index, hidden.structure.edge_index[:, :1].flip(0)], 1)
    leaky = Graph.from_edge_index(edges, num_nodes=hidden.structure.num_nodes, directed=True, duplicates="keep")
    with pytest.raises(DataError, match="is not the sub-structure"):
        dataclasses.replace(hidden, structure=leaky).validate(data)
    twice = torch.cat([hidden.observed, hidden.observed[:1]])
    with pytest.raises(DataError, match="distinct node ids"):
        dataclasses.replace(hidden, observed=twice, structure=data.structure.subgraph(twice)).validate(data)


def test_an_equal_structure_is_as_good_as_the_same():
    data, split = divided()
    dataclasses.replace(split, structure=pickle.loads(pickle.dumps(data.structure))).validate(data)


# ---------------------------------------------------------------------- Data


def test_validate_returns_the_data():
    data, split = divided()
    data = dataclasses.replace(data, splits={"default": split})
    assert data.validate() is data
    assert (data.num_nodes, data.num_features, data.num_classes) == (N, 3, 2)
    assert data.split() is split


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.ones(N - 1, 3)}, f"x: expected {N} rows .one per node., got {N - 1}"),
        ({"y": torch.ones(N + 1)}, f"y: expected {N} rows .one per node., got {N + 1}"),
        ({"x": torch.full((N, 3), float("nan"))}, f"x: expected features without NaN, got {3 * N} NaN"),
    ],
)
def test_validate_refuses(changed, message):
    with pytest.raises(ArgumentError, match=message):
        dataclasses.replace(labeled(), **changed).validate()


def test_unknown_split_lists_those_there_are():
    data, split = divided()
    with pytest.raises(ArgumentError, match=r"split: expected one of \['a', 'b'\], got 'default'"):
        dataclasses.replace(data, splits={"b": split, "a": split}).split()


def test_number_of_classes():
    assert labeled(class_names=["a", "b", "c"]).num_classes == 3
    empty = Data(Hypergraph.from_lists([], num_nodes=0), torch.ones(0, 2), torch.ones(0, dtype=torch.long))
    assert empty.validate().num_classes == 0


def test_to_moves_everything_and_keeps_what_is_shared():
    data, split = divided()
    data = dataclasses.replace(data, splits={"default": split, "again": split}, meta={"batch": data.y, "name": "n"})
    moved = data.to("meta")
    assert moved.x.is_meta
    assert moved.meta["batch"].is_meta
    assert moved.meta["name"] == "n"
    assert moved.split().train.is_meta
    assert moved.split().structure is moved.structure
    assert moved.splits["again"] is moved.split()
    assert split.to("meta").structure.v2e.indptr.is_meta
    assert not data.x.is_meta


# ---------------------------------------------------------------------- Dataset


def dataset(items, **more):
    card = {"task": "node classification", "target_spec": {"kind": "class"}, "license": "CC0", "redistribute": True}
    return Dataset("three", items, citation="nobody", **card, **more)


@pytest.mark.parametrize("items", [[10, 11, 12], range(10, 13)])
def test_dataset_is_a_sequence(items):
    found = dataset(items)
    assert len(found) == 3
    assert list(found) == [10, 11, 12]
    assert found[-1] == 12
    assert [found[i] for i in (-3, 2)] == [10, 12]
    assert pickle.loads(pickle.dumps(found))[1] == 11
    for index in (3, -4):
        with pytest.raises(IndexError, match="three has 3 examples"):
            found[index]


def test_dataset_from_a_function_is_lazy():
    made = []
    found = dataset(lambda i: made.append(i) or i * i, length=4)
    assert found[-1] == 9
    assert made == [3]
    assert list(found) == [0, 1, 4, 9]
    with pytest.raises(ArgumentError, match="length: expected the number of examples"):
        dataset(lambda i: i)
    assert repr(found) == "Dataset('three', 4 example(s), node classification, license: CC0)"


def test_data_and_splits_print_on_one_line():
    hg = Hypergraph.from_lists([[0, 1], [2]], num_nodes=3)
    ids = torch.arange(3)
    split = Split(hg, ids[:1], ids[1:1], ids[1:])
    data = Data(hg, torch.zeros(3, 4), torch.tensor([0, 1, 1]), {"default": split})
    assert repr(split) == "Split(train 1, val 0, test 2, transductive)"
    assert repr(data) == f"Data({hg!r}, x=[3, 4], y=[3], splits=['default'])"
    assert "target='graph'" in repr(Data(hg, torch.zeros(3, 4), torch.tensor(1), target="graph"))


def test_production_keeps_what_a_split_hides_already():
    path = Graph.from_edge_index([list(range(9)), list(range(1, 10))], num_nodes=10, directed=False)
    data = Data(path, torch.eye(10), torch.arange(10) % 2)
    by_time = Split.by_time(path, torch.arange(10), val_fraction=0.2, test_fraction=0.3)
    split = Split.production(data, by_time, unseen_fraction=0.4, seed=0)
    assert set(by_time.unseen.tolist()) <= set(split.unseen.tolist())
