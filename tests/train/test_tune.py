"""`tune`: finds the best settings, prunes bad trials, and resumes after a stop."""

from __future__ import annotations

import json
import os
import shlex

import pytest
from typer.testing import CliRunner

from hgraph.cli.app import app
from hgraph.errors import ArgumentError
from hgraph.train.tune import Choice, Range, tune

pytest.importorskip("optuna")
SPACE = {"x": Range(-4, 4), "kind": Choice(("good", "bad"))}


def score(settings, report):
    """The best score is at x = 1 with the good kind; it is reached over 20 epochs."""
    final = -((settings["x"] - 1) ** 2) - (5 if settings["kind"] == "bad" else 0)
    for epoch in range(1, 21):
        report(epoch, final - 1 / epoch)
    return final


def test_the_best_settings_are_found_and_bad_trials_pruned():
    found = tune(score, SPACE, trials=40, seed=0)
    assert found.settings["kind"] == "good"
    assert abs(found.settings["x"] - 1) < 0.5
    assert found.score == max(t["score"] for t in found.trials if t["state"] == "complete")
    assert {t["state"] for t in found.trials} == {"complete", "pruned"}
    assert found.trials == tune(score, SPACE, trials=40, seed=0).trials


@pytest.mark.parametrize("stop", ["interrupt", "killed in a trial", "half a line", "killed before a trial"])
def test_a_search_resumes_with_the_same_trials(stop, tmp_path):
    ran, size = [], 0

    def counted(settings, report):
        nonlocal size
        ran.append(settings)
        report(1, settings["x"])
        if len(ran) == 4 and stop == "interrupt":
            raise KeyboardInterrupt
        size = (tmp_path / "study.jsonl").stat().st_size
        return settings["x"]

    space, options = {"x": Range(1e-4, 1, log=True)}, {"trials": 14, "folder": tmp_path}
    expected = tune(lambda settings, report: settings["x"], space, trials=14).trials
    if stop == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            tune(counted, space, **options)
    else:
        tune(counted, space, trials=4, folder=tmp_path)
        file = tmp_path / "study.jsonl"
        begun = file.read_bytes().splitlines(keepends=True)
        os.truncate(
            file, {"killed in a trial": size, "half a line": size - 3, "killed before a trial": len(begun[0])}[stop]
        )
    found = tune(counted, space, **options).trials
    assert found == expected
    assert len(ran) == {"interrupt": 15, "killed before a trial": 18}.get(stop, 15)
    assert tune(counted, space, **options).trials == found


def test_two_searches_do_not_share_a_folder(tmp_path):
    pytest.importorskip("fcntl")

    def nested(settings, report):
        tune(score, SPACE, trials=1, folder=tmp_path)

    with pytest.raises(ArgumentError, match="folder: expected a folder that no other search is writing to"):
        tune(nested, SPACE, trials=1, folder=tmp_path)


def test_a_search_does_not_resume_another(tmp_path):
    """Trials on other data or from another space do not belong to this search."""
    options = {"trials": 2, "folder": tmp_path}
    tune(score, SPACE, about={"dataset": "a"}, **options)
    assert len(tune(score, SPACE, about={"dataset": "a"}, trials=3, folder=tmp_path).trials) == 3
    with pytest.raises(ArgumentError, match="dataset: expected 'a', the value of the search in .* got 'b'"):
        tune(score, SPACE, about={"dataset": "b"}, **options)
    with pytest.raises(ArgumentError, match="space: expected"):
        tune(score, SPACE | {"x": Range(-9, 4)}, about={"dataset": "a"}, **options)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "space: expected at least one setting"),
        ({"x": Range(1, 1)}, "low < high"),
        ({"x": Range(0, 1, log=True)}, "low > 0"),
        ({"x": Choice(())}, "at least one value"),
    ],
)
def test_spaces_are_checked(space, message):
    with pytest.raises(ArgumentError, match=message):
        tune(score, space)


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_writes_a_report_and_resumes(tmp_path):
    arguments = ("tune", "karate", "--model", "gcn", "--epochs", "5", "--out", tmp_path, "--json")
    first = call(*arguments, "--trials", "2")
    assert first.exit_code == 0, first.output
    second = json.loads(call(*arguments, "--trials", "3").stdout)
    assert second["trials"] == 3
    assert {"lr", "weight_decay", "hidden", "dropout", "test_accuracy", "validation_accuracy"} <= second.keys()
    other = call(*arguments, "--trials", "3", "--setting", "production")
    assert other.exit_code == 2
    assert "setting: expected 'transductive'" in other.stderr
    report = (tmp_path / "report.md").read_text()
    assert report.count("| complete |") == 3
    (command,) = [line for line in report.splitlines() if line.startswith("hgraph train")]
    trained = call(*shlex.split(command)[1:], "--out", tmp_path / "best", "--json", "--quiet")
    assert trained.exit_code == 0, trained.output
    assert json.loads(trained.stdout)["test_accuracy"] == second["test_accuracy"]
    again = json.loads(call("evaluate", tmp_path / "best", "--json").stdout)
    assert again["test_accuracy"] == second["test_accuracy"]


@pytest.mark.parametrize("space", ["depth=range:1:2", "lr=log:1", "lr=magic:1:2", "hidden=choice:a", ""])
def test_the_command_explains_the_space(space, tmp_path):
    result = call("tune", "karate", "--space", space, "--out", tmp_path)
    assert result.exit_code == 2
    assert "space: expected" in result.stderr
