"""Data sets of PyG, with tiny generated files of the published layouts: equal to what PyG loads from the same files."""

from __future__ import annotations

import dataclasses
import pickle
import zipfile
from collections import defaultdict

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

import hgraph.datasets as datasets
from hgraph.datasets import planetoid, pyg
from hgraph.errors import ArgumentError, DataError

ROWS = {row.name: row for row in pyg._rows()}
N, F, C = 40, 6, 3


def draw():
    return np.random.default_rng(0)


def matrices():
    """Like amazon_electronics_computers.npz: self-loops, directed and repeated edges, weighted words, pickled names."""
    adj = csr_matrix((draw().random((N, N)) < 0.1).astype(np.float32))
    adj.setdiag(1)
    attr = csr_matrix(draw().poisson(0.4, (N, F)).astype(np.float32))
    found = {"labels": draw().integers(0, C, N), "class_names": np.array(["a", "b", "c"])}
    found["node_names"] = np.array([f"n{i}" for i in range(N)], dtype=object)
    for name, matrix in (("adj", adj), ("attr", attr)):
        found |= {f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}
        found[f"{name}_shape"] = np.array(matrix.shape)
    return found


def lists():
    """Like minesweeper.npz."""
    edges = np.unique(np.sort(draw().integers(0, N, (60, 2)), axis=1), axis=0)
    part = draw().integers(0, 3, (10, N))
    found = {f"{name}_masks": part == i for i, name in enumerate(("train", "val", "test"))}
    features = draw().random((N, F)).astype(np.float32)
    return found | {
        "edges": edges[edges[:, 0] != edges[:, 1]],
        "node_features": features,
        "node_labels": draw().integers(0, C, N),
    }


def loader(name, edges):
    sizes = {"nodes": N, "edges": edges, "features": F, "classes": C}
    return pyg._make_loader(dataclasses.replace(ROWS[name], sizes=sizes))


def pairs(edge_index):
    return sorted(map(tuple, edge_index.T.tolist()))


def count(edges):
    """Number of directed edges without self-loops and repeats, by checking every pair."""
    joined = {frozenset(e) for e in edges if e[0] != e[1]}
    return 2 * len(joined)


LAYOUTS = {
    "amazon-computers": (matrices, "Computers/raw/amazon_electronics_computers.npz"),
    "minesweeper": (lists, "minesweeper/raw/minesweeper.npz"),
}


def written(name, tmp_path, **changed):
    make, file = LAYOUTS[name]
    found = make() | changed
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    np.savez(path, **{k: v for k, v in found.items() if v is not None})
    if make is lists:
        return path, loader(name, count(found["edges"].tolist()))
    adj = csr_matrix(tuple(matrices()[f"adj_{part}"] for part in ("data", "indices", "indptr")), shape=(N, N)).tocoo()
    return path, loader(name, count(np.stack([adj.row, adj.col], 1).tolist()))


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_as_pyg(name, tmp_path):
    peer = pytest.importorskip("torch_geometric.datasets")
    path, load = written(name, tmp_path)
    ours = load(file=path)
    make = {"amazon-computers": peer.Amazon, "minesweeper": peer.HeterophilousGraphDataset}[name]
    theirs = make(str(tmp_path), {"amazon-computers": "computers"}.get(name, name))[0]
    assert pairs(ours.structure.edge_index) == pairs(theirs.edge_index)
    assert torch.equal(ours.x, theirs.x)
    assert torch.equal(ours.y, theirs.y)
    if name == "minesweeper":
        for i in range(10):
            split = ours.split(f"published-{i + 1}")
            for part in ("train", "val", "test"):
                mask = getattr(theirs, f"{part}_mask")[:, i]
                assert torch.equal(getattr(split, part), mask.nonzero().flatten())


@pytest.mark.parametrize("name", LAYOUTS)
def test_fetched_through_the_mirror_and_locked(name, tmp_path, monkeypatch):
    path, load = written(name, tmp_path)
    mirror = tmp_path / "mirror" / "pyg"
    mirror.mkdir(parents=True)
    path.rename(mirror / path.name)
    monkeypatch.setenv("HGRAPH_MIRROR", str(mirror.parent))
    assert load(tmp_path / "root").num_nodes == N
    assert {p.name for p in (tmp_path / "root" / "pyg").iterdir()} == {path.name, path.name + ".lock.json"}


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("amazon-computers", {"labels": None}, "expected labels"),
        ("amazon-computers", {"labels": np.array(["a"] * N, dtype=object)}, "is not a numeric type"),
        ("amazon-computers", {"adj_indptr": np.zeros(N + 1, dtype=np.int32)}, "does not divide the entries"),
        ("amazon-computers", {"attr_indices": matrices()["attr_indices"] + F}, "expected columns 0 .. 5"),
        ("amazon-computers", {"attr_shape": np.array([N - 1, F])}, "does not divide"),
        ("amazon-computers", {"attr_data": np.ones(3)}, "features of 40 nodes"),
        ("amazon-computers", {"adj_shape": np.zeros((2, 2))}, "amazon_electronics_computers.npz"),
        ("minesweeper", {"edges": np.array([[0, N]])}, "minesweeper.npz"),
        ("minesweeper", {"edges": np.array([0, 1])}, "minesweeper.npz"),
        ("minesweeper", {"val_masks": lists()["train_masks"]}, "more than once in train, val and test"),
        ("minesweeper", {"val_masks": np.ones((9, N))}, r"expected masks of shape \[10, 40\]"),
        ("minesweeper", {"node_features": np.zeros((N, F + 1))}, "expected the sizes"),
    ],
)
def test_inconsistent_arrays_are_refused(name, changed, message, tmp_path):
    path, load = written(name, tmp_path)
    good = dict(np.load(path, allow_pickle=False) if name == "minesweeper" else matrices())
    path.unlink()
    np.savez(path, **{k: v for k, v in (good | changed).items() if v is not None})
    with pytest.raises(DataError, match=message):
        load(file=path)


def test_malformed_files(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no")
    for file, message in (("x.npz", "not a file of numeric arrays"), ("gone.npz", "cannot be read")):
        with pytest.raises(DataError, match=message):
            datasets.load("minesweeper", file=tmp_path / file)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("labels.npy", pickle.dumps(print))
    with pytest.raises(DataError, match="expected adj_data"):
        datasets.load("amazon-computers", file=tmp_path / "x.npz")


def test_pubmed_is_read_as_cora_is(tmp_path, monkeypatch):
    """Uses tiny files of the same layout."""
    known, labeled = 20, 6
    x = csr_matrix(draw().random((N, F)).astype(np.float32))
    y = np.eye(C, dtype=np.int32)[draw().integers(0, C, N)]
    graph = defaultdict(list, {i: [(i + 1) % N, (i - 1) % N, i] for i in range(N)})
    parts = {"x": x[:labeled], "y": y[:labeled], "allx": x[:known], "ally": y[:known], "tx": x[known:],
             "ty": y[known:], "graph": graph}  # fmt: skip
    folder = tmp_path / "mirror" / "planetoid"
    folder.mkdir(parents=True)
    for part, value in parts.items():
        (folder / f"ind.pubmed.{part}").write_bytes(pickle.dumps(value, protocol=2))
    (folder / "ind.pubmed.test.index").write_text("\n".join(map(str, range(known, N))))
    monkeypatch.setenv("HGRAPH_MIRROR", str(folder.parent))
    monkeypatch.setattr(planetoid, "_VALIDATION", 10)
    sizes = {"nodes": N, "edges": 2 * N, "features": F, "classes": C}
    data = planetoid._make_loader("pubmed", None, sizes)(tmp_path / "root", normalize_features=False)
    assert torch.equal(data.x, torch.from_numpy(x.toarray()))
    assert data.y.tolist() == y.argmax(1).tolist()
    assert [len(getattr(data.split(), part)) for part in ("train", "val", "test")] == [labeled, 10, N - known]
    with pytest.raises(ArgumentError, match="normalize"):
        datasets.load("pubmed", normalize=True)
