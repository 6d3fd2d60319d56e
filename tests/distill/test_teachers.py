"""Teachers: networks of three libraries, functions, files of logits, ensembles."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import hgraph.distill
from hgraph import models
from hgraph import nn as layers
from hgraph.data import Data, Split
from hgraph.distill import (
    calibrated,
    dhg_teacher,
    distill,
    ensemble,
    fit_temperature,
    lighthgnn,
    pyg_teacher,
)
from hgraph.errors import ArgumentError, DataError
from hgraph.models import GAT, GCN, HGNN, MLP
from hgraph.structure import Graph
from hgraph.train import seeded

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant")  # DHG's matrices


class Custom(nn.Module):
    """A custom student."""

    def __init__(self):
        super().__init__()
        with seeded(1):
            self.first, self.second = nn.Linear(24, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.second(self.first(x).relu())


def students():
    with seeded(0):
        return {"MLP": MLP(24, 16, 3), "custom module": Custom()}


@pytest.fixture(scope="module")
def graph_data(data):
    one_way = data.structure.clique().edge_index
    graph = Graph.from_edge_index(one_way[:, one_way[0] < one_way[1]], num_nodes=240, directed=False)
    s = data.split()
    return Data(graph, data.x, data.y, {"default": Split(graph, s.train, s.val, s.test)})


def pyg(name, *sizes, **options):
    nets = pytest.importorskip("torch_geometric.nn")
    with seeded(0):
        return getattr(nets, name)(*sizes, **options)


def dhg(name, *sizes, **options):
    pytest.importorskip("dhg")
    nets = pytest.importorskip("dhg.models")
    with seeded(0):
        return getattr(nets, name)(*sizes, **options)


TEACHERS = {
    "hgnn": lambda: HGNN(24, 8, 3),
    "gcn": lambda: GCN(24, 8, 3),
    "gat": lambda: GAT(24, 4, 3, num_heads=2),
    "pyg graph": lambda: pyg("GraphSAGE", 24, 8, 2, 3),
    "pyg hypergraph": lambda: pyg("HypergraphConv", 24, 3),
    "dhg hypergraph": lambda: dhg("HGNN", 24, 8, 3),
    "dhg graph": lambda: dhg("GCN", 24, 8, 3),
    "callable": lambda: lambda x, structure: x[:, :3],
}
ON_GRAPHS = ("gcn", "gat", "pyg graph", "dhg graph")


@pytest.mark.parametrize("kind", [*TEACHERS, "npy", "safetensors"])
@pytest.mark.parametrize("student", ["MLP", "custom module"])
def test_any_teacher_teaches_any_student(data, graph_data, kind, student, tmp_path):
    if kind in TEACHERS:
        with seeded(0):
            teacher = TEACHERS[kind]()
    elif kind == "npy":
        teacher = tmp_path / "logits.npy"
        np.save(teacher, data.x[:, :3].numpy())
    else:
        teacher = tmp_path / "logits.safetensors"
        save_file({"logits": data.x[:, :3].contiguous()}, teacher)
    train_data = graph_data if kind in ON_GRAPHS else data
    learner = students()[student]
    result = distill(teacher, learner, train_data, objective=lighthgnn(), epochs=30)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    if kind in ("callable", "npy", "safetensors"):
        same = students()[student]
        assert distill(data.x[:, :3], same, train_data, objective=lighthgnn(), epochs=30).history == result.history


def history(teacher, data):
    return distill(teacher, Custom(), data, epochs=3).history


def test_pyg_networks_give_the_same_logits(data, graph_data):
    """A network of PyG runs in eval mode and gets the structure in its form, with edge weights."""
    network = pyg("GCN", 24, 8, 2, 3, dropout=0.5)
    edges = graph_data.structure.edge_index
    weighted = Graph.from_edge_index(edges, num_nodes=240, directed=True, weight=torch.rand(edges.shape[1]))
    split = graph_data.split()
    weighted_data = Data(weighted, data.x, data.y, {"default": Split(weighted, split.train, split.val, split.test)})
    logits = network.eval()(data.x, weighted.edge_index.long(), edge_weight=weighted.adj.weight).detach()
    assert history(network.train(), weighted_data) == history(logits, weighted_data)
    assert network.training
    hyper = pyg("HypergraphConv", 24, 3)
    incidence = torch.stack([data.structure.v2e.indices, data.structure.v2e.target]).long()
    assert history(hyper, data) == history(hyper(data.x, incidence).detach(), data)
    mixed = ensemble([hyper, lambda x, s: x[:, :3]])(data.x, data.structure)
    assert mixed.shape == (240, 3)
    assert torch.equal(calibrated(hyper, 2.0)(data.x, data.structure), hyper(data.x, incidence) / 2)


def test_dhg_networks_give_the_same_logits(data):
    network = dhg("HGNN", 24, 8, 3)
    hypergraph = pytest.importorskip("dhg").Hypergraph(240, data.structure.to_lists(), merge_op="sum")
    logits = network.eval()(data.x, hypergraph).detach()
    from hgraph.distill.foreign import adapted

    torch.testing.assert_close(adapted(network)(data.x, data.structure), logits, rtol=1e-4, atol=1e-5)
    assert history(dhg_teacher(network), data) == history(network, data)


def test_custom_classes_with_foreign_layers_need_a_wrapper(graph_data):
    conv = pyg("GCNConv", 24, 3)

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv

        def forward(self, x, edge_index):
            return self.conv(x, edge_index)

    with pytest.raises(ArgumentError, match=r"hgraph.distill.pyg_teacher\(teacher\)"):
        history(Mine(), graph_data)
    assert history(pyg_teacher(Mine()), graph_data) == history(conv, graph_data)
    with pytest.raises(ZeroDivisionError):  # other errors of a teacher are raised unchanged
        history(lambda x, s: 1 / 0, graph_data)


def test_malformed_files_of_logits_are_refused(data, tmp_path):
    for name, content in (("a.npy", b"nonsense"), ("a.safetensors", b"nonsense"), ("a.pt", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=name):
            distill(path, Custom(), data)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="objects"):
        distill(tmp_path / "objects.npy", Custom(), data)
    with pytest.raises(DataError, match="no such file"):
        distill(str(tmp_path / "none.npy"), Custom(), data)


def test_an_ensemble_averages_probabilities(data):
    with seeded(0):
        members = [HGNN(24, 8, 3) for _ in range(3)]
    together = ensemble(members)(data.x, data.structure).softmax(-1)
    apart = sum(m.eval()(data.x, data.structure).softmax(-1) for m in members) / 3
    torch.testing.assert_close(together, apart)


def test_the_fitted_temperature_minimizes_the_likelihood_loss():
    z = 5 * torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(200) % 4
    z = z + 2 * torch.eye(4, dtype=torch.float64)[y]
    best = fit_temperature(z, y)
    losses = [F.cross_entropy(z / t, y).item() for t in (best, 0.98 * best, 1.02 * best)]
    assert losses[0] == min(losses)
    cooled = calibrated(lambda x, s: x, best)
    assert torch.equal(cooled(z, None), z / best)


def test_nothing_in_distill_names_a_layer():
    """Any network can be teacher or student: those of the library are not special."""
    known = {name for part in (layers, models) for name in part.__all__ if isinstance(getattr(part, name), type)}
    assert {"GCNConv", "HGNN", "MLP"} <= known
    for path in Path(hgraph.distill.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = {getattr(node, "id", None), getattr(node, "attr", None)}
            names |= {alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)}
            assert not names & known, f"{path.name}:{node.lineno} names {names & known}"
            module = str(getattr(node, "module", ""))  # the base class of recommenders is not a network
            assert not module.startswith("hgraph.models") or module == "hgraph.models.recommend.base", path.name
