"""Details of commands: a reader that closes the pipe, one seed, settings in reports, rows for nearest neighbors."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from hgraph.builders import knn_hypergraph
from hgraph.builders.points import nearest_to
from hgraph.cli.app import app
from hgraph.cli.inductive import with_new_nodes
from hgraph.cli.seeds import _shown, _summary
from hgraph.datasets import load
from hgraph.report import Report


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def done(*arguments):
    result = call(*arguments, "--quiet")
    assert result.exit_code == 0, result.output
    return result


def test_a_reader_that_has_seen_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "hgraph", "datasets", "list"]
    found = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(write)
    assert (found.returncode, found.stderr) == (141, b"")


def test_one_seed_has_no_deviation():
    assert _summary([0.5, None]) == (0.5, None)
    assert (_shown((0.5, None)), _shown(_summary([0.5, 0.7])), _shown(_summary([None]))) == (
        "0.5000", "0.6000 \u00b1 0.1414", "-"
    )  # fmt: skip


def test_settings_without_a_value_are_not_listed():
    settings = {"lr": 0.1, "patience": None, "task": {"kind": "classification", "class_weight": None}, "a": "x|y"}
    lines = str(Report("t").settings(settings)).splitlines()
    assert lines[-3:] == ["| lr | 0.1 |", "| task | kind classification |", "| a | x&#124;y |"]


@pytest.fixture(scope="module")
def neighbors(tmp_path_factory):
    """A set whose hyperedges join nearest neighbors, and a run on it."""
    folder, draw = tmp_path_factory.mktemp("knn"), random.Random(0)
    with open(folder / "nodes.csv", "w", newline="") as file:
        rows = [(f"n{i}", *(f"{draw.gauss(3 * (i % 2), 1):.4f}" for _ in range(2)), f"c{i % 2}") for i in range(40)]
        csv.writer(file).writerows([("id", "a", "b", "y"), *rows])
    for metric in ("euclidean", "cosine"):
        done("datasets", "build", "--nodes", folder / "nodes.csv", "--knn", 3, "--metric", metric, "--label", "y",
             "--out", folder / metric)  # fmt: skip
    done("train", folder / "euclidean", "--epochs", 5, "--out", folder / "run")
    (folder / "new.csv").write_text("id,a,b\nx,0.1,0.2\ny,3.0,2.9\nz,0.1,0.2\n")
    return folder


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_new_rows_join_their_nearest_known_nodes(neighbors, metric):
    data = load(neighbors / metric)[0]
    joined = with_new_nodes(data, neighbors / "new.csv", {"hyperedges": None, "edges": None})
    lists = joined.structure.to_lists()
    assert lists[:40] == data.structure.to_lists()
    for i, members in enumerate(lists[40:]):
        own = torch.cat([data.x, joined.x[40 + i : 41 + i]])  # as if it were the only new row
        assert sorted(members) == sorted(
            {40: 40 + i}.get(v, v) for v in knn_hypergraph(own, 3, metric=metric).to_lists()[40]
        )


def test_new_rows_are_predicted_one_by_one(neighbors):
    run, out = neighbors / "run", neighbors / "p.csv"
    done("predict", run, neighbors / "new.csv", "--proba", "--out", out)
    with open(out, newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["id", "x", "y", "z"]
    assert rows[1][1:] == rows[3][1:]  # equal features
    (neighbors / "one.csv").write_text("id,a,b\ny,3.0,2.9\n")
    done("predict", run, neighbors / "one.csv", "--proba", "--out", neighbors / "q.csv")
    with open(neighbors / "q.csv", newline="") as file:
        assert list(csv.reader(file))[1] == rows[2]
    report = (run / "report.md").read_text()
    assert "| optimizer | Adam;" in report
    assert "| hidden | 32 |" in report
    assert "None |" not in report
    assert "optimizer" in json.loads((run / "config.json").read_text())


def test_the_nearest_of_other_points():
    x, others = torch.randn(9, 4), torch.randn(30, 4)
    found = nearest_to(x, others, 5, chunk=4)
    expected = torch.cdist(x.double(), others.double()).topk(5, largest=False).indices
    assert [sorted(row) for row in found.tolist()] == [sorted(row) for row in expected.tolist()]
    assert nearest_to(x, others[:2], 5).shape == (9, 2)
    assert nearest_to(x[:0], others, 5).shape == (0, 5)


def test_tune_refuses_reading_options_for_networks_by_name(neighbors):
    pytest.importorskip("optuna")
    found = call("tune", neighbors / "euclidean", "--delimiter", ";", "--trials", "1", "--out", neighbors / "tuned")
    assert found.exit_code == 2
    assert "delimiter: expected no value, because this option does not apply to hgnn+" in found.output


def test_predictions_of_a_student_have_ids_of_any_column(neighbors, tmp_path):
    done("distill", neighbors / "euclidean", "--epochs", 2, "--out", tmp_path / "run")
    (tmp_path / "rows.csv").write_text("name;a;b\nann;0.1;0.2\nben;3.0;2.9\n")
    done("predict", tmp_path / "run", tmp_path / "rows.csv", "--column", "id=name", "--out", tmp_path / "p.csv")
    assert [line.split(";")[0] for line in (tmp_path / "p.csv").read_text().splitlines()] == ["name", "ann", "ben"]
    noted = call("predict", tmp_path / "run", tmp_path / "rows.csv", "--out", tmp_path / "q.csv")
    assert "choose one of name with --column id=NAME" in " ".join(noted.stderr.split())


@pytest.mark.parametrize(
    ("command", "near"),
    [
        (["train", "digits", "--model", "hgnnp"], "Did you mean 'hgnn+'?"),
        (["tune", "digits", "--model", "lightgc"], "Did you mean 'lightgcn'"),
        (["distill", "digits", "--teacher", "GCN2"], "Did you mean 'gcn'"),
    ],
)
def test_a_model_of_another_name_is_met_with_the_nearest(command, near):
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 2
    assert near in " ".join(found.output.split())
