"""Every data set with files: the loaded data agrees with the card, and only its files are read."""

from __future__ import annotations

import pytest

import hgraph.datasets as datasets
from hgraph.data import Interactions, TripleSplit
from hgraph.structure import Graph, Hypergraph

HEAVY = {"nci1", "imdb-multi", "kgat-last-fm", "fb15k-237"}  # seconds each
KINDS = {"graph", "hypergraph", "interactions", "knowledge graph"}
FETCHED = [
    pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name
    for name in datasets.names()
    if datasets.info(name).files and datasets.info(name).kind in KINDS
]


def counted(name, data):
    """A count on the card, computed in a simple way from one example."""
    if isinstance(data, Interactions):
        parts = (data.train, data.val, data.test)
        return {
            "users": data.num_users,
            "items": data.num_items,
            "interactions": sum(len(part.target) for part in parts),
            "nodes": len(data.kg.adj.indptr) - 1,
            "relations": len(data.kg.relation_indptr) - 1,
            "triples": len(data.kg.relation),
        }[name]
    if isinstance(data, TripleSplit):
        parts = {part: len(getattr(data, part).relation) for part in ("train", "val", "test")}
        sizes = {"nodes": len(data.train.adj.indptr) - 1, "relations": len(data.train.relation_indptr) - 1}
        return (parts | sizes | {"triples": sum(parts.values())})[name]
    s = data.structure
    if isinstance(s, Hypergraph):
        return {
            "nodes": len(s.e2v.indptr) - 1,
            "hyperedges": len(s.v2e.indptr) - 1,
            "incidences": len(s.v2e.target),
        }[name]
    assert isinstance(s, Graph)
    return {"nodes": len(s.adj.indptr) - 1, "edges": s.edge_index.shape[1]}[name]


@pytest.mark.parametrize("name", FETCHED)
def test_sizes_of_the_card(name, load_set):
    card, found = datasets.info(name), load_set(name)
    for key, number in card.sizes.items():
        if key == "graphs":
            assert len(found) == number
        elif key == "features":
            assert {data.x.shape[1] for data in found} == {number}
        elif key == "classes":
            assert max(data.num_classes for data in found) == number
        else:
            assert sum(counted(key, data) for data in found) == number, key


@pytest.mark.parametrize("name", FETCHED)
def test_every_example_is_valid_and_of_the_kind_on_the_card(name, load_set):
    card, found = datasets.info(name), load_set(name)
    assert (found.task, found.license, found.redistribute) == (card.task, card.license, card.redistribute)
    if card.kind in ("interactions", "knowledge graph"):
        (one,) = found
        assert isinstance(one, {"interactions": Interactions, "knowledge graph": TripleSplit}[card.kind])
        one.validate()
        return
    target = {"node": "node", "hyperedge": "hyperedge", "graph": "graph"}[card.task.split()[0]]
    for data in list(found)[:50]:
        assert data.validate().target == target
        assert isinstance(data.structure, {"graph": Graph, "hypergraph": Hypergraph}[card.kind])
        for names, count in (("node_names", data.num_nodes), ("class_names", card.sizes.get("classes"))):
            if data.meta.get(names) is not None:
                assert len(data.meta[names]) == count


def test_the_card_lists_the_downloaded_files(mirror, tmp_path):
    """For one small set per kind of file table."""
    small = (
        "coauthorship-cora", "cora", "zoo", "uci-zoo", "senate-committees", "cooking", "email-enron", "cornell",
        "mutag", "walmart-trips", "kgcn-music", "nations",
    )  # fmt: skip
    for name in small:
        datasets.load(name, tmp_path / name)
        found = {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*") if path.is_file()}
        assert found == set(datasets.info(name).files)
