"""The LightHGNN recipe: its protocol in the small, its resumption, its report."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from typer.testing import CliRunner

from hgraph import recipes
from hgraph.cli.app import app
from hgraph.data import Data
from hgraph.errors import ArgumentError
from hgraph.models import MLP
from hgraph.recipes import lighthgnn
from hgraph.structure import Graph, Hypergraph
from hgraph.train import training_view


def test_published_rows_name_known_models_and_sets():
    recipe = recipes.published("lighthgnn")
    assert len(recipe["rows"]) == 18
    for row in recipe["rows"]:
        assert set(row["accuracy"]) == set(recipe["models"])
        assert set(recipe["models"]) <= set(lighthgnn.MODELS)
        assert row["teacher"] in lighthgnn.TEACHERS
    gains = {
        r["title"]: r["accuracy"]["lighthgnn-official"] - r["accuracy"]["mlp"]
        for r in recipe["rows"]
        if r["setting"] == "transductive" and r["teacher"] == "hgnn"
    }
    four = [gains[name] for name in ("CC-Citeseer", "CC-Cora", "CA-Cora", "News20")]
    assert sum(four) / 4 == pytest.approx(16.1, abs=0.1)  # Feng et al., LightHGNN, ICLR 2024
    with pytest.raises(ArgumentError, match="lighthgnn"):
        recipes.published("lightgnn")


def test_graphs_become_edges_and_closed_neighborhoods():
    graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=4, directed=False)
    made = lighthgnn.edges_and_neighborhoods(graph)
    assert made.to_lists() == [[0, 1], [1, 2], [0, 1], [0, 1, 2], [1, 2], [3]]
    assert made.without_repeats().to_lists() == [[0, 1], [1, 2], [0, 1, 2], [3]]


def test_networks_give_the_same_on_sparse_words():
    x = (torch.rand(30, 20) < 0.1).float()
    network = MLP(20, 4, 3).eval()
    torch.testing.assert_close(lighthgnn._OnWords(network)(x), network(x))


def unseen_changed(data, unseen):
    """The data with other features of the unseen nodes, and other connections of one of them."""
    x = data.x.clone()
    x[unseen] = 1 - x[unseen]
    number = int(unseen[0])
    if isinstance(data.structure, Graph):
        edges = data.structure.edge_index
        ends = torch.cat([edges[:, (edges != number).all(0)], torch.tensor([[number, number, number], [0, 7, 11]])], 1)
        structure = Graph.from_edge_index(ends, num_nodes=data.num_nodes, directed=True)
    else:
        lists = [[v for v in members if v != number] for members in data.structure.to_lists()]
        structure = Hypergraph.from_lists([*lists[:3], [*lists[3], number], *lists[4:]], num_nodes=data.num_nodes)
    return dataclasses.replace(data, x=x, structure=structure)


@pytest.mark.parametrize("kind", ["graph", "hypergraph"])
def test_nothing_of_unseen_nodes_reaches_production_training(kind):
    """Neither neighborhoods of unseen nodes, which join observed ones, nor their words in the counts of tf-idf."""
    n, generator = 40, torch.Generator().manual_seed(0)
    ends = torch.randint(0, n, (2, 90), generator=generator)
    ends = ends[:, ends[0] < ends[1]].unique(dim=1)
    graph = Graph.from_edge_index(ends, num_nodes=n, directed=False)
    members = [torch.randperm(n, generator=generator)[:4].tolist() for _ in range(20)]
    structure = graph if kind == "graph" else Hypergraph.from_lists(members, num_nodes=n)
    x, y = (torch.rand(n, 6, generator=generator) < 0.5).float(), torch.arange(n) % 2
    data, counts = Data(structure, x, y), {"num_train_per_class": 3, "num_val_per_class": 4}

    def of_training(given):
        made = lighthgnn.prepared("newsgroups", given, 0, "production", **counts)
        return training_view(made, "production"), made.split("production").unseen, made.x

    one, unseen, _ = of_training(data)
    other, same, x_changed = of_training(unseen_changed(data, unseen))
    assert len(unseen) == 5
    assert torch.equal(unseen, same)
    assert one.structure.equal(other.structure)
    assert torch.equal(one.x, other.x)
    whole = lighthgnn.prepared("newsgroups", data, 0, "transductive", **counts)
    assert not torch.equal(whole.x[:5], one.x[:5])
    assert not torch.equal(x_changed[unseen], whole.x[unseen])


def test_records_of_other_epochs_or_of_the_older_production_setting_are_made_again():
    record = {"setting": "transductive", "dataset": "cora", "teacher": "hgnn", "seed": 0, "model": "mlp"}
    current = {"epochs": 200, "protocol": 2}
    assert lighthgnn._key(record) == lighthgnn._key(record | current)
    assert lighthgnn._key(record) != lighthgnn._key(record | current | {"epochs": 5})
    older = record | {"setting": "production"}
    assert lighthgnn._key(older) != lighthgnn._key(older | current)


@pytest.mark.real_data
def test_prepared_data_follows_the_protocol(mirror):
    data = lighthgnn.prepare("cocitation-cora", seed=1).validate()
    sizes = data.structure.hyperedge_degree()
    assert data.structure.num_hyperedges == 1579 - 96 + 1274  # merged repeats, singletons for isolated nodes
    assert int((sizes == 1).sum()) == 1274
    assert torch.allclose(data.x.sum(1), torch.ones(2708))
    split = data.split("transductive")
    assert (len(split.train), len(split.val), len(split.test)) == (140, 700, 1868)
    assert len(lighthgnn.prepare("cocitation-cora", 1, setting="production").split("production").unseen) == 374
    assert not torch.equal(split.train, lighthgnn.prepare("cocitation-cora", seed=2).split("transductive").train)


@pytest.mark.real_data
def test_graph_sets_have_the_hyperedges_of_the_card(mirror):
    assert lighthgnn.prepare("cora", seed=0).structure.num_hyperedges == 7440


@pytest.mark.real_data
def test_a_stopped_run_goes_on_and_ends_as_an_undisturbed_one(mirror, tmp_path):
    command = ["reproduce", "lighthgnn", "--only", "cocitation-cora", "--seeds", "1", "--epochs", "2", "--quiet"]
    whole = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "a")])
    assert whole.exit_code == 0, whole.output
    lines = (tmp_path / "a" / "results.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 2 * (2 * len(lighthgnn.MODELS) - len(lighthgnn.ALONE))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "results.jsonl").write_text("".join(lines[:20]) + lines[20][:30])  # killed while writing
    again = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "b")])
    assert again.exit_code == 0, again.output
    key = json.dumps
    assert sorted(map(key, map(json.loads, lines))) == sorted(
        map(key, map(json.loads, (tmp_path / "b" / "results.jsonl").read_text().splitlines()))
    )
    report = (tmp_path / "b" / "report.md").read_text()
    assert "| CC-Cora | hgnn+ | 1 |" in report
    assert "(66.9)" in report
    assert "unseen" in report


def test_wrong_names_end_before_any_work(tmp_path):
    result = CliRunner().invoke(app, ["reproduce", "lighthgnn", "--only", "kora", "--out", str(tmp_path / "a")])
    assert result.exit_code == 2
    assert "kora" in result.stderr
    elsewhere = CliRunner().invoke(app, ["reproduce", "lighthgnn", "--device", "tpu", "--out", str(tmp_path / "a")])
    assert elsewhere.exit_code == 2
    assert "device: expected cpu, cuda or cuda:0" in elsewhere.stderr
    assert not (tmp_path / "a").exists()
    assert "lighthgnn" in CliRunner().invoke(app, ["reproduce", "list"]).stdout
