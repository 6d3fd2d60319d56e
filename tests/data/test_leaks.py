"""Warnings where data reveals what a model should predict; each is silent on data that does not."""

from __future__ import annotations

import logging

import pytest
import torch

import hgraph.datasets as datasets
from hgraph.data import TripleSplit
from hgraph.data.leaks import class_hyperedges, copies_of_label, inverse_triples, repeated_rows
from hgraph.structure import Hypergraph, KnowledgeGraph

LABEL = ["a", "b", "a", "b", "a", ""]
COLUMNS = {
    "a copy": (["a", "b", "a", "b", "a", "b"], "is a copy"),
    "a copy with gaps": (["a", "b", "", "b", "a", ""], "is a copy"),
    "a code": (["0", "1", "0", "1", "0", "1"], "is a one-to-one code"),
    "a code of two forms": (["0", "1", "0.0", "1.0", "0", "1"], "is a one-to-one code"),
    "one exception": (["0", "1", "0", "1", "1", "1"], ""),
    "finer than the label": (["0", "1", "2", "1", "0", "1"], ""),
    "constant": (["0"] * 6, ""),
    "ids": ([*"123456"], ""),
    "empty": ([""] * 6, ""),
}


@pytest.mark.parametrize(("cells", "said"), COLUMNS.values(), ids=COLUMNS)
def test_copies_of_the_label(cells, said):
    found = copies_of_label({"c": cells}, LABEL, canonical=lambda cell: cell.removesuffix(".0"))
    assert len(found) == bool(said)
    assert all("'c'" in text and said in text for text in found)


def test_numbers_that_never_repeat_are_no_code():
    numbers = [str(i / 7) for i in range(9)]
    assert copies_of_label({"id": [*"abcdefghi"]}, numbers) == []
    assert copies_of_label({"same": numbers}, numbers) == [
        "Column 'same' is a copy of the label: it reveals the answer."
    ]


def test_repeated_rows():
    x = torch.arange(12.0).view(6, 2)
    parts = torch.tensor([0, 1, 2]), torch.tensor([3]), torch.tensor([4, 5])
    assert repeated_rows(x, *parts) == []
    x[5] = x[0]
    assert repeated_rows(x, *parts) == ["1 of 2 test rows have exactly the features of a training row."]
    x[3] = x[2]
    assert len(repeated_rows(x, *parts)) == 2
    few = torch.arange(30).remainder(3)[:, None].float()
    assert repeated_rows(few, *torch.arange(30).tensor_split(3)) == []
    assert repeated_rows(x[:, :0], *parts) == repeated_rows(x[:0], *(p[:0] for p in parts)) == []


HYPEREDGES = {
    "both classes": ([[0, 1, 2], [3, 4]], 2),
    "one class and others": ([[0, 1, 2], [2, 3], [0, 4]], 1),
    "with an unlabeled node": ([[0, 1, 2, 5]], 1),
    "parts of classes": ([[0, 1], [1, 2]], 0),
    "more than a class": ([[0, 1, 2, 3]], 0),
    "none": ([[]], 0),
}


@pytest.mark.parametrize(("members", "count"), HYPEREDGES.values(), ids=HYPEREDGES)
def test_hyperedges_that_are_the_classes(members, count):
    found = class_hyperedges(Hypergraph.from_lists(members, num_nodes=6), torch.tensor([0, 0, 0, 1, 1, -1]))
    assert [text.split(" have")[0] for text in found] == [f"{count} of 2 classes"] * bool(count)


def split_of(train, test):
    kg = KnowledgeGraph.from_names([*train, *test])
    number, kind = ({n: i for i, n in enumerate(names)} for names in (kg.node_names, kg.relation_names))
    parts = [torch.tensor([(number[h], kind[r], number[t]) for h, r, t in part]) for part in (train, train[:0], test)]
    parts[1] = parts[0][:0]
    return TripleSplit.of_triples(
        parts, num_nodes=kg.num_nodes, num_relations=kg.num_relations, relation_names=kg.relation_names
    )


WORK = [("ann", "employs", "bob"), ("bob", "works for", "ann"), ("ann", "employs", "cleo"), ("dan", "sees", "eve")]
TRIPLES = {
    "an inverse relation": ([("cleo", "works for", "ann")], "1 of 1 test triples have their inverse in training"),
    "of another pair": ([("bob", "works for", "cleo")], ""),
    "in the same direction": ([("ann", "sees", "bob")], ""),
    "opposite, but no inverse": ([("eve", "employs", "dan")], ""),
}


@pytest.mark.parametrize(("test", "said"), TRIPLES.values(), ids=TRIPLES)
def test_inverse_relations_across_parts(test, said):
    found = inverse_triples(split_of(WORK, test))
    assert len(found) == bool(said)
    assert all(text.startswith(said) and "'employs' of 'works for'" in text for text in found)


def test_a_symmetric_relation_is_its_own_inverse():
    train = [("a", "knows", "b"), ("b", "knows", "a"), ("c", "knows", "a"), ("a", "knows", "c"), ("d", "knows", "a")]
    assert len(inverse_triples(split_of(train, [("a", "knows", "d")]))) == 1
    loops = [("a", "knows", "a"), ("b", "knows", "b"), ("c", "sees", "d")]
    assert inverse_triples(split_of(loops, [("c", "knows", "c")])) == []
    assert inverse_triples(split_of([("a", "r", "b")], [("b", "r", "a")])) == []


# ---------------------------------------------------------------------- where they are shown


def table(**more):
    ids = [str(i) for i in range(40)]
    label = [["x", "y"][i % 3 == 0] for i in range(40)]
    return {"id": ids, "label": label, "size": [str(i * i) for i in range(40)], **more}, ids, label


def test_tables_warn_and_the_card_remembers(tmp_path, caplog):
    nodes, ids, label = table()
    edges = {"source": ids, "target": ids[1:] + ids[:1]}
    with caplog.at_level(logging.WARNING, "hgraph"):
        quiet = datasets.from_tables(nodes, edges=edges, label="label", name="set")
    assert caplog.text == ""
    nodes["code"] = [{"x": "7", "y": "9"}[c] for c in label]
    nodes["size"][-1] = nodes["size"][0]
    nodes["code"][-1] = nodes["code"][0]
    members = [[i for i, c in zip(ids, label, strict=True) if c == name] for name in "xy"]
    with caplog.at_level(logging.WARNING, "hgraph"):
        loud = datasets.from_tables(nodes, {"members": members}, label="label", name="set", shares=(0.9, 0, 0.1))
    datasets.save(loud, tmp_path / "set")
    caveats = datasets.info(tmp_path / "set").caveats
    for said in ("Column 'code' is a one-to-one code of the label", "2 of 2 classes have a hyperedge"):
        assert said in caplog.text
        assert any(said in text for text in caveats)
        assert not any(said in text for text in quiet.caveats)


def test_triples_that_repeat_interactions(tmp_path, caplog):
    pairs = [(user, item) for user in ("ann", "bob", "cleo") for item in ("dune", "ubik", "solaris") if user < item]
    lines = "".join(f"{user},{item}\n" for user, item in pairs[:-1])
    (tmp_path / "interactions.csv").write_text("user,item\n" + lines)
    (tmp_path / "triples.csv").write_text("head,relation,tail\ndune,by,herbert\n")
    caplog.set_level(logging.WARNING, "hgraph")
    assert not any("reveals" in text for text in datasets.from_interactions(tmp_path, test=0.4).caveats)
    (tmp_path / "triples.csv").write_text("head,relation,tail\n" + lines.replace(",", ",liked,"))
    found = [text for text in datasets.from_interactions(tmp_path, test=0.4).caveats if "reveals" in text]
    assert any(text.startswith("3 of 3 test pairs are also triples") for text in found)
    assert "3 of 3 test pairs" in caplog.text


def test_distinct_values_with_a_missing_cell_are_no_code_of_a_label_that_never_repeats():
    prices, sizes = [str(i) for i in range(20)], ["", *(str(100 - i) for i in range(19))]
    assert copies_of_label({"size": sizes}, prices) == []
