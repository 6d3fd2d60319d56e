"""`from_tables`: every form of table, labels, splits, and errors with their position."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph.datasets.tables import Encoder, build, from_tables, ids
from hgraph.errors import ArgumentError, DataError
from hgraph.structure import Graph, Hypergraph

NODES = {
    "id": ["ada", "ben", "cleo", "dan", "eve"],
    "age": [36, 41, 28, "", 60],
    "team": ["red", "blue", "red", "", "blue"],
}


def csv_files(tmp_path, **texts):
    paths = {name: tmp_path / f"{name}.csv" for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text)
    return paths


def edges_of(graph):
    return sorted(map(tuple, graph.edge_index.T.tolist()))


# ---------------------------------------------------------------------- structures

LONG = {"node": ["ben", "ada", "cleo", "ben"], "hyperedge": ["m2", "m1", "m1", "m1"]}
WIDE = {"hyperedge": ["m2", "m1"], "members": ["ben", "ada;cleo; ben"]}


@pytest.mark.parametrize("form", [LONG, WIDE, WIDE | {"members": [["ben"], ("ada", "cleo", "ben")]}])
def test_long_and_wide_forms_mean_the_same(form):
    data = from_tables(NODES, form, label="team")[0]
    assert data.structure.equal(Hypergraph.from_lists([[1], [0, 1, 2]], num_nodes=5))
    assert data.meta["hyperedge_names"] == ("m2", "m1")
    assert data.meta["node_names"] == ("ada", "ben", "cleo", "dan", "eve")
    assert data.y.tolist() == [1, 0, 1, -1, 0]
    assert data.meta["class_names"] == ("blue", "red")
    assert data.num_classes == 2


@pytest.mark.parametrize(("members", "separator"), [("a b|c", None), ("a b;c", None), ("a b // c", "//")])
def test_separators(members, separator):
    structure = from_tables({"id": ["a b", "c"]}, {"members": [members, ""]}, separator=separator)[0].structure
    assert structure.to_lists() == [[0, 1], []]
    assert from_tables(None, {"members": ["a b  c", "c"]})[0].structure.to_lists() == [[0, 1, 2], [2]]


def test_weights_and_times_follow_their_incidences_and_hyperedges():
    data = from_tables(
        NODES, LONG | {"Weight": ["2", "3", "4", "5"], "time": ["4", "3", "2", "1"], "note": list("wxyz")}
    )
    assert "note" in " ".join(data.caveats)
    structure = data[0].structure
    assert structure.v2e.dense().tolist() == [[0, 2, 0, 0, 0], [3, 5, 4, 0, 0]]
    assert data[0].meta["incidence_time"].tolist() == [4, 3, 1, 2]  # (m2, ben), (m1, ada), (m1, ben), (m1, cleo)
    data = from_tables(NODES, WIDE | {"weight": [0.5, 2], "time": ["1970-01-02", "1970-01-03"]})[0]
    assert data.structure.hyperedge_weight.tolist() == [0.5, 2]
    assert data.structure.v2e.weight is None
    assert data.meta["hyperedge_time"].tolist() == [1, 2]


def test_undirected_and_directed_edges():
    edges = {"source": ["ada", "ben", "eve"], "target": ["ben", "cleo", "eve"], "w": [1, 2, 3], "time": [7, 8, 9]}
    data = from_tables(NODES, edges=edges)[0]
    assert edges_of(data.structure) == [(0, 1), (1, 0), (1, 2), (2, 1), (4, 4)]
    assert data.structure.adj.weight.tolist() == [1, 1, 2, 2, 3]
    assert data.meta["edge_time"].tolist() == [7, 7, 8, 8, 9]
    assert isinstance(data.structure, Graph)
    assert edges_of(from_tables(NODES, edges=edges, directed=True)[0].structure) == [(0, 1), (1, 2), (4, 4)]
    both = {"source": ["ada", "ben"], "target": ["ben", "ada"], "weight": [2, 2]}
    assert from_tables(NODES, edges=both)[0].structure.adj.weight.tolist() == [2, 2]


def test_triples_stay_separate_and_keep_their_relations():
    triples = {
        "head": ["a", "a", "b", "c"],
        "relation": ["likes", "knows", "likes", "likes"],
        "tail": ["b", "b", "a", "b"],
    }
    data = from_tables(None, edges=triples)[0]
    assert data.meta["node_names"] == ("a", "b", "c")
    source, target = data.structure.edge_index
    found = [
        (data.meta["node_names"][t], data.meta["relation_names"][r], data.meta["node_names"][s])
        for t, r, s in zip(target.tolist(), data.meta["relation"].tolist(), source.tolist(), strict=True)
    ]
    assert sorted(found) == sorted(zip(*triples.values(), strict=True))
    with pytest.raises(DataError, match=r"edges, row 4 .*: each pair|expected each pair once"):
        from_tables(None, edges={k: [*v, v[0]] for k, v in triples.items()})


def test_columns_of_other_names():
    nodes = {"isbn": ["7", "07"], "price": [1, 2]}
    reads = {"book": ["7", "7", "07"], "reader": ["x", "y", "y"]}
    data = from_tables(nodes, reads, columns={"id": "isbn", "node": "book", "hyperedge": "reader"})[0]
    assert data.structure.to_lists() == [[0], [0, 1]]
    assert data.meta["feature_names"] == ("price",)


@pytest.mark.parametrize("policy", ["sum", "first"])
@pytest.mark.parametrize("weighted", [True, False])
def test_duplicates_are_summed_or_the_first_is_used(policy, weighted):
    pairs = {"node": list("abaab"), "hyperedge": list("xxxyx")} | ({"weight": [1, 2, 4, 8, 16]} if weighted else {})
    v2e = from_tables({"id": ["a", "b"]}, pairs, duplicates=policy)[0].structure.v2e
    expected = {
        ("sum", True): [[5, 18], [8, 0]],
        ("sum", False): [[2, 2], [1, 0]],
        ("first", True): [[1, 2], [8, 0]],
        ("first", False): [[1, 1], [1, 0]],
    }
    assert v2e.dense().tolist() == expected[policy, weighted]
    wide = from_tables({"id": ["a", "b"]}, {"members": ["a;b;a", "b"]}, duplicates=policy)[0].structure
    assert wide.v2e.dense().tolist() == [[2 if policy == "sum" else 1, 1], [0, 1]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=12))
def test_summed_incidences_are_the_sums(rows):
    nodes = {"id": [f"v{i}" for i in range(5)]}
    v, e, w = zip(*rows, strict=True)
    table = {"node": [f"v{i}" for i in v], "hyperedge": [f"e{i}" for i in e], "weight": w}
    data = from_tables(nodes, table, duplicates="sum")[0]
    naive = torch.zeros(5, len(set(e)))
    for node, hyperedge, weight in rows:
        naive[node, data.meta["hyperedge_names"].index(f"e{hyperedge}")] += weight
    assert torch.equal(data.structure.incidence(), naive)


# ---------------------------------------------------------------------- labels, features, splits


def big(n=60, **more):
    return {"id": list(range(n)), "kind": ["abc"[i % 3] for i in range(n)], "v": [i % 7 for i in range(n)]} | more


LINE = {"source": list(range(59)), "target": list(range(1, 60))}


def test_stratified_split_by_class_and_seed():
    data = from_tables(big(), edges=LINE, label="kind", shares=(0.5, 0.3, 0.2))[0]
    split = data.split()
    for part, count in (("train", 10), ("val", 6), ("test", 4)):
        assert torch.bincount(data.y[getattr(split, part)]).tolist() == [count] * 3
    again, other = (from_tables(big(), edges=LINE, label="kind", seed=s)[0].split() for s in (0, 1))
    assert not torch.equal(again.train, other.train)
    assert data.meta["feature_names"] == ("v",)
    single = from_tables({"id": ["a", "b", "c"], "y": ["p", "p", "q"]}, {"members": ["a;b"]}, label="y")[0].split()
    assert (len(single.train), len(single.val), len(single.test)) == (2, 0, 1)


def test_features_use_no_information_of_other_rows():
    table = big(v=[float(i) for i in range(60)], part=["train"] * 30 + ["test"] * 30)
    table["kind"] = ["abc"[i % 3] for i in range(60)]
    table["late"] = ["seen"] * 30 + ["unseen"] * 30
    data = from_tables(table, edges=LINE, label="kind", split="given", split_column="part")[0]
    assert data.meta["feature_names"] == ("v", "late=seen")
    assert data.x[:30, 0].mean().abs() < 1e-6
    table["v"][40], table["late"][50] = 1e9, "other"
    changed = from_tables(table, edges=LINE, label="kind", split="given", split_column="part")[0]
    assert torch.equal(changed.x[:30], data.x[:30])
    assert changed.meta["encoder"].codings == data.meta["encoder"].codings


def test_a_temporal_split_keeps_equal_times_together():
    years = [f"20{10 + i // 10}-01-01" for i in range(60)]
    data = from_tables(big(year=years), edges=LINE, label="kind", split="temporal", split_column="year")[0]
    split = data.split()
    assert split.train.tolist() == list(range(40))  # 0.6 of 60 falls into the fourth year
    assert split.val.tolist() == list(range(40, 50))
    assert split.test.tolist() == list(range(50, 60))
    assert "year" not in " ".join(data.meta["feature_names"])
    kept = from_tables(
        big(year=years), edges=LINE, label="kind", split="temporal", split_column="year", types={"year": "date"}
    )[0]
    assert "year (time)" in kept.meta["feature_names"]


def test_a_given_split_and_rows_in_no_part():
    part = ["Train", "VALID", "test", "", "dev"] * 12
    split = from_tables(big(part=part), edges=LINE, label="kind", split="given", split_column="part")[0].split()
    assert split.train.tolist() == list(range(0, 60, 5))
    assert split.val.tolist() == sorted([*range(1, 60, 5), *range(4, 60, 5)])
    assert split.test.tolist() == list(range(2, 60, 5))


def test_regression_and_numeric_classes():
    table = big(price=[i / 4 for i in range(59)] + [""], level=[str(10 - i % 11) for i in range(60)])
    data = from_tables(table, edges=LINE, label="price")
    assert (data.task, data.target_spec) == ("node regression", {"kind": "real"})
    assert data[0].y[5] == 1.25
    assert data[0].y[59].isnan()
    split = data[0].split()
    assert 59 not in torch.cat([split.train, split.val, split.test])
    assert from_tables(table, edges=LINE, label="level")[0].meta["class_names"] == tuple(map(str, range(11)))
    assert from_tables(table, edges=LINE, label="level", task="regression")[0].y.is_floating_point()


def test_without_features_x_is_the_identity(monkeypatch):
    table = {"id": range(60), "y": [i % 2 for i in range(60)]}
    assert torch.equal(from_tables(table, edges=LINE, label="y")[0].x, torch.eye(60))
    monkeypatch.setattr(build, "_IDENTITY", 10)
    data = from_tables(table, edges=LINE, label="y")[0]
    assert data.meta["feature_names"] == ("one", "log degree")
    assert data.x[0, 1] < data.x[1, 1] == data.x[2, 1]


def test_data_without_labels():
    data = from_tables(None, LONG)
    assert data.task.startswith("none")
    assert not data[0].splits
    assert data[0].y.tolist() == [-1, -1, -1]


def test_the_encoder_encodes_new_rows():
    data = from_tables(NODES, LONG, label="team")[0]
    encoder = data.meta["encoder"]
    assert isinstance(encoder, Encoder)
    assert torch.equal(encoder.transform({"age": NODES["age"]}), data.x)


# ---------------------------------------------------------------------- errors

NODES_CSV = "id,age,team,part\nada,36,red,train\nben,41,blue,test\ncleo,28,red,train\n"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("node,hyperedge\nada,m\n\nclio,m\n", ":4: column 'node'", "'clio'. Did you mean 'cleo'"),
        ("node,hyperedge\nada,m\n,m\n", ":3: column 'node'", "an empty cell"),
        ("node,hyperedge\nada,m\nben,\n", ":3: column 'hyperedge'", "an empty cell"),
        (
            "node,hyperedge\nada,m\nben,m\nada,m\n",
            ":4: column 'node'",
            r"a pair that is also in .*he.csv:2.*duplicates=",
        ),
        ("node,hyperedge,weight\nada,m,1\nben,m,heavy\n", ":3: column 'weight'", "a finite number, got 'heavy'"),
        ("node,hyperedge,weight\nada,m,1\nben,m,\n", ":3: column 'weight'", "a weight, got an empty cell"),
        ("node,hyperedge,weight\nada,m,1\nben,m,1e39\n", ":3: column 'weight'", "float32"),
        ("node,hyperedge,time\nada,m,2024-05-31\nben,m,May\n", ":3: column 'time'", "a date such as"),
        ("members\nada;ben\nada;bne\n", ":3: column 'members'", "'bne'. Did you mean 'ben'"),
        ("members\nada;ben;ada\n", ":2: column 'members'", "each pair once, got a repeated pair"),
        ("hyperedge,members\nm,ada\nm,ben\n", ":3: column 'hyperedge'", r"'m', which is also in .*he.csv:2"),
        ("who,what\nada,m\n", "", "a column for the node, called 'node' or .*--column node="),
    ],
)
def test_wrong_hyperedges_are_refused_with_their_position(tmp_path, text, place, message):
    files = csv_files(tmp_path, nodes=NODES_CSV, he=text)
    with pytest.raises(DataError, match=message) as caught:
        from_tables(files["nodes"], files["he"], label="team")
    assert str(caught.value).startswith(f"{files['he']}{place}: ")


@pytest.mark.checked(
    "numbers", "Weights, their sums and numeric labels that float32 cannot hold are errors, never infinite."
)
def test_numbers_that_float32_cannot_hold_are_refused(tmp_path):
    people, teams = {"id": ["a", "b", "c"], "y": ["0.5", "1", "1e39"]}, {"members": [["a", "b"]]}
    with pytest.raises(DataError, match=r"row 2 .*column 'y': expected a number that float32 can hold, got 1e\+39"):
        from_tables(people, teams, label="y")
    pairs = {"node": ["a", "b", "b"], "hyperedge": ["e", "e", "e"], "weight": [1, 3e38, 3e38]}
    with pytest.raises(DataError, match=r"row 1 .*expected a sum of weights that float32 can hold"):
        from_tables(hyperedges=pairs, duplicates="sum")
    (tmp_path / "he.json").write_text('{"incidences": [{"edge": "e", "node": "a", "weight": 1e39}]}')
    with pytest.raises(DataError, match=r"he.json: incidences: expected weights that float32 can hold"):
        from_tables(hyperedges=tmp_path / "he.json")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("source,target\nada,ben\nada,eva\n", ":3: column 'target'", "the id of a node of .*nodes.csv, got 'eva'"),
        ("source,target\nada,ben\nada,ben\n", ":3: column 'target'", "each pair once"),
        (
            "src,dst,weight\nada,ben,1\nben,ada,2\n",
            ":3: column 'dst'",
            "the same weight for both .*and 1 for its reverse in .*:2",
        ),
        ("head,relation,tail\nada,knows,ben\nada,,ben\n", ":3: column 'relation'", "a relation, got an empty cell"),
        ("from,too\nada,ben\n", "", "a column for the target"),
    ],
)
def test_wrong_edges_are_refused_with_their_position(tmp_path, text, place, message):
    files = csv_files(tmp_path, nodes=NODES_CSV, edges=text)
    with pytest.raises(DataError, match=message) as caught:
        from_tables(files["nodes"], edges=files["edges"])
    assert str(caught.value).startswith(f"{files['edges']}{place}: ")


@pytest.mark.parametrize(
    ("text", "options", "place", "message"),
    [
        ("id,y\na,1\n\nb,2\na,3\n", {}, ":5: column 'id'", r"'a', which is also in .*:2"),
        ("id,y\na,1\n,2\n", {}, ":3: column 'id'", "an empty cell"),
        ("name,y\na,1\n", {}, "", "a column for the id"),
        ("id,y,z\na,1,2\nb,2,x\n", {"types": {"z": "numeric"}}, ":3: column 'z'", "a finite number, got 'x'"),
        ("id,y,z\na,1,2\nb,2,x\n", {"label": "z", "task": "regression"}, ":3: column 'z'", "a finite number"),
        (
            "id,y,z\na,1,1\nb,2,\n",
            {"label": "y", "split": "temporal", "split_column": "z"},
            ":3: column 'z'",
            "an empty",
        ),
        ("id,y,z\na,1,1\nb,2,t\n", {"label": "y", "split": "given", "split_column": "z"}, ":2: column 'z'", "got '1'"),
    ],
)
def test_wrong_nodes_are_refused_with_their_position(tmp_path, text, options, place, message):
    files = csv_files(tmp_path, nodes=text, he="node,hyperedge\na,m\n")
    with pytest.raises(DataError, match=message) as caught:
        from_tables(files["nodes"], files["he"], **options)
    assert str(caught.value).startswith(f"{files['nodes']}{place}: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hyperedges": None}, "either hyperedges, edges or knn, got none"),
        ({"edges": LINE}, "got hyperedges and edges"),
        ({"label": "color"}, "label: expected a column of nodes"),
        ({"columns": {"color": "teem"}}, "roles among"),
        ({"types": {"color": "text"}}, "types: expected columns of nodes"),
        ({"types": {"age": "number"}}, "one of .*'numeric'"),
        ({"duplicates": "keep"}, "'error', 'sum' or 'first'"),
        ({"split": "random"}, "one of .*'stratified'"),
        ({"split": "temporal"}, "split_column"),
        ({"split_column": "age"}, "split_column"),
        ({"split": "given", "split_column": "color"}, "split_column: expected a column of nodes"),
        ({"shares": (0.5, 0.5)}, "add up to 1"),
        ({"shares": (0.5, 0.6, -0.1)}, "add up to 1"),
        ({"shares": (0, 0.5, 0.5)}, "add up to 1"),
        ({"nodes": None, "label": "team"}, "nodes: expected a table"),
        ({"separator": "", "hyperedges": WIDE}, "separator"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        from_tables(**{"nodes": NODES, "hyperedges": LONG} | arguments)


def test_the_most_similar_id_of_many():
    index = {f"user-{i:06d}": i for i in range(100_000)} | {"12": -1}
    assert ids.nearest("user-0000123", index).startswith("user-0")
    assert ids.nearest("USER-000777", index) == "user-000777"
    assert ids.nearest("12.0", index) == "12"
    assert ids.nearest("qqqq", index) is None
    assert ids.nearest("", index) is None


def test_a_table_without_rows_is_valid():
    data = from_tables({"id": [], "y": []}, {"node": [], "hyperedge": []})[0]
    assert (data.num_nodes, data.structure.num_hyperedges) == (0, 0)
    assert from_tables(NODES, edges={"source": [], "target": []})[0].structure.num_edges == 0


# ---------------------------------------------------------------------- HIF

HIF = {
    "network-type": "undirected",
    "nodes": [
        {"node": "a", "attrs": {"age": 3, "kind": "x"}},
        {"node": 7, "attrs": {"age": 5}},
        {"node": "lone", "attrs": {"kind": "y", "id": "ssn"}},
    ],
    "edges": [{"edge": "e", "weight": 2.5}, {"edge": "empty", "attrs": {"color": "red"}}],
    "incidences": [{"node": "a", "edge": "e", "weight": 0.5}, {"node": 7, "edge": "e"}],
}


def test_hif_file(tmp_path):
    path = tmp_path / "net.json"
    path.write_text(json.dumps(HIF))
    dataset = from_tables(None, path, label="kind", shares=(1, 0, 0), types={"id": "ignore"})
    data = dataset[0]
    assert data.structure.to_lists() == [[0, 1], []]
    assert data.structure.hyperedge_weight.tolist() == [2.5, 1]
    assert data.structure.v2e.weight.tolist() == [0.5, 1]
    assert data.structure.v2e.weight.dtype is torch.float32
    assert data.meta["node_names"] == ("a", "7", "lone")
    assert data.meta["hyperedge_names"] == ("e", "empty")
    assert data.y.tolist() == [0, -1, 1]
    assert data.meta["feature_names"] == ("age", "age (missing)")
    assert data.x[:, 1].tolist() == [0, 0, 1]
    assert "color" in " ".join(dataset.caveats)
    with pytest.raises(ArgumentError, match="HIF"):
        from_tables(NODES, path)
    with pytest.raises(DataError, match="kind"):
        from_tables(None, path, label="age", types={"kind": "numeric", "id": "ignore"})
    path.write_text(json.dumps(HIF | {"nodes": [{"node": "7"}, {"node": 7}]}))
    with pytest.raises(DataError, match="node ids that differ as text, got '7'"):
        from_tables(None, path)
    path.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        from_tables(None, path)


NAMED = {"id": list("abcdef"), "y": ["None", "x", "None", "y", "?", "x"], "c": ["NA", "r", "s", "r", "", "s"]}


@pytest.mark.checked("missing", "A note lists classes and categories such as None, NA or ? that are read as missing.")
def test_texts_read_as_missing_are_logged(caplog):
    dataset = from_tables(NAMED, {"members": [["a", "b"]]}, label="y", types={"c": "categorical"})
    assert dataset[0].y.tolist() == [-1, 0, -1, 1, -1, 0]
    note = "Column 'y': 2 'None', 1 '?' read as missing, not as a class. Pass --missing '' to keep them."
    assert note in caplog.text
    assert note in dataset.caveats
    assert "Column 'c': 1 'NA' read as missing, not as a category." in caplog.text


@pytest.mark.checked("missing", "`missing=` (`--missing`) sets which texts mean missing.")
def test_the_user_chooses_what_is_missing(caplog):
    data = from_tables(NAMED, {"members": [["a", "b"]]}, label="y", missing=("",))[0]
    assert data.meta["class_names"] == ("?", "None", "x", "y")
    assert data.y.tolist() == [1, 2, 1, 3, 0, 2]
    assert data.meta["encoder"].unseen({"c": ["NA"]}) == {}
    assert "read as missing" not in caplog.text


LOG = {"source": list("abab"), "target": list("babc"), "time": [1, 2, 3, 4], "weight": [1, 2, 4, 8]}


@pytest.mark.checked(
    "splits", "A log with both directions of an undirected edge is added up on request; otherwise it is an error."
)
def test_logs_with_both_directions():
    events = {name: values[:2] + values[3:] for name, values in LOG.items()}  # a b, b a, b c
    with pytest.raises(DataError, match="the same weight for both directions of an edge"):
        from_tables(None, edges=events)
    timed = {name: events[name] for name in ("source", "target", "time")}
    with pytest.raises(
        DataError, match="the same time for both directions of an edge, got 2, and 1 for its reverse in"
    ):
        from_tables(None, edges=timed)
    for policy, weights in (("sum", [7, 7, 8, 8]), ("first", [1, 1, 8, 8])):
        data = from_tables(None, edges=LOG, duplicates=policy)[0]
        assert edges_of(data.structure) == [(0, 1), (1, 0), (1, 2), (2, 1)]
        assert data.structure.adj.weight.tolist() == weights
        assert data.meta["edge_time"].tolist() == [1, 1, 4, 4]
    both = {"source": list("abbc"), "target": list("bacb")}  # each edge in both directions: not a log of events
    assert from_tables(None, edges=both, duplicates="sum")[0].structure.adj.weight is None


# ---------------------------------------------------------------------- several labels per node


def topics(**changes):
    table = {
        "id": list("abcdef"),
        "age": [1, 2, 3, 4, 5, 6],
        "music": [1, 0, 1, 0, 1, 0],
        "sport": ["yes", "no", "no", "yes", "yes", "no"],
    }
    return table | changes


def test_several_columns_are_a_set_of_labels():
    options = {"label": ["music", "sport"], "shares": (0.5, 0, 0.5)}
    dataset = from_tables(topics(), {"members": [["a", "b"]]}, **options)
    data = dataset[0]
    assert data.y.dtype == torch.bool
    assert data.y.tolist() == [[True, True], [False, False], [True, False], [False, True], [True, True], [False, False]]
    assert data.meta["class_names"] == ("music", "sport")
    assert data.meta["feature_names"] == ("age",)
    assert dataset.target_spec == {"kind": "multilabel", "num_classes": 2}
    assert [len(part) for part in (data.split().train, data.split().test)] == [3, 3]
    missing = topics(music=[1, 0, 1, 0, 1, None], sport=["yes", "no", "no", "yes", None, None])
    data = from_tables(missing, {"members": [["a", "b"]]}, **options)[0]
    assert data.y[4, 0] == 1
    assert data.y.isnan().tolist() == [[False, False]] * 4 + [[False, True], [True, True]]
    assert len(data.split().train) + len(data.split().test) == 5
    assert not any(5 in part.tolist() for part in (data.split().train, data.split().test))


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"sport": list("ababab")}, {}, r"nodes, row 0 .*column 'sport'.*got 'a'.*several label columns"),
        ({"music": [1, 2, 1, 0, 1, 0]}, {}, r"nodes, row \d .*column 'music'"),
        ({}, {"label": ["music", "music"]}, "label: expected each column once"),
        ({}, {"label": ["music", "sports"]}, "label: expected a column of nodes.*'sports'"),
        ({}, {"task": "regression"}, "task: expected None with several columns of labels"),
    ],
)
def test_wrong_sets_of_labels(changes, options, message):
    with pytest.raises((ArgumentError, DataError), match=message):
        from_tables(topics(**changes), {"members": [["a", "b"]]}, **({"label": ["music", "sport"]} | options))


def test_a_copy_of_one_of_several_labels_is_named():
    copied = topics(tune=[1, 0, 1, 0, 1, 0])
    dataset = from_tables(copied, {"members": [["a", "b"]]}, label=["music", "sport"])
    assert any("'tune' is a copy of the label 'music'" in note for note in dataset.caveats)
