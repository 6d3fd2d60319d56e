"""`hgraph explain`: the parts that a prediction depends on, by name."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hgraph import datasets
from hgraph.cli.app import app


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for model, name in (("hgnn+", "davis"), ("gcn", "karate"), ("gat", "karate")):
        options = ("--epochs", 20, "--hidden", 8, "--out", folder / model, "--quiet")
        assert call("train", name, "--model", model, *options).exit_code == 0
    return folder


@pytest.mark.parametrize("over", ["hyperedges", "memberships", "nodes"])
@pytest.mark.parametrize("method", ["integrated", "mask", "removal", "gradient"])
def test_a_hypergraph(runs, over, method):
    data = datasets.load("davis")[0]
    name = data.meta["node_names"][3]
    done = call("explain", runs / "hgnn+", "--node", name, "--over", over, "--method", method, "--top", 3, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["node"] == name
    assert found["class"] in data.meta["class_names"]
    assert len(found["parts"]) == 3
    scores = [part["score"] for part in found["parts"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= found[key] <= 1 for key in ("probability", "without", "alone"))
    again = call("explain", runs / "hgnn+", "--node", name, "--over", over, "--method", method, "--top", 3, "--json")
    assert again.output == done.output


def test_a_graph_and_a_picture(runs, tmp_path):
    done = call("explain", runs / "gcn", "--node", "member 5", "--draw", tmp_path / "why.svg")
    assert done.exit_code == 0, done.output
    assert " -> " in done.output
    assert "edges that it can depend on (integrated)" in done.output
    assert (tmp_path / "why.svg").read_bytes().startswith(b"<?xml")


def test_attention_is_explained_by_removal(runs):
    done = call("explain", runs / "gat", "--node", "member 5")
    assert done.exit_code == 2
    assert "--method removal" in done.stderr or 'method="removal"' in done.stderr
    assert call("explain", runs / "gat", "--node", "member 5", "--method", "removal").exit_code == 0


def test_the_class_can_be_chosen(runs):
    data = datasets.load("davis")[0]
    name, classes = data.meta["node_names"][0], data.meta["class_names"]
    found = [
        json.loads(call("explain", runs / "hgnn+", "--node", name, "--class", c, "--json").output) for c in classes
    ]
    assert [f["class"] for f in found] == list(classes)
    assert sum(f["probability"] for f in found) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--node", "Nobody"), "node: expected one of 18 names"),
        (("--node", "Evelyn Jeferson"), "Evelyn Jefferson"),
        (("--node", "Evelyn Jefferson", "--class", "third"), "class: expected one of"),
        (("--node", "Evelyn Jefferson", "--over", "edges"), "over: expected one of memberships, hyperedges, nodes"),
        (("--node", "Evelyn Jefferson", "--draw", "why.txt"), "draw"),
        (("--node", "Evelyn Jefferson", "--top", 0), "top"),
    ],
)
def test_errors(runs, options, message):
    done = call("explain", runs / "hgnn+", *options)
    assert done.exit_code == 2
    assert message in done.stderr


def test_no_run(tmp_path):
    done = call("explain", tmp_path, "--node", "1")
    assert done.exit_code == 2
    assert str(tmp_path) in done.stderr
