"""Structures on disk: round trips, and every kind of file that must be refused."""

import json
import os

import pytest
import torch
from hypothesis import given, settings
from safetensors import safe_open
from safetensors.torch import save_file

import hgraph
from hgraph import Adjacency, Graph
from hgraph.data import io
from hgraph.errors import ArgumentTypeError, DataError
from hgraph.testing import adjacencies, degenerate_adjacencies, hypergraphs, random_graph, random_hypergraph

DEGENERATE = degenerate_adjacencies()


def round_trip(structure, folder):
    structure.save(folder / "structure.safetensors")
    again = hgraph.load(folder / "structure.safetensors")
    assert type(again) is type(structure)
    assert again.equal(structure)
    for mine, other in zip(structure.tensors(), again.tensors(), strict=True):
        assert mine.dtype == other.dtype
        assert torch.equal(mine, other)


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_structures(name, tmp_path):
    round_trip(DEGENERATE[name], tmp_path)
    round_trip(DEGENERATE[name].transpose(), tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("structures")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(adjacencies(), hypergraphs(weighted=True))
def test_round_trips(folder, adj, hg):
    round_trip(adj, folder)
    round_trip(hg, folder)


def test_learned_weights_are_saved_without_their_history(tmp_path):
    weight = torch.rand(3, requires_grad=True)
    Adjacency.eye(3).with_weight(weight * 2).save(tmp_path / "a")
    assert torch.equal(hgraph.load(tmp_path / "a").weight, weight.detach() * 2)


def test_save_makes_the_folder_and_replaces_the_file(tmp_path):
    path = tmp_path / "new" / "folder" / "a.safetensors"
    Adjacency.eye(3).save(path)
    Adjacency.eye(5).save(str(path))
    assert hgraph.load(path).shape == (5, 5)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(broken, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    Adjacency.eye(3).save(path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(io.os, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        Adjacency.eye(5).save(path)
    monkeypatch.undo()
    assert hgraph.load(path).equal(Adjacency.eye(3))
    assert os.listdir(tmp_path) == [path.name]


def test_save_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(ArgumentTypeError, match="structure: expected an Adjacency.*got int"):
        io.save(3, tmp_path / "a")
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------- files that are refused


def refused(path, message=None):
    with pytest.raises(DataError, match=message or None) as caught:
        hgraph.load(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    refused(tmp_path / "nothing", "no such file")
    refused(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 8, 40, 200, -1])
def test_truncated(kept, tmp_path):
    path = tmp_path / "a"
    random_hypergraph(6, 5, 14).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "not a complete safetensors file")


@pytest.mark.parametrize(
    "content",
    [
        b"hello, world: this is no structure",
        b"\xff" * 64,
        (2**40).to_bytes(8, "little") + b"{}",
        (10).to_bytes(8, "little") + b"[[[[[[[[[[",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        b"\x80\x04cposix\nsystem\n",
    ],
    ids=["text", "ones", "huge header", "no JSON", "deep JSON", "pickle"],
)
def test_foreign(content, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(content)
    refused(path)


def test_safetensors_of_others(tmp_path):
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "a")
    refused(tmp_path / "a", "not a structure saved by this version")


@pytest.mark.parametrize(
    "header",
    ["", "{", "null", "[]", "3", '{"type": "Graph"}', '{"type": "Graph", "version": 3}', '{"version": 2}',
     '{"type": "Module", "version": 2}', '{"type": ["Graph"], "version": 2}', "[" * 100_000,
     '{"type": "SoftAdjacency", "version": 2}'],
)  # fmt: skip
def test_hostile_headers(header, tmp_path):
    path = tmp_path / "a"
    tensors = io._parts(random_graph(4, 5))
    save_file(tensors, path, metadata={"hgraph": header})
    refused(path)


def tampered(path, kind="Hypergraph", **changed):
    """A file of a hypergraph with other tensors in it; None takes one out."""
    structure = random_hypergraph(4, 3, 7, seed=2, weighted=True)
    tensors = {name: t.clone() for name, t in io._parts(structure).items()} | changed
    header = {"hgraph": json.dumps({"type": kind, "version": 2})}
    save_file({name: t.contiguous() for name, t in tensors.items() if t is not None}, path, metadata=header)
    return path


PARTS = io._parts(random_hypergraph(4, 3, 7, seed=2, weighted=True))
EDGES = len(PARTS["indices"])


def test_the_untampered_file_loads(tmp_path):
    assert hgraph.load(tampered(tmp_path / "a")).equal(random_hypergraph(4, 3, 7, seed=2, weighted=True))


@pytest.mark.parametrize(
    "changed",
    [
        {"indices": PARTS["indices"] + 4},
        {"indices": PARTS["indices"] - 9},
        {"indices": PARTS["indices"][:-1]},
        {"indices": PARTS["indices"].float()},
        {"indices": PARTS["indices"].flip(0)},
        {"indices": PARTS["indices"][:, None]},
        {"indices": None},
        {"indptr": PARTS["indptr"] + 1},
        {"indptr": PARTS["indptr"].flip(0)},
        {"indptr": torch.tensor([0, EDGES + 2, 1, EDGES])},
        {"indptr": PARTS["indptr"][:0]},
        {"indptr": None},
        {"t_indptr": PARTS["t_indptr"] * 0},
        {"t_indptr": PARTS["t_indptr"][:-1]},
        {"t_indptr": PARTS["t_indptr"][:0]},
        {"t_indptr": None},
        {"weight": PARTS["weight"][:-1]},
        {"weight": PARTS["weight"].long()},
        {"weight": PARTS["weight"] * float("nan")},
        {"hyperedge_weight": torch.ones(9)},
        {"node_weight": torch.ones(1)},
        {"input_order": torch.zeros(EDGES, dtype=torch.int64)},
        {"input_order": torch.arange(EDGES) + 1},
        {"input_order": torch.arange(EDGES).float()},
        {"kind": "Graph"},
        {"kind": "SoftAdjacency"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_contradicting_tensors(changed, tmp_path):
    refused(tampered(tmp_path / "a", **changed), "damaged")


def test_no_number_in_a_header_asks_for_memory(tmp_path):
    random_graph(4, 5).save(tmp_path / "a")
    with safe_open(str(tmp_path / "a"), framework="pt") as file:
        assert json.loads(file.metadata()["hgraph"]) == {"type": "Graph", "version": 2}


def test_files_of_the_first_version_load_under_the_new_names(tmp_path):
    hypergraph = random_hypergraph(5, 3, 8, weighted=True)
    hypergraph.save(tmp_path / "new")
    with safe_open(str(tmp_path / "new"), framework="pt") as file:
        tensors = {name.replace("node_weight", "vertex_weight"): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert "vertex_weight" in tensors
    header = {"hgraph": json.dumps({"type": "Hypergraph", "version": 1})}
    save_file(tensors, tmp_path / "old", metadata=header)
    old = hgraph.load(tmp_path / "old")
    assert old.node_weight.equal(hypergraph.node_weight)
    assert old.v2e.equal(hypergraph.v2e)


def test_fingerprints_tell_structures_apart():
    graph = random_graph(5, 8, seed=0)
    assert io.fingerprint(graph) == io.fingerprint(random_graph(5, 8, seed=0))
    others = [random_graph(5, 8, seed=1), random_graph(6, 8, seed=0), random_graph(5, 8, seed=0, weighted=True)]
    assert len({io.fingerprint(g) for g in [graph, *others]}) == 4
    assert len(io.fingerprint(Graph.from_edge_index([[], []], num_nodes=0, directed=True))) == 64
