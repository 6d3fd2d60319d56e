"""What one types first: the short way works where it has one meaning, else one sentence says the right way."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from hgraph import Data, Graph, Hypergraph, Interactions, KnowledgeGraph, Split, collate, models, train
from hgraph.cli.app import app
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError

PAIRS = torch.tensor([[0, 1], [1, 2]])
X, Y = torch.eye(3), torch.tensor([0, 1, 0])
FIRST, REST = torch.tensor([True, True, False]), torch.tensor([False, False, True])
KG = KnowledgeGraph.from_triples(head=[0], relation=[0], tail=[3], num_nodes=4, num_relations=1)


def graph() -> Graph:
    return Graph.from_edge_index(PAIRS, num_nodes=3, directed=False)


def labeled_nodes() -> Data:
    hypergraph = Hypergraph.from_lists([[0, 1], [1, 2]], num_nodes=3)
    return Data.from_masks(hypergraph, X, Y, train_mask=FIRST, val_mask=REST)


def taken() -> Interactions:
    users, items = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 2, 0]])
    part = {"train": (users[:3], items[:3]), "val": (users[3:4], items[3:4]), "test": (users[4:], items[4:])}
    return Interactions.from_pairs(**part, kg=KG, num_users=3, num_items=3, user_names=["ann", "bob", "cy"])


WORDS = [["a", "b"]]
SAID = {
    "a graph of a tensor": (lambda: Graph(PAIRS), "Graph.from_edge_index"),
    "a graph of lists": (lambda: Graph([[0], [1]]), "Graph.from_edge_index"),
    "a graph of a dict": (lambda: Graph({0: [1]}), "Graph.from_edge_index"),
    "a graph of nothing": (lambda: Graph(None), "Graph.from_edge_index"),
    "a hypergraph of lists": (lambda: Hypergraph([[0, 1]]), "Hypergraph.from_lists"),
    "a hypergraph of a number": (lambda: Hypergraph(5), "Hypergraph.from_lists"),
    "a hypergraph of a matrix": (lambda: Hypergraph(X), "Hypergraph.from_lists"),
    "members by name": (lambda: Hypergraph.from_lists(WORDS, num_nodes=2), "membership_hypergraph"),
    "edges by name": (lambda: Graph.from_edge_index(WORDS * 2, num_nodes=2, directed=False), "from_tables"),
    "triples by name": (
        lambda: KnowledgeGraph.from_triples(head=["a"], relation=["r"], tail=["b"], num_nodes=2, num_relations=1),
        "KnowledgeGraph.from_names",
    ),
    "pairs by name": (
        lambda: Interactions.from_pairs([["a"], ["b"]], [[], []], [[], []], KG, num_users=1, num_items=1),
        "from_tables",
    ),
    "data of a tensor": (lambda: Data(PAIRS, X, Y), r"Data\(structure, x, y\)"),
    "data in another order": (lambda: Data(X, graph(), Y), r"Data\(structure, x, y\)"),
    "fit without a split": (lambda: train.fit(models.GCN(3, 4, 2), Data(graph(), X, Y)), "Data.from_masks"),
    "fit of a tensor": (lambda: train.fit(torch.nn.Linear(3, 2), X), r"fit\(model, data\)"),
    "fit without a loss": (lambda: train.fit(torch.nn.Linear(3, 2), (X,)), r"fit\(model, data\)"),
    "a split that is not there": (lambda: train.training_view(Data(graph(), X, Y)), "Data.from_masks"),
    "a ranking of data": (lambda: train.full_ranking(models.BPRMF(3, 3), PAIRS), "Interactions"),
    "a ranking by a module": (lambda: train.full_ranking(models.BPRMF(3, 3), taken().test), r"full_ranking\(model, da"),
    "a recommender of pairs": (lambda: train.fit_recommender(models.BPRMF(3, 3), PAIRS), "Interactions.random"),
    "triples undivided": (lambda: train.fit_triples(models.TransE(4, 1, dim=2), KG), "TripleSplit.random"),
    "one name": (lambda: train.recommend(models.BPRMF(3, 3), taken(), "ann"), r"\['ann'\]"),
    "one example": (lambda: collate(labeled_nodes()), "a list of examples"),
    "a mask of numbers": (lambda: Split.from_masks(graph(), torch.tensor([0, 1])), "3 booleans"),
}


@pytest.mark.parametrize("case", SAID)
def test_the_right_way_is_said_in_one_sentence(case: str) -> None:
    call, words = SAID[case]
    with pytest.raises((ArgumentError, ArgumentTypeError), match=words):
        call()


def test_masks_become_a_split() -> None:
    data = labeled_nodes()
    parts = data.split()
    assert [part.tolist() for part in (parts.train, parts.val, parts.test)] == [[0, 1], [2], []]
    with pytest.raises(DataError, match="appears more than once in train, val and test"):
        Data.from_masks(graph(), X, Y, train_mask=FIRST, test_mask=FIRST)


def test_a_single_split_is_the_default_one() -> None:
    split = Split.from_masks(graph(), FIRST)
    assert Data(split.structure, X, Y, split).split() is split


@pytest.mark.parametrize("name", ["hgnn+", "mlp"])
def test_fit_takes_data_in_one_line_and_does_what_the_long_way_does(name: str) -> None:
    data = labeled_nodes()
    short, long = (train.build_model(name, data, seed=0, hidden_size=4) for _ in range(2))
    result = train.fit(short, data, epochs=3)
    part = train.training_view(data)
    loss, validate = train.classification_loss(part)
    inputs = (part.x,) if name == "mlp" else (part.x, part.structure)
    assert result.history == train.fit(long, inputs, loss, validate=validate, epochs=3).history
    assert "validation" in result.history[0]


def test_ranking_takes_a_model_with_its_data() -> None:
    data, model = taken(), models.BPRMF(3, 3, dim=2)
    score = train.scorer(model, train.structure_of(model, data))
    long = train.full_ranking(score, data.test, [data.train, data.val], ks=[1, 2])
    assert train.full_ranking(model, data, ks=[1, 2]) == long


def test_users_are_recommended_to_by_name() -> None:
    data, model = taken(), models.BPRMF(3, 3, dim=2)
    assert train.recommend(model, data, ["cy", "ann"], k=2).users.tolist() == [2, 0]
    with pytest.raises(ArgumentError, match="anna"):
        train.recommend(model, data, ["anna"], k=2)


@pytest.mark.parametrize(
    ("given", "named", "unnamed"),
    [
        ([], ["--out", "--hyperedges, --edges or --knn"], ["--split-column,"]),
        (["--nodes", "n.csv"], ["--out", "--hyperedges, --edges or --knn"], ["--nodes,"]),
        (["--split", "temporal"], ["--out", "--hyperedges, --edges or --knn", "--nodes", "--split-column"], []),
        (["--edges", "e.csv"], ["expected --out, got none"], []),
    ],
)
def test_build_names_all_missing_options_at_once(given: list[str], named: list[str], unnamed: list[str]) -> None:
    result = CliRunner().invoke(app, ["datasets", "build", *given])
    assert result.exit_code == 2
    expected = result.stderr.split(" For example")[0]
    assert all(name in expected for name in named)
    assert not any(name in expected for name in unnamed)
