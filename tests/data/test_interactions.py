"""`Interactions`, `TripleSplit`: what is held out, and that it is in no graph that training sees."""

import dataclasses

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import hgraph
from hgraph import Interactions, KnowledgeGraph, TripleSplit
from hgraph.errors import ArgumentError, DataError
from hgraph.testing import random_knowledge_graph


def some(**changed):
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(4, (2, 40), generator=generator).unique(dim=1)
    kg = dataclasses.replace(random_knowledge_graph(6, 12, seed=1))
    return Interactions.random(*pairs, kg, **{"num_users": 5, "num_items": 4, **changed})


def pairs_of(adj):
    return set(zip(adj.target.tolist(), adj.indices.tolist(), strict=True))


def test_parts_are_disjoint_and_whole():
    data = some(val_fraction=0.25, test_fraction=0.25)
    parts = [pairs_of(getattr(data, p)) for p in ("train", "val", "test")]
    assert [len(p) for p in parts] == [8, 4, 4]
    assert len(set.union(*parts)) == 16
    assert some(seed=1).train.num_edges == some(seed=1).train.num_edges
    assert not some(seed=1).train.equal(some(seed=2).train)
    assert some(seed=1).equal(some(seed=1))


def test_the_collaborative_graph_has_training_pairs_alone():
    data = some(val_fraction=0.25, test_fraction=0.25)
    kg = data.collaborative()
    of_users = {(h, t - 5) for h, r, t in kg.triples.tolist() if r == 0}
    assert of_users == pairs_of(data.train)
    assert kg.num_relations == 2 * (data.kg.num_relations + 1)
    assert kg.num_edges == 2 * (data.train.num_edges + data.kg.num_edges)
    assert data.collaborative(inverses=False).num_edges * 2 == kg.num_edges


def test_names_of_users():
    kg = KnowledgeGraph.from_names([("Dune", "by", "Herbert")])
    data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=1, user_names=["ann"])
    assert data.collaborative().find_triples("ann")[0] == ("ann", "interacts with", "Dune")


@pytest.mark.parametrize("users", [None, ["ann", "bob"]])
@pytest.mark.parametrize("entities", [None, ["Dune", "Solaris", "Herbert"]])
def test_nodes_without_names_say_what_they_are(users, entities):
    kg = KnowledgeGraph.from_triples(
        head=[0], relation=[0], tail=[2], num_nodes=3, num_relations=1, node_names=entities
    )
    pairs = [[0, 1], [0, 1]]
    data = Interactions.from_pairs(pairs, [[], []], [[], []], kg, num_users=2, num_items=2, user_names=users)
    called = [*(users or ["user 0", "user 1"]), *(entities or ["item 0", "item 1", "entity 2"])]
    for inverses in (True, False):
        graph = data.collaborative(inverses=inverses)
        assert list(graph.node_names) == called
        assert [graph.type_names[int(kind)] for kind in graph.node_type] == ["user"] * 2 + ["item"] * 2 + ["entity"]
        tell = [graph.tell(path) for path in graph.paths(0, 4, max_steps=2)]
        assert len(tell) == 1
        assert all(called[v] in tell[0] for v in (0, 2, 4))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_users": 3}, "train users: expected users in 0 .. 2"),
        ({"num_items": 9}, "num_items: expected at most the 6 nodes of kg"),
        ({"val_fraction": 0.6, "test_fraction": 0.6}, "val_fraction, test_fraction: expected non-negative"),
        ({"duplicates": "keep"}, "duplicates"),
        ({"user_names": ["a"]}, "user_names: expected 5 strings"),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    with pytest.raises(ArgumentError, match=message):
        some(**changed)


def test_a_pair_in_two_parts_is_found():
    kg = random_knowledge_graph(3, 3)
    with pytest.raises(DataError, match="1 pairs are in both train and test"):
        Interactions.from_pairs([[0, 1], [0, 1]], [[], []], [[1], [1]], kg, num_users=2, num_items=2)
    with pytest.raises(ArgumentError, match="each pair once"):
        Interactions.from_pairs([[0, 0], [1, 1]], [[], []], [[], []], kg, num_users=2, num_items=2)


def test_triple_split():
    kg = KnowledgeGraph.from_names([(f"v{i % 7}", f"r{i % 3}", f"v{i * i % 11}") for i in range(21)])
    split = TripleSplit.random(kg, val_fraction=0.2, test_fraction=0.2, seed=3)
    assert [getattr(split, p).num_edges for p in ("train", "val", "test")] == [13, 4, 4]
    assert sorted(map(tuple, split.known().tolist())) == sorted(map(tuple, kg.triples.tolist()))
    assert split.test.node_names.equal(kg.node_names)
    with pytest.raises(DataError, match="triples are in two parts"):
        dataclasses.replace(split, val=split.train).validate()


@pytest.mark.parametrize("make", [some, lambda: TripleSplit.random(random_knowledge_graph(6, 9, 30, seed=2))])
def test_round_trip(make, tmp_path):
    data = make()
    data.save(tmp_path / "data")
    again = hgraph.load(tmp_path / "data")
    assert again.equal(data)
    assert data.to("cpu").equal(data)


def test_damaged_files_are_refused(tmp_path):
    some().save(tmp_path / "data")
    with safe_open(str(tmp_path / "data"), framework="pt") as file:
        tensors, header = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    for changed in (
        {k.replace("train/", "val/"): v for k, v in tensors.items() if k.startswith("train/")},  # held out twice
        {"kg/indptr": tensors["kg/indptr"].flip(0)},
        {"val/t_indptr": tensors["val/t_indptr"][:-1]},
    ):
        save_file({k: v.clone() for k, v in (tensors | changed).items()}, tmp_path / "data", metadata=header)
        with pytest.raises(DataError, match="data: "):
            hgraph.load(tmp_path / "data")
