"""The published hypergraphs: every count in their description."""

from __future__ import annotations

import functools

import pytest
import torch

import hgraph.datasets as datasets
from hgraph.datasets.download import listed
from hgraph.errors import ArgumentError

# sizes min / mean / max, hyperedges of two, hyperedges equal to another, isolated nodes, class sizes, train and test
EXPECTED = {
    "cocitation-cora": ((2, 3.031, 5), 623, 96, 1274, [418, 351, 180, 818, 298, 426, 217], (140, 2568)),
    "cocitation-citeseer": ((2, 3.200, 26), 541, 75, 1854, [701, 596, 508, 590, 668, 249], (138, 3174)),
    "coauthorship-cora": ((2, 4.277, 43), 486, 102, 320, [418, 351, 180, 818, 298, 426, 217], (140, 2568)),
}


@pytest.fixture(scope="module")
def load(mirror, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return functools.cache(lambda name, **options: datasets.load(name, root, **options)[0])


@pytest.fixture(params=sorted(EXPECTED))
def named(request, load):
    return request.param, load(request.param)


def test_table_lists_all_files():
    files = listed("hypergcn")
    assert len(files) == 40
    assert sum(row.size for row in files.values()) == 3_568_036
    assert datasets.info("cocitation-cora").download == 1_028_098


def test_counts(named):
    name, data = named
    sizes, pairs, repeated, isolated, classes, _ = EXPECTED[name]
    s, card = data.structure, datasets.info(name)
    assert (s.num_nodes, s.num_hyperedges, s.num_incidences) == tuple(
        card.sizes[k] for k in ("nodes", "hyperedges", "incidences")
    )
    degree = s.hyperedge_degree()
    assert (int(degree.min()), round(float(degree.double().mean()), 3), int(degree.max())) == sizes
    assert int((degree == 2).sum()) == pairs
    assert s.num_hyperedges - len({tuple(e) for e in s.to_lists()}) == repeated
    assert int((s.node_degree() == 0).sum()) == isolated
    assert data.y.bincount().tolist() == classes
    assert data.x.shape == (s.num_nodes, card.sizes["features"])
    assert data.meta["class_names"] is None
    assert data.num_classes == card.sizes["classes"]


def test_rows_of_features_sum_to_one(load):
    data, raw = load("cocitation-cora"), load("cocitation-cora", normalize_features=False).x
    assert raw.dtype == data.x.dtype == torch.float32
    assert set(raw.unique().tolist()) == {0.0, 1.0}
    sums = raw.sum(1, keepdim=True)
    torch.testing.assert_close(data.x.sum(1), (sums > 0).float().flatten())
    assert torch.equal(data.x, raw / sums.clamp(min=1))


def test_published_splits(named):
    name, data = named
    train, test = EXPECTED[name][-1]
    published = [data.split(f"published-{i}") for i in range(1, 11)]
    for split in published:
        assert (len(split.train), len(split.val), len(split.test)) == (train, 0, test)
        assert len(torch.cat([split.train, split.test]).unique()) == data.num_nodes
        assert len(data.y[split.train].bincount().unique()) == 1
    assert len({tuple(s.train.tolist()) for s in published}) == 10


def test_default_split(named):
    _, data = named
    split, classes = data.split(), data.num_classes
    assert split.structure is data.structure
    assert (len(split.train), len(split.val)) == (20 * classes, 100 * classes)
    assert data.y[split.train].bincount().tolist() == [20] * classes


def test_another_default_and_another_seed(load):
    name = "coauthorship-cora"
    data, other, redrawn = load(name), load(name, split="published-3"), load(name, seed=5)
    assert other.split() is other.split("published-3")
    assert torch.equal(other.split().train, data.split("published-3").train)
    assert not torch.equal(redrawn.split().train, data.split().train)


def test_hyperedges_in_the_published_order(load):
    data = load("coauthorship-cora")
    assert data.meta["hyperedge_names"][:2] == ("V Gupta", "A Srinivasan")
    assert data.structure.to_lists()[:2] == [[235, 355], [1133, 1666, 1888]]


def test_both_cora_sets_have_the_same_papers(load):
    one, two = load("cocitation-cora"), load("coauthorship-cora")
    assert torch.equal(one.x, two.x)
    assert torch.equal(one.y, two.y)


def test_unknown_split():
    with pytest.raises(ArgumentError, match="split: expected one of .*'published-10'.*got 'public'"):
        datasets.load("cocitation-cora", split="public")
