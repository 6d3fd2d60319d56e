"""`--threads`: chosen once, printed into the files of a run, and kept when a stopped run resumes."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from hgraph import Interactions, KnowledgeGraph
from hgraph.cli import recommenders
from hgraph.cli.app import app
from hgraph.cli.threads import training_threads
from hgraph.errors import ArgumentError
from hgraph.models.registry import select


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def chosen(monkeypatch):
    """`fastest_threads` answers 2 and counts its calls, each of which runs the step once."""
    calls = []

    def fastest(step):
        step()
        calls.append(step)
        return 2

    monkeypatch.setattr("hgraph.train.fastest_threads", fastest)
    return calls


def test_auto_is_timed_once_and_kept(tmp_path, chosen):
    before = torch.get_num_threads()
    with training_threads(None, tmp_path, lambda: None) as first:
        assert (first, torch.get_num_threads()) == (2, 2)
    assert torch.get_num_threads() == before
    with training_threads(None, tmp_path, lambda: None) as again:
        assert again == 2
    assert len(chosen) == 1
    with pytest.raises(ArgumentError, match="threads: expected 2, as in the stopped run, got 1"):
        with training_threads(1, tmp_path, lambda: None):
            pass
    (tmp_path / "threads.json").write_text('{"threads": "many"}')
    with training_threads(1, tmp_path, lambda: None) as given:
        assert given == 1
    assert len(chosen) == 1


@pytest.mark.parametrize("arguments", [("train", "karate", "--model", "hgnn"), ("distill", "karate")],
                         ids=["train", "distill"])  # fmt: skip
def test_commands_say_how_many(tmp_path, chosen, arguments):
    done = run(*arguments, "--epochs", 3, "--out", tmp_path / "run", "--quiet")
    assert done.exit_code == 0, done.output
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert config["threads"] == 2
    assert "--threads 2" in config["command"]
    assert len(chosen) == 1


def test_the_timed_step_does_not_change_the_training(tmp_path, chosen, monkeypatch):
    timed = run("train", "karate", "--model", "hgnn", "--epochs", 3, "--out", tmp_path / "a", "--quiet")
    given = run("train", "karate", "--model", "hgnn", "--epochs", 3, "--threads", 2, "--out", tmp_path / "b", "--quiet")
    assert timed.exit_code == given.exit_code == 0
    assert len(chosen) == 1
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", [entry.name for entry in select(task="recommendation")])
def test_the_timed_step_of_every_recommender_is_a_step_of_its_training(name):
    """It fails with several threads only, which the suite does not use elsewhere."""
    pairs = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]])
    none = torch.empty(2, 0, dtype=torch.long)
    kg = KnowledgeGraph.from_names([("a", "r", "x"), ("b", "r", "x"), ("c", "s", "y")])
    data = Interactions.from_pairs(pairs, none, none, kg, num_users=3, num_items=3)
    network = recommenders.network_of(name, data, 0, 4)
    before = [p.clone() for p in network.parameters()]
    step = recommenders.recommender_step(network, data)
    step()
    step()
    assert all(p.grad is None and torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "all", "5000"])
def test_other_numbers_are_refused(text):
    done = run("train", "karate", "--model", "hgnn", "--threads", text)
    assert done.exit_code == 2
    assert f"expected auto or a whole number, 1 .. 4096, got {text}" in " ".join(done.output.split())
