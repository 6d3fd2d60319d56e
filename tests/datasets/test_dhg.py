"""DHG's published layout, with tiny generated files; nothing in a pickle is executed."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle

import numpy as np
import pytest
import scipy.sparse
import torch

import hgraph.datasets as datasets
from hgraph.datasets import dhg
from hgraph.errors import DataError
from hgraph.structure import Graph, Hypergraph

HYPEREDGES = [[0, 1, 2], (2, 1, 2), [3]]
WORDS = scipy.sparse.csr_matrix(np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0]], dtype=np.float32))


def published(folder, kind="hypergraph", *, protocol=4, **changed):
    """The table row and the files of a set of five nodes."""
    edges = HYPEREDGES if kind == "hypergraph" else [(0, 1), (1, 0), (1, 2), (3, 3)]
    parts = {"features": WORDS, "edge_list": edges, "labels": [0, 1, 1, 0, 1]}
    masks = {"train": [1, 1, 0, 0, 0], "val": [0, 0, 1, 0, 0], "test": [0, 0, 0, 1, 1]}
    parts |= {f"{part}_mask": np.array(mask, dtype=bool) for part, mask in masks.items()} | changed
    folder.mkdir(parents=True, exist_ok=True)
    md5 = {}
    for part, value in parts.items():
        content = pickle.dumps(value, protocol=protocol)
        (folder / f"{part}.pkl").write_bytes(content)
        md5[f"{part}.pkl"] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return dhg._Info("dhg-tiny", "tiny", kind, 5, len(edges), 2, 2, md5)


def load(info, folder, **options):
    return dhg._make_loader(info)(folder=folder, **options)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_hypergraph(tmp_path, protocol):
    data = load(published(tmp_path, protocol=protocol), tmp_path)
    assert data.structure.equal(Hypergraph.from_lists([[0, 1, 2], [1, 2], [3]], num_nodes=5))
    assert torch.equal(data.x, torch.from_numpy(WORDS.toarray()))
    assert data.y.tolist() == [0, 1, 1, 0, 1]
    assert [p.tolist() for p in (data.split().train, data.split().val, data.split().test)] == [[0, 1], [2], [3, 4]]


def test_graph(tmp_path):
    data = load(published(tmp_path, "graph"), tmp_path)
    expected = Graph.from_edge_index([[0, 1, 3], [1, 2, 3]], num_nodes=5, directed=False)
    assert data.structure.equal(expected)


def test_validation_part_equal_to_the_test_part_is_dropped(tmp_path):
    mask = np.array([0, 0, 0, 1, 1], dtype=bool)
    info = published(tmp_path, val_mask=mask, test_mask=mask)
    assert info.same_val_test
    split = load(info, tmp_path).split()
    assert (split.val.tolist(), split.test.tolist()) == ([], [3, 4])


def test_default_split_and_features(tmp_path):
    info = published(tmp_path)
    bare = {file: md5 for file, md5 in info.md5.items() if file in ("edge_list.pkl", "labels.pkl")}
    data = load(dataclasses.replace(info, md5=bare, features=0), tmp_path, features="constant")
    assert data.x.tolist() == [[1.0]] * 5
    assert len(data.split().train) == 3


def test_files_of_the_mirror_and_a_lock(tmp_path, monkeypatch):
    info = published(tmp_path / "mirror/dhg/tiny")
    monkeypatch.setenv("HGRAPH_MIRROR", str(tmp_path / "mirror"))
    assert dhg._make_loader(info)(tmp_path / "root").num_nodes == 5
    assert (tmp_path / "root/dhg/tiny/labels.pkl.lock.json").is_file()


class Attack:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("part", "value", "match"),
    [
        ("labels", Attack(), "builtins.print"),
        ("labels", [0, 1, 1, 0], "one whole number per node, 5 in all"),
        ("labels", [[0], [1], [1], [0], [1, 2]], "one whole number per node, 5 in all"),
        ("labels", [0.5] * 5, "one whole number per node, 5 in all"),
        ("labels", {0: 1}, "one whole number per node, 5 in all"),
        ("labels", [0, 1, 1, 0, 2], r"expected labels in 0 \.\. 1"),
        ("edge_list", [[0], [1]], "a list of 3 edges, got 2"),
        ("edge_list", "abc", "a list of 3 edges, got str"),
        ("edge_list", [[0], [1], [5]], "edges between nodes"),
        ("edge_list", [[0], [1], ["x"]], "edges between nodes"),
        ("edge_list", [[0], [1], [2**70]], "edges between nodes"),
        ("edge_list", [[0], [1], 2], "edges between nodes"),
        ("features", WORDS[:4], r"features of shape \(5, 2\), got \(4, 2\)"),
        ("features", [["x", 1]] * 5, "expected numbers as features"),
        ("train_mask", np.array([1, 1, 1, 0, 0], dtype=bool), "split"),
    ],
)
def test_hostile_files_are_refused(part, value, match, tmp_path, capsys):
    with pytest.raises(DataError, match=match):
        load(published(tmp_path, **{part: value}), tmp_path)
    assert "executed" not in capsys.readouterr().out


def test_file_differs_from_the_published_one(tmp_path):
    info = published(tmp_path)
    (tmp_path / "labels.pkl").write_bytes(pickle.dumps([0, 1, 1, 0, 0]))
    with pytest.raises(DataError, match="labels.pkl: expected the published MD5"):
        load(info, tmp_path)
    (tmp_path / "labels.pkl").unlink()
    with pytest.raises(DataError, match="labels.pkl: cannot be read"):
        load(info, tmp_path)


def test_cards():
    info = dhg._rows()
    assert len(info) == 21
    assert {row.name for row in info} <= set(datasets.names())
    cooking = datasets.info("dhg-cooking-200")
    assert (cooking.sizes["nodes"], cooking.sizes["hyperedges"], cooking.redistribute) == (7403, 2755, False)
    assert any(
        "validation mask equals its test mask" in caveat for caveat in datasets.info("dhg-coauthorship-cora").caveats
    )
