"""Data sets from the files of other tools: RecBole, XGI, SNAP, GraphML, GML, N-Triples, lists of hyperedges."""

from __future__ import annotations

import json

import networkx as nx
import pytest

from hgraph import datasets
from hgraph.cli.app import app
from hgraph.datasets.tables import from_tables, read_table
from hgraph.errors import ArgumentError, DataError


def written(folder, **files):
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
INTER += "u1\ti1\t5\t3\nu1\ti2\t2\t1\nu2\ti1\t4\t2\nu2\ti3\t4\t1\n"
KG = "head_id:token\trelation_id:token\ttail_id:token\nm.1\tby\tm.9\nm.2\tby\tm.9\n"
LINK = "item_id:token\tentity_id:token\ni1\tm.1\ni9\tm.7\n"


def test_recbole_interactions(tmp_path):
    written(tmp_path, shop__inter=INTER, shop__kg=KG, shop__link=LINK)
    dataset = datasets.from_interactions(tmp_path, val=0, test=0)
    data = dataset[0]
    assert (dataset.name, list(data.user_names)) == ("shop", ["u1", "u2"])
    assert list(data.kg.node_names) == ["i1", "i2", "i3", "m.9", "m.2"]
    assert [tuple(t) for t in data.kg.find_triples("i1")] == [("i1", "by", "m.9")]
    one = datasets.from_interactions(tmp_path / "shop.inter", min_rating=3, val=0, test=0)[0]
    assert (one.train.num_edges, one.kg.num_edges) == (3, 0)
    assert datasets.from_interactions(tmp_path, split="last")[0].test.num_edges == 2
    written(tmp_path, other__inter=INTER)
    with pytest.raises(ArgumentError, match="one .inter file"):
        datasets.from_interactions(tmp_path)


@pytest.mark.checked("shops", "An entity without a linked item is no item, even if an item has the same token.")
def test_entities_of_recbole_that_no_item_is_linked_to_are_no_items(tmp_path):
    kg = "head_id:token\trelation_id:token\ttail_id:token\n" + "e1\tby\ti2\ni3\tby\tentity i2\ne9\tby\ti2\n"
    link = "item_id:token\tentity_id:token\ni1\te1\ni1\te1\ni8\ti3\n"  # i8 is in no interaction
    written(tmp_path, shop__inter=INTER, shop__kg=kg, shop__link=link)
    data = datasets.from_interactions(tmp_path, val=0, test=0)[0]
    assert {tuple(t) for t in data.kg.find_triples()} == {
        ("i1", "by", "entity entity i2"),  # i2 and i3 are items, and "entity i2" is another entity
        ("entity i3", "by", "entity i2"),
        ("e9", "by", "entity entity i2"),
    }
    written(tmp_path, shop__link=link + "i2\te1\n")
    with pytest.raises(DataError, match=r"shop.link: expected one item per entity, got 'e1' with 'i1' and 'i2'"):
        datasets.from_interactions(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id\titem_id", "shop.inter:1: expected columns called name:type"),
        ("user_id:token\titem_id:text", "got 'item_id:text'. .*rename the file to .tsv"),
        (":token\titem_id:token", "shop.inter:1"),
        ("uid:token\titem_id:token", "shop.inter:1: expected a column 'user_id', got uid, item_id"),
    ],
)
def test_hostile_headers_of_recbole(tmp_path, header, message):
    written(tmp_path, shop__inter=f"{header}\nu1\ti1\n")
    with pytest.raises(DataError, match=message):
        datasets.from_interactions(tmp_path)


def test_tables_of_recbole_state_their_types(tmp_path):
    user = (
        "user_id:token\tage:token\tincome:float\tgroup:token\nu1\t20\t3\ta\nu2\t30\t4\tb\nu3\t20\t5\ta\nu4\t30\t6\tb\n"
    )
    written(tmp_path, shop__user=user)
    table = read_table(tmp_path / "shop.user")
    assert table.types == {"user_id": "categorical", "age": "categorical", "income": "numeric", "group": "categorical"}
    links = {"members": [["u1", "u2"], ["u3", "u4"]]}
    options = {"label": "group", "columns": {"id": "user_id"}, "shares": (0.5, 0, 0.5)}
    data = from_tables(tmp_path / "shop.user", links, **options)[0]
    assert {c.name: c.kind for c in data.meta["encoder"].codings} == {"age": "categorical", "income": "numeric"}
    other = from_tables(tmp_path / "shop.user", links, types={"age": "numeric"}, **options)[0]
    assert {c.name: c.kind for c in other.meta["encoder"].codings} == {"age": "numeric", "income": "numeric"}
    (tmp_path / "bad.user").write_text("user_id:token\tage:float\nu1\tx\nu2\t1\n")
    with pytest.raises(DataError, match=r"bad.user:2: column 'age'"):
        from_tables(tmp_path / "bad.user", {"members": [["u1", "u2"]]}, columns={"id": "user_id"})


@pytest.mark.parametrize("text", ["a b c\nc d\n", "# groups\na,b,c\n\nc, d\n", "a\tb\tc\nc\td\n", "a;b;c\nc;d"])
def test_lists_of_hyperedges(tmp_path, text):
    written(tmp_path, list__txt=text)
    table = read_table(tmp_path / "list.txt", names=["members"])
    data = from_tables(hyperedges=table)[0]
    assert data.meta["node_names"] == ("a", "b", "c", "d")
    assert data.structure.to_lists() == [[0, 1, 2], [2, 3]]
    with pytest.raises(DataError, match=r"list.txt:\d+: column 'members'"):
        from_tables({"id": ["a", "b", "c"]}, table)


def build(*arguments):
    from typer.testing import CliRunner

    return CliRunner().invoke(app, ["datasets", "build", *map(str, arguments), "--json"])


def test_every_file_builds_by_command(tmp_path):
    graph = nx.Graph([("Ann", "Ben", {"weight": 2.0}), ("Ben", "Cy", {"weight": 3.0})])
    nx.set_node_attributes(graph, {"Ann": "x", "Ben": "y", "Cy": "x"}, "team")
    nx.set_node_attributes(graph, {"Ann": 1.5, "Ben": 2.5, "Cy": 3.5}, "age")
    nx.write_graphml(graph, tmp_path / "a.graphml")
    nx.write_gml(graph, tmp_path / "a.gml")
    xgi = {"node-data": {n: {"team": t, "age": 3} for n, t in zip("abc", "xyx", strict=True)}}
    written(
        tmp_path,
        a__nt="<a> <r> <b> .\n<b> <s> <c> .\n",
        a__json=json.dumps(xgi | {"edge-dict": {"0": ["a", "b"], "1": ["b", "c"]}}),
        snap__txt="# FromNodeId\tToNodeId\n30\t10\n10\t20\n",
        list__txt="a b\nb c\n",
    )
    built = {
        "Graph(3 nodes, 4 edges, weighted, cpu)": [
            ("--edges", tmp_path / "a.graphml", "--label", "team"), ("--edges", tmp_path / "a.gml", "--label", "team")
        ],
        "Graph(3 nodes, 2 edges, cpu)": [
            ("--edges", tmp_path / "a.nt"),
            ("--edges", tmp_path / "snap.txt", "--header", "source,target", "--directed"),
        ],
        "Hypergraph(3 nodes, 2 hyperedges, 4 incidences, cpu)": [
            ("--hyperedges", tmp_path / "a.json", "--label", "team"),
            ("--hyperedges", tmp_path / "list.txt", "--header", "members"),
        ],
    }  # fmt: skip
    for expected, commands in built.items():
        for i, arguments in enumerate(commands):
            done = build(*arguments, "--out", tmp_path / f"set-{expected[:5]}-{len(expected)}-{i}")
            assert done.exit_code == 0, (arguments, done.output)
            assert json.loads(done.stdout)["structure"] == expected, arguments


def test_files_with_nodes_take_no_table_of_nodes(tmp_path):
    nx.write_gml(nx.Graph([("a", "b")]), tmp_path / "a.gml")
    for given in ({"nodes": {"id": ["a", "b"]}, "edges": tmp_path / "a.gml"}, {"hyperedges": tmp_path / "a.gml"}):
        with pytest.raises((ArgumentError, DataError)):
            from_tables(**given)
