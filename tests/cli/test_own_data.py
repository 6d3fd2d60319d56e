"""`hgraph datasets build` and `hgraph train`: from your own tables to a trained network, and errors of both."""

from __future__ import annotations

import csv
import functools
import importlib
import json
import random
import shutil

import pytest
import torch
from typer.testing import CliRunner

from hgraph.cli.app import app
from hgraph.datasets import load, read_table
from hgraph.datasets.tables import Encoder
from hgraph.distill import Predictor
from hgraph.models import HGNNP


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def write(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """80 readers with two tastes, books read mostly by one group, and weak features."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    taste = [i % 2 for i in range(80)]
    rows = [
        (f"r{i}", draw.randint(18, 80), draw.choice("abc"), "crime" if t else "poetry") for i, t in enumerate(taste)
    ]
    write("nodes.csv", ["id", "age", "town", "taste"], rows)
    reads = {
        (f"r{i}", f"b{draw.randrange(8) + 8 * (t ^ (draw.random() < 0.1))}")
        for i, t in enumerate(taste)
        for _ in "12345"
    }
    write("he.csv", ["node", "hyperedge"], sorted(reads))
    return tmp_path


BUILD = ("datasets", "build", "--nodes", "nodes.csv", "--hyperedges", "he.csv", "--label", "taste", "--out", "my-set")


def test_from_two_tables_to_a_trained_network_and_a_student(tables):
    result = call(*BUILD)
    assert result.exit_code == 0, result.output
    assert "crime 40" in result.stdout
    assert "to train:  hgraph train my-set --model hgnn+" in result.stdout
    assert "as words   town (3 categories)" in result.stdout
    result = call("train", "my-set", "--model", "hgnn+", "--epochs", "60", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["test_accuracy"] > 0.85 > answer["majority_accuracy"] == 0.5
    folder = tables / "runs" / "my-set-hgnn+-0"
    assert {p.name for p in folder.iterdir()} == {
        ".hgraph.json", "config.json", "metrics.jsonl", "learning_curve.png", "confusion_matrix.png",
        "reliability.png", "structure.png", "model.safetensors", "report.md",
        "inputs.json", "encoder.json", "encoder.safetensors",
    }  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config["command"].startswith("hgraph train my-set --model hgnn+ --seed 0")
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 60
    assert config["command"] in (folder / "report.md").read_text()
    from safetensors.torch import load_file

    data = load("my-set")[0]
    HGNNP(data.num_features, 32, 2).load_state_dict(load_file(folder / "model.safetensors"))
    again = call("train", tables / "my-set", "--epochs", "60", "--json", "--quiet", "--out", tables / "again")
    figures = json.loads(again.stdout)
    assert {k: v for k, v in figures.items() if k != "seconds"} == {k: v for k, v in answer.items() if k != "seconds"}
    assert again.stderr == ""
    result = call("distill", "./my-set", "--epochs", "20", "--quiet")
    assert result.exit_code == 0, result.output
    assert (tables / "runs" / "my-set-hgnn-student-0" / "report.md").exists()
    assert "nodes" in call("datasets", "info", "my-set").stdout


def agree(answers, expected, program):
    """Equal names and probabilities; with 8 bits they are close, and the class of an uncertain row may differ."""
    assert {a["label"] for a in answers} <= {"crime", "poetry"}
    for one, other in zip(answers, expected, strict=True):
        p = one["probability"] if one["label"] == other["label"] else 1 - one["probability"]
        assert p == pytest.approx(other["probability"], abs=0.05 if program == "int8" else 2e-5)


@pytest.mark.parametrize("programs", [["torch"], ["onnx", "int8"]])
def test_an_exported_folder_is_enough_to_predict_raw_rows(tables, programs):
    """A moved folder without run and data set gives the predictions of the run for a CSV file, in all formats."""
    if "onnx" in programs:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        client_of = pytest.importorskip("fastapi.testclient").TestClient
    assert call(*BUILD).exit_code == 0
    assert call("distill", "my-set", "--epochs", "20", "--quiet", "--out", "run").exit_code == 0
    expected = [
        json.loads(line) for line in call("predict", "run", "nodes.csv", "--json", "--quiet").stdout.splitlines()
    ]
    assert len(expected) == 80
    assert {a["label"] for a in expected} == {"crime", "poetry"}
    made = call("export", "run", "--out", "out", *(f"--format={p}" for p in programs))
    assert made.exit_code == 0, made.output
    folder = (tables / "out").rename(tables / "elsewhere")
    shutil.rmtree("run")
    shutil.rmtree("my-set")
    for program in ["layers", *programs]:
        if program == "torch":  # hgraph does not load these: see Predictor
            inside = {"classes.json": ""}
            run = torch.export.load(folder / "student.pt2", extra_files=inside).module()
            best = run(Encoder.load(folder).transform(read_table("nodes.csv"))).softmax(1).max(1)
            classes = json.loads(inside["classes.json"])
            answers = [{"label": classes[c], "probability": p.item()} for p, c in zip(*best, strict=True)]
        else:
            result = call("predict", folder, "nodes.csv", "--json", "--program", program)
            assert result.exit_code == 0, result.output
            answers = [json.loads(line) for line in result.stdout.splitlines()]
        agree(answers, expected, program)
    if "onnx" in programs:
        from hgraph.distill.serving.serve import application

        with open("nodes.csv", newline="") as file:
            rows = [{"age": row["age"], "town": row["town"]} for row in csv.DictReader(file)]
        for program in ["layers", *programs]:
            client = client_of(application(Predictor(folder, program=program)), base_url="http://localhost")
            agree(client.post("/predict", json={"rows": rows}).json()["answers"], expected, program)


@pytest.mark.parametrize("model", ["hgnn", "gcn", "gat", "mlp"])
@pytest.mark.parametrize("setting", ["transductive", "production"])
def test_every_network_trains_in_every_setting(tables, model, setting):
    assert call(*BUILD).exit_code == 0
    result = call("train", "my-set", "--model", model, "--setting", setting, "--epochs", "3", "--quiet")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("test accuracy")
    assert ("unseen accuracy" in result.stdout) == (setting == "production")
    assert result.stderr == ""


def test_published_sets_train_too(tmp_path):
    result = call("train", "karate", "--model", "gcn", "--epochs", "5", "--out", tmp_path, "--json", "--patience", "2")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["dataset"] == "karate"
    refused = call("train", "karate", "--epochs", "1", "--out", tmp_path)
    assert refused.exit_code == 2
    assert "Pass --overwrite or another --out" in refused.stderr
    again = call("train", "karate", "--epochs", "2", "--out", tmp_path, "--overwrite")
    assert again.exit_code == 0, again.output
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert not (tmp_path / "under_way").exists()


OPTIONS = ("--model", "hgnn", "--epochs", "40", "--schedule", "cosine", "--clip", "1", "--quiet")


def test_a_killed_run_resumes_to_the_same_weights(tables, monkeypatch):
    module = importlib.import_module("hgraph.train.fit")  # `hgraph.train.fit` is the function
    assert call(*BUILD).exit_code == 0
    assert call("train", "my-set", *OPTIONS, "--out", "whole").exit_code == 0
    step, seen = module._Step.__call__, []

    def killed(self, epoch):
        seen.append(epoch)
        if len(seen) == 23:
            raise KeyboardInterrupt
        return step(self, epoch)

    monkeypatch.setattr("hgraph.train.fit", functools.partial(module.fit, save_every=1))
    monkeypatch.setattr(module._Step, "__call__", killed)
    call("train", "my-set", *OPTIONS, "--out", "stopped")
    assert not (tables / "stopped" / "report.md").exists()
    assert (tables / "stopped" / "under_way" / "model.safetensors").exists()
    other = call("train", "my-set", *OPTIONS, "--seed", "1", "--out", "stopped")
    assert other.exit_code == 2
    assert "seed: expected 0, the value of the stopped run" in other.stderr
    result = call("train", "my-set", *OPTIONS[:-1], "--out", "stopped")
    assert result.exit_code == 0, result.output
    assert "holds a stopped run: resuming" in result.stderr
    assert seen[23] == 23  # not from the beginning
    assert (tables / "whole" / "model.safetensors").read_bytes() == (
        tables / "stopped" / "model.safetensors"
    ).read_bytes()
    assert (tables / "whole" / "metrics.jsonl").read_text() == (tables / "stopped" / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("objective", "stop_at"),
    [
        # the teacher's training is the same for all objectives of its student
        pytest.param(objective, at, marks=pytest.mark.slow if at == 5 and objective != "lighthgnn" else ())
        for objective in ("lighthgnn", "lighthgnn+", "glnn", "krd", "nosmog")
        for at in (5, 50)
    ],
)
def test_a_killed_distillation_resumes_to_the_same_student(tables, monkeypatch, objective, stop_at):
    """Stopped in the teacher's training, and in the student's."""
    module = importlib.import_module("hgraph.train.fit")
    assert call(*BUILD).exit_code == 0
    arguments = ("distill", "my-set", "--teacher", "hgnn+", "--objective", objective, "--epochs", "20", "--quiet")
    assert call(*arguments, "--out", "whole").exit_code == 0
    step, seen = module._Step.__call__, []

    def killed(self, epoch):
        seen.append(epoch)
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        return step(self, epoch)

    stepwise = functools.partial(module.fit, save_every=1)
    for name in ("hgraph.distill.compare", "hgraph.distill.teach"):
        monkeypatch.setattr(importlib.import_module(name), "fit", stepwise)
    monkeypatch.setattr(module._Step, "__call__", killed)
    call(*arguments, "--out", "stopped")
    assert not (tables / "stopped" / "report.md").exists()
    result = call(*arguments, "--out", "stopped")
    assert result.exit_code == 0, result.output
    assert len(seen) == 101  # three trainings of 20 epochs, two for new rows, and the step that was stopped
    whole, stopped = ((tables / run / "student.safetensors").read_bytes() for run in ("whole", "stopped"))
    assert whole == stopped
    assert not (tables / "stopped" / "under_way").exists()


@pytest.mark.parametrize("model", ["hgnn", "gcn", "gat", "mlp"])
def test_evaluate_repeats_the_figures_of_the_run(tables, model):
    assert call(*BUILD).exit_code == 0
    trained = json.loads(call("train", "my-set", "--model", model, "--epochs", "5", "--out", "run", "--json").stdout)
    result = call("evaluate", "run", "--json")
    assert result.exit_code == 0, result.output
    again = json.loads(result.stdout)
    assert again == {k: v for k, v in trained.items() if k not in ("best_epoch", "seconds")}
    assert call("evaluate", "run").stdout.startswith("test accuracy")


def test_errors_of_evaluate(tables):
    assert call(*BUILD).exit_code == 0
    nothing = call("evaluate", "nowhere")
    assert nothing.exit_code == 2
    assert "there is no such folder" in nothing.stderr
    assert call("train", "my-set", "--epochs", "2", "--out", "run").exit_code == 0
    other = call("evaluate", "run", "--dataset", "karate")
    assert other.exit_code == 2
    assert "does not match 'karate'" in other.stderr


def test_papers():
    assert len(json.loads(call("papers", "--json").stdout)) == 40
    assert "LightHGNN" in call("papers", "4").stdout
    assert call("papers", "unknown").exit_code == 2


def test_every_option_of_build(tables):
    write("edges.csv", ["a", "b", "w"], [("r1", "r2", 1), ("r2", "r3", 2)])
    result = call("datasets", "build", "--nodes", "nodes.csv", "--edges", "edges.csv", "--column", "source=a",
                  "--column", "target=b", "--type", "age=categorical", "--label", "town", "--task", "classification",
                  "--directed", "--duplicates", "sum", "--split", "temporal", "--split-column", "age", "--shares",
                  "0.5,0.25,0.25", "--license", "CC0", "--redistribute", "--citation", "me", "--out", "set", "--json",
                  "--seed", "3", "--type", "taste=ignore")  # fmt: skip
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["columns"] == {"age": "categorical"}
    assert sum(summary["split"].values()) == 80
    dataset = load("./set")
    assert (dataset.license, dataset.redistribute, dataset.citation) == ("CC0", True, "me")
    assert dataset[0].structure.edge_index.tolist() == [[1, 2], [2, 3]]
    (tables / "plain.txt").write_text("r1,x\nr2,x\n")
    result = call("datasets", "build", "--hyperedges", "plain.txt", "--header", "node,hyperedge", "--out", "plain")
    assert result.exit_code == 0, result.output
    assert load("plain")[0].structure.to_lists() == [[0, 1]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--label", "colour"], "label: expected a column of nodes.csv"),
        (["--type", "age"], "type: expected key=value"),
        (["--shares", "half"], "shares: expected numbers"),
        (["--edges", "he.csv"], "got hyperedges and edges"),
        (["--nodes", "no.csv"], "no.csv: no such file"),
        (["--column", "node=reader"], "--column node="),
        (["--out", "nodes.csv"], "expected a new path"),
        (["--split", "given"], "split-column"),
    ],
)
def test_build_refuses_in_one_line_and_writes_nothing(tables, arguments, match):
    before = sorted(tables.iterdir())
    result = call(*BUILD, *arguments)
    assert result.exit_code == 2
    assert match in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tables.iterdir()) == before


def test_build_replaces_only_with_force(tables):
    assert call(*BUILD).exit_code == 0
    result = call(*BUILD)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert call(*BUILD, "--force", "--shares", "0.8,0.1,0.1").exit_code == 0
    assert len(load("my-set")[0].split().train) == 64


def test_an_error_in_a_table_names_file_line_and_column(tables):
    with open("he.csv", "a") as file:
        file.write("r99,b1\n")
    lines = len((tables / "he.csv").read_text().splitlines())
    result = call(*BUILD)
    assert result.exit_code == 2
    assert f"he.csv:{lines}: column 'node': expected the id of a node of nodes.csv, got 'r99'" in result.stderr
    assert not (tables / "my-set").exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ([], "none: no column is the label"),
        (["--label", "taste", "--shares", "1,0,0"], "at least one test node with a label"),
    ],
)
def test_train_names_what_is_missing_in_a_data_set(tables, options, match):
    build = ("datasets", "build", "--nodes", "nodes.csv", "--hyperedges", "he.csv", "--out", "set", *options)
    assert call(*build).exit_code == 0
    result = call("train", "set", "--epochs", "1")
    assert result.exit_code == 2
    assert match in result.stderr
    assert not (tables / "runs").exists()


def test_help_has_examples():
    for command in (["train"], ["datasets", "build"]):
        assert "Example: hgraph" in call(*command, "--help").stdout


# ---------------------------------------------------------------------- other data


def scaled_sets():
    """Two data sets with one rule (crime below 50); ages of the second are in a narrow range."""
    draw = random.Random(1)
    for name, low, high, ids in (("first", 0, 100, "f"), ("second", 40, 60, "s")):
        ages = [draw.uniform(low, high) for _ in range(60)]
        labels = ["crime" if age < 50 else "poetry" for age in ages]
        rows = [(f"{ids}{i}", f"{a:.2f}", t, "test" if name == "second" else ("train", "test")[i % 2])
                for i, (a, t) in enumerate(zip(ages, labels, strict=True))]  # fmt: skip
        write(f"{name}.csv", ["id", "age", "taste", "part"], rows)
        write(f"{name}-he.csv", ["node", "hyperedge"], [(r[0], r[0]) for r in rows])


@pytest.mark.checked("other data", "`evaluate --dataset OTHER` encodes OTHER with the run's encoder and classes.")
def test_other_data_are_encoded_as_those_of_the_run(tables):
    scaled_sets()
    for name in ("first", "second"):
        made = call("datasets", "build", "--nodes", f"{name}.csv", "--hyperedges", f"{name}-he.csv", "--label", "taste",
                    "--split", "given", "--split-column", "part", "--out", name)  # fmt: skip
        assert made.exit_code == 0, made.output
    made = call("train", "first", "--model", "hgnn+", "--epochs", "150", "--lr", "0.05", "--quiet", "--out", "run")
    assert made.exit_code == 0, made.output
    found = json.loads(call("evaluate", "run", "--dataset", "second", "--json").stdout)
    assert found["test_accuracy"] > 0.8  # standardized by itself, 40 .. 60 would be spread over everything
    own = json.loads(call("evaluate", "run", "--json").stdout)
    same = json.loads(call("evaluate", "run", "--dataset", "first", "--json").stdout)
    assert own["test_accuracy"] == same["test_accuracy"]
    text = (tables / "second.csv").read_text().replace("poetry", "dance")
    (tables / "second.csv").write_text(text)
    assert call("datasets", "build", "--nodes", "second.csv", "--hyperedges", "second-he.csv", "--label", "taste",
                "--split", "given", "--split-column", "part", "--out", "second", "--force").exit_code == 0  # fmt: skip
    refused = call("evaluate", "run", "--dataset", "second")
    assert refused.exit_code == 2
    assert "expected classes of the network, got ['dance']" in refused.stderr


@pytest.mark.checked("categories", "`predict` reports how many cells hold a category that training never saw.")
def test_predict_reports_unseen_categories(tables):
    assert call(*BUILD).exit_code == 0
    assert call("distill", "my-set", "--epochs", "2", "--quiet", "--out", "run").exit_code == 0
    write("new.csv", ["age", "town"], [(30, "z"), (40, "a"), (50, "z"), (60, "A")])
    result = call("predict", "run", "new.csv")
    assert result.exit_code == 0, result.output
    assert "column 'town': 2 categories not in the training data" in result.stderr
    assert "'z' 2 times, 'A' 1 times" in result.stderr


@pytest.mark.parametrize(("given", "classes"), [([], ["x"]), (["--missing", ""], ["NA", "None", "x"]),
                                                (["--missing", "x, -"], []),
                                                (["--missing", ",NA"], ["None", "x"])])  # fmt: skip
def test_the_command_names_missing_cells(tables, given, classes):
    write("n.csv", ["id", "y"], [("a", "None"), ("b", "x"), ("c", "NA"), ("d", "x")])
    write("h.csv", ["members"], [("a;b",)])
    made = call("datasets", "build", "--nodes", "n.csv", "--hyperedges", "h.csv", "--label", "y", "--out", "o", *given)
    assert made.exit_code == 0, made.output
    assert sorted(load("o")[0].meta["class_names"]) == classes
    assert ("read as missing, not as a class" in made.stderr) == ("None" not in classes or "NA" not in classes)


ADDED = {
    "hgnn": "2 nodes are in no hyperedge; each gets a hyperedge with itself as the only member",
    "gcn": "82 of 82 nodes have no self-loop; GCN adds one to each.",
}


@pytest.mark.checked("explanations", "The report and the card name singletons and self-loops that were added.")
@pytest.mark.parametrize(("model", "message"), ADDED.items(), ids=ADDED)
def test_what_is_added_to_the_structure_is_named(tables, model, message):
    with open("nodes.csv", "a", newline="") as file:
        csv.writer(file).writerows([("alone1", 30, "a", "crime"), ("alone2", 31, "b", "poetry")])
    assert call(*BUILD).exit_code == 0
    made = call("distill", "my-set", "--teacher", model, "--epochs", "2", "--quiet", "--out", "run")
    assert made.exit_code == 0, made.output
    assert message in (tables / "run" / "report.md").read_text()
    card = json.loads((tables / "run" / "student" / "student.json").read_text())
    assert any(message in note for note in card["notes"])
    assert call("train", "my-set", "--model", model, "--epochs", "2", "--quiet", "--out", "t").exit_code == 0
    assert message in (tables / "t" / "report.md").read_text()


@pytest.mark.checked(
    "new rows", "Every exported student comes with its accuracy on unseen rows, next to the transductive accuracy."
)
@pytest.mark.parametrize("setting", ["transductive", "production"])
def test_the_accuracy_on_new_rows_is_reported_with_every_student(tables, setting):
    assert call(*BUILD).exit_code == 0
    made = call("distill", "my-set", "--epochs", "5", "--quiet", "--out", "run", "--setting", setting)
    assert made.exit_code == 0, made.output
    new_rows = next(
        line for line in made.stdout.splitlines() if line.startswith("Accuracy on unseen rows, as in `hgraph predict`")
    )
    assert new_rows in (tables / "run" / "report.md").read_text()
    assert new_rows in json.loads((tables / "run" / "student" / "student.json").read_text())["notes"]
    assert ("whose features were in training" in new_rows) == (setting == "transductive")
