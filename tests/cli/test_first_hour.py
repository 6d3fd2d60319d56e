"""Faults that new users met: each case fails on the code before its fix."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from hgraph import Graph, Interactions, KnowledgeGraph, Split, train
from hgraph.cli.app import app
from hgraph.data import Data
from hgraph.data.io import fingerprint
from hgraph.data.io import load as load_structure
from hgraph.datasets import from_interactions, from_tables
from hgraph.errors import DataError
from hgraph.models import BPRMF, MLP


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def write(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Twelve people in four unnamed meetings, and a run on them."""
    monkeypatch.chdir(tmp_path)
    write("nodes.csv", ["id", "age", "kind"], [(f"n{i}", 20 + i, "ab"[i % 2]) for i in range(12)])
    write("he.csv", ["people"], [(";".join(f"n{j}" for j in range(i, i + 5)),) for i in (0, 2, 5, 7)])
    build = ("--nodes", "nodes.csv", "--hyperedges", "he.csv", "--column", "members=people", "--label", "kind")
    assert call("datasets", "build", *build, "--out", "set").exit_code == 0
    assert call("train", "./set", "--epochs", 2, "--out", "run", "--quiet").exit_code == 0
    return tmp_path


def test_hyperedges_without_names_are_predicted(place):
    """A column of members alone gives hyperedges without names, in the data set and among the new ones."""
    write("new.csv", ["id", "age"], [("x", 30), ("y", 31)])
    write("new-he.csv", ["people"], [("x;n0;n1",), ("x;y",)])
    done = call("predict", "run", "new.csv", "--hyperedges", "new-he.csv", "--column", "members=people", "--quiet")
    assert done.exit_code == 0, done.output
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["id", "x", "y"]


def test_a_run_finds_its_data_from_any_folder_and_says_when_they_are_gone(place, monkeypatch):
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert call("evaluate", "../run").exit_code == 0
    shutil.move(place / "set", place / "moved")
    for command in (["evaluate"], ["predict", "--all"], ["distill"]):
        refused = call(command[0], "../run", *command[1:])
        assert refused.exit_code == 2
        assert f"the data of this run were in {place / 'set'}, which is not there any more" in refused.stderr
    assert call("evaluate", "../run", "--dataset", "../moved").exit_code == 0


def test_a_moved_shop_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    write("shop/interactions.csv", ["user", "item"], [(f"u{i}", f"i{j}") for i in range(6) for j in range(i, i + 4)])
    assert call("train", "shop", "--model", "bprmf", "--epochs", 1, "--out", "run", "--quiet").exit_code == 0
    shutil.move("shop", "store")
    refused = call("recommend", "run", "--user", "u1")
    assert refused.exit_code == 2
    assert f"were in {tmp_path / 'shop'}, which is not there any more" in refused.stderr


def test_pairs_with_low_ratings_are_not_recommended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(f"u{i}", f"i{j}", 1 if j == 5 else 5) for i in range(6) for j in range(i % 3, 6)]
    (tmp_path / "shop").mkdir()
    write("shop/interactions.csv", ["user", "item", "rating"], [*rows, ("u9", "i5", 5), ("u8", "rare", 1)])
    data = from_interactions("shop", min_rating=3)[0]
    assert data.excluded.num_edges == 6
    model = BPRMF(data.num_users, data.num_items)
    found = train.recommend(model, data, ["u0", "u1"], k=data.num_items)
    shown = found.items[found.scores > -torch.inf].tolist()
    assert data.kg.node_names.find("i5") not in shown
    options = ("--model", "bprmf", "--epochs", 1, "--min-rating", 3, "--out", "run", "--quiet")
    assert call("train", "shop", *options).exit_code == 0
    assert call("recommend", "run", "--out", "all.csv", "-k", 6).exit_code == 0
    with open("all.csv", newline="") as file:
        pairs = {(row["user"], row["item"]) for row in csv.DictReader(file)}
    assert not pairs & {(user, item) for user, item, *_ in rows}
    refused = call("recommend", "run", "--user", "u0", "-k", 6)
    assert refused.exit_code == 2
    assert "a user with items left to recommend" in refused.stderr


def test_excluded_pairs_are_saved_and_compared(tmp_path):
    kg = KnowledgeGraph.from_names([("a", "is like", "b")])
    data = Interactions.from_pairs([[0], [0]], [[], []], [[], []], kg, num_users=1, num_items=2)
    import dataclasses

    more = dataclasses.replace(data, excluded=data.train)
    more.save(tmp_path / "more")
    again = load_structure(tmp_path / "more")
    assert again.equal(more)
    assert not more.equal(data)
    assert fingerprint(more) == fingerprint(data)  # a model that is trained on one fits the other


@pytest.mark.parametrize(
    ("cells", "said"),
    [(["12 p.", "7 p.", "130 pp."], True), (["12%", "7%", "130%"], False), (["7B", "8A", "9B"], False),
     (["12 p.", "few", "7 p."], False)],
)  # fmt: skip
def test_numbers_with_text_are_named(cells, said, caplog):
    table = {"id": ["a", "b", "c"], "pages": cells}
    data = from_tables(table, {"members": [["a", "b"]]}, name="books")
    assert (
        "Column 'pages' is read as categorical, although its cells are numbers with text: '12 p.'" in caplog.text
    ) == said
    assert any("numbers with text" in caveat for caveat in data.caveats) == said
    if said:
        caplog.clear()
        from_tables(table, {"members": [["a", "b"]]}, types={"pages": "categorical"})
        assert "numbers with text" not in caplog.text


@pytest.mark.parametrize("readers", [[["ada", "ben"], ["cleo"]], ["ada;ben", "cleo;ada"], ["ada|ben", "ben|cleo"]])
def test_a_hint_for_lists_names_members(readers):
    with pytest.raises(DataError, match=r"--column members=readers"):
        from_tables(hyperedges={"readers": readers})
    assert from_tables(hyperedges={"readers": readers}, columns={"members": "readers"})[0].num_nodes == 3


def test_a_training_that_diverges_is_a_training_error():
    """The loss is finite, but the weights after the step are not: metrics refuse NaN with an error of arguments."""
    path = Graph.from_edge_index([[0, 1, 2], [1, 2, 3]], num_nodes=4, directed=False)
    ids = torch.arange(4)
    split = Split(path, ids[:2], ids[2:3], ids[3:])
    for y in (torch.tensor([0, 1, 0, 1]), torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.eye(4)[:, :2].bool()):
        data = Data(path, torch.eye(4), y, {"default": split})
        model = MLP(4, 4, data.num_outputs, norm=False)
        with pytest.raises(train.TrainingError, match=r"(NaN|inf) in epoch 1: try a smaller lr"):
            train.fit(model, data, lr=1e30, epochs=1, progress=False)


def test_a_recommender_that_diverges_is_a_training_error():
    kg = KnowledgeGraph.from_names([("a", "is like", "b")])
    data = Interactions.from_pairs([[0, 1], [0, 1]], [[0], [1]], [[], []], kg, num_users=2, num_items=2)
    with pytest.raises(train.TrainingError, match="in epoch 1: try a smaller lr"):
        train.fit_recommender(BPRMF(2, 2), data, lr=1e38, epochs=1, progress=False)


def test_predict_checks_its_output_once(place, monkeypatch):
    import hgraph.cli.common as common

    seen = []
    check = common.check_folder
    monkeypatch.setattr(common, "check_folder", lambda folder, **more: (seen.append(folder), check(folder, **more)))
    assert call("predict", "run", "--all", "--out", "out.csv", "--quiet").exit_code == 0
    assert len(seen) == 1
    assert json.loads((place / "run" / "config.json").read_text())["source"] == str(place / "set")
