"""Categories, memberships and terms."""

from __future__ import annotations

import datetime
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph.builders import category_hypergraph, membership_hypergraph, term_hypergraph
from hgraph.errors import ArgumentError

values = st.sampled_from([None, "", float("nan"), "a", "b", 1, 2.5])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 8).flatmap(lambda n: st.lists(st.lists(values, min_size=n, max_size=n), min_size=1, max_size=3)))
def test_categories_are_the_rows_of_each_value(columns):
    table = {f"c{i}": column for i, column in enumerate(columns)}
    built = category_hypergraph(table)
    assert built.structure.num_nodes == len(columns[0])
    members = dict(zip(built.hyperedge_ids, built.structure.to_lists(), strict=True))
    for name, column in table.items():
        for row, value in enumerate(column):
            missing = value in (None, "") or value != value
            assert missing or row in members[(name, value)]
    present = [v for column in columns for v in column if v not in (None, "") and v == v]
    assert built.structure.num_incidences == len(present)


def test_rare_values_can_be_left_out_and_arrays_are_taken():
    built = category_hypergraph({"a": np.array([1, 1, 2]), "b": np.array(["x", "y", "y"])}, min_size=2)
    assert built.hyperedge_ids == [("a", 1), ("b", "y")]
    assert built.structure.to_lists() == [[0, 1], [1, 2]]


def test_columns_are_checked():
    with pytest.raises(ArgumentError, match="same length"):
        category_hypergraph({"a": [1], "b": [1, 2]})
    with pytest.raises(ArgumentError, match="at least one column"):
        category_hypergraph({})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 2)), max_size=12))
def test_memberships_keep_ids_and_counts(rows):
    nodes, hyperedges = [v for v, _ in rows], [e for _, e in rows]
    built = membership_hypergraph(nodes, hyperedges, weight=[1.0] * len(rows), duplicates="sum")
    assert built.node_ids == list(dict.fromkeys(nodes))
    assert built.hyperedge_ids == list(dict.fromkeys(hyperedges))
    incidence = built.structure.incidence()
    counts = Counter(rows)
    for v, node in enumerate(built.node_ids):
        for e, hyperedge in enumerate(built.hyperedge_ids):
            assert incidence[v, e] == counts[(node, hyperedge)]


def test_memberships_are_checked():
    with pytest.raises(ArgumentError, match="hyperedge: expected 2 ids"):
        membership_hypergraph([1, 2], [1])
    with pytest.raises(ArgumentError, match="row 1"):
        membership_hypergraph(["a", ""], [1, 1])
    with pytest.raises(ArgumentError, match="twice|repeat"):
        membership_hypergraph(["a", "a"], [1, 1])


TEXTS = ["The red fox and the dog", "A red, red rose", "", "dog eats dog", "zzz"]


def test_terms_are_the_texts_that_use_them():
    built = term_hypergraph(TEXTS, weight="count")
    assert built.hyperedge_ids == ["dog", "red"]
    assert built.structure.incidence().tolist() == [[1, 1], [0, 2], [0, 0], [2, 0], [0, 0]]
    assert term_hypergraph(TEXTS, weight=None).structure.v2e.weight is None


def test_weights_are_the_formula_of_the_docstring():
    built = term_hypergraph(TEXTS)
    n, used = len(TEXTS), torch.tensor([2.0, 2.0])
    raw = torch.tensor([[1.0, 1], [0, 2], [0, 0], [2, 0], [0, 0]]) * (1 + torch.log((1 + n) / (1 + used)))
    expected = raw / raw.norm(dim=1, keepdim=True).clamp_min(1e-12)
    torch.testing.assert_close(built.structure.incidence(), expected)


def test_common_and_surplus_terms_are_left_out():
    assert term_hypergraph(TEXTS, max_share=0.3).structure.num_hyperedges == 0
    assert term_hypergraph(TEXTS, min_texts=1, max_terms=2).hyperedge_ids == ["dog", "red"]


def test_texts_are_checked():
    for texts in ("one text", [1, 2], ["", "a"]):
        with pytest.raises(ArgumentError, match="texts"):
            term_hypergraph(texts)
    with pytest.raises(ArgumentError, match="max_share"):
        term_hypergraph(TEXTS, max_share=0)


MISSING = {
    "None": lambda: None,
    "NaN": lambda: np.float32("nan"),
    "NaT": lambda: np.datetime64("NaT"),
    "NA": lambda: pytest.importorskip("pandas").NA,
    "pandas NaT": lambda: pytest.importorskip("pandas").NaT,
}


@pytest.mark.checked(
    "builders", "A missing value (None, NaN, or NaT and NA of any library) is never a category or an id."
)
@pytest.mark.parametrize("make", MISSING.values(), ids=MISSING)
def test_missing_values_of_any_library_are_in_no_hyperedge(make):
    built = category_hypergraph({"a": ["x", make(), "x", make()]})
    assert (built.hyperedge_ids, built.structure.to_lists()) == ([("a", "x")], [[0, 2]])
    with pytest.raises(ArgumentError, match="node: expected an id in every row"):
        membership_hypergraph(["x", make()], ["e", "e"])


@pytest.mark.checked(
    "builders", "Dates used as categories stay dates; they do not become the integers that numpy stores."
)
def test_dates_stay_dates():
    days = np.array(["2024-05-31", "NaT", "2024-05-31"], dtype="datetime64[ns]")
    built = category_hypergraph({"day": days})
    assert built.hyperedge_ids == [("day", datetime.datetime(2024, 5, 31))]
    assert built.structure.to_lists() == [[0, 2]]


@pytest.mark.checked("builders", "`membership_hypergraph(nodes=...)` keeps nodes without a hyperedge.")
def test_nodes_without_a_hyperedge_are_kept():
    built = membership_hypergraph(["b", "a"], ["e", "e"], nodes=["a", "b", "isolated"])
    assert built.node_ids == ["a", "b", "isolated"]
    assert built.structure.to_lists() == [[0, 1]]
    assert built.structure.num_nodes == 3
    with pytest.raises(ArgumentError, match="ids listed in nodes, got 'c'"):
        membership_hypergraph(["c"], ["e"], nodes=["a", "b"])
    with pytest.raises(ArgumentError, match="distinct ids"):
        membership_hypergraph(["a"], ["e"], nodes=["a", "a"])


@pytest.mark.checked("builders", "A cell with several values is an error as a category; the message names the row.")
def test_a_list_is_not_a_category():
    with pytest.raises(TypeError, match=r"columns\['a'\]: expected texts, numbers, dates, got \['y'\] in row 1"):
        category_hypergraph({"a": ["x", ["y"]]})
