"""The recipes of many networks: their protocols, their configurations, and a run that resumes."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from hgraph import recipes
from hgraph.data import Data, Dataset, Split
from hgraph.errors import ArgumentError, DataError
from hgraph.models import registry
from hgraph.recipes import zoo
from hgraph.structure import Hypergraph
from hgraph.testing import random_graph
from hgraph.train import build_model

RECIPE = recipes.published("hypergraph-zoo")
GRAPHS = recipes.published("graph-zoo")
N = 40


@pytest.fixture
def small(monkeypatch):
    """Forty nodes of two classes, four of them in no hyperedge, in place of every data set."""
    y = torch.arange(N) % 2
    generator = torch.Generator().manual_seed(0)
    members = [(torch.randperm(18, generator=generator)[:4] * 2 + c).tolist() for c in (0, 1) for _ in range(12)]
    x = torch.rand(N, 6, generator=generator) * (torch.rand(N, 6, generator=generator) < 0.5) + y.unsqueeze(1)
    data = Data(Hypergraph.from_lists(members, num_nodes=N), x / x.sum(1, keepdim=True), y,
                meta={"class_names": ("a", "b"), "row_sums": True})  # fmt: skip
    made = Dataset(
        "small", [data], task="node classification", target_spec={}, license="", redistribute=True, citation=""
    )
    monkeypatch.setattr(zoo.datasets, "load", lambda name, root=None: made)
    return data


def test_the_protocol(small):
    one, other = zoo.halves("small", 0), zoo.halves("small", 1)
    parts = one.split()
    assert [len(parts.train), len(parts.val), len(parts.test)] == [20, 10, 10]
    assert sorted(torch.cat([parts.train, parts.val, parts.test]).tolist()) == list(range(N))
    assert not torch.equal(parts.train, other.split().train)
    assert torch.equal(parts.train, zoo.halves("small", 0).split().train)
    assert set(one.x.unique().tolist()) <= {0.0, 1.0}
    assert (one.structure.node_degree() > 0).all()


@pytest.mark.parametrize("row", RECIPE["rows"], ids=lambda row: f"{row['model']}-{row['dataset']}")
def test_every_configuration_builds(row, small):
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in row["options"].items()}
    model = build_model(registry.find(row["model"]), small, seed=0, **options)
    assert model(small.x, small.structure.with_singletons()).shape == (N, 2)
    assert 0 < row["lr"] < 0.1
    assert len(row.get("published", [1, 1])) == 2


def test_a_run_resumes_and_reports(small, tmp_path):
    options = {"only": ["hgnn", "ed-hnn", "cocitation-cora"], "epochs": 3, "progress": lambda text: None}
    recipes.reproduce("hypergraph-zoo", tmp_path, seeds=1, **options)
    results = tmp_path / "results.jsonl"
    first = results.read_text(encoding="utf-8")
    assert {json.loads(line)["model"] for line in first.splitlines()} == {"hgnn", "ed-hnn"}
    results.write_text(first + '{"model": "hg', encoding="utf-8")
    said = []
    report = recipes.reproduce("hypergraph-zoo", tmp_path, seeds=2, **options | {"progress": said.append})
    assert said == ["hgnn, cocitation-cora, seed 1", "ed-hnn, cocitation-cora, seed 1"]
    assert results.read_text(encoding="utf-8").startswith(first)
    text = report.read_text(encoding="utf-8")
    assert "| HGNN | cocitation-cora | 2 |" in text
    assert "79.39 +- 1.36" in text


def test_other_epochs_are_other_results(small, tmp_path):
    options = {"only": ["hgnn", "cocitation-cora"], "seeds": 1, "progress": lambda text: None}
    recipes.reproduce("hypergraph-zoo", tmp_path, epochs=1, **options)
    report = recipes.reproduce("hypergraph-zoo", tmp_path, epochs=2, **options)
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epochs"] for line in lines] == [1, 2]
    assert "| HGNN | cocitation-cora | 1 |" in report.read_text(encoding="utf-8")
    (tmp_path / "results.jsonl").write_text('{"model": "hgnn"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"results.jsonl:1: .*dataset"):
        recipes.reproduce("hypergraph-zoo", tmp_path, epochs=2, **options)


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="only: expected data sets or models of the recipe"):
        recipes.reproduce("hypergraph-zoo", tmp_path, only=["core"])


@pytest.mark.parametrize("row", GRAPHS["rows"], ids=lambda row: f"{row['model']}-{row['dataset']}")
def test_every_configuration_over_graphs_builds(row):
    graph = random_graph(N, 90, seed=0)
    data = Data(graph, torch.rand(N, 6), torch.arange(N) % 2)
    model = build_model(registry.find(row["model"]), data, seed=0, **row["options"])
    assert model(data.x, graph).shape == (N, 2)


def test_graphs_are_tested_on_their_own_split(monkeypatch, tmp_path):
    data = Data(random_graph(N, 90, seed=0), torch.rand(N, 6), torch.arange(N) % 2)
    own = Split(data.structure, torch.arange(10), torch.arange(10, 20), torch.arange(20, 40))
    data = dataclasses.replace(data, splits={"default": own})
    made = Dataset(
        "small", [data], task="node classification", target_spec={}, license="", redistribute=True, citation=""
    )
    monkeypatch.setattr(zoo.datasets, "load", lambda name, root=None: made)
    options = {"only": ["sgc", "cora"], "epochs": 2, "seeds": 2, "progress": lambda text: None}
    report = recipes.reproduce("graph-zoo", tmp_path, **options).read_text()
    assert "| SGC | cora | 2 |" in report
    with pytest.raises(ArgumentError, match="a hypergraph"):
        zoo.halves("small", 0)
