"""`hgraph bench`: arguments, files, JSON."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hgraph.benchmarks import compare, launch, records, runner
from hgraph.cli.app import app
from hgraph.cli.bench import Allocator, Suite


def call(*arguments):
    return CliRunner().invoke(app, ["bench", *(str(a) for a in arguments)])


@pytest.fixture
def started(monkeypatch):
    """What would have been started; writes a file a suite as the suites do."""
    calls = []

    def start(arguments, **rest):
        calls.append((list(arguments), rest))
        given = runner.parser().parse_args(arguments)
        for name in given.suites:
            records.save(
                given.out / f"{name}{given.suffix}.csv", [{"suite": name, "case": "two", "method": "a", "min": "1"}]
            )
        return 0

    monkeypatch.setattr(launch, "start", start)
    return calls


def test_names_of_suites_and_allocators_are_those_of_the_suites():
    assert {s.value for s in Suite} - {"all"} == set(runner.SUITES)
    assert {a.value for a in Allocator} == set(launch.ALLOCATORS)


def test_help_has_an_example():
    result = call("--help")
    assert result.exit_code == 0
    assert "hgraph bench ops --only arxiv" in result.output


def test_json_is_one_object(started, tmp_path):
    result = call("ops", "models", "--out", tmp_path, "--json", "--rounds", 3, "--only", "Cora")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["files"] == [str(tmp_path / "ops.csv"), str(tmp_path / "models.csv")]
    assert [row["suite"] for row in answer["rows"]] == ["ops", "models"]
    ((arguments, rest),) = started
    assert arguments[:2] == ["ops", "models"]
    assert arguments[arguments.index("--rounds") + 1] == "3"
    assert rest == {"threads": 1, "allocator": "default", "quiet": False, "tables": "stderr"}


def test_all_is_all_but_compiled_and_other_settings_go_to_other_files(started, tmp_path):
    assert call("all", "--out", tmp_path, "--threads", 2, "--allocator", "huge-pages", "--quiet").exit_code == 0
    arguments, rest = started[0]
    left_out = ("compiled", "soft", "landmark", "combiner", "routing", "chains")
    assert [a for a in arguments if a in runner.SUITES] == [s for s in runner.SUITES if s not in left_out]
    assert rest["quiet"]
    assert (tmp_path / "ops-2-threads-huge-pages.csv").exists()


def test_failures_are_said(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "start", lambda *_, **__: 1)
    result = call("ops", "--out", tmp_path)
    assert result.exit_code == 2
    assert "cases with wrong results are not timed" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ops", "--device", "tpu"], "device"),
        (["memory", "--compare", "HEAD"], "suites"),
        (["ops", "--compare", "no-such-commit"], "no-such-commit"),
        (["ops", "--out", __file__], "out"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(started, arguments, message):
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not started


@pytest.mark.parametrize("name", ["ops.csv", "ops.png"])
@pytest.mark.parametrize("more", [[], ["--compare", "HEAD"]])
def test_files_of_something_else_are_not_replaced(started, tmp_path, name, more):
    foreign = tmp_path / name.replace("ops", "compare" if more else "ops")
    foreign.write_text("mine,1\n", encoding="utf-8")
    result = call("ops", "--out", tmp_path, *more)
    assert (result.exit_code, foreign.read_text(encoding="utf-8")) == (2, "mine,1\n")
    assert str(foreign.name) in result.stderr
    assert not started


def test_own_files_are_extended(started, tmp_path):
    assert [call("ops", "--out", tmp_path, "--quiet").exit_code for _ in range(2)] == [0, 0]


def test_two_commits(monkeypatch, tmp_path):
    row = {"suite": "ops", "case": "sum two", "method": "hgraph (torch)", "then_min": "2.0", "now_min": "1.0",
           "then_over_now": "2.000", "clock": "process CPU time", "commit_then": "a", "commit_now": "b",
           "backend_then": "native", "backend_now": "native"}  # fmt: skip
    asked = []
    monkeypatch.setattr(compare, "compare", lambda *a, **k: asked.append((a, k)) or [row])
    result = call("ops", "--compare", "HEAD~1", "--out", tmp_path, "--only", "two")
    assert result.exit_code == 0, result.output
    assert asked[0][0][:2] == ("HEAD~1", ["ops"])
    assert "sum two (torch)" in result.stdout
    assert records.read_csv(tmp_path / "compare.csv") == [row]
    assert json.loads(call("ops", "--compare", "HEAD~1", "--out", tmp_path, "--json").stdout)["rows"] == [row]


def test_a_name_that_no_case_has_is_answered_with_those_that_are(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "start", lambda *_, **__: 0)
    done = call("ops", "--only", "nosuch", "--out", tmp_path)
    assert done.exit_code == 2
    assert "part of a case's name: sum cora16, sum hyper64" in str(done.exception or "") + done.output
