"""Paths that begin with ~ name files in the home folder, whichever reader or command gets them."""

import pytest
from typer.testing import CliRunner

from hgraph import convert, datasets
from hgraph.cli.app import app
from hgraph.files import valid_path

LIST = "a\tb\n"
XGI = '{"edge-dict": {"e": ["a", "b"]}}'
HIF = '{"incidences": [{"edge": "e", "node": "a"}]}'


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (lambda path: convert.read_edge_list(path, directed=True), LIST),
        (convert.read_hyperedges, LIST),
        (convert.read_triples, "a\tr\tb\n"),
        (convert.read_xgi, XGI),
        (convert.read_hif, HIF),
        (lambda path: datasets.tables.read_table(path), "a,b\n1,2\n"),
    ],
    ids=["edges", "hyperedges", "triples", "xgi", "hif", "table"],
)
def test_readers_expand_the_home_folder(tmp_path, monkeypatch, read, content):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text(content)
    assert read("~/file") is not None


def test_a_name_with_a_tilde_is_no_home_folder():
    assert str(valid_path("~$table.csv")) == "~$table.csv"  # Path.expanduser asks for the home folder of user "$table"


def test_commands_expand_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "edges.csv").write_text("source,target\na,b\nb,c\n")
    found = CliRunner().invoke(app, ["datasets", "build", "--edges=~/edges.csv", "--out=~/built"])
    assert found.exit_code == 0, found.output
    assert (tmp_path / "built").is_dir()
