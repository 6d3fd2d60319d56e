"""The data sets without downloads: their counts, labels and splits."""

from __future__ import annotations

import pytest
import torch

import hgraph.datasets as datasets
from hgraph.structure import Graph

SPLITS = {"digits": (200, 300, 1297), "davis": (4, 4, 10), "karate": (4, 8, 22), "lesmis": (10, 10, 57)}


@pytest.fixture(scope="module", params=sorted(SPLITS))
def named(request):
    return request.param, datasets.load(request.param)[0]


def test_counts_agree_with_the_card(named):
    name, data = named
    s = data.structure
    if isinstance(s, Graph):
        found = {"nodes": s.num_nodes, "edges": s.num_edges}
    else:
        found = {"nodes": s.num_nodes, "hyperedges": s.num_hyperedges, "incidences": s.num_incidences}
    assert datasets.info(name).sizes == {**found, "features": data.num_features, "classes": data.num_classes}
    assert datasets.info(name).target_spec["num_classes"] == len(data.y.unique())


def test_default_split(named):
    name, data = named
    split = data.split()
    split.validate(data)
    assert (len(split.train), len(split.val), len(split.test)) == SPLITS[name]
    assert split.structure is data.structure
    assert len(set(data.y[split.train].bincount().tolist())) == 1


def test_seeds_change_and_reproduce_the_split(named):
    name, data = named
    if name == "digits":
        return  # uses the same function; building the hypergraph three times is slow
    again, other = datasets.load(name)[0], datasets.load(name, seed=1)[0]
    assert torch.equal(data.split().train, again.split().train)
    assert not torch.equal(data.split().train, other.split().train)
    assert data.structure.equal(other.structure)


def test_names_in_meta(named):
    _, data = named
    assert len(set(data.meta["node_names"])) == data.num_nodes
    assert len(data.meta["class_names"]) == data.num_classes


def test_digits():
    data = datasets.load("digits", k=5, seed=4)[0]
    assert data.x.shape == (1797, 64)
    assert (float(data.x.min()), float(data.x.max())) == (0.0, 1.0)
    assert data.structure.hyperedge_degree().unique().tolist() == [6]
    members = data.structure.v2e
    same = data.y[members.indices.long()] == data.y[members.target.long()]
    assert same.double().mean() > 0.9  # nearest neighbors mostly show the same digit


def test_davis():
    data = datasets.load("davis")[0]
    assert data.structure.hyperedge_degree().tolist() == [3, 3, 6, 4, 8, 8, 10, 14, 12, 5, 4, 6, 3, 3]
    assert data.meta["hyperedge_names"][7] == "E8"
    assert data.meta["node_names"][17] == "Flora Price"


def test_karate():
    data, weighted = datasets.load("karate")[0], datasets.load("karate", weighted=True)[0]
    assert data.y.bincount().tolist() == [17, 17]
    assert data.structure.degree().max() == 17
    assert data.structure.adj.weight is None
    assert float(weighted.structure.adj.weight.sum()) == 2 * 231
    assert not data.structure.directed


def test_lesmis():
    data = datasets.load("lesmis")[0]
    valjean = data.meta["node_names"].index("Valjean")
    assert data.structure.adj.target_degree()[valjean] == 158  # weighted; 36 neighbors
    assert datasets.load("lesmis", weighted=False)[0].structure.degree().max() == 36
