"""`hgraph train` and `evaluate` for data sets of many graphs."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from hgraph import datasets
from hgraph.cli.app import app
from hgraph.data import Data, Dataset, Parts
from hgraph.testing import random_graph


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def made(count=24, changed=0):
    meta = {"class_names": ("few", "many")}
    examples = [
        Data(
            random_graph(5, 4 + 12 * (i % 2), seed=i + changed),
            torch.ones(5, 3),
            torch.tensor(i % 2),
            meta=meta,
            target="graph",
        )
        for i in range(count)
    ]
    ids = torch.arange(count)
    card = {
        "task": "graph classification",
        "target_spec": {},
        "license": "CC0",
        "redistribute": True,
        "citation": "none",
    }
    return Dataset("mutag", examples, splits={"default": Parts(ids[:16], ids[16:20], ids[20:])}, **card)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder in which mutag is a set of small random graphs."""
    monkeypatch.chdir(tmp_path)
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda name, **more: made() if name == "mutag" else load(name, **more))
    return tmp_path


def test_a_run_is_trained_evaluated_and_repeated(place):
    line = ("train", "mutag", "--model", "gin", "--hidden", 8, "--epochs", 15, "--batch", 5, "--threads", 1)
    done = call(*line, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.output)
    assert figures["test_accuracy"] == 1.0
    run = place / "runs" / "mutag-gin-0"
    assert {p.name for p in run.iterdir()} == {
        "config.json", "metrics.jsonl", "learning_curve.png", "confusion_matrix.png", "reliability.png",
        "model.safetensors", "report.md", ".hgraph.json",
    }  # fmt: skip
    assert "16 graphs for training, 4 for validation, 4 for testing" in (run / "report.md").read_text(encoding="utf-8")
    again = json.loads(call("evaluate", run, "--json").output)
    assert {k: v for k, v in figures.items() if k not in ("best_epoch", "seconds")} == again
    other = json.loads(call(*line, "--json", "--quiet", "--out", "again").output)
    assert (place / "again" / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert other["test_accuracy"] == 1.0


@pytest.mark.parametrize("model", ["gcn", "hgnn+", "graphsage"])
@pytest.mark.parametrize("readout", ["mean", "max"])
def test_any_network_of_nodes_and_any_readout(place, model, readout):
    done = call("train", "mutag", "--model", model, "--readout", readout, "--hidden", 4, "--epochs", 1, "--quiet")
    assert done.exit_code == 0, done.output


def test_several_seeds(place):
    done = call("train", "mutag", "--model", "gin", "--hidden", 4, "--epochs", 1, "--seeds", 2, "--quiet", "--json")
    assert done.exit_code == 0, done.output
    assert (place / "runs" / "mutag-gin-seeds").is_dir()


def test_changed_graphs_are_noticed(place, monkeypatch):
    assert call("train", "mutag", "--model", "gin", "--hidden", 4, "--epochs", 1, "--quiet").exit_code == 0
    monkeypatch.setattr(datasets, "load", lambda name, **more: made(changed=1))
    done = call("evaluate", "runs/mutag-gin-0")
    assert done.exit_code == 2
    assert "mutag has changed since this run was trained" in done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("train", "mutag", "--model", "linkx"), "without parameters per node"),
        (("train", "mutag", "--model", "rgcn"), "a network over graphs or hypergraphs"),
        (("train", "mutag", "--model", "gin", "--setting", "production"), "setting: expected no value"),
        (("train", "mutag", "--model", "gin", "--class-weight", "balanced"), "class_weight"),
        (("train", "mutag", "--model", "gin", "--batch", 0), "batch"),
        (("train", "karate", "--model", "gcn", "--readout", "sum"), "karate is not a data set of graphs"),
        (("train", "karate", "--model", "gcn", "--batch", 3), "karate is not a data set of graphs"),
    ],
)
def test_errors_come_before_any_training(place, line, message):
    done = call(*line)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    "command", [("predict",), ("predict", "--all"), ("distill",), ("export",), ("serve", "--port", 0)]
)
def test_commands_for_other_runs_say_so(place, command):
    assert call("train", "mutag", "--model", "gin", "--hidden", 4, "--epochs", 1, "--quiet").exit_code == 0
    done = call(command[0], "runs/mutag-gin-0", *command[1:])
    assert done.exit_code == 2, done.output
    assert "runs/mutag-gin-0" in done.stderr


def test_a_teacher_for_graphs_is_refused(place):
    done = call("distill", "mutag")
    assert done.exit_code == 2
    assert "one label per graph" in done.stderr or "graph classification" in done.stderr
