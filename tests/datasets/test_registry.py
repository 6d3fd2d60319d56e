"""Names, cards and options."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import traceback

import pytest
import torch
from typer.testing import CliRunner

import hgraph.datasets as datasets
from hgraph.cli.app import app
from hgraph.data import Data, Dataset, Parts
from hgraph.datasets import registry
from hgraph.datasets.download import listed
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Graph

CARD = {
    "description": "d",
    "kind": "table",
    "task": "regression",
    "target_spec": {"kind": "real"},
    "license": "CC0",
    "redistribute": True,
    "citation": "c",
}


@pytest.fixture(autouse=True)
def isolated_registry(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def test_every_card_is_complete_and_json():
    assert set(datasets.names()) >= {
        "coauthorship-cora", "cocitation-citeseer", "cocitation-cora", "davis", "digits", "karate", "lesmis",
    }  # fmt: skip
    for name in datasets.names():
        card = datasets.info(name)
        assert card.name == name
        assert card.description.endswith(".")
        assert card.license
        assert card.citation
        assert card.sizes
        assert card.options.get("seed", 0) == 0
        assert (card.download or 0) == sum(listed(f.split("/", 1)[0])[f.split("/", 1)[1]].size for f in card.files)
        json.dumps(dataclasses.asdict(card))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("coar", "cora"),
        ("Cocitation-Cora", "cocitation-cora"),
        ("digit", "digits"),
        ("Karate", "karate"),
        ("davies", "davis"),
    ],
)
@pytest.mark.parametrize("call", [datasets.info, datasets.load])
def test_unknown_names_suggest_similar_ones(wrong, right, call):
    with pytest.raises(ArgumentError, match=f"Did you mean .*'{right}'"):
        call(wrong)


def test_unknown_name_without_similar_names():
    with pytest.raises(ArgumentError, match="List the names with hgraph.datasets.names"):
        datasets.load("qqqq")


def test_unknown_options_are_named():
    with pytest.raises(ArgumentError, match=r"neighbors: expected an option of 'digits': \['k', 'seed'\]"):
        datasets.load("digits", neighbors=3)


def test_info_neither_loads_nor_downloads(monkeypatch):
    called = []

    @datasets.register("mine", **CARD)
    def mine(root, *, n=1):
        called.append(n)
        return [{"row": i} for i in range(n)]

    assert datasets.info("mine").options == {"n": 1}
    assert not called
    table = datasets.load("mine", n=2)
    assert (list(table), table.task, table.target_spec) == ([{"row": 0}, {"row": 1}], "regression", {"kind": "real"})


def test_a_loader_may_return_one_example_or_a_dataset():
    graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    one = Data(graph, torch.ones(2, 1), torch.arange(2))
    whole = Dataset("custom", [one, one], task="t", target_spec={}, license="l", redistribute=False, citation="c")
    datasets.register("one", **CARD)(lambda root: one)
    datasets.register("whole", **CARD)(lambda root: whole)
    assert len(datasets.load("one")) == 1
    assert datasets.load("one")[0] is one
    assert datasets.load("whole") is whole


KINDS = {
    "image": (lambda: [(torch.zeros(3, 8, 8), 1), (torch.ones(3, 8, 8), 0)], "image classification", {"images": 2}),
    "text": (lambda: ["to be or not to be", "that is"], "next token prediction", {"characters": 25}),
    "knowledge graph": (lambda: torch.tensor([[0, 0, 1], [1, 1, 2]]), "link prediction", {"triples": 2, "entities": 3}),
    "table": (lambda: [{"user": 1, "item": 2, "click": True}], "click prediction", {"rows": 1}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_data_sets(kind):
    """Images, texts, triples and rows have the same card, are split by `Parts`, and are listed and shown as usual."""
    make, task, sizes = KINDS[kind]
    card = CARD | {"kind": kind, "task": task, "target_spec": {"kind": "custom", "more": [1]}, "sizes": sizes}

    @datasets.register("mine", **card)
    def mine(root):
        items, empty = make(), torch.empty(0, dtype=torch.long)
        splits = {"default": Parts(torch.arange(len(items)), empty, empty)}
        return registry.dataset("mine", items, splits)

    found = datasets.load("mine")
    assert (found.task, found.target_spec, len(found)) == (task, card["target_spec"], len(make()))
    assert len(found.select(found.split().train)) == len(found)
    run = lambda *arguments: CliRunner().invoke(app, ["datasets", *arguments])  # noqa: E731
    assert f"{next(iter(sizes.values()))} {next(iter(sizes))}" in run("list").stdout
    shown = run("info", "mine")
    assert shown.exit_code == 0, shown.output
    assert f"{len(found)} example(s)" in shown.stdout
    picture = run("info", "mine", "--out", "picture.png")
    assert picture.exit_code == 2
    assert f"out: expected a data set of graphs or hypergraphs, got 'mine', whose kind is {kind}" in picture.stderr
    assert f"which is for {task}" in CliRunner().invoke(app, ["train", "mine", "--model", "gcn"]).stderr


def test_malformed_files_are_a_data_error():
    def mine(root):
        return [[][1]]

    datasets.register("mine", **CARD, files=["uci_zoo/zoo.data"])(mine)
    datasets.register("no-files", **CARD)(mine)
    with pytest.raises(DataError, match=r"mine: the files do not have .* .IndexError.*: uci_zoo/zoo.data$") as caught:
        datasets.load("mine")
    assert isinstance(caught.value.__cause__, IndexError)  # keeps the traceback of the reader
    assert traceback.extract_tb(caught.value.__cause__.__traceback__)[-1].name == "mine"
    with pytest.raises(IndexError):  # without files, errors of the loader are raised unchanged
        datasets.load("no-files")


def test_table_instead_of_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("id\n1\n")
    with pytest.raises(
        ArgumentError, match=r"got the file 'rows.csv'. Build a data set from tables with `hgraph datasets build`"
    ):
        datasets.load("rows.csv")


def test_names_are_checked_and_unique():
    with pytest.raises(ArgumentError, match="lowercase letters"):
        datasets.register("../evil", **CARD)
    with pytest.raises(ArgumentError, match="not registered yet"):
        datasets.register("karate", **CARD)(lambda root: None)


def test_import_does_not_load_heavy_packages():
    code = (
        "import sys, hgraph.datasets as d; d.names(); d.info('digits');"
        "print([m for m in ('sklearn', 'scipy', 'networkx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
