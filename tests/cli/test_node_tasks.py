"""Regression, several labels per node, class weights and selection, in every command that trains or predicts."""

from __future__ import annotations

import csv
import json
import random

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from hgraph.cli.app import app
from hgraph.data import Data, Dataset, Split
from hgraph.datasets import load, save
from hgraph.distill import Predictor


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def done(*arguments):
    result = call(*arguments, "--quiet")
    assert result.exit_code == 0, result.output
    return result


def figures(*arguments):
    return json.loads(done(*arguments, "--json").stdout)


def write(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three sets of 60 nodes in 12 hyperedges: prices (some missing), tags (some nodes without), and rare classes."""
    folder = tmp_path_factory.mktemp("sets")
    draw = random.Random(0)
    ages = [draw.randint(20, 79) for _ in range(60)]
    groups = sorted((f"n{i}", f"e{ages[i] // 5}") for i in range(60))
    write(folder / "he.csv", ["node", "hyperedge"], groups)
    rows = [
        (f"n{i}", a, "" if i % 12 == 0 else 1000 + 2.5 * a, "rare" if a > 70 else "usual") for i, a in enumerate(ages)
    ]
    write(folder / "nodes.csv", ["id", "age", "price", "kind"], rows)
    for label, other in (("price", "kind"), ("kind", "price")):
        done("datasets", "build", "--nodes", folder / "nodes.csv", "--hyperedges", folder / "he.csv", "--label", label,
             "--type", f"{other}=ignore", "--out", folder / label)  # fmt: skip
    structure = load(folder / "price")[0].structure
    x = torch.tensor(ages).float().sub(50).div(17).unsqueeze(1)
    y = torch.cat([x > 0, x > 1], 1).float()
    y[:5] = float("nan")
    y[5, 1] = float("nan")
    ids = torch.arange(60)
    split = Split(structure, ids[ids % 3 == 0], ids[ids % 3 == 1], ids[ids % 3 == 2])
    meta = {"class_names": ("old", "very old"), "feature_names": ("age",)}
    data = Data(structure, x, y, {"default": split}, meta)
    card = {"target_spec": {"kind": "multilabel", "num_classes": 2}, "license": "CC0", "citation": "none"}
    save(Dataset("tags", [data], task="node classification", redistribute=True, **card), folder / "tags")
    return folder


KINDS = {
    "price": ("mae", {"test_mae", "test_rmse", "test_r2", "validation_mae", "mean_mae"}, {"predicted_over_true.png"}),
    "tags": ("micro_f1", {"test_micro_f1", "test_macro_f1", "test_auroc", "validation_f1"}, set()),
    "kind": ("accuracy", {"test_accuracy", "test_f1", "test_balanced_accuracy", "test_auroc", "validation_accuracy",
                          "majority_accuracy", "ece"}, {"confusion_matrix.png", "reliability.png"}),
}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def trained(place, request):
    out = place / f"run-{request.param}"
    found = figures("train", place / request.param, "--epochs", 80, "--lr", 0.05, "--out", out)
    return place, request.param, out, found


def test_every_kind_of_label_is_trained_and_evaluated(trained):
    _, kind, out, found = trained
    metrics, pictures = KINDS[kind][1:]
    extra = {"dataset", "model", "setting", "seed", "parameters", "best_epoch", "seconds"}
    assert set(found) == metrics | extra
    assert {p.name for p in out.glob("*.png")} == pictures | {"learning_curve.png", "structure.png"}
    report = (out / "report.md").read_text()
    assert all(f"({name})" in report for name in pictures)
    again = figures("evaluate", out)
    assert again == {k: v for k, v in found.items() if k not in ("best_epoch", "seconds")}
    if kind == "price":
        assert found["test_mae"] < 0.3 * found["mean_mae"]
        assert found["test_r2"] > 0.8
    elif kind == "tags":
        assert found["test_micro_f1"] > 0.8
        assert found["test_auroc"] > 0.9


def test_a_network_predicts_in_the_unit_of_the_labels(trained):
    place, kind, out, found = trained
    lines = list(csv.reader(done("predict", out, "--all").stdout.splitlines()))
    assert lines[0] == {"price": ["id", "prediction"], "tags": ["id", "labels"],
                        "kind": ["id", "label", "probability"]}[kind]  # fmt: skip
    assert len(lines) == 61
    data = load(place / kind)[0]
    test = data.split().test.tolist()
    if kind == "price":
        y = data.y.tolist()
        errors = [abs(float(lines[1 + i][1]) - y[i]) for i in test]
        assert sum(errors) / len(errors) == pytest.approx(found["test_mae"], rel=1e-3)
        unlabeled = [row[0] for row in csv.reader(done("predict", out).stdout.splitlines())][1:]
        assert unlabeled == [f"n{i}" for i in range(0, 60, 12)]
    if kind == "tags":
        assert {row[1] for row in lines[1:]} <= {"", "old", "very old", "old;very old"}
        proba = list(csv.reader(done("predict", out, "--all", "--proba").stdout.splitlines()))
        assert proba[0] == ["id", "labels", "probability of old", "probability of very old"]
        for row in proba[1:]:
            names = [name for name, p in zip(("old", "very old"), row[2:], strict=True) if float(p) > 0.5]
            assert row[1] == ";".join(names)


@pytest.fixture(scope="module")
def students(trained):
    place, kind, out, _ = trained
    found = figures("distill", out, "--epochs", 60)
    return place, kind, out, found


def test_a_trained_network_is_the_teacher(students):
    """The teacher of `distill RUN` has the weights of the run, and is not trained again."""
    place, kind, out, found = students
    main = KINDS[kind][0]
    run = json.loads((out / "config.json").read_text())
    folder = out / "student"
    before, after = load_file(out / "model.safetensors"), load_file(folder / "teacher.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert found["teacher"][f"test_{main}"] == figures("evaluate", out)[f"test_{main}"]
    config = json.loads((folder / "config.json").read_text())
    assert config["task"] == run["task"]
    assert config["command"].startswith(f"hgraph distill {out} --objective lighthgnn")
    again = figures("evaluate", folder)
    for name in ("mlp", "teacher", "student"):
        assert again[name][f"test_{main}"] == pytest.approx(found[name][f"test_{main}"])
    assert "Traceback" not in call("distill", out, "--teacher", "gcn").output
    assert "it comes from the run folder" in call("distill", out, "--seed", "3").stderr
    assert "a run of `hgraph distill`" in call("distill", folder).stderr
    del place


def _check_service(predictor, columns, answers):
    """The service gives the same answers, if its packages are installed."""
    try:
        from fastapi.testclient import TestClient
    except (ImportError, RuntimeError):
        return
    from hgraph.distill.serving.serve import application

    client = TestClient(application(predictor), base_url="http://localhost")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert client.post("/predict", json={"rows": rows, "proba": True}).json()["answers"] == answers
    assert client.get("/").json()["task"] == predictor.task.kind


def test_an_exported_student_answers_in_the_unit_of_the_labels(students):
    """Files, the table of a request and the exported program agree, without the run and the data set."""
    place, kind, out, found = students
    table = place / "nodes.csv" if kind != "tags" else place / "tags.csv"
    if kind == "tags":
        write(table, ["age"], load(place / "tags")[0].x.tolist())
    lines = list(csv.reader(done("predict", out / "student", table).stdout.splitlines()))
    predictor = Predictor(out / "student" / "student")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in ("age",)}
    predicted = predictor.predictions(predictor.features(columns))
    answers = predictor.task.answers(predicted, predictor.classes, proba=True)
    _check_service(predictor, columns, answers)
    data = load(place / kind)[0]
    if kind == "price":
        assert [row["prediction"] for row in answers] == pytest.approx([float(r[1]) for r in lines[1:]], rel=1e-5)
        test = data.split().test
        error = (predicted[test, 0] - data.y[test]).abs().mean().item()
        assert error == pytest.approx(found["student"]["test_mae"], rel=1e-3)
        assert "prediction: a number" in call("predict", out / "student", "--describe").stdout
        for name in ("probabilities", "answers"):
            with pytest.raises(ValueError, match="predicts"):
                getattr(predictor, name)(data.x)
    elif kind == "tags":
        assert [row["labels"] for row in answers] == [r[0] for r in lines[1:]]
        assert set(answers[0]["probabilities"]) == {"old", "very old"}
    else:
        assert [row["label"] for row in answers] == [r[1] for r in lines[1:]]


@pytest.mark.parametrize(
    ("kind", "options", "match"),
    [
        ("price", ["--select", "accuracy"], "select: expected one of mae, loss, because this is node regression"),
        ("price", ["--class-weight", "balanced"], "has no classes"),
        ("tags", ["--select", "accuracy"], "expected one of f1, auc, loss"),
        ("kind", ["--select", "mae"], "expected one of accuracy, f1, auc, loss"),
    ],
)
def test_a_task_refuses_the_scores_of_another(place, kind, options, match):
    result = call("train", place / kind, *options, "--out", place / "none")
    assert result.exit_code == 2
    assert match in result.stderr
    assert not (place / "none").exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--objective", "krd"], "expected terms for node regression, got ReliableLabels"),
        (["--calibrate"], "calibrate: expected no value, because this is node regression"),
        (["--variant", "official"], "expected 'paper', because this is node regression"),
    ],
)
def test_distill_refuses_what_needs_classes_before_any_training(place, options, match):
    result = call("distill", place / "price", *options, "--epochs", 3, "--quiet", "--out", place / "none")
    assert result.exit_code == 2
    assert match in result.stderr


@pytest.mark.parametrize("select", ["accuracy", "f1", "auc", "loss"])
def test_the_selected_score_chooses_the_epoch(place, select):
    out = place / f"select-{select}"
    found = figures("train", place / "kind", "--select", select, "--epochs", 12, "--out", out)
    scores = [json.loads(line)["validation"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert found["best_epoch"] == scores.index(max(scores)) + 1
    best = -max(scores) if select == "loss" else max(scores)
    assert found[f"validation_{select}"] == pytest.approx(best, abs=1e-6)
    assert f"--select {select}" in json.loads((out / "config.json").read_text())["command"]


def test_a_tuned_network_is_kept_and_can_be_distilled(place):
    pytest.importorskip("optuna")
    words = ("--trials", 2, "--epochs", 5, "--out", place / "tuned")
    found = figures("tune", place / "price", "--space", "lr=log:0.001:0.1", *words)
    again = figures("evaluate", place / "tuned")
    assert found["validation_mae"] == pytest.approx(again["validation_mae"])
    assert found["test_mae"] == again["test_mae"]
    assert "test_mae" in figures("distill", place / "tuned", "--epochs", 2)["student"]
    assert call("predict", place / "tuned").exit_code == 0


def test_labels_that_look_like_numbers_are_questioned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("n.csv", ["id", "price"], [(f"n{i}", 7 * i) for i in range(100)])
    write("h.csv", ["members"], [("n0;n1",)])
    build = ("datasets", "build", "--nodes", "n.csv", "--hyperedges", "h.csv", "--label", "price", "--out", "o")
    refused = call(*build)
    assert refused.exit_code == 2
    assert "100 classes in 100 rows" in refused.stderr
    assert "--task regression" in refused.stderr
    assert not (tmp_path / "o").exists()
    assert call(*build, "--task", "classification").exit_code == 0


def test_several_labels_of_a_table_from_build_to_predictions(tmp_path):
    draw = random.Random(0)
    ages = [draw.random() for _ in range(40)]
    cells = [[int(a > 0.5), "yes" if a > 0.3 else "no"] if i < 36 else ["", ""] for i, a in enumerate(ages)]
    write(tmp_path / "nodes.csv", ["id", "age", "old", "grown"], [(f"n{i}", a, *cells[i]) for i, a in enumerate(ages)])
    write(tmp_path / "he.csv", ["node", "hyperedge"], [(f"n{i}", f"e{int(a * 8)}") for i, a in enumerate(ages)])
    built = figures("datasets", "build", "--nodes", tmp_path / "nodes.csv", "--hyperedges", tmp_path / "he.csv",
                    "--label", "old", "--label", "grown", "--out", tmp_path / "set")  # fmt: skip
    assert built["labels"] == {"old": sum(c[0] == 1 for c in cells), "grown": sum(c[1] == "yes" for c in cells)}
    assert built["no label"] == 4
    trained = figures("train", tmp_path / "set", "--epochs", 3, "--out", tmp_path / "run")
    assert {"test_micro_f1", "test_macro_f1"} <= set(trained)
    done("predict", tmp_path / "run", "--proba", "--out", tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "labels", "probability of old", "probability of grown"]
    assert [row[0] for row in rows[1:]] == ["n36", "n37", "n38", "n39"]
