"""The `hgraph` command: what it prints, where, and how it fails."""

from __future__ import annotations

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

import hgraph
from hgraph.cli.app import app
from hgraph.cli.teachers import as_hypergraph
from hgraph.datasets import names
from hgraph.distill import Predictor
from hgraph.structure import Graph

FIGURES = {"test_accuracy": float, "ece": float, "parameters": int, "latency_one_s": float, "latency_all_s": float}


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo; returns its result and its folder."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    arguments = ["distill", "digits", "--teacher", "hgnn+", "--seed", "0", "--epochs", "40", "--out", folder, "--json"]
    return call(*arguments), folder


def test_json_is_one_object_with_the_promised_keys_and_types(demo):
    result, _ = demo
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1
    answer = json.loads(result.stdout)
    assert list(answer) == ["dataset", "setting", "seed", "mlp", "teacher", "student"]
    assert (answer["dataset"], answer["setting"], answer["seed"]) == ("digits", "transductive", 0)
    for model in ("mlp", "teacher", "student"):
        assert {key: type(value) for key, value in answer[model].items()} == FIGURES
        assert 0 < answer[model]["test_accuracy"] <= 1
        assert 0 <= answer[model]["ece"] <= 1
    assert answer["mlp"]["parameters"] == answer["student"]["parameters"]


def test_the_demo_learns(demo):
    answer = json.loads(demo[0].stdout)
    assert answer["teacher"]["test_accuracy"] > 0.93
    assert answer["student"]["test_accuracy"] > answer["mlp"]["test_accuracy"] > 0.85


def test_the_demo_leaves_a_report_with_plots_and_notes_go_to_stderr(demo):
    result, folder = demo
    assert {p.name for p in folder.iterdir()} == {
        "config.json", "metrics.jsonl", "learning_curve.png", "accuracy_latency.png", "reliability.png",
        "confusion_matrix.png", "structure.png", "mlp.safetensors", "teacher.safetensors", "student.safetensors",
        "report.md", "student", ".hgraph.json",
    }  # fmt: skip
    assert "hgraph distill digits --teacher hgnn+ --seed 0" in (folder / "report.md").read_text()
    assert "teacher: epoch" in result.stderr
    assert json.loads((folder / "config.json").read_text())["seed"] == 0


def test_equal_seeds_give_equal_metrics_and_finished_runs_stay(tmp_path):
    arguments = ("distill", "davis", "--epochs", "8", "--out", tmp_path, "--json")
    first, refused, second = call(*arguments), call(*arguments), call(*arguments, "--overwrite")
    assert refused.exit_code == 2
    assert "Pass --overwrite or another --out" in refused.stderr
    a, b = json.loads(first.stdout), json.loads(second.stdout)
    for model in ("mlp", "teacher", "student"):
        assert all(a[model][key] == b[model][key] for key in ("test_accuracy", "ece", "parameters"))


@pytest.mark.parametrize(
    ("teacher", "dataset", "setting"),
    [
        ("hgnn", "davis", "production"),
        ("hgnn+", "karate", "production"),
        ("gcn", "davis", "transductive"),
        ("gat", "karate", "transductive"),
    ],
)
def test_every_teacher_works_with_graphs_and_hypergraphs(tmp_path, teacher, dataset, setting):
    arguments = ["distill", dataset, "--teacher", teacher, "--setting", setting, "--epochs", "3", "--quiet"]
    result = call(*arguments, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith("model ")
    assert "speed-up one" in lines[0]
    assert ("unseen nodes" in lines[0]) == (setting == "production")
    assert [line.split()[0] for line in lines[2:5]] == ["student", teacher.upper(), "MLP"]
    assert lines[-1] == f"report: {tmp_path / 'report.md'}"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["digts"], "'digits'"),
        (["digits", "--teacher", "gnn"], "gcn"),
        (["digits", "--epochs", "0"], "epochs"),
        (["digits", "--setting", "open"], "transductive"),
        (["digits", "--device", "abacus"], "device"),
        (["digits", "--device", "cuda:99"], "CUDA devices of this machine"),
        (["digits", "--seed", "x"], "seed"),
    ],
)
def test_wrong_arguments_exit_with_2_and_write_nothing(tmp_path, monkeypatch, arguments, match):
    monkeypatch.chdir(tmp_path)
    result = call("distill", *arguments)
    assert result.exit_code == 2
    assert match in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_library_are_one_line():
    result = call("datasets", "info", "digts")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("hgraph: error: ")


def test_an_out_that_is_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/below"):
        result = call("distill", "digits", "--out", tmp_path / out)
        assert result.exit_code == 2
        assert "which is a file" in result.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_datasets_list_and_info():
    lines = call("datasets", "list").stdout.splitlines()
    assert lines[0].split() == ["name", "kind", "task", "sizes", "download", "terms", "files"]
    assert [line.split()[0] for line in lines[1:]] == list(names())
    listed = json.loads(call("datasets", "list", "--json").stdout)
    assert [card["name"] for card in listed] == list(names())
    card = json.loads(call("datasets", "info", "karate", "--json").stdout)
    assert card["sizes"]["nodes"] == 34
    assert card["measured"]["isolated"] == 0
    assert card["measured"]["homophily"] == pytest.approx(67 / 78)
    text = call("datasets", "info", "karate").stdout
    assert "license" in text
    assert "34 nodes, 156 edges, 0 self loops, 0 isolated" in text


def test_datasets_list_of_one_task():
    listed = json.loads(call("datasets", "list", "--task", "node classification", "--json").stdout)
    assert {card["task"] for card in listed} == {"node classification"}
    assert "karate" in {card["name"] for card in listed}
    refused = call("datasets", "list", "--task", "node clasification")
    assert refused.exit_code == 2
    assert "Did you mean 'node classification'" in refused.stderr


def test_datasets_list_shows_local_files(tmp_path):
    (row,) = [line for line in call("datasets", "list", "--root", tmp_path).stdout.splitlines() if line[:5] == "cora "]
    assert row.split()[-2:] == ["free", "-"]
    assert "downloads the files" in call("datasets", "info", "cora", "--root", tmp_path).stdout
    assert json.loads(call("datasets", "info", "cora", "--root", tmp_path, "--json").stdout)["measured"] is None
    for file in hgraph.datasets.info("cora").files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (row,) = [line for line in call("datasets", "list", "--root", tmp_path).stdout.splitlines() if line[:5] == "cora "]
    assert row.split()[-1] == "here"


def test_datasets_info_draws_a_picture(tmp_path):
    out = tmp_path / "new" / "davis.svg"
    assert call("datasets", "info", "davis", "--out", out).exit_code == 0
    assert "hyperedge size" in out.read_text() or "<path" in out.read_text()
    for bad, match in (("davis.txt", "ends in .png"), ("new", "ends in .png")):
        result = call("datasets", "info", "davis", "--out", tmp_path / bad)
        assert result.exit_code == 2
        assert match in result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["davis.svg", "new"]


def test_datasets_info_of_many_graphs_and_of_hyperedge_labels(mirror, tmp_path):
    found = call("datasets", "info", "mutag", "--root", tmp_path, "--json", "--out", tmp_path / "m.png").stdout
    assert json.loads(found)["measured"]["nodes"] == 3371
    found = call("datasets", "info", "cocitation-citeseer", "--root", tmp_path, "--json", "--out", tmp_path / "c.png")
    measured = json.loads(found.stdout)["measured"]
    assert (measured["isolated"], measured["repeated"]) == (1854, 75)
    assert measured["class_sizes"] == [701, 596, 508, 590, 668, 249]
    assert (tmp_path / "m.png").stat().st_size > 1000


def commands(group=None, path=()):
    """All commands, as lists of words."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield *path, name


def test_every_command_has_help_with_an_example_json_and_quiet():
    assert call("--version").stdout == f"hgraph {hgraph.__version__}\n"
    found = list(commands())
    assert {("datasets", "build"), ("serve",), ("reproduce",)} <= set(found)
    for command in [(), ("datasets",), *found]:
        result = call(*command, "--help")
        assert result.exit_code == 0
        assert "Example: hgraph" in result.stdout, command
        assert command not in found or {"--json", "--quiet"} <= set(result.stdout.split()), command


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["distil"], "distill"),
        (["distill", "digts"], "digits"),
        (["distill", "digits", "--objectiv", "krd"], "--objective"),
        (["distill", "digits", "--teacher", "hgnnn"], "hgnn"),
        (["reproduce", "lightgnn"], "lighthgnn"),
        (["reproduce", "lighthgnn", "--only", "kora"], "cora"),
        (["papers", "lightgnn"], "LightHGNN"),
        (["tune", "karate", "--space", "hiden=choice:1:2"], "hidden"),
    ],
)
def test_unknown_names_suggest_the_nearest_one(arguments, nearest):
    result = call(*arguments)
    assert result.exit_code == 2
    assert f"'{nearest}'" in result.stderr or nearest in result.stderr.split("options: ")[-1]


def test_a_distillation_can_be_evaluated_from_its_files(demo, tmp_path):
    result, folder = demo
    trained, again = json.loads(result.stdout), json.loads(call("evaluate", folder, "--json").stdout)
    for model in ("mlp", "teacher", "student"):
        assert again[model] == {key: trained[model][key] for key in ("test_accuracy", "ece", "parameters")}
    lines = call("evaluate", folder).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["mlp", "teacher", "student"]
    refused = call("evaluate", folder, "--dataset", "karate")
    assert refused.exit_code == 2
    assert "does not match 'karate'" in refused.stderr


def test_a_student_of_words_exports_its_calibration(tmp_path):
    arguments = ("distill", "davis", "--student", "words", "--setting", "production", "--epochs", "8", "--lam", "0.5")
    assert call(*arguments, "--out", tmp_path / "a", "--quiet").exit_code == 0
    result = call(*arguments, "--calibrate", "--out", tmp_path / "b", "--quiet", "--json")
    assert result.exit_code == 0, result.output
    assert "unseen_accuracy" in json.loads(result.stdout)["student"]
    plain, cooled = (Predictor(tmp_path / run / "student") for run in "ab")
    x = 3 * torch.randn(5, len(plain.feature_names), generator=torch.Generator().manual_seed(0))
    temperature = json.loads((tmp_path / "b" / "student" / "student.json").read_text())["temperature"]
    assert temperature != 1
    torch.testing.assert_close(cooled.logits(x), plain.logits(x) / temperature)
    torch.testing.assert_close(plain.logits(7 * x), plain.logits(x))  # rows of length one
    assert "no BatchNorm" in (tmp_path / "a" / "report.md").read_text()


def test_the_official_form_of_the_loss_is_for_the_objectives_that_have_one(tmp_path):
    found = {}
    for variant in ("paper", "official"):
        arguments = ("distill", "davis", "--objective", "lighthgnn+", "--variant", variant, "--epochs", "5", "--quiet")
        assert call(*arguments, "--out", tmp_path / variant).exit_code == 0
        found[variant] = (tmp_path / variant / "student.safetensors").read_bytes()
    assert found["paper"] != found["official"]
    refused = call("distill", "davis", "--objective", "krd", "--variant", "official")
    assert refused.exit_code == 2
    assert "variant: expected paper" in refused.stderr
    assert "lam" in call("distill", "davis", "--lam", "2").stderr


def test_each_edge_of_a_graph_becomes_a_hyperedge():
    g = Graph.from_edge_index([[0, 1, 2], [1, 2, 2]], num_nodes=5, directed=False, weight=torch.tensor([1.0, 2.0, 3.0]))
    hg = as_hypergraph(g)
    assert hg.to_lists() == [[0, 1], [1, 2], [2], [3], [4]]
    assert hg.hyperedge_weight.tolist() == [1, 2, 3, 1, 1]
    one_way = Graph.from_edge_index([[1, 0, 2], [0, 1, 0]], num_nodes=3, directed=True)
    assert as_hypergraph(one_way).to_lists() == [[0, 1], [0, 2]]
