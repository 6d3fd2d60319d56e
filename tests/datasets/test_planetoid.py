"""Cora and CiteSeer: the pitfalls of their files."""

from __future__ import annotations

import pytest
import torch

import hgraph.datasets as datasets
from hgraph.datasets.unpickle import loads

EXPECTED = {
    "cora": ([351, 217, 418, 818, 426, 298, 180], 0, 0, 49_216),
    "citeseer": ([249, 590, 668, 701, 596, 508], 48, 15, 105_165),
}
MISSING = [2407, 2489, 2553, 2682, 2781, 2953, 3042, 3063, 3212, 3214, 3250, 3292, 3305, 3306, 3309]


@pytest.fixture(params=sorted(EXPECTED))
def named(request, load_set):
    return request.param, load_set(request.param)[0]


def test_counts(named):
    name, data = named
    classes, isolated, unlabeled, stored = EXPECTED[name]
    assert data.y[data.y >= 0].bincount().tolist() == classes
    assert len(data.meta["class_names"]) == len(classes)
    assert int((data.structure.degree() == 0).sum()) == isolated
    assert int((data.y == -1).sum()) == unlabeled
    assert int((data.x != 0).sum()) == stored
    assert not data.structure.directed
    assert not (data.structure.edge_index[0] == data.structure.edge_index[1]).any()


def test_public_split(named):
    _, data = named
    split, classes = data.split(), data.num_classes
    assert (len(split.train), len(split.val), len(split.test)) == (20 * classes, 500, 1000)
    assert split is data.split("public")
    assert data.y[split.train].bincount().tolist() == [20] * classes
    for part in (split.train, split.val, split.test):
        assert int(data.y[part].min()) >= 0


def test_papers_without_a_row(load_set):
    data = load_set("citeseer")[0]
    assert (data.y == -1).nonzero().flatten().tolist() == MISSING
    assert not data.x[MISSING].any()


def test_rows_of_the_test_files_belong_to_the_listed_papers(load_set, mirror, tmp_path):
    """The ids are not sorted; sorting them would mix up the features of papers."""
    from hgraph.datasets.download import fetch_listed

    data = load_set("cora", normalize_features=False)[0]

    def read(part):
        return fetch_listed("planetoid", f"ind.cora.{part}", tmp_path).read_bytes()

    ids = [int(line) for line in read("test.index").split()]
    assert ids != sorted(ids)
    words, labels = loads(read("tx")), loads(read("ty"))
    for row in (0, 1, 500, 999):
        assert data.x[ids[row]].nonzero().flatten().tolist() == sorted(words[row].indices.tolist())
        assert int(data.y[ids[row]]) == int(labels[row].argmax())


def test_options(load_set):
    plain, loops = load_set("citeseer", normalize_features=False)[0], load_set("citeseer", self_loops=True)[0]
    assert set(plain.x.unique().tolist()) == {0.0, 1.0}
    sums = load_set("citeseer")[0].x.sum(1)
    torch.testing.assert_close(sums, (plain.x.sum(1) > 0).float())
    assert loops.structure.num_edges == datasets.info("citeseer").sizes["edges"] + 124
