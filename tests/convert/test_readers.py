"""Readers of edge lists, lists of hyperedges, GraphML, GML, N-Triples and XGI's JSON: content, and hostile files."""

from __future__ import annotations

import json

import networkx as nx
import pytest

from hgraph.convert import (
    read_edge_list,
    read_gml,
    read_graphml,
    read_hyperedges,
    read_ntriples,
    read_xgi,
    to_hif,
    to_networkx,
)
from hgraph.datasets import from_tables
from hgraph.errors import ArgumentError, DataError


def written(tmp_path, text, name="file.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def named_edges(c):
    return [(c.node_ids[s], c.node_ids[t]) for s, t in c.structure.edge_index.T.tolist()]


# ---------------------------------------------------------------------- lists


def test_snap(tmp_path):
    text = "# Directed graph\n# FromNodeId\tToNodeId\n30\t1412\r\n\n30\t3352\n007\t30\n"
    c = read_edge_list(written(tmp_path, text), directed=True)
    assert c.node_ids == ["30", "1412", "3352", "007"]
    assert sorted(named_edges(c)) == [("007", "30"), ("30", "1412"), ("30", "3352")]
    undirected = read_edge_list(written(tmp_path, text), directed=False)
    assert undirected.structure.num_edges == 6


def test_weights_delimiters_and_repeats_of_edges(tmp_path):
    path = written(tmp_path, "a b,c,2\nc,a b,1\na b,c,3\n")
    c = read_edge_list(path, directed=True, delimiter=",", weighted=True, duplicates="sum")
    assert dict(zip(named_edges(c), c.structure.adj.weight.tolist(), strict=True)) == {("a b", "c"): 5, ("c", "a b"): 1}
    with pytest.raises(ArgumentError, match="duplicates"):
        read_edge_list(path, directed=True, delimiter=",", weighted=True)


@pytest.mark.parametrize(
    "text", ["1 2 3\n2 4\n", "1\t2\t3\n2\t4", "1,2,3\n2, 4\n", "1;2;3\r\n2;4", "# c\n1|2|3\n\n2|4"]
)
def test_hyperedges_of_any_delimiter(tmp_path, text):
    c = read_hyperedges(written(tmp_path, text))
    assert c.node_ids == ["1", "2", "3", "4"]
    assert c.structure.to_lists() == [[0, 1, 2], [1, 3]]


def test_repeated_members_and_blanks_in_names(tmp_path, caplog):
    path = written(tmp_path, "Ann Lee, Ben\nBen, Ann Lee, Ben\n")
    c = read_hyperedges(path)
    assert (c.node_ids, c.structure.to_lists()) == (["Ann Lee", "Ben"], [[0, 1], [0, 1]])
    assert "1 lines list a member more than once" in caplog.text
    with pytest.raises(DataError, match=r"file.txt, line 2: expected each member once, got 'Ben' twice"):
        read_hyperedges(path, repeated="error")
    assert read_hyperedges(written(tmp_path, "a::b\n"), delimiter="::").node_ids == ["a", "b"]
    assert read_hyperedges(written(tmp_path, "")).structure.num_nodes == 0


HOSTILE = {
    "one end": (lambda p: read_edge_list(p, directed=True), "1\t2\n3\n", "line 2: expected source and target, got 1"),
    "three ends": (lambda p: read_edge_list(p, directed=True), "1 2 3\n", "line 1: .* Pass weighted=True"),
    "no weight": (lambda p: read_edge_list(p, directed=True, weighted=True), "1 2 nan\n", "line 1: .* finite weight"),
    "huge weight": (
        lambda p: read_edge_list(p, directed=True, weighted=True),
        "1 2 1\n2 3 1e39\n",
        "line 2: .*float32",
    ),
    "huge sum": (
        lambda p: read_edge_list(p, directed=True, weighted=True, duplicates="sum"),
        "1 2 3e38\n1 2 3e38\n",
        "a sum that float32 can hold",
    ),
    "text weight": (lambda p: read_edge_list(p, directed=True, weighted=True), "1 2 x\n", "line 1: .* got 'x'"),
    "empty end": (lambda p: read_edge_list(p, directed=True, delimiter=","), "1,\n", "line 1"),
    "no UTF-8": (lambda p: read_edge_list(p, directed=True), b"1 2\n\xff 3\n", "line 2: not UTF-8"),
    "empty member": (read_hyperedges, "1,2\n1,,2\n", "line 2: expected a name for each member"),
    "no point": (read_ntriples, "<a> <b> <c> .\n<a> <b> <c>\n", "line 2: expected an N-Triples statement"),
    "a literal as subject": (read_ntriples, '"a" <b> <c> .\n', "line 1: expected an N-Triples"),
    "a blank as predicate": (read_ntriples, "<a> _:b <c> .\n", "line 1: expected an N-Triples"),
    "an open quote": (read_ntriples, '<a> <b> "c .\n', "line 1: expected an N-Triples"),
    "a blank in an IRI": (read_ntriples, "<a b> <b> <c> .\n", "line 1: expected an N-Triples"),
    "an unknown escape": (read_ntriples, '<a> <b> "\\x" .\n', r"line 1: expected an escape .* got '\\\\x'"),
    "a short code": (read_ntriples, '<a> <b> "\\u12" .\n', "line 1: expected an escape"),
    "half a character": (read_ntriples, '<a> <b> "\\uD800" .\n', "line 1: expected a valid Unicode code point"),
    "two triples": (read_ntriples, "<a> <b> <c> . <a> <b> <d> .\n", "line 1: expected an N-Triples"),
    "no XML": (read_graphml, "<graphml><graph></graphml>", "line 1: not XML"),
    "no GraphML": (read_graphml, "<html></html>", "not a GraphML file"),
    "an entity": (read_graphml, '<!DOCTYPE g [<!ENTITY a "b">]><graphml>&a;</graphml>', "line 1: .* without a DTD"),
    "a DTD elsewhere": (read_graphml, '<!DOCTYPE g SYSTEM "file:///etc/passwd"><graphml/>', "without a DTD"),
    "a DTD in UTF-16": (read_graphml, '<!DOCTYPE g [<!ENTITY a "b">]><g>&a;</g>'.encode("utf-16"), "without a DTD"),
    "no GML": (read_gml, "graph [ node [ id 0", "not a GML file"),
    "no label": (read_gml, "graph [ node [ id 0 ] ]", "not a GML file"),
    "GML twice": (read_gml, 'graph [ node [ id 0 label "a" ] node [ id 1 label "a" ] ]', "not a GML file"),
    "HIF": (read_xgi, '{"incidences": []}', "'edge-dict'.* read_hif reads HIF files"),
    "a list": (read_xgi, "[]", "expected a JSON object"),
    "a kind": (read_xgi, '{"type": "collection", "edge-dict": {}}', "type: expected one of"),
    "a member": (read_xgi, '{"edge-dict": {"e": [["a"]]}}', "edge-dict: expected a list of nodes for 'e'"),
    "no members": (read_xgi, '{"edge-dict": {"e": null}}', "edge-dict: expected a list of nodes for 'e', got None"),
    "no two sides": (read_xgi, '{"type": "dihypergraph", "edge-dict": {"e": null}}', r"expected \[\[tail nodes\]"),
    "three sides": (read_xgi, '{"type": "dihypergraph", "edge-dict": {"e": [["a"], ["b"], ["c"]]}}', "tail nodes"),
    "an empty side": (read_xgi, '{"type": "dihypergraph", "edge-dict": {"e": [["a"], null]}}', "tail nodes"),
    "mixed sides": (read_xgi, '{"edge-dict": {"e": [["a"], ["b"]], "f": ["a"]}}', "expected a list of nodes for 'e'"),
    "another kind": (read_xgi, '{"hypergraph-type": null, "edge-dict": {}}', "hypergraph-type: expected one of"),
    "two kinds": (
        read_xgi,
        '{"type": "hypergraph", "hypergraph-type": "dihypergraph", "edge-dict": {}}',
        "one kind of network",
    ),
    "a text": (read_xgi, '{"edge-dict": {"e": "abc"}}', "edge-dict: expected a list of nodes for 'e'"),
    "another edge": (read_xgi, '{"edge-dict": {}, "edge-data": {"e": {}}}', "edge-data: expected hyperedges"),
    "attributes": (read_xgi, '{"edge-dict": {}, "node-data": {"a": 3}}', "node-data: expected an object of attributes"),
    "a node twice": (read_xgi, '{"edge-dict": {"e": ["a", "a"]}}', "expected each incidence once"),
    "no JSON": (read_xgi, '{"edge-dict": NaN}', "not JSON"),
}


@pytest.mark.parametrize(("read", "content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_name_file_and_place(tmp_path, read, content, message):
    path = written(tmp_path, content, "hostile.file")
    with pytest.raises(DataError, match=f"(?s)hostile.file.*{message}"):
        read(path)


@pytest.mark.parametrize("read", [read_hyperedges, read_ntriples, read_graphml, read_gml, read_xgi])
def test_files_that_are_not_there(tmp_path, read):
    with pytest.raises(DataError, match="none.txt: cannot be read"):
        read(tmp_path / "none.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)


# ---------------------------------------------------------------------- N-Triples


def test_ntriples(tmp_path, caplog):
    text = (
        "# a comment\n"
        "<urn:Dune> <urn:by> <urn:Herbert> . # another\n"
        "\n"
        '<urn:Dune> <urn:name> "D\\u00fcne\\t\\"1\\""@de-AT .\r\n'
        '<urn:Dune> <urn:year> "1965"^^<urn:int> .\n'
        "_:b1 <urn:by>_:b2.\n"
        "<urn:Dune>\t<urn:by>\t<urn:Herbert>\t.\n"
        "<urn:\\u00e9> <urn:by> <urn:Herbert> .\n"
    )
    expected = [
        ("urn:Dune", "urn:by", "urn:Herbert"),
        ("urn:Dune", "urn:name", '"Düne\t"1""@de-AT'),
        ("urn:Dune", "urn:year", '"1965"^^<urn:int>'),
        ("_:b1", "urn:by", "_:b2"),
        ("urn:é", "urn:by", "urn:Herbert"),
    ]
    path = written(tmp_path, text, "a.nt")
    kg = read_ntriples(path)
    assert sorted(map(tuple, kg.find_triples())) == sorted(expected)
    assert read_ntriples(path, duplicates="keep").num_edges == 6
    dropped = read_ntriples(path, literals="drop")
    assert sorted(map(tuple, dropped.find_triples())) == sorted(t for t in expected if t[2][0] != '"')
    assert "left out 2 triples with a literal" in caplog.text
    assert read_ntriples(written(tmp_path, "# nothing yet\n", "b.nt")).num_edges == 0
    assert from_tables(edges=tmp_path / "b.nt")[0].structure.num_edges == 0
    with pytest.raises(ArgumentError, match="literals"):
        read_ntriples(path, literals="no")


# ---------------------------------------------------------------------- GraphML and GML


@pytest.mark.parametrize(("write", "read"), [(nx.write_graphml, read_graphml), (nx.write_gml, read_gml)])
@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph, nx.MultiDiGraph])
def test_graph_files_round_trip(tmp_path, write, read, kind):
    graph = kind()
    graph.add_node("Ánn", age=3, team="x")
    graph.add_node("b c", age=5, team="y")
    graph.add_edge("Ánn", "b c", weight=2.5)
    write(graph, tmp_path / "a.file")
    c = read(tmp_path / "a.file", weight="weight", x="age")
    assert c.node_ids == ["Ánn", "b c"]
    assert c.x.flatten().tolist() == [3, 5]
    assert set(c.structure.adj.weight.tolist()) == {2.5}
    back = to_networkx(c, kind, x="age")
    assert sorted(back.edges) == sorted(graph.edges)
    assert back.nodes["b c"]["team"] == "y"


def test_gml_by_number(tmp_path):
    path = written(tmp_path, "graph [ node [ id 7 ] node [ id 9 ] edge [ source 7 target 9 ] ]", "a.gml")
    assert read_gml(path, label=None).node_ids == [7, 9]


def test_files_above_the_limit(tmp_path):
    nx.write_graphml(nx.path_graph(3), tmp_path / "a.graphml")
    for read in (read_graphml, read_gml, read_xgi):
        with pytest.raises(DataError, match="10 bytes"):
            read(tmp_path / "a.graphml", max_bytes=10)


# ---------------------------------------------------------------------- XGI


def test_xgi_json(tmp_path):
    document = {
        "type": "hypergraph",
        "hypergraph-data": {"name": "meetings"},
        "node-data": {"1": {"age": 3}, "2": {"age": 4}, "3": {"age": 5}},
        "edge-data": {"0": {"topic": "a"}, "1": {}},
        "edge-dict": {"0": ["1", "2"], "1": [2, "3"]},
    }
    c = read_xgi(written(tmp_path, json.dumps(document)), x="age")
    assert (c.node_ids, c.hyperedge_ids) == (["1", "2", "3"], ["0", "1"])
    assert c.structure.to_lists() == [[0, 1], [1, 2]]
    assert c.x.flatten().tolist() == [3, 4, 5]
    assert c.meta["name"] == "meetings"
    assert to_hif(c)["network-type"] == "undirected"


@pytest.mark.parametrize("edge", [{"tail": ["1"], "head": ["2", "3"]}, [["1"], ["2", "3"]]])
def test_directed_xgi_json(tmp_path, edge):
    c = read_xgi(written(tmp_path, json.dumps({"type": "dihypergraph", "edge-dict": {"e": edge}})))
    assert c.node_ids == ["1", "2", "3"]
    assert c.edge_attrs["direction"] == ["tail", "head", "head"]
    for kind in ({}, {"hypergraph-type": "dihypergraph"}):  # the form alone, or the other key, says the same
        again = read_xgi(written(tmp_path, json.dumps(kind | {"edge-dict": {"e": edge}})))
        assert (again.node_ids, again.edge_attrs, again.meta) == (c.node_ids, c.edge_attrs, c.meta)


def test_simplicial_complexes_of_xgi(tmp_path):
    c = read_xgi(written(tmp_path, json.dumps({"type": "simplicialcomplex", "edge-dict": {"e": ["1", "2"]}})))
    assert c.meta["network-type"] == "asc"
