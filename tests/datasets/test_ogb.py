"""OGB's raw layout, with tiny generated files: text and binary, archive and folder, valid and damaged."""

from __future__ import annotations

import dataclasses
import gzip
import io
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

import hgraph.datasets as datasets
from hgraph.data import collate
from hgraph.datasets import ogb
from hgraph.datasets.rawfiles import Files
from hgraph.errors import ArgumentError, DataError, MissingPackageError
from hgraph.structure import Graph

ROWS = {row.name: row for row in ogb._rows()}
EDGES = [(0, 1), (1, 2), (3, 2), (3, 0)]


def lines(rows):
    return gzip.compress("".join(",".join(map(str, row)) + "\n" for row in rows).encode())


def split(name, train, valid, test):
    parts = {"train": train, "valid": valid, "test": test}
    return {f"split/{name}/{part}.csv.gz": lines([[i] for i in ids]) for part, ids in parts.items()}


def nodes_layout():
    """Like ogbn-arxiv: five papers, the last one without a class."""
    return {
        "raw/edge.csv.gz": lines(EDGES),
        "raw/num-node-list.csv.gz": lines([[5]]),
        "raw/num-edge-list.csv.gz": lines([[4]]),
        "raw/node-feat.csv.gz": lines([[0.5, -1.25], [1, 2], [3, 4], [5, 6], [1e-3, 8]]),
        "raw/node-label.csv.gz": lines([[3], [0], [39], [1], ["nan"]]),
        "raw/node_year.csv.gz": lines([[2010 + i] for i in range(5)]),
        **split("time", [0, 1], [2], [3]),
    }


def proteins_layout():
    """Like ogbn-proteins: no features of nodes, features of edges, 112 labels, each edge once."""
    labels = np.random.default_rng(0).integers(0, 2, (5, 112))
    layout = {k: v for k, v in nodes_layout().items() if "split" not in k and "feat" not in k and "year" not in k}
    layout |= {"raw/node-label.csv.gz": lines(labels), "raw/species.csv.gz": lines([[3702]] * 5)}
    layout |= {"raw/edge-feat.csv.gz": lines([[i / 4, i] for i in range(4)]), **split("species", [0, 1], [2], [3, 4])}
    return layout, labels


def graphs_layout(labels):
    """Like ogbg-mol*: three molecules, the second one without edges."""
    return {
        "raw/edge.csv.gz": lines([(0, 1), (1, 2), (0, 1)]),
        "raw/num-node-list.csv.gz": lines([[3], [1], [2]]),
        "raw/num-edge-list.csv.gz": lines([[2], [0], [1]]),
        "raw/node-feat.csv.gz": lines([[i, 10 * i] for i in range(6)]),
        "raw/edge-feat.csv.gz": lines([[i, i] for i in range(3)]),
        "raw/graph-label.csv.gz": lines(labels),
        "mapping/mol.csv.gz": lines([["smiles"]]),
        **split("scaffold", [0, 2], [1], []),
    }


def saved(protocol=2, **parts):
    content = io.BytesIO()
    torch.save(parts, content, pickle_protocol=protocol)
    return content.getvalue()


def links_layout():
    edge, none = np.array([[0, 1], [2, 3]]), np.array([[1, 3], [0, 2]])
    layout = {k: v for k, v in nodes_layout().items() if "split" not in k and "label" not in k and "year" not in k}
    layout["raw/edge_weight.csv.gz"] = lines([[2], [1], [1], [3]])
    layout["raw/edge_year.csv.gz"] = lines([[2000], [2001], [2002], [2003]])
    layout["split/time/train.pt"] = saved(edge=edge, weight=np.array([1, 2]), year=np.array([2000, 2001]))
    layout["split/time/valid.pt"] = saved(edge=torch.as_tensor(edge), edge_neg=torch.as_tensor(none))
    layout["split/time/test.pt"] = saved(4, edge=edge.astype(np.int32), edge_neg=none)
    return layout


def archive(path, layout, top="tiny/", method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(top + "RELEASE_v1.txt", "")
        for name, content in layout.items():
            file.writestr(top + name, content)
    return path


def files(tmp_path, layout, **options):
    return Files(archive(tmp_path / "tiny.zip", layout, **options))


def test_nodes(tmp_path):
    data = ogb.read_nodes(files(tmp_path, nodes_layout()), ROWS["ogbn-arxiv"])
    assert data.structure.equal(Graph.from_edge_index(np.array(EDGES).T, num_nodes=5, directed=True))
    assert data.x.dtype == torch.float32
    assert data.x[0].tolist() == [0.5, -1.25]
    assert data.y.tolist() == [3, 0, 39, 1, -1]
    assert data.meta["node_year"].flatten().tolist() == [2010, 2011, 2012, 2013, 2014]
    assert [p.tolist() for p in (data.split().train, data.split().val, data.split().test)] == [[0, 1], [2], [3]]


def test_edges_listed_once_become_undirected_with_their_features(tmp_path):
    layout, labels = proteins_layout()
    data = ogb.read_nodes(files(tmp_path, layout), ROWS["ogbn-proteins"])
    both = [*EDGES, *((v, u) for u, v in EDGES)]
    expected = {edge: [i % 4 / 4, i % 4] for i, edge in enumerate(both)}
    pairs = list(map(tuple, data.structure.edge_index.T.tolist()))
    assert sorted(pairs) == sorted(both)
    assert data.meta["edge_features"].tolist() == [expected[pair] for pair in pairs]
    assert torch.equal(data.y, torch.from_numpy(labels).bool())
    assert data.meta["node_species"].shape == (5, 1)
    assert data.x.shape == (5, 1)  # the degree, since there are no features
    assert ogb.read_nodes(files(tmp_path, layout), ROWS["ogbn-proteins"], "none").x.shape == (5, 0)


def test_binary_layout_and_a_folder_on_disk(tmp_path):
    text = nodes_layout()
    arrays = {"edge_index": np.array(EDGES).T, "num_nodes_list": np.array([5]), "num_edges_list": np.array([4])}
    arrays |= {"node_feat": np.array([[0.5, -1.25], [1, 2], [3, 4], [5, 6], [1e-3, 8]], dtype=np.float32)}
    label = np.array([[3], [0], [39], [1], [np.nan]], dtype=np.float32)
    folder = tmp_path / "ogbn_papers"
    for name, content in split("time", [0, 1], [2], [3]).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "raw").mkdir()
    np.savez(folder / "raw/data.npz", **arrays)
    np.savez(folder / "raw/node-label.npz", node_label=label)
    row = dataclasses.replace(ROWS["ogbn-papers100m"], classes=40)
    found, expected = ogb.read_nodes(Files(folder), row), ogb.read_nodes(files(tmp_path, text), ROWS["ogbn-arxiv"])
    assert found.structure.equal(expected.structure)
    assert torch.equal(found.x, expected.x)
    assert torch.equal(found.y, expected.y)


def test_graphs(tmp_path):
    count, example, parts = ogb.read_graphs(files(tmp_path, graphs_layout([[1], [0], [""]])), ROWS["ogbg-molhiv"])
    items = [example(i).validate() for i in range(count)]
    assert [(d.structure.num_nodes, d.structure.num_edges) for d in items] == [(3, 4), (1, 0), (2, 2)]
    assert [d.y.tolist() for d in items] == [1, 0, -1]
    assert items[2].x.tolist() == [[4, 40], [5, 50]]
    assert items[2].x.dtype == torch.int64
    assert items[2].meta["edge_features"].tolist() == [[2, 2], [2, 2]]
    assert [p.tolist() for p in (parts.train, parts.val, parts.test)] == [[0, 2], [1], []]
    assert collate(items).y.tolist() == [1, 0, -1]


def test_missing_labels_become_nan_and_regression_targets_do_not_change(tmp_path):
    rows = [["", *[1] * 126, ""], [0] * 128, [0.0] * 128]
    _, example, _ = ogb.read_graphs(files(tmp_path, graphs_layout(rows)), ROWS["ogbg-molpcba"])
    assert example(0).y.isnan().nonzero().flatten().tolist() == [0, 127]
    assert example(1).y.shape == (128,)
    _, example, _ = ogb.read_graphs(files(tmp_path, graphs_layout([[0.5], [-2.25], [7]])), ROWS["ogbg-molesol"])
    assert [float(example(i).y) for i in range(3)] == [0.5, -2.25, 7.0]


def test_links(tmp_path):
    data = ogb.read_links(files(tmp_path, links_layout()), ROWS["ogbl-collab"])
    assert (data.structure.num_edges, data.target, data.y.tolist()) == (8, "edge", [-1] * 8)
    links = data.meta["links"]
    assert links["train"]["edge"].tolist() == [[0, 1], [2, 3]]
    assert links["valid"]["edge_neg"].tolist() == [[1, 3], [0, 2]]
    assert links["train"]["year"].tolist() == [2000, 2001]
    weight = dict(
        zip(map(tuple, data.structure.edge_index.T.tolist()), data.meta["edge_weight"].flatten().tolist(), strict=True)
    )
    assert (weight[0, 1], weight[1, 0], weight[3, 0], weight[0, 3]) == (2, 2, 3, 3)


def test_load_pins_the_archive_and_checks_the_count(tmp_path, monkeypatch):
    (tmp_path / "mirror/ogb").mkdir(parents=True)
    monkeypatch.setenv("HGRAPH_MIRROR", str(tmp_path / "mirror"))
    archive(tmp_path / "mirror/ogb/arxiv.zip", nodes_layout())
    with pytest.raises(DataError, match="expected 169343 nodes as published by OGB, got 5"):
        datasets.load("ogbn-arxiv", tmp_path / "root")
    monkeypatch.setattr(ogb, "_check", lambda *args: None)
    assert datasets.load("ogbn-arxiv", tmp_path / "root")[0].num_nodes == 5
    assert (tmp_path / "root/ogb/arxiv.zip.lock.json").is_file()
    archive(tmp_path / "root/ogb/arxiv.zip", nodes_layout() | {"extra": b"changed"})
    with pytest.raises(DataError, match="lock.json., got"):
        datasets.load("ogbn-arxiv", tmp_path / "root")
    with pytest.raises(DataError, match=r"expected SHA-256 0+ \(sha256=\)"):
        datasets.load("ogbn-arxiv", tmp_path / "other", sha256="0" * 64)


def test_load_of_many_graphs_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(ogb, "_check", lambda *args: None)
    for name, content in graphs_layout([[1], [0], [1]]).items():
        (tmp_path / "hiv" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hiv" / name).write_bytes(content)
    found = datasets.load("ogbg-molhiv", folder=tmp_path / "hiv")
    assert (len(found), found.task) == (3, "graph classification")
    assert [int(d.y) for d in found.select(found.split().train)] == [1, 1]


def test_cards():
    assert len(ROWS) == 23
    for name, row in ROWS.items():
        card = datasets.info(name)
        assert card.download is None
        assert row.url.startswith("https://snap.stanford.edu/ogb/data/")
        assert any("no hash" in caveat for caveat in card.caveats)
    assert not datasets.info("ogbn-products").redistribute
    assert datasets.info("ogbg-molesol").task == "graph regression"


# ---------------------------------------------------------------------- malformed and malicious files


def changed(**parts):
    return nodes_layout() | {name.replace("__", "/"): content for name, content in parts.items()}


HOSTILE = {
    "text among numbers": ({"raw/edge.csv.gz": lines([(0, 1), ("a", 2)])}, "numbers separated by commas"),
    "ragged rows": ({"raw/node-feat.csv.gz": lines([[1, 2], [3]])}, "numbers separated by commas"),
    "three columns of edges": ({"raw/edge.csv.gz": lines([(0, 1, 2)])}, r"expected 2 column\(s\), got 3"),
    "a huge number": ({"raw/edge.csv.gz": lines([(0, 10**30)])}, "numbers separated by commas"),
    "an edge to a missing node": ({"raw/edge.csv.gz": lines([*EDGES[:3], (0, 5)])}, "graph 0"),
    "a negative node": ({"raw/edge.csv.gz": lines([*EDGES[:3], (0, -1)])}, "graph 0"),
    "fewer edges than declared": ({"raw/edge.csv.gz": lines(EDGES[:3])}, "edge: expected 4 rows, got 3"),
    "more nodes than rows": ({"raw/num-node-list.csv.gz": lines([[10**9]])}, "rows"),
    "negative counts": ({"raw/num-node-list.csv.gz": lines([[-5]])}, "do not fit together"),
    "two graphs": ({"raw/num-node-list.csv.gz": lines([[2], [3]])}, "do not fit together"),
    "a class beyond": ({"raw/node-label.csv.gz": lines([[40]] * 5)}, "expected classes below 40, got 40"),
    "too few labels": ({"raw/node-label.csv.gz": lines([[1]] * 4)}, r"labels of shape \[5, 1\], got"),
    "a node in two parts": ({"split/time/valid.csv.gz": lines([[0]])}, "split"),
    "a node that is not there": ({"split/time/test.csv.gz": lines([[9]])}, "split: ids must be in"),
    "gzip cut off": ({"raw/edge.csv.gz": lines(EDGES)[:-4]}, "is damaged"),
    "not gzip": ({"raw/edge.csv.gz": b"0,1\n"}, "is damaged"),
    "pickled arrays": ({"raw/data.npz": b"\x80\x04]."}, "not a file of numeric arrays"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content_is_refused(name, tmp_path):
    content, match = HOSTILE[name]
    with pytest.raises(DataError, match=match):
        ogb.read_nodes(files(tmp_path, nodes_layout() | content), ROWS["ogbn-arxiv"])


class Attack:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (saved(edge=Attack()), "expected tensors and arrays"),
        (saved(edge=np.array([Attack()], dtype=object)), "expected tensors and arrays"),
        (saved(edge=[1, 2]), "a dict of tensors"),
        (saved(4, edge=[1, 2]), "a dict of tensors"),
        (saved(edge=np.array([[0, 9]])), "expected nodes 0 .. 4 in the links"),
        (saved(4, edge=Attack()), "expected tensors and arrays"),
        (saved(4, edge=torch.ones(2)), "expected tensors and arrays"),
        (saved(edge=torch.ones(2, 2))[:-30], "expected tensors and arrays"),
        (b"", "expected tensors and arrays"),
    ],
    ids=["call", "object array", "list", "list 4", "node 9", "call 4", "tensor 4", "cut off", "empty"],
)
def test_hostile_links_are_refused_and_not_executed(content, match, tmp_path, capsys):
    with pytest.raises(DataError, match=match):
        ogb.read_links(files(tmp_path, links_layout() | {"split/time/test.pt": content}), ROWS["ogbl-collab"])
    assert "executed" not in capsys.readouterr().out


def test_malicious_archives(tmp_path):
    with pytest.raises(DataError, match=r"one folder that contains raw/"):
        files(tmp_path, {"nothing": b""})
    with pytest.raises(DataError, match="found 2"):
        files(tmp_path, nodes_layout() | {"inner/raw/edge.csv.gz": b""})
    with pytest.raises(DataError, match="damaged zip archive"):
        (tmp_path / "cut.zip").write_bytes(archive(tmp_path / "tiny.zip", nodes_layout()).read_bytes()[:-40])
        Files(tmp_path / "cut.zip")
    with pytest.raises(DataError, match="damaged zip archive"):
        Files(tmp_path / "missing.zip")
    before = sorted(tmp_path.rglob("*"))
    escaping = files(tmp_path, nodes_layout(), top="../../escaped/")
    ogb.read_nodes(escaping, ROWS["ogbn-arxiv"])  # nothing is unpacked
    assert sorted(tmp_path.rglob("*")) == before
    assert not (tmp_path.parent.parent / "escaped").exists()


def test_damaged_bytes_in_the_archive(tmp_path):
    path = archive(tmp_path / "tiny.zip", nodes_layout())
    content = path.read_bytes()
    place = content.index(b"raw/node-feat.csv.gz") + len("raw/node-feat.csv.gz") + 15
    path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    with pytest.raises(DataError, match="node-feat.csv.gz is damaged"):
        ogb.read_nodes(Files(path), ROWS["ogbn-arxiv"])


def test_decompression_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr("hgraph.datasets.rawfiles._ALLOWANCE", 1000)
    bomb = gzip.compress(gzip.compress(b"0," * 10**6) * 3)
    for content in (gzip.compress(b"1\n" * 2 * 10**6), bomb):
        layout = {"raw/edge.csv.gz": content, "raw/num-node-list.csv.gz": lines([[5]])}
        packed = files(tmp_path, layout, method=zipfile.ZIP_DEFLATED)
        if content is not bomb:
            with pytest.raises(DataError, match="unpacks to more than"):
                packed.read("raw/edge.csv.gz")
        else:
            with pytest.raises(DataError):
                ogb.read_nodes(packed, ROWS["ogbn-arxiv"])


# ---------------------------------------------------------------------- the official evaluator


def test_evaluator_of_ogb(monkeypatch):
    for part in ("ogb", "ogb.nodeproppred"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    sys.modules["ogb.nodeproppred"].Evaluator = lambda name: ("evaluator", name)
    assert ogb.evaluator("ogbn-papers100m") == ("evaluator", "ogbn-papers100M")
    monkeypatch.setitem(sys.modules, "ogb.linkproppred", None)
    with pytest.raises(MissingPackageError, match=r"hgraph\[ogb\]"):
        ogb.evaluator("ogbl-ddi")
    with pytest.raises(ArgumentError, match="name: expected an ogbn-"):
        ogb.evaluator("cora")
