"""Other data for a trained network: every kind of column, classes matched by name, unknown names refused."""

from __future__ import annotations

import pytest
import torch

from hgraph import Data, Graph
from hgraph.data import reorder
from hgraph.datasets import Encoder, Inputs, from_tables, load, save
from hgraph.errors import DataError

TRAIN = {
    "id": ["a", "b", "c", "d"],
    "size": ["1", "3", "5", "7"],
    "color": ["red", "blue", "red", "green"],
    "alive": ["yes", "no", "yes", "no"],
    "born": ["2000-01-01", "2001-01-01", "2002-01-01", "2003-01-01"],
    "note": ["a red fox", "a fox here", "red dogs", "here red fox"],
    "team": ["x", "y", "x", "z"],
}
OTHER = {
    "id": ["p", "q", "r"],
    "size": ["100", "300", ""],
    "color": ["green", "black", "red"],
    "alive": ["no", "no", "yes"],
    "born": ["1990-01-01", "", "2020-06-01"],
    "note": ["fox fox", "nothing known", "here"],
    "team": ["z", "z", "y"],
}
KINDS = {"size": "numeric", "color": "categorical", "alive": "boolean", "born": "date", "note": "text"}


def built(table, **options):
    links = {"members": [[str(i)] for i in table["id"]]}
    return from_tables(table, links, label="team", types=KINDS, shares=(1, 0, 0), **options)[0]


@pytest.mark.checked(
    "other data", "A trained network encodes other data with the means, scales, categories and words from its training."
)
@pytest.mark.parametrize("column", KINDS)
def test_every_kind_of_column_is_encoded_as_in_training(column):
    train = {name: TRAIN[name] for name in ("id", "team", column)}
    other = {name: OTHER[name] for name in ("id", "team", column)}
    first, second = (
        from_tables(t, {"members": [[i] for i in t["id"]]}, label="team", types={column: KINDS[column]})[0]
        for t in (train, other)
    )
    found = Inputs.of(first).applied(second, "other")
    assert torch.equal(found.x, first.meta["encoder"].transform(other))
    assert found.y.tolist() == [2, 2, 1]
    assert found.meta["class_names"] == ("x", "y", "z")
    assert found.meta["feature_names"] == first.meta["feature_names"]


def test_saved_inputs_and_data_give_the_same(tmp_path):
    first, second = built(TRAIN), from_tables(
        OTHER, {"members": [["p"], ["q"], ["r"]]}, label="team", types=KINDS, shares=(1, 0, 0)
    )  # fmt: skip
    save(second, tmp_path / "other")
    Inputs.of(first).save(tmp_path)
    found = Inputs.load(tmp_path).applied(load(tmp_path / "other")[0], "other")
    expected = Inputs.of(first).applied(second[0], "other")
    assert torch.equal(found.x, expected.x)
    assert torch.equal(found.y, expected.y)
    assert Inputs.load(tmp_path / "other") is None
    order = reorder(second[0], "degree")
    moved = Inputs.of(first).applied(order.result, "moved")
    assert torch.equal(moved.x, expected.x[order.order])


def without(table, *names):
    return {name: cells for name, cells in table.items() if name not in names}


def unknown_class():
    return built(TRAIN), built(OTHER | {"team": ["x", "unknown", "x"]})


def missing_column():
    other = without(OTHER, "size")
    kinds = {k: v for k, v in KINDS.items() if k != "size"}
    links = {"members": [["p"], ["q"], ["r"]]}
    return built(TRAIN), from_tables(other, links, label="team", types=kinds, shares=(1, 0, 0))[0]


def no_columns():
    links = {"members": [["p"], ["q"], ["r"]]}
    return built(TRAIN), from_tables({"id": ["p", "q", "r"], "team": ["x", "y", "z"]}, links, label="team")[0]


def other_kind_of_cell():
    links = {"members": [["p"], ["q"], ["r"]]}
    other = OTHER | {"size": ["small", "big", "small"]}
    return built(TRAIN), from_tables(other, links, label="team", shares=(1, 0, 0))[0]


def unknown_nodes():
    tables = [{"id": ids, "team": ["x", "y"]} for ids in (["a", "b"], ["a", "c"])]
    return tuple(from_tables(t, {"members": [t["id"]]}, label="team")[0] for t in tables)


def no_names():
    graph = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False)
    return built(TRAIN), Data(graph, torch.eye(2), torch.tensor([0, 1]))


REFUSED = {
    "unknown class": (unknown_class, r"expected classes of the network, got \['unknown'\]"),
    "missing column": (missing_column, r"expected the columns \['size'\]"),
    "no columns": (no_columns, "expected the columns"),
    "other cells": (other_kind_of_cell, "column 'size': expected a finite number, got 'small'"),
    "unknown nodes": (unknown_nodes, r"expected features of the network, got \['node c'\]"),
    "without names": (no_names, "expected the columns"),
}


@pytest.mark.checked("other data", "A class, column or feature that the network never saw is an error that names it.")
@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_unknown_names_are_refused(make, said):
    train, other = make()
    with pytest.raises(DataError, match=said):
        Inputs.of(train).applied(other, "other")


def test_fewer_nodes_and_other_degrees():
    tables = [{"id": ids, "team": ["x", "y"]} for ids in (["a", "b"], ["b", "a"])]
    one, two = (from_tables(t, {"members": [t["id"]]}, label="team")[0] for t in tables)
    assert Inputs.of(one).applied(two, "other").x.tolist() == [[0, 1], [1, 0]]
    ring, star = ({"source": ["0"] * 2100, "target": [str(i) for i in range(1, 2101)]} for _ in range(2))
    star["source"] = [str(i) for i in range(2100)]  # a path: other degrees
    one, two = (from_tables(None, edges=e)[0] for e in (ring, star))
    mean, deviation = one.meta["degree_moments"]
    expected = (two.structure.adj.indptr.diff().float().log1p() - mean) / deviation
    torch.testing.assert_close(Inputs.of(one).applied(two, "other").x[:, 1], expected)


# ---------------------------------------------------------------------- categories of several types

FORMS = {
    "numbers": ([1, 2, 1, 2], [1.0, 2.0, float("nan")], {"1", "2"}),
    "text": (["1", "2", "1", "2"], ["1.0", "2.0", ""], {"1", "2"}),
    "floats first": ([1.0, None, 2.0, 1.0], ["1", "2", ""], {"1", "2"}),
    "truth": ([True, False, True, None], ["True", "FALSE", ""], {"true", "false"}),
}


@pytest.mark.checked(
    "categories", 'A category that changes its type (1 to 1.0, True to "true") stays the same category.'
)
@pytest.mark.parametrize(("trained", "later", "words"), FORMS.values(), ids=FORMS)
def test_a_category_keeps_its_feature_when_its_type_changes(trained, later, words):
    encoder = Encoder.fit({"a": trained}, {"a": "categorical"})
    assert set(encoder.codings[0].words) == words
    x = encoder.transform({"a": later})[:, :2]
    assert x.sum(1).tolist() == [1, 1, 0]
    assert x[0].argmax() != x[1].argmax()
    assert torch.equal(x[0], encoder.transform({"a": trained})[0, :2])
    assert not encoder.unseen({"a": later})


@pytest.mark.checked("categories", "A label that changes its type stays the same class; labels are case-sensitive.")
def test_classes_that_change_type_are_the_same():
    members = {"members": [["a", "b", "c", "d"]]}
    data = from_tables({"id": list("abcd"), "y": ["1", "1.0", "2", "2.0"]}, members, label="y")[0]
    assert (data.meta["class_names"], data.y.tolist()) == (("1", "2"), [0, 0, 1, 1])
    data = from_tables({"id": list("abcd"), "y": ["Red", "red", "True", "true"]}, members, label="y")[0]
    assert data.meta["class_names"] == ("Red", "red", "true")


@pytest.mark.checked("categories", "An id written both as 1 and as 1.0 is an error; it would become two nodes.")
@pytest.mark.parametrize("links", [{"edges": {"source": ["1", "2"], "target": ["2.0", "3"]}},
                                   {"hyperedges": {"members": ["1;2", "1.0;2"]}},
                                   {"hyperedges": {"node": ["a", "b"], "hyperedge": ["1", "1.0"]}}])  # fmt: skip
def test_ids_with_two_spellings_are_refused(links):
    with pytest.raises(DataError, match=r"one spelling of each (node|hyperedge), got '\d' and '\d.0'"):
        from_tables(None, **links)


@pytest.mark.checked("categories", "Categories that training never saw are counted per column and value.")
def test_unseen_categories_are_counted():
    encoder = Encoder.fit({"a": ["x", "y"], "b": [1, 2]}, {"a": "categorical", "b": "numeric"})
    assert encoder.unseen({"a": ["z", "X", "x", "z", ""], "b": [9, 9, 9, 9, 9]}) == {"a": {"z": 2, "X": 1}}
