"""Faults that new users met: each case fails on the code before its fix."""

from __future__ import annotations

import csv
import json
import shutil
import sys

import pytest
import torch
from typer.testing import CliRunner

from hgraph import Graph, Interactions, KnowledgeGraph, Split, train
from hgraph.cli.app import app
from hgraph.data import Data
from hgraph.data.io import fingerprint
from hgraph.data.io import load as load_structure
from hgraph.datasets import from_interactions, from_tables
from hgraph.datasets import load as load_set
from hgraph.distill import Predictor
from hgraph.errors import DataError
from hgraph.models import BPRMF


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
    again = call("predict", "run", "new.csv", "--hyperedges", "new-he.csv", "--quiet")  # the columns are as they were
    assert again.stdout == done.stdout


def test_the_columns_of_a_build_are_those_of_new_nodes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(
        "papers.csv",
        ["paper", "year", "field"],
        [(f"p{i}", 2000 + i, "" if i == 3 else "ab"[i % 2]) for i in range(12)],
    )
    write("authors.csv", ["paper", "author"], [(f"p{i}", f"w{i % 3}") for i in range(12)])
    roles = ("--column", "id=paper", "--column", "node=paper", "--column", "hyperedge=author")
    build = ("datasets", "build", "--nodes", "papers.csv", "--hyperedges", "authors.csv", "--label", "field", *roles)
    assert call(*build, "--out", "set").exit_code == 0
    assert call("train", "./set", "--epochs", 1, "--out", "run", "--quiet").exit_code == 0
    assert call("predict", "run", "--quiet").stdout.splitlines()[1].startswith("p3,")
    assert call("predict", "run", "--quiet").stdout.startswith("paper,label")
    write("new.csv", ["paper", "year"], [("x", 2001)])
    write("new-authors.csv", ["paper", "author"], [("x", "w1"), ("x", "new")])
    found = call("predict", "run", "new.csv", "--hyperedges", "new-authors.csv", "--quiet")
    assert found.exit_code == 0, found.output
    assert [line.split(",")[0] for line in found.stdout.splitlines()] == ["paper", "x"]
    assert (
        call("predict", "run", "new.csv", "--hyperedges", "new-authors.csv", *roles, "--quiet").stdout == found.stdout
    )
    write("other.csv", ["id", "year"], [("x", 2001)])  # other names are found as ever
    write("other-authors.csv", ["node", "hyperedge"], [("x", "w1"), ("x", "new")])
    other = call("predict", "run", "other.csv", "--hyperedges", "other-authors.csv", "--quiet")
    assert other.stdout.splitlines()[1] == found.stdout.splitlines()[1]


def test_a_run_finds_its_data_from_any_folder_and_says_when_they_are_gone(place, monkeypatch):
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert call("evaluate", "../run").exit_code == 0
    shutil.move(place / "set", place / "moved")
    for command in (["evaluate"], ["predict", "--all"], ["distill"]):
        refused = call(command[0], "../run", *command[1:])
        assert refused.exit_code == 2
        assert f"the data of this run were in {place / 'set'}, which no longer exists" in refused.stderr
    assert call("evaluate", "../run", "--dataset", "../moved").exit_code == 0


def test_a_moved_shop_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    write("shop/interactions.csv", ["user", "item"], [(f"u{i}", f"i{j}") for i in range(6) for j in range(i, i + 4)])
    assert call("train", "shop", "--model", "bprmf", "--epochs", 1, "--out", "run", "--quiet").exit_code == 0
    shutil.move("shop", "store")
    refused = call("recommend", "run", "--user", "u1")
    assert refused.exit_code == 2
    assert f"were in {tmp_path / 'shop'}, which no longer exists" in refused.stderr


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


class Diverged(torch.nn.Module):
    """A network whose loss is finite, while its outputs after the step are NaN."""

    def __init__(self, classes):
        super().__init__()
        self.out = torch.nn.Linear(4, classes)

    def forward(self, x):
        return self.out(x) if self.training else self.out(x) * torch.nan


@pytest.mark.parametrize(
    "y", [torch.tensor([0, 1, 0, 1]), torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.eye(4)[:, :2].bool()]
)
def test_a_training_that_diverges_is_a_training_error(y):
    """Metrics refuse NaN with an error of arguments, but no argument is wrong."""
    path = Graph.from_edge_index([[0, 1, 2], [1, 2, 3]], num_nodes=4, directed=False)
    ids = torch.arange(4)
    data = Data(path, torch.eye(4), y, {"default": Split(path, ids[:2], ids[2:3], ids[3:])})
    with pytest.raises(train.TrainingError, match="the outputs are NaN in epoch 1: try a smaller lr"):
        train.fit(Diverged(data.num_outputs), data, epochs=1, progress=False)


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


# ---------------------------------------------------------------------- several seeds, nearest neighbors


def test_several_seeds_are_summarized(place):
    words = ("train", "./set", "--epochs", 3, "--model", "mlp", "--quiet", "--json")
    assert call(*words, "--seeds", 2, "--out", "many").exit_code == 0
    again = json.loads(call(*words, "--seeds", 3, "--out", "many").stdout)  # adds the third seed
    alone = [json.loads(call(*words, "--seed", s, "--out", f"one-{s}").stdout) for s in range(3)]
    assert again["seeds"] == [0, 1, 2]
    values = torch.tensor([one["test_accuracy"] for one in alone], dtype=torch.float64)
    assert again["mean"]["test_accuracy"] == pytest.approx(values.mean().item())
    assert again["std"]["test_accuracy"] == pytest.approx(values.std().item())
    first = (place / "many" / "seed-1" / "model.safetensors").read_bytes()
    assert first == (place / "one-1" / "model.safetensors").read_bytes()
    report = (place / "many" / "report.md").read_text(encoding="utf-8")
    assert "[seed 2](seed-2/report.md)" in report
    assert call("evaluate", "many/seed-2").exit_code == 0
    other = call(*words, "--seeds", 3, "--lr", 0.5, "--out", "many")
    assert other.exit_code == 2
    assert "lr: expected 0.01, the value of the seeds in many" in other.stderr


def test_recommenders_take_several_seeds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    write("shop/interactions.csv", ["user", "item"], [(f"u{i}", f"i{j}") for i in range(6) for j in range(i, i + 4)])
    done = call("train", "shop", "--model", "bprmf", "--epochs", 1, "--seeds", 2, "--out", "many", "--quiet", "--json")
    assert done.exit_code == 0, done.output
    assert {"recall@9", "ndcg@9"} <= set(json.loads(done.stdout)["mean"])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_rows_are_joined_with_their_nearest(tmp_path, monkeypatch, metric):
    monkeypatch.chdir(tmp_path)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=draw, dtype=torch.float64)
    write("n.csv", ["id", "a", "b", "c", "y"], [(f"n{i}", *row, "xy"[i % 2]) for i, row in enumerate(x.tolist())])
    done = call("datasets", "build", "--nodes", "n.csv", "--knn", 4, "--metric", metric, "--label", "y", "--out", "set")
    assert done.exit_code == 0, done.output
    data = load_set("./set")[0]
    z = torch.nn.functional.normalize(data.x.double()) if metric == "cosine" else data.x.double()
    distance = torch.cdist(z, z).fill_diagonal_(-1)
    expected = [sorted(row) for row in distance.argsort(1)[:, :5].tolist()]
    assert data.structure.to_lists() == expected
    production = Split.production(data, data.split(), unseen_fraction=0.5)
    assert production.structure.num_hyperedges == len(production.observed)  # made again from the observed rows
    assert call("train", "./set", "--epochs", 1, "--setting", "production", "--out", "run", "--quiet").exit_code == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--knn", 30], "knn: expected 1 .. 19 (there are 20 nodes)"),
        (["--metric", "cosine"], "no value without --knn"),
        (["--knn", 2, "--edges", "n.csv"], "edges and knn"),
        (["--knn", 2, "--type", "a=ignore"], "columns of features"),
    ],
)
def test_contradictions_of_knn(tmp_path, monkeypatch, options, match):
    monkeypatch.chdir(tmp_path)
    write("n.csv", ["id", "a"], [(f"n{i}", i) for i in range(20)])
    refused = call("datasets", "build", "--nodes", "n.csv", *options, "--out", "set")
    assert refused.exit_code == 2
    assert match in refused.stderr


# ---------------------------------------------------------------------- tables of other forms


def rows_in(text):
    return list(csv.reader(text.splitlines()))


def test_tables_of_another_form_give_the_same_data_and_predictions(tmp_path, monkeypatch):
    """Semicolons, decimal commas, other names and texts of missing cells, in building and in predicting."""
    monkeypatch.chdir(tmp_path)
    ages = [20.5 + i for i in range(12)]
    write("n.csv", ["id", "age", "kind"], [(f"n{i}", "" if i == 3 else a, "ab"[i % 2]) for i, a in enumerate(ages)])
    write("h.csv", ["members"], [(";".join(f"n{j}" for j in range(i, i + 5)),) for i in (0, 2, 5, 7)])
    lines = [f"n{i};{'-' if i == 3 else str(a).replace('.', ',')};{'ab'[i % 2]}" for i, a in enumerate(ages)]
    (tmp_path / "d.csv").write_text("Nummer;Alter;kind\n" + "\n".join(lines) + "\n")
    (tmp_path / "dh.csv").write_text(
        "Leute\n" + "\n".join("|".join(f"n{j}" for j in range(i, i + 5)) for i in (0, 2, 5, 7))
    )
    base = ("datasets", "build", "--label", "kind", "--out")
    assert call(*base, "plain", "--nodes", "n.csv", "--hyperedges", "h.csv").exit_code == 0
    form = ("--column", "age=Alter", "--delimiter", ";", "--decimal", ",", "--missing", "-")
    done = call(*base, "other", "--nodes", "d.csv", "--hyperedges", "dh.csv", *form, "--column", "id=Nummer",
                "--column", "members=Leute")  # fmt: skip
    assert done.exit_code == 0, done.output
    plain, other = load_set("plain")[0], load_set("other")[0]
    assert torch.equal(plain.x, other.x)
    assert plain.structure.equal(other.structure)
    assert [c.name for c in other.meta["encoder"].codings] == ["age"]
    assert call("distill", "plain", "--epochs", 2, "--out", "run", "--quiet").exit_code == 0
    assert call("train", "plain", "--epochs", 2, "--out", "network", "--quiet").exit_code == 0
    expected = rows_in(call("predict", "run", "n.csv", "--id", "id").stdout)
    found = rows_in(call("predict", "run", "d.csv", "--id", "Nummer", *form).stdout.replace(";", ","))
    assert found[1:] == expected[1:]
    (tmp_path / "new.csv").write_text((tmp_path / "d.csv").read_text().replace("\nn", "\nm"))
    write("links.csv", ["members"], [("m0;n1",)])
    words = ("predict", "network", "new.csv", "--hyperedges", "links.csv", "--id", "Nummer")
    done = call(*words, *form)
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 13


@pytest.mark.parametrize(
    ("command", "match"),
    [
        (["predict", "run", "nodes.csv", "--column", "agee=age"], "columns of the student"),
        (["predict", "run", "nodes.csv", "--column", "age=years"], "expected a column 'years'"),
        (["predict", "run", "nodes.csv", "--column", "age=kind"], "expected one column for 'age', got two"),
        (["predict", "run", "nodes.csv", "--decimal", ";"], "decimal: expected '.' or ','"),
        (["predict", "run", "nodes.csv", "--column", "age"], "column: expected key=value"),
        (["datasets", "build", "--nodes", "nodes.csv", "--knn", "2", "--out", "o", "--column", "years=agee"],
         "new names of the columns ['id', 'age', 'kind'], got years=agee"),
        (["datasets", "build", "--nodes", "nodes.csv", "--knn", "2", "--out", "o", "--column", "kind=age"],
         "a name that nodes.csv does not have yet, got 'kind'"),
        (["train", "./set", "--delimiter", ";"], "because this option does not apply to hgnn+"),
    ],
)  # fmt: skip
def test_errors_of_reading(place, command, match):
    assert call("distill", "./set", "--epochs", 1, "--out", "run", "--overwrite", "--quiet").exit_code == 0
    refused = call(*command)
    assert refused.exit_code == 2
    assert match in refused.stderr


def test_interactions_of_another_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = [(f"u{i}", f"i{j}", "4,5" if (i + j) % 2 else "1,5") for i in range(6) for j in range(i, i + 4)]
    for name in ("plain", "other"):
        (tmp_path / name).mkdir()
    write("plain/interactions.csv", ["user", "item", "rating"], [(u, i, r.replace(",", ".")) for u, i, r in pairs])
    text = "Kunde;Ware;Punkte\n" + "\n".join(";".join(row) for row in pairs) + "\n"
    (tmp_path / "other" / "interactions.csv").write_text(text)
    names = {"user": "Kunde", "item": "Ware", "rating": "Punkte"}
    form = {"columns": names, "delimiter": ";", "decimal": ","}
    assert from_interactions("other", min_rating=3, **form)[0].equal(from_interactions("plain", min_rating=3)[0])
    words = [word for role, name in names.items() for word in ("--column", f"{role}={name}")]
    done = call("train", "other", "--model", "bprmf", "--epochs", 1, "--min-rating", 3, *words, "--delimiter", ";",
                "--decimal", ",", "--out", "run", "--quiet")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert call("recommend", "run", "--user", "u1").exit_code == 0
    command = json.loads((tmp_path / "run" / "config.json").read_text())["command"]
    assert "--column user=Kunde" in command
    assert "--delimiter ';' --decimal ," in command
    with pytest.raises(DataError, match=r"--column user=NAME"):
        from_interactions("other")
    with pytest.raises(ValueError, match="Did you mean 'user'"):
        from_interactions("plain", columns={"usr": "user"})


def test_folders_that_are_no_runs_say_what_they_are(tmp_path):
    for seed in (0, 1):
        (tmp_path / "several" / f"seed-{seed}").mkdir(parents=True)
    (tmp_path / "several" / "seeds.json").write_text("{}")
    for command in ("evaluate", "predict", "distill"):
        done = CliRunner().invoke(app, [command, str(tmp_path / "several")])
        assert (
            f"the folder of 2 seeds. Pass the run of one of them, such as {tmp_path / 'several' / 'seed-0'}"
            in done.stderr
        )
    for command in ("evaluate", "predict"):
        done = CliRunner().invoke(app, [command, str(tmp_path / "nowhere")])
        assert f"{tmp_path / 'nowhere'}: there is no such folder" in done.stderr


def test_tuning_without_its_package_stops_before_any_file(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = CliRunner().invoke(app, ["tune", "karate", "--model", "gcn", "--trials", "1", "--out", str(tmp_path / "t")])
    assert "tuning needs the package 'optuna'" in done.stderr
    assert not (tmp_path / "t").exists()


def test_nodes_outside_of_named_hyperedges_can_be_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"n{i},{i},{'ab'[i % 2]}\n" for i in range(10))
    (tmp_path / "nodes.csv").write_text("id,size,y\n" + rows)
    (tmp_path / "he.csv").write_text("node,hyperedge\nn0,e\nn1,e\n")
    build = ("datasets", "build", "--nodes", "nodes.csv", "--hyperedges", "he.csv", "--label", "y", "--out", "set")
    assert call(*build).exit_code == 0
    result = call("train", "./set", "--model", "hgnn", "--epochs", 1, "--out", "run")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "structure.png").stat().st_size > 0


def test_a_network_of_one_graph_is_refused_in_the_production_setting(tmp_path, monkeypatch):
    """LINKX learns a vector per node: this is said before any training."""
    monkeypatch.chdir(tmp_path)
    for command in (["train", "karate", "--model", "linkx"], ["distill", "karate", "--teacher", "linkx"]):
        found = call(*command, "--setting", "production")
        assert found.exit_code != 0
        assert "transductive (LINKX learns a vector per node)" in found.output


def test_a_student_of_nodes_without_columns_reads_their_ids(tmp_path, monkeypatch):
    """A row of sixty one-hot columns is nothing that anyone has; the id of a node is."""
    monkeypatch.chdir(tmp_path)
    write("labels.csv", ["id", "team"], [(f"acct:{i}", "ab"[i % 2]) for i in range(20)])
    write("edges.csv", ["source", "target"], [(f"acct:{i}", f"acct:{(i + k) % 20}") for i in range(20) for k in (2, 4)])
    build = ("datasets", "build", "--nodes", "labels.csv", "--edges", "edges.csv", "--label", "team", "--out", "set")
    assert call(*build).exit_code == 0
    assert call("distill", "./set", "--teacher", "gcn", "--epochs", 2, "--out", "run", "--quiet").exit_code == 0
    assert "id  one of 20 nodes, such as acct:0" in call("predict", "run", "--describe").stdout
    write("rows.csv", ["account"], [("acct:3",), ("acct:7",)])
    for flags in (["--id", "account"], ["--column", "id=account"]):
        found = call("predict", "run", "rows.csv", *flags, "--quiet")
        assert [line.split(",")[0] for line in found.stdout.splitlines()] == ["id", "acct:3", "acct:7"], found.output
    predictor = Predictor("run/student")
    x = load_set("./set")[0].x
    assert torch.equal(predictor.encode({"id": ["acct:3", "acct:7"]})[0], x[[3, 7]])
    columns = {name: x[:, i].tolist() for i, name in enumerate(predictor.feature_names)}
    assert torch.equal(predictor.encode(columns)[0], x)
    with pytest.raises(DataError, match="row 1: column 'id': expected a node of the training data, got 'acct:33'"):
        predictor.encode({"id": ["acct:3", "acct:33"]})


def test_an_unknown_node_is_met_with_both_ways_out():
    people = {"id": ["acct:1", "acct:2"], "y": ["a", "b"]}
    with pytest.raises(DataError, match=r"Did you mean 'acct:2'\? If not, add a row for it to nodes"):
        from_tables(people, edges={"source": ["acct:1", "acct:9"], "target": ["acct:2", "acct:1"]}, label="y")


@pytest.mark.parametrize("command", [("train", "--model", "hgnn"), ("distill",)])
def test_a_stopped_run_does_not_continue_with_other_data_of_equal_sizes(place, command, monkeypatch):
    """Other features and labels of the same sizes print alike; their hash does not."""
    from hgraph.train import loop

    def stopped(*_, **__):
        raise KeyboardInterrupt

    line = (command[0], "./set", *command[1:], "--epochs", 3, "--out", "again", "--quiet")
    with monkeypatch.context() as broken:
        broken.setattr(loop.Checkpoint, "save", stopped)
        assert call(*line).exit_code != 0
    write("nodes.csv", ["id", "age", "kind"], [(f"n{i}", 40 - i, "ab"[i % 2]) for i in range(12)])
    build = ("--nodes", "nodes.csv", "--hyperedges", "he.csv", "--column", "members=people", "--label", "kind")
    shutil.rmtree("set")
    assert call("datasets", "build", *build, "--out", "set").exit_code == 0
    done = call(*line)
    assert done.exit_code == 2
    assert "data_sha256: expected" in done.stderr
    assert call(*line, "--overwrite").exit_code == 0
    again = call("evaluate", "run")
    assert again.exit_code == 0
    assert "has changed since this run was trained" in again.stderr
    assert "has changed" not in call("evaluate", "again").stderr


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(place, value):
    from safetensors.torch import load_file, save_file

    weights = load_file("run/model.safetensors")
    name = min(weights)
    weights[name].view(-1)[0] = value
    save_file(weights, "run/model.safetensors")
    for command in (
        ("evaluate", "run"),
        ("predict", "run", "--all"),
        ("distill", "run"),
        ("explain", "run", "--node", "n0"),
    ):
        done = call(*command)
        assert done.exit_code == 2, done.output
        assert f"{name}: expected finite weights" in done.stderr
