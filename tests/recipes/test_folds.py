"""The recipe of graph classification: the protocol of GIN on small made-up folds."""

import json

import pytest
import torch

from hgraph import recipes
from hgraph.data import Data, Dataset, Parts
from hgraph.errors import ArgumentError
from hgraph.models import GraphClassifier, registry
from hgraph.recipes import graph_folds
from hgraph.structure import Graph
from hgraph.testing import random_graph
from hgraph.train import build_model

RECIPE = recipes.published("graph-folds")


@pytest.fixture
def small(monkeypatch):
    meta = {"class_names": ("a", "b")}
    examples = [
        Data(random_graph(6, 9 + 3 * (i % 2), seed=i), torch.rand(6, 7), torch.tensor(i % 2), meta=meta, target="graph")
        for i in range(12)
    ]
    ids = torch.arange(12)
    folds = {f"fold-{k + 1}": Parts(ids[ids % 3 != k], ids[:0], ids[ids % 3 == k]) for k in range(3)}
    card = {"task": "graph classification", "target_spec": {}, "license": "", "redistribute": True, "citation": ""}
    made = Dataset("small", examples, splits=folds, **card)
    monkeypatch.setattr(graph_folds.datasets, "load", lambda name, root=None: made)
    return made


@pytest.mark.parametrize("row", RECIPE["rows"], ids=lambda row: row["dataset"])
def test_every_configuration_is_the_published_network(row, small):
    """Five layers, MLPs of two maps with a batch norm, and a linear map of all layers."""
    network = build_model(registry.find(row["model"]), small[0], seed=0, **row["options"])
    width = row["options"]["hidden_size"]
    mlp = [7 * width + width, *[width * width + width] * 9]
    norms = 10 * 2 * width
    assert sum(p.numel() for p in network.parameters()) == sum(mlp) + norms + 5 * width * 2 + 2
    batch = small[0]
    assert GraphClassifier(network, row["readout"])(batch.x, batch.structure).shape == (1, 2)


def test_a_run_resumes_and_reports_the_best_epoch_of_all_folds(small, tmp_path):
    options = {"only": ["mutag", "imdb-binary"], "epochs": 3, "progress": lambda text: None}
    recipes.reproduce("graph-folds", tmp_path, seeds=1, **options)
    first = (tmp_path / "results.jsonl").read_text()
    report = recipes.reproduce("graph-folds", tmp_path, seeds=3, **options).read_text()
    lines = (tmp_path / "results.jsonl").read_text()
    assert lines.startswith(first)
    records = [json.loads(line) for line in lines.splitlines()]
    assert [(r["dataset"], r["seed"]) for r in records] == [(d, s) for s in range(3) for d in ("mutag", "imdb-binary")]
    assert all(len(r["curve"]) == 3 for r in records)
    curves = torch.tensor([r["curve"] for r in records if r["dataset"] == "mutag"])
    best = int(curves.mean(0).argmax())
    assert f"{float(curves[:, best].mean()):.2f} +- {float(curves[:, best].std()):.2f}" in report


def test_the_first_best_epoch_counts():
    records = [{"curve": [50.0, 90.0, 80.0]}, {"curve": [50.0, 70.0, 80.0]}]
    assert graph_folds.at_best_epoch(records) == [90.0, 70.0]


def test_degrees_are_one_hot():
    star = Graph.from_edge_index([[0, 0], [1, 2]], num_nodes=3, directed=False)
    pair = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    made = [Data(g, torch.ones(g.num_nodes, 1), torch.tensor(0), target="graph") for g in (star, pair)]
    assert graph_folds.with_degrees(made)[0].x.tolist() == [[0, 1], [1, 0], [1, 0]]
    assert [graph_folds.halved(epoch, 350) for epoch in (1, 50, 51, 101)] == [1, 1, 0.5, 0.25]


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="data sets or models of the recipe"):
        recipes.reproduce("graph-folds", tmp_path, only=["core"])


def test_there_are_ten_folds(tmp_path):
    with pytest.raises(ArgumentError, match="at most 10, the number of folds"):
        recipes.reproduce("graph-folds", tmp_path, seeds=11)
