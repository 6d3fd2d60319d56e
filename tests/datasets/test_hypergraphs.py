"""Hypergraphs with labels of nodes or hyperedges: numbers of the published descriptions that are not on the cards."""

from __future__ import annotations

import sys

import pytest
import torch

import hgraph.datasets as datasets
from hgraph.errors import ArgumentError, MissingPackageError

# hyperedge sizes min / mean / max; isolated nodes; class sizes (None: several labels, or too many to list)
EXPECTED = {
    "newsgroups": ((29, 654.51, 2241), 0, [4605, 3519, 2657, 5461]),
    "mushrooms": ((4, 1523.25, 8124), 0, [4208, 3916]),
    "covertype45": ((12, 1147.5, 5712), 0, [2747, 9493]),
    "zoo": ((8, 43.6, 82), 0, [41, 20, 5, 13, 3, 8, 10]),
    "cities": ((9, 24.4, 45), 0, None),
    "uci-zoo": ((1, 1616 / 36, 93), 0, [41, 20, 5, 13, 4, 8, 10]),
    "uci-mushroom": ((4, 176248 / 116, 8124), 0, [4208, 3916]),
    "mathoverflow-answers": ((2, 24.185, 1784), 0, None),
    "walmart-products": ((2, 6.589, 25), 200, None),
    "walmart-trips": ((2, 6.862, 25), 0, None),
    "house-committees": ((1, 34.73, 81), 0, [620, 670]),
    "senate-committees": ((4, 17.168, 31), 0, [140, 142]),
    "cooking": ((1, 428249 / 39774, 65), 0, None),
    "email-enron": ((1, 2.466, 18), 5, None),
    "contact-primary-school": ((2, 2.096, 5), 0, None),
    "contact-high-school": ((2, 2.050, 5), 0, None),
    "congress-bills": ((1, 3.658, 25), 0, None),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_sizes_isolates_and_classes(name, load_set):
    data = load_set(name)[0]
    (low, mean, high), isolated, classes = EXPECTED[name]
    degree = data.structure.hyperedge_degree()
    assert (int(degree.min()), int(degree.max())) == (low, high)
    assert float(degree.double().mean()) == pytest.approx(mean, abs=6e-3)
    assert int((data.structure.node_degree() == 0).sum()) == isolated
    if classes:
        assert data.y.bincount().tolist() == classes


@pytest.mark.parametrize(
    ("name", "different"),
    [("house-committees", 336), ("senate-committees", 301), ("walmart-products", 65_979), ("walmart-trips", 65_898)],
)
def test_repeated_hyperedges_are_kept(name, different, load_set):
    assert len({tuple(e) for e in load_set(name)[0].structure.to_lists()}) == different


def test_names(load_set):
    words = load_set("newsgroups")[0].meta
    assert (words["class_names"][0], len(words["hyperedge_names"])) == ("comp.*", 100)
    animals = load_set("uci-zoo")[0].meta["node_names"]
    assert animals.count("frog") == 2
    assert len(load_set("zoo")[0].meta["node_names"]) == 100
    house = load_set("house-committees")[0]
    member = house.meta["node_names"].index("Timothy Penny")
    assert house.meta["class_names"][house.y[member]] == "Democrat"


def test_missing_values_of_mushrooms(load_set):
    without, with_ = load_set("uci-mushroom")[0], load_set("uci-mushroom", missing_as_value=True)[0]
    assert with_.structure.num_hyperedges == 117
    assert with_.structure.num_incidences - without.structure.num_incidences == 2480
    missing = with_.meta["hyperedge_names"].index("stalk-root=?")
    assert int(with_.structure.hyperedge_degree()[missing]) == 2480
    assert without.meta["hyperedge_names"] == tuple(n for n in with_.meta["hyperedge_names"] if n != "stalk-root=?")


def test_incidences_are_the_features(load_set):
    data = load_set("zoo")[0]
    assert torch.equal(data.x, data.structure.incidence())


def test_labels_of_mathoverflow(load_set):
    data = load_set("mathoverflow-answers")[0]
    assert (data.y.dtype, tuple(data.y.shape)) == (torch.bool, (73_851, 1456))
    assert float(data.y.sum(1).double().mean()) == pytest.approx(2.685, abs=5e-4)
    assert int(data.y.any(0).sum()) == 1441
    assert int(data.y.any(0).nonzero().max()) + 1 == 1454
    assert len({tuple(e) for e in data.structure.to_lists()}) == 5445


def test_departments_of_walmart(load_set):
    data = load_set("walmart-products", labels="department")[0]
    assert data.num_classes == 11
    assert data.meta["class_names"][-1] == "Discard"
    fine = load_set("walmart-products")[0]
    pets = fine.y == fine.meta["class_names"].index("DAIRY")
    assert {data.meta["class_names"][c] for c in data.y[pets].tolist()} == {"Food, Household and Pets"}
    assert set(fine.meta["hyperedge_day"].tolist()) == set(range(1, 8))


def test_classes_of_hyperedges(load_set):
    trips, cooking, recipes = load_set("walmart-trips")[0], load_set("cooking")[0], load_set("cooking-recipes")[0]
    assert (int(trips.y.bincount().max()), int(trips.y.bincount().min())) == (9824, 1)
    assert (len(trips.meta["class_names"]), trips.meta["class_names"][-1]) == (44, "999")
    count = dict(zip(cooking.meta["class_names"], cooking.y.bincount().tolist(), strict=True))
    assert (count["brazilian"], count["italian"]) == (467, 7838)
    assert int((cooking.structure.hyperedge_degree() == 1).sum()) == 22
    assert recipes.structure.equal(cooking.structure.dual())
    assert torch.equal(recipes.y, cooking.y)
    for data in (trips, cooking):
        parts = data.split()
        assert len(parts.train) + len(parts.val) + len(parts.test) == data.structure.num_hyperedges


def test_features_of_committees(load_set):
    data = load_set("house-committees", features="noisy-label", noise=0.0)[0]
    assert torch.equal(data.x, torch.nn.functional.one_hot(data.y).float())
    noisy = load_set("house-committees", features="noisy-label")[0]
    assert float((noisy.x - data.x).std()) == pytest.approx(1, abs=0.05)
    degree = load_set("house-committees")[0]
    torch.testing.assert_close(degree.x[:, 0].expm1().round(), degree.structure.node_degree().float())
    assert load_set("house-committees", features="none")[0].x.shape == (1290, 0)
    with pytest.raises(
        ArgumentError, match=r"features: expected one of \['degree', 'constant', 'none', 'memberships'\]"
    ):
        load_set("house-committees", features="gauss")


def test_streams_are_sorted_by_time(load_set):
    for name, different, unsorted_single in (("email-enron", 1512, 431), ("contact-primary-school", 12_704, 0)):
        data = load_set(name)[0]
        time = data.meta["hyperedge_time"]
        assert bool((time.diff() >= 0).all())
        assert len(time) == data.structure.num_hyperedges
        assert int((data.structure.hyperedge_degree() == 1).sum()) == unsorted_single
        assert len({tuple(e) for e in data.structure.to_lists()}) == different
        assert data.x.unique().tolist() == [1.0]


def test_a_stream_keeps_each_event_with_its_time(load_set, mirror, tmp_path):
    import gzip

    from hgraph.datasets.download import fetch_listed

    def column(part):
        path = fetch_listed("simplex_streams", f"email-Enron/email-Enron-{part}.txt.gz", tmp_path)
        return [int(line) for line in gzip.open(path).read().split()]

    members, events = iter(column("simplices")), []
    for size, time in zip(column("nverts"), column("times"), strict=True):
        events.append((time, sorted(next(members) for _ in range(size))))
    data = load_set("email-enron")[0]
    found = zip(data.meta["hyperedge_time"].tolist(), data.structure.to_lists(), strict=True)
    assert sorted((t, [v + 1 for v in e]) for t, e in found) == sorted(events)


def test_random_splits_depend_on_the_seed(load_set):
    one, again, other = (load_set("zoo", **o)[0].split() for o in ({}, {"seed": 0}, {"seed": 1}))
    assert torch.equal(one.train, again.train)
    assert not torch.equal(one.train, other.train)
    y = load_set("zoo")[0].y
    assert y[one.train].bincount().tolist() == [21, 10, 3, 7, 2, 4, 5]
    assert len(one.train) + len(one.val) + len(one.test) == 100


def test_without_h5py_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingPackageError, match=r"h5py.*hgraph\[io\]"):
        datasets.load("zoo", tmp_path)
