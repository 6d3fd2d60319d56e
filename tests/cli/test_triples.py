"""`hgraph train` and `hgraph evaluate` for embeddings of knowledge graphs, from files of triples."""

import csv
import json

import pytest
import torch
from typer.testing import CliRunner

from hgraph.cli.app import app


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def done(*arguments):
    found = call(*arguments, "--quiet", "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


@pytest.fixture
def family(tmp_path):
    """Forty people in a circle."""
    rows = [
        f"person {i},{relation},person {j}"
        for i in range(40)
        for relation, j in (("next", (i + 1) % 40), ("far", (i + 7) % 40))
    ]
    (tmp_path / "family.csv").write_text("head,relation,tail\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def test_from_a_file_of_triples_to_the_same_ranks(family):
    run = family / "run"
    trained = done("train", family / "family.csv", "--model", "rotate", "--epochs", 60, "--lr", 0.05, "--out", run)
    assert trained["mrr"] > 0.3  # by chance 0.1
    evaluated = done("evaluate", run)
    assert {k: evaluated[k] for k in ("mrr", "hits@1", "mean_rank")} == {
        k: trained[k] for k in ("mrr", "hits@1", "mean_rank")
    }
    for name in ("config.json", "metrics.jsonl", "learning_curve.png", "model.safetensors", "report.md"):
        assert (run / name).stat().st_size > 0
    report = (run / "report.md").read_text(encoding="utf-8")
    assert "hits@10" in report
    assert json.loads((run / "config.json").read_text())["command"] in report


def test_a_stopped_run_resumes_with_the_same_result(family, monkeypatch):
    command = ["train", family / "family.csv", "--model", "transe", "--epochs", 6, "--threads", 1]
    whole = done(*command, "--out", family / "whole")
    from hgraph.train import loop

    saved = loop.Checkpoint.save

    def stop(self, *arguments, **more):
        saved(self, *arguments, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr("hgraph.train.loop.Checkpoint.overdue", property(lambda self: True))
    monkeypatch.setattr("hgraph.train.loop.Checkpoint.save", stop)
    assert call(*command, "--out", family / "stopped", "--quiet").exit_code != 0
    monkeypatch.undo()
    resumed = done(*command, "--out", family / "stopped")
    assert resumed["mrr"] == whole["mrr"]


def test_a_file_of_ntriples(family):
    lines = (family / "family.csv").read_text().splitlines()[1:]
    text = "".join(
        " ".join(f"<urn:{field.replace(chr(32), chr(95))}>" for field in line.split(",")) + " .\n" for line in lines
    )
    (family / "family.nt").write_text("# forty people\n" + text)
    assert done("train", family / "family.nt", "--model", "distmult", "--epochs", 1, "--out", family / "nt")["mrr"] > 0


def test_the_default_folder_is_named_after_the_file(family, monkeypatch):
    monkeypatch.chdir(family)
    done("train", "family.csv", "--model", "distmult", "--epochs", 1)
    assert (family / "runs" / "family-distmult-0" / "report.md").is_file()
    assert call("predict", "runs/family-distmult-0", "--head", "person 1", "--relation", "far").exit_code == 0


@pytest.mark.checked(
    "triples", "Backups are no parts of a split of triples; a part that repeats training triples is an error or a note."
)
def test_a_folder_of_three_files(family):
    lines = (family / "family.csv").read_text().splitlines()[1:]
    folder = family / "split"
    folder.mkdir()
    for name, part in (("train", lines[:60]), ("valid", lines[60:70]), ("test", lines[70:])):
        (folder / f"{name}.txt").write_text("\n".join(line.replace(",", "\t") for line in part) + "\n")
    assert done("train", folder, "--model", "complex", "--epochs", 2, "--out", family / "run")["mean_rank"] >= 1
    for stray in ("train.bak", "train.txt~", "test.old"):  # not parts, though they sort before the files
        (folder / stray).write_text("\n".join(line.replace(",", "\t") for line in lines) + "\n")
    assert done("train", folder, "--model", "complex", "--epochs", 2, "--out", family / "again")["mean_rank"] >= 1
    assert "train 60, val 10, test 10" in (family / "again" / "report.md").read_text(encoding="utf-8")
    (folder / "valid.tsv").write_text("a\tb\tc\n")
    found = call("train", folder, "--model", "complex", "--out", family / "other")
    assert "got valid.txt and valid.tsv" in " ".join(found.output.split())
    (folder / "valid.tsv").unlink()
    (folder / "test.txt").write_text((folder / "train.txt").read_text())
    found = call("train", folder, "--model", "complex", "--out", family / "other")
    assert "triples that are not in train.txt" in " ".join(found.output.split())
    (folder / "test.txt").write_text("\n".join(line.replace(",", "\t") for line in lines[59:]) + "\n")
    found = call("train", folder, "--model", "complex", "--epochs", 1, "--out", family / "other")
    assert "1 of 21 test triples are also training triples" in found.output
    assert "1 of 21 test triples are also" in (family / "other" / "report.md").read_text(encoding="utf-8")
    (folder / "valid.txt").unlink()
    found = call("train", folder, "--model", "complex", "--out", family / "last")
    assert "which lacks valid.txt" in " ".join(found.output.split())


def test_other_data_and_options_are_refused(family):
    for arguments, message in (
        (["digits", "--model", "distmult"], "a data set of triples"),
        ([family / "family.csv", "--model", "distmult", "--dropout", 0.1], "dropout"),
        ([family / "family.csv", "--model", "distmult", "--min-rating", 3], "min_rating"),
    ):
        found = call("train", *arguments, "--out", family / "x")
        assert found.exit_code == 2
        assert message in " ".join(found.output.split())


def rows_of(text, delimiter=","):
    return list(csv.DictReader(text.splitlines(), delimiter=delimiter))


@pytest.fixture
def run(family):
    done("train", family / "family.csv", "--model", "distmult", "--epochs", 3, "--out", family / "run")
    return family / "run"


def test_triples_are_completed_by_names_from_options_and_files(run, family):
    from hgraph.cli.triples import load_run

    model, split, _ = load_run(run, None)
    kg = split.train
    h, r = kg.node("person 3"), kg.relation_of("next")
    scores = model.score_tails(torch.tensor([h]), torch.tensor([r]))[0].detach()
    known = [t for a, b, t in split.known().tolist() if (a, b) == (h, r)]
    assert known == [kg.node("person 4")]
    scores[known] = float("-inf")
    expected = [kg.node_names[i] for i in scores.topk(4).indices.tolist()]
    asked = call("predict", run, "--head", "person 3", "--relation", "next", "-k", 4, "--quiet")
    assert asked.exit_code == 0, asked.output
    found = rows_of(asked.stdout)
    assert [(row["head"], row["relation"], row["tail"]) for row in found] == [("person 3", "next", t) for t in expected]
    assert [row["rank"] for row in found] == ["1", "2", "3", "4"]
    assert float(found[0]["score"]) == pytest.approx(float(scores.max()), rel=1e-4)
    (family / "queries.tsv").write_text("tail\trelation\thead\n?\tnext\tperson 3\nperson 3\tfar\t\n")
    written = call("predict", run, family / "queries.tsv", "-k", 4, "--out", family / "out.tsv", "--quiet")
    assert written.exit_code == 0, written.output
    both = rows_of((family / "out.tsv").read_text(), "\t")
    assert both[:4] == found
    assert [(row["found"], row["tail"]) for row in both[4:]] == [("head", "person 3")] * 4
    assert all((row["head"], "far", "person 3") not in kg.find_triples() for row in both[4:])
    lines = call("predict", run, "--tail", "person 3", "--relation", "far", "-k", 2, "--json", "--quiet").stdout
    assert [json.loads(line)["head"] for line in lines.splitlines()] == [row["head"] for row in both[4:6]]


def test_what_a_run_of_triples_completes_is_described(run):
    said = call("predict", run, "--describe").stdout
    assert "head      one of 40 nodes, such as person 0; empty or ? if it is to be found" in said
    assert "relation  next, far" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --head and --relation, or --relation and --tail, got none"),
        (["--head", "person 3"], "got --head"),
        (["--head", "person 3", "--tail", "person 4", "--relation", "next"], "got --head and --relation and --tail"),
        (["--head", "person", "--relation", "next"], "person"),
        (["--head", "person 3", "--relation", "nex"], "'next'"),
        (["--head", "person 3", "--relation", "next", "--proba"], "a run on triples only completes triples"),
        (["both.csv"], "both.csv:2: expected a relation and either a head or a tail"),
        (["unknown.csv"], "unknown.csv:3:"),
        (["both.csv", "--relation", "next"], "no value together with a file of triples"),
    ],
)
def test_queries_that_cannot_be_completed_are_one_line(run, family, monkeypatch, arguments, message):
    monkeypatch.chdir(family)
    (family / "both.csv").write_text("head,relation,tail\nperson 1,next,person 2\n")
    (family / "unknown.csv").write_text("head,relation\nperson 1,next\nperson 99,next\n")
    found = call("predict", run, *arguments, "--quiet")
    assert found.exit_code == 2
    assert message in found.output
    assert len(found.output.splitlines()) == 1


def test_changed_triples_and_other_commands_are_met_with_a_sentence(family):
    run = family / "run"
    done("train", family / "family.csv", "--model", "distmult", "--epochs", 1, "--out", run)
    with open(family / "family.csv", "a", encoding="utf-8") as file:
        file.write("person 3,next,person 9\n")
    assert "has changed since this run was trained" in " ".join(call("evaluate", run).output.split())
