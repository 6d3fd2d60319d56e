"""`hgraph distill --objective nosmog`: a student that reads positions, and what it answers without them."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from hgraph.cli.app import app


def run(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("setting", ["transductive", "production"])
def test_evaluate_and_predict_agree_with_the_report(tmp_path, monkeypatch, setting):
    monkeypatch.chdir(tmp_path)
    text = run("distill", "karate", "--teacher", "gcn", "--objective", "nosmog", "--setting", setting, "--epochs", 15,
               "--out", "run", "--quiet")  # fmt: skip
    student = next(line for line in text.splitlines() if line.startswith("student"))
    (shown,) = re.findall(r"([\d.]+) %", student)[:1]
    evaluated = json.loads(run("evaluate", "run", "--json"))["student"]
    assert f"{100 * evaluated['test_accuracy']:.1f}" == shown
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "without positions and set them to 0" in report
    notes = json.loads((tmp_path / "run" / "student" / "student.json").read_text(encoding="utf-8"))["notes"]
    assert any("positions" in note for note in notes)
    (tmp_path / "rows.csv").write_text(",".join(f"{i}" for i in range(34)) + "\n" + ",".join(["1"] + ["0"] * 33) + "\n")
    assert len(run("predict", "run/student", "rows.csv").splitlines()) == 2
