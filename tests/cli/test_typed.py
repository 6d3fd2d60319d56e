"""Networks that read relations and node types, from a table of triples to predictions and a student."""

import csv
import json

import pytest
import torch
from typer.testing import CliRunner

from hgraph.cli.app import app
from hgraph.cli.choices import TYPED
from hgraph.cli.students import student_of
from hgraph.data import knowledge_graph
from hgraph.datasets import load


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def done(*arguments):
    found = call(*arguments)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Forty papers of two fields; their own numbers say little, those of their authors and neighbors say the field."""
    folder, draw = tmp_path_factory.mktemp("papers"), torch.Generator().manual_seed(0)
    noise = torch.randn(60, generator=draw).tolist()
    papers = [(f"p{i}", "paper", f"{noise[i] + 2 * (i % 2):.3f}", "" if i % 8 == 7 else "ab"[i % 2]) for i in range(40)]
    authors = [(f"w{j}", "author", f"{4 * (j % 2) - 2 + noise[40 + j]:.3f}", "") for j in range(10)]
    written = [(f"p{i}", "by", f"w{(2 * i + i % 2 + 2 * k) % 10}") for i in range(40) for k in range(2)]
    read = [(f"w{j}", "read", f"p{(7 * j) % 40}") for j in range(10)]
    for name, rows in (
        ("nodes.csv", [("id", "kind", "size", "field"), *papers, *authors]),
        ("triples.csv", [("head", "relation", "tail"), *written, *read]),
    ):
        with open(folder / name, "w", newline="") as file:
            csv.writer(file).writerows(rows)
    build = ("datasets", "build", "--nodes", folder / "nodes.csv", "--edges", folder / "triples.csv")
    said = done(*build, "--label", "field", "--node-type", "kind", "--out", folder / "set")
    assert "--model hgt" in said
    assert "--model rgcn" in done(*build, "--label", "field", "--out", folder / "plain")
    return folder


def test_the_triples_of_a_built_set(place):
    kg = knowledge_graph(load(str(place / "set"))[0])
    assert (kg.num_nodes, kg.num_edges, list(kg.relation_names), list(kg.type_names)) == (
        50, 90, ["by", "read"], ["author", "paper"],
    )  # fmt: skip
    assert kg.node_type.tolist() == [1] * 40 + [0] * 10
    names = load(str(place / "set"))[0].meta["node_names"]
    with open(place / "triples.csv") as file:
        expected = {tuple(row.values()) for row in csv.DictReader(file)}
    assert {(names[h], r, names[t]) for h, r, t in kg.find_triples()} == expected


@pytest.mark.parametrize("model", TYPED)
def test_from_triples_to_predictions_and_a_student(place, tmp_path, model):
    run = tmp_path / "run"
    options = ("--epochs", 40, "--threads", 1, "--out", run, "--json", "--quiet")
    trained = json.loads(done("train", place / "set", "--model", model, *options))
    assert trained["test_accuracy"] > 0.8  # by chance 0.5
    assert json.loads(done("evaluate", run, "--json"))["test_accuracy"] == trained["test_accuracy"]
    rows = list(csv.DictReader(done("predict", run, "--quiet").splitlines()))
    assert [row["id"] for row in rows] == [f"p{i}" for i in range(7, 40, 8)]  # authors have no field
    assert len(done("predict", run, "--all", "--quiet").splitlines()) == 51
    assert (run / "structure.png").stat().st_size > 0
    assert "Each triple is used in both directions" in (run / "report.md").read_text()
    for given in (["--dataset", place / "set"], [place / "nodes.csv"]):
        refused = call("predict", run, *given)
        assert refused.exit_code == 2
        assert "has weights only for the relations of its own data set" in refused.output
    if model == "rgcn":
        assert f"hgraph distill {run}" in call("serve", run).output
        done("distill", run, "--epochs", 2, "--quiet")
        assert student_of(run) == run / "student" / "student"
        refused = call("predict", run / "student", place / "nodes.csv", "--edges", place / "triples.csv")
        assert refused.exit_code == 2
        done("train", place / "plain", "--model", model, "--setting", "production", "--epochs", 1, "--quiet",
             "--out", tmp_path / "production")  # fmt: skip


def test_a_set_without_relations_is_refused_with_the_command_that_builds_one(tmp_path):
    found = call("train", "karate", "--model", "rgcn", "--out", tmp_path / "x")
    assert found.exit_code == 2
    assert "data with a relation for each edge, got a Graph" in found.output
    assert "hgraph datasets build --nodes nodes.csv --edges triples.csv --label y" in found.output


def test_unknown_and_missing_node_types_are_refused():
    from hgraph.datasets import from_tables
    from hgraph.errors import ArgumentError, DataError

    nodes = {"id": ["a", "b"], "kind": ["x", ""]}
    triples = {"head": ["a"], "relation": ["r"], "tail": ["b"]}
    with pytest.raises(DataError, match=r"row 1 .*column 'kind': expected the type of a node"):
        from_tables(nodes, edges=triples, node_type="kind")
    with pytest.raises(ArgumentError, match=r"node_type: expected a column of the nodes: \['id', 'kind'\]"):
        from_tables(nodes, edges=triples, node_type="sort")
