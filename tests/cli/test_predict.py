"""`hgraph predict`: unlabeled nodes, new nodes with their hyperedges, and rows of files of any format."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil

import pytest
import torch
from typer.testing import CliRunner

from hgraph.cli.app import app
from hgraph.cli.inductive import with_new_nodes
from hgraph.datasets import load

UNKNOWN = ("r3", "r8")
NEW = {"id": ["n1", "n2"], "age": ["30", ""], "town": ["a", "elsewhere"]}
NEW_BOOKS = [("n1", "b1"), ("n1", "b2"), ("n2", "fresh"), ("n1", "fresh"), ("r0", "fresh")]


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def write(path, header, rows, delimiter=","):
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def rows_of(text, delimiter=","):
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tables, a data set, and runs of a hypergraph network, a graph network, an MLP and a student."""
    folder, draw = tmp_path_factory.mktemp("predict"), random.Random(0)
    taste = ["crime" if i % 2 else "poetry" for i in range(24)]
    readers = [
        (f"r{i}", draw.randint(18, 80), draw.choice("abc"), "" if f"r{i}" in UNKNOWN else taste[i]) for i in range(24)
    ]
    books = sorted({(f"r{i}", f"b{draw.randrange(4) + 4 * (i % 2)}") for i in range(24) for _ in "123"})
    friends = sorted({(f"r{i}", f"r{(i + 2) % 24}") for i in range(24)})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write("nodes.csv", ["id", "age", "town", "taste"], readers)
        write("books.csv", ["node", "hyperedge"], books)
        write("friends.csv", ["source", "target"], friends)
        write("new.csv", list(NEW), zip(*NEW.values(), strict=True))
        write("new-books.csv", ["node", "hyperedge"], NEW_BOOKS)
        write("new-friends.csv", ["source", "target"], [("n1", "r0"), ("n2", "n1")])
        write(
            "all.csv",
            ["id", "age", "town", "taste"],
            [*readers, *((*row, "") for row in zip(*NEW.values(), strict=True))],
        )
        write("all-books.csv", ["node", "hyperedge"], [*books, *NEW_BOOKS])
        write("all-friends.csv", ["source", "target"], [*friends, ("n1", "r0"), ("n2", "n1")])
        for name, links in (("set", "--hyperedges=books.csv"), ("graph", "--edges=friends.csv")):
            made = call("datasets", "build", "--nodes", "nodes.csv", links, "--label", "taste", "--out", name)
            assert made.exit_code == 0, made.output
            whole = ("--nodes", "all.csv", links.replace("=", "=all-"), "--label", "taste", "--out", f"all-{name}")
            assert call("datasets", "build", *whole).exit_code == 0
        bare = ("--nodes", "new.csv", "--hyperedges", "only-new-books.csv", "--out", "unlabeled")
        write("only-new-books.csv", ["node", "hyperedge"], [("n1", "b1"), ("n2", "b1")])
        assert call("datasets", "build", *bare).exit_code == 0
        few = ("--epochs", 3, "--hidden", 4, "--quiet")
        for run, data, model in (("hyper", "set", "hgnn+"), ("gcn", "graph", "gcn"), ("mlp", "set", "mlp")):
            assert call("train", data, "--model", model, *few, "--out", run).exit_code == 0
        assert call("distill", "set", "--epochs", 3, "--quiet", "--out", "distilled").exit_code == 0
        yield folder


@pytest.fixture(autouse=True)
def _inside(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.mark.parametrize("run", ["hyper", "gcn", "mlp", "distilled"])
def test_the_network_predicts_unlabeled_nodes(run):
    result = call("predict", run, "--quiet")
    assert result.exit_code == 0, result.output
    found = rows_of(result.stdout)
    assert [row["id"] for row in found] == list(UNKNOWN)
    every = rows_of(call("predict", run, "--all", "--quiet").stdout)
    assert [row["id"] for row in every] == [f"r{i}" for i in range(24)]
    assert [row for row in every if row["id"] in UNKNOWN] == found


def test_predictions_are_those_of_the_network():
    from safetensors.torch import load_file

    from hgraph.cli.teachers import as_hypergraph
    from hgraph.train import build_model

    data = load("./set")[0]
    network = build_model("hgnn+", data, seed=0, hidden_size=4).eval()
    network.load_state_dict(load_file("hyper/model.safetensors"))
    with torch.no_grad():
        expected = network(data.x, as_hypergraph(data.structure)).softmax(1)
    found = rows_of(call("predict", "hyper", "--all", "--proba", "--quiet").stdout)
    for row, p in zip(found, expected.tolist(), strict=True):
        assert float(row["probability of crime"]) == pytest.approx(p[0], rel=1e-4)
        assert float(row["probability of poetry"]) == pytest.approx(p[1], rel=1e-4)
        assert float(row["probability"]) == pytest.approx(max(p), rel=1e-4)


@pytest.mark.parametrize(
    ("run", "links", "whole"),
    [("hyper", "--hyperedges=new-books.csv", "all-set"), ("gcn", "--edges=new-friends.csv", "all-graph")],
)  # fmt: skip
def test_predictions_of_new_nodes_equal_those_in_a_data_set_with_them(run, links, whole):
    result = call("predict", run, "new.csv", links, "--quiet")
    assert result.exit_code == 0, result.output
    found = rows_of(result.stdout)
    assert [row["id"] for row in found] == NEW["id"]
    built = {row["id"]: row for row in rows_of(call("predict", run, "--dataset", f"./{whole}", "--quiet").stdout)}
    for row in found:
        assert row["label"] == built[row["id"]]["label"]
        assert float(row["probability"]) == pytest.approx(float(built[row["id"]]["probability"]), rel=1e-4)


def test_data_without_labels_is_predicted():
    result = call("predict", "hyper", "--dataset", "./unlabeled", "--quiet")
    assert result.exit_code == 0, result.output
    assert [row["id"] for row in rows_of(result.stdout)] == NEW["id"]


def test_new_members_join_known_hyperedges(place):
    data = load("./set")[0]
    joined = with_new_nodes(data, place / "new.csv", {"hyperedges": place / "new-books.csv", "edges": None})
    names = [*data.meta["hyperedge_names"], "fresh"]
    members = dict(zip(names, joined.structure.to_lists(), strict=True))
    before = dict(zip(data.meta["hyperedge_names"], data.structure.to_lists(), strict=True))
    assert members["fresh"] == [0, 24, 25]
    assert members["b1"] == [*before["b1"], 24]
    assert members["b5"] == before["b5"]
    assert torch.equal(joined.x[:24], data.x)


def test_a_network_needs_links_of_new_nodes_and_an_mlp_does_not():
    result = call("predict", "hyper", "new.csv")
    assert result.exit_code == 2
    assert "--hyperedges or --edges" in result.stderr
    assert [row["id"] for row in rows_of(call("predict", "mlp", "new.csv", "--quiet").stdout)] == NEW["id"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["hyper", "nodes.csv", "--hyperedges", "books.csv"], "ids of new nodes only"),
        (["hyper", "new.csv", "--edges", "new-friends.csv"], "because the network uses hyperedges"),
        (["hyper", "--hyperedges", "books.csv"], "a file of the new nodes"),
        (["hyper", "books.csv", "--hyperedges", "books.csv", "--id", "node"], "node"),
        (["distilled", "new.csv", "--dataset", "set"], "no file of rows together with this option"),
        (["distilled", "new.csv", "--id", "name"], "a column of"),
        (["distilled/student"], "a file of rows"),
        (["distilled", "new.csv", "--out", "new.csv"], "a file other than the input"),
        (["distilled", "new.csv", "--delimiter", ";;"], "one character"),
        (["hyper", "--program", "onnx"], "the trained network predicts"),
    ],
)
def test_errors_are_one_line(arguments, match):
    result = call("predict", *arguments)
    assert result.exit_code == 2, result.output
    assert match in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_student_writes_the_delimiter_of_the_rows_with_ids_and_all_classes(tmp_path, delimiter):
    write(tmp_path / "rows.csv", list(NEW), zip(*NEW.values(), strict=True), delimiter)
    result = call("predict", "distilled", tmp_path / "rows.csv", "--proba", "--quiet")
    assert result.exit_code == 0, result.output
    found = rows_of(result.stdout, delimiter)
    assert [row["id"] for row in found] == NEW["id"]
    for row in found:
        both = [float(row[f"probability of {name}"]) for name in ("crime", "poetry")]
        assert sum(both) == pytest.approx(1, abs=1e-5)
        assert max(both) == pytest.approx(float(row["probability"]), abs=1e-6)
    assert rows_of(call("predict", "distilled", "new.csv", "--quiet").stdout)[0]["label"] == found[0]["label"]


def test_tables_of_tabs_json_lines_and_other_ids(tmp_path):
    assert call("predict", "distilled", "new.csv", "--out", tmp_path / "a.tsv", "--quiet").exit_code == 0
    assert [row["id"] for row in rows_of((tmp_path / "a.tsv").read_text(), "\t")] == NEW["id"]
    lines = [json.loads(line) for line in call("predict", "hyper", "--json", "--quiet").stdout.splitlines()]
    assert [(line["id"], set(line)) for line in lines] == [(name, {"id", "label", "probability"}) for name in UNKNOWN]
    other = rows_of(call("predict", "distilled", "new.csv", "--id", "town", "--quiet").stdout)
    assert [row["town"] for row in other] == NEW["town"]


def test_parquet_in_and_out(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        pyarrow.table({"id": ["n1", "n2"], "age": [30, None], "town": NEW["town"]}), tmp_path / "r.parquet"
    )
    made = call("predict", "distilled", tmp_path / "r.parquet", "--proba", "--out", tmp_path / "a.parquet", "--quiet")
    assert made.exit_code == 0, made.output
    found = parquet.read_table(tmp_path / "a.parquet").to_pydict()
    expected = rows_of(call("predict", "distilled", "new.csv", "--quiet").stdout)
    assert found["id"] == NEW["id"]
    assert found["probability"] == pytest.approx([float(row["probability"]) for row in expected], abs=1e-5)


@pytest.mark.checked(
    "other data", "Ids that are numbers in a Parquet table are numbers in the predictions, so that they join."
)
def test_parquet_keeps_integers_as_ids(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    ids = list(range(100, 112))
    table = {"id": ids, "age": list(range(12)), "y": ["a", "b"] * 5 + [None] * 2}
    parquet.write_table(pyarrow.table(table), "nodes.parquet")
    parquet.write_table(pyarrow.table({"node": [100, 111], "hyperedge": [1, 1]}), "he.parquet")
    parquet.write_table(pyarrow.table({"id": [7, 8], "age": [3, 4]}), "new.parquet")
    build = ["datasets", "build", "--nodes", "nodes.parquet", "--hyperedges", "he.parquet", "--label", "y"]
    assert call(*build, "--out", "set", "--quiet").exit_code == 0
    assert call("distill", "./set", "--teacher", "hgnn", "--epochs", 1, "--out", "run", "--quiet").exit_code == 0
    assert call("train", "./set", "--model", "mlp", "--epochs", 1, "--out", "mlp", "--quiet").exit_code == 0
    for arguments, expected in (
        (["run"], [110, 111]),
        (["run", "new.parquet"], [7, 8]),
        (["mlp", "new.parquet"], [7, 8]),
    ):
        assert call("predict", *arguments, "--out", "out.parquet", "--quiet").exit_code == 0
        assert parquet.read_schema("out.parquet").field("id").type == pyarrow.int64()
        assert parquet.read_table("out.parquet")["id"].to_pylist() == expected
        assert [row["id"] for row in rows_of(call("predict", *arguments, "--quiet").stdout)] == list(map(str, expected))
        lines = call("predict", *arguments, "--json", "--quiet").stdout.splitlines()
        assert [json.loads(line)["id"] for line in lines] == expected


def test_describe_lists_the_columns_of_a_run():
    for run in ("distilled", "hyper"):
        described = call("predict", run, "--describe")
        assert described.exit_code == 0, described.output
        assert described.stdout.splitlines() == ["age  numeric", "town  categorical: a, b, c", "classes: crime, poetry"]
    found = json.loads(call("predict", "hyper", "--describe", "--json").stdout)
    assert found["columns"]["town"] == {"kind": "categorical", "categories": ["a", "b", "c"]}


def test_training_and_distilling_share_no_default_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("train", "davis", "--model", "hgnn", "--epochs", 1, "--quiet").exit_code == 0
    result = call("distill", "davis", "--teacher", "hgnn", "--epochs", 1, "--quiet")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"davis-hgnn-0", "davis-hgnn-student-0"}


def test_an_exported_program_is_found_in_the_run(tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    before = call("predict", "distilled", "new.csv", "--program", "onnx")
    assert before.exit_code == 2
    assert "hgraph export RUN --format onnx" in before.stderr
    shutil.copytree("distilled", tmp_path / "run")
    assert call("export", tmp_path / "run", "--format", "onnx").exit_code == 0
    after = call("predict", tmp_path / "run", "new.csv", "--program", "onnx", "--quiet")
    assert after.exit_code == 0, after.output
    assert [row["id"] for row in rows_of(after.stdout)] == NEW["id"]
    weights = tmp_path / "run" / "export" / "student.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "Export it again" in call("predict", tmp_path / "run", "new.csv", "--program", "onnx").stderr
