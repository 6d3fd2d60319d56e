"""HIF: round trips through dictionaries and files, the meaning of documents, and thousands of damaged ones."""

import copy
import functools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hgraph
from hgraph import Graph, Hypergraph
from hgraph.convert import ABSENT, Converted, from_hif, read_hif, schema, to_hif, write_hif
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError

KINDS = (None, "integers", "strings", "both")
CHECK = settings(max_examples=60, deadline=None, derandomize=True)
FUZZ = settings(max_examples=400, deadline=None, derandomize=True)
# Every part of the format, with a directed edge that has a node at both ends.
FULL = {
    "network-type": "directed",
    "metadata": {"name": "full", "tags": ["a", None]},
    "incidences": [
        {"edge": "e", "node": 1, "direction": "tail", "weight": 2, "attrs": {"since": 1999}},
        {"edge": "e", "node": 1, "direction": "head"},
        {"edge": "e", "node": "1", "direction": "head", "weight": 0.5},
        {"edge": 0, "node": "1"},
    ],
    "nodes": [{"node": "lonely", "weight": 3, "attrs": {"color": "red", "x": [1, 2.5]}}, {"node": "1"}],
    "edges": [{"edge": "empty"}, {"edge": 0, "weight": 4.5, "attrs": {"kind": None}}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hif")


@CHECK
@given(data=st.data())
def test_round_trip(hypergraphs, content_of, folder, data):
    c = data.draw(hypergraphs(ids=KINDS, attrs=True))
    c = c._replace(meta={"name": "é\u2028"})
    names = {"x": None if c.x is None else "feature", "y": None if c.y is None else "label"}
    document = to_hif(c, x="feature", y="label")
    write_hif(c, folder / "one.json", x="feature", y="label")
    assert json.loads((folder / "one.json").read_text()) == document
    for again in (from_hif(document, **names), read_hif(folder / "one.json", **names)):
        # weights without any entries are not visible in a document
        hg, other = c.structure, again.structure
        if not hg.num_incidences and hg.v2e.weight is not None:
            other = Hypergraph(other.v2e.with_weight(hg.v2e.weight), other.hyperedge_weight, other.node_weight)
        if not hg.num_hyperedges and hg.hyperedge_weight is not None:
            other = other.with_hyperedge_weight(hg.hyperedge_weight)
        if not hg.num_nodes and hg.node_weight is not None:
            other = Hypergraph(other.v2e, other.hyperedge_weight, hg.node_weight)
        assert content_of(again._replace(structure=other)) == content_of(c)
        assert list(again.node_ids) == list(range(hg.num_nodes) if c.node_ids is None else c.node_ids)
        assert other.equal(hg)
        assert again.meta == {"network-type": "undirected", "name": "é\u2028"}
        assert (None if c.x is None else again.x.tolist()) == (None if c.x is None else c.x.tolist())


def test_the_meaning_of_a_document():
    c = from_hif(FULL)
    assert c.node_ids == ["lonely", "1", 1]
    assert c.hyperedge_ids == ["empty", 0, "e"]
    assert c.structure.to_lists() == [[], [1], [1, 2, 2]]
    assert c.structure.v2e.weight.tolist() == [1, 0.5, 2, 1]
    assert c.structure.hyperedge_weight.tolist() == [1, 4.5, 1]
    assert c.structure.node_weight.tolist() == [3, 1, 1]
    assert c.edge_attrs == {"since": [ABSENT, ABSENT, 1999, ABSENT], "direction": [ABSENT, "head", "tail", "head"]}
    assert c.node_attrs == {"color": ["red", ABSENT, ABSENT], "x": [[1, 2.5], ABSENT, ABSENT]}
    assert c.hyperedge_attrs == {"kind": [ABSENT, None, ABSENT]}
    assert c.meta == {"network-type": "directed", "name": "full", "tags": ["a", None]}


def test_a_directed_document_round_trip(content_of):
    c = from_hif(FULL)
    again = from_hif(to_hif(c))
    assert content_of(again) == content_of(c)
    assert again.meta == c.meta
    assert to_hif(again) == to_hif(c)


def test_directions_make_a_document_directed():
    document = {"incidences": [{"edge": 0, "node": 0, "direction": "head"}]}
    assert from_hif(document).meta == {"network-type": "directed"}
    assert to_hif(from_hif(document))["incidences"] == document["incidences"]
    # an attribute of that name in an undirected network is only an attribute
    odd = {"incidences": [{"edge": 0, "node": 0, "attrs": {"direction": "head"}}]}
    assert to_hif(from_hif(odd))["incidences"] == odd["incidences"]


def test_an_abstract_simplicial_complex_round_trip():
    assert to_hif(from_hif({"network-type": "asc", "incidences": []}))["network-type"] == "asc"


def test_whole_numbers_are_integers_in_any_notation():
    c = from_hif({"incidences": [{"edge": 1.0, "node": np.int32(2)}, {"edge": 1, "node": 3}]})
    assert c.hyperedge_ids == [1]
    assert c.node_ids == [2, 3]
    assert all(type(i) is int for i in [*c.node_ids, *c.hyperedge_ids])


def test_features_and_labels():
    nodes = [{"node": i, "attrs": {"x": [i, 1], "size": i / 2, "y": i % 2, "name": "n"}} for i in range(3)]
    c = from_hif({"incidences": [], "nodes": nodes}, x=["size", "x"], y="y")
    assert c.x.tolist() == [[0, 0, 1], [0.5, 1, 1], [1, 2, 1]]
    assert c.y.tolist() == [0, 1, 0]
    assert list(c.node_attrs) == ["name"]
    with pytest.raises(DataError, match=r"document: x='color'.*none at 0"):
        from_hif({"incidences": [], "nodes": nodes}, x="color")


def test_exports():
    assert hgraph.convert.from_hif is from_hif
    assert "convert" in dir(hgraph)


# ---------------------------------------------------------------------- what is refused

BAD = {
    "nothing": ({}, "the document: expected an object with 'incidences'"),
    "a list": ([], "the document: expected an object"),
    "more than HIF": ({"incidences": [], "color": 1}, "the document: expected only"),
    "metadata as a list": ({"incidences": [], "metadata": []}, "metadata: expected an object"),
    "unknown type": ({"incidences": [], "network-type": "tree"}, "network-type: expected one of"),
    "type as a list": ({"incidences": [], "network-type": []}, "network-type: expected one of"),
    "incidences as an object": ({"incidences": {}}, "incidences: expected a list"),
    "no node": ({"incidences": [{"edge": 1}]}, r"incidences\[0\]: expected an object with 'node'"),
    "true as an id": ({"incidences": [{"edge": 1, "node": True}]}, r"incidences\[0\].node: .* got True"),
    "half an id": ({"incidences": [{"edge": 1, "node": 0.5}]}, r"incidences\[0\].node"),
    "null as an id": ({"incidences": [], "nodes": [{"node": None}]}, r"nodes\[0\].node: .* got None"),
    "infinite id": ({"incidences": [{"edge": math.inf, "node": 1}]}, r"incidences\[0\].edge"),
    "nan id": ({"incidences": [{"edge": math.nan, "node": 1}]}, r"incidences\[0\].edge"),
    "weight in words": ({"incidences": [], "nodes": [{"node": 1}, {"node": 2, "weight": "2"}]}, r"nodes\[1\].weight"),
    "nan weight": ({"incidences": [], "edges": [{"edge": 1, "weight": math.nan}]}, r"edges\[0\].weight"),
    "infinite weight": ({"incidences": [{"edge": 1, "node": 1, "weight": math.inf}]}, r"incidences\[0\].weight"),
    "weight beyond floats": ({"incidences": [], "nodes": [{"node": 1, "weight": 10**400}]}, "many digits"),
    "true as weight": ({"incidences": [], "nodes": [{"node": 1, "weight": True}]}, r"nodes\[0\].weight"),
    "attrs as a list": (
        {"incidences": [], "nodes": [{"node": 1, "attrs": []}]},
        r"nodes\[0\].attrs: expected an object",
    ),
    "a field of its own": ({"incidences": [{"edge": 1, "node": 1, "color": 1}]}, r"incidences\[0\]: expected only"),
    "direction of a node": (
        {"incidences": [], "nodes": [{"node": 1, "direction": "head"}]},
        r"nodes\[0\]: expected only",
    ),
    "sideways": ({"incidences": [{"edge": 1, "node": 1, "direction": "left"}]}, r"incidences\[0\].direction"),
    "a node twice": ({"incidences": [], "nodes": [{"node": 1}, {"node": 1.0}]}, r"nodes\[1\].node: .* got 1 again"),
    "an edge twice": ({"incidences": [], "edges": [{"edge": "a"}, {"edge": "a"}]}, r"edges\[1\].edge"),
    "an incidence twice": (
        {"incidences": [{"edge": 1, "node": 2}, {"edge": 1, "node": 2, "weight": 3}]},
        r"incidences\[1\]: expected each incidence once, got edge 1, node 2 again",
    ),
    "undirected directions": (
        {"network-type": "undirected", "incidences": [{"edge": 1, "node": 2, "direction": "head"}]},
        r"incidences\[0\].direction: expected none",
    ),
    "two directions": (
        {"incidences": [{"edge": 1, "node": 2, "direction": "head", "attrs": {"direction": 3}}]},
        "no attribute 'direction'",
    ),
    "type in the metadata": ({"incidences": [], "metadata": {"network-type": "asc"}}, "metadata: expected no"),
    "many names": (
        {"incidences": [], "nodes": [{"node": i, "attrs": {str(i): 0}} for i in range(4000)]},
        "4000 names",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_documents(name, tmp_path):
    document, message = BAD[name]
    if isinstance(document, dict):
        with pytest.raises(DataError, match="^document: .*" + message if not message.startswith("the") else message):
            from_hif(document)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="^" + re.escape(str(path))):
        read_hif(path)


def test_attributes_are_named_by_strings():
    with pytest.raises(DataError, match=r"nodes\[0\].attrs: expected names that are strings, got 1"):
        from_hif({"incidences": [], "nodes": [{"node": 1, "attrs": {1: 2}}]})


def test_a_document_must_be_one():
    for wrong in ([], "{}", None):
        with pytest.raises(ArgumentTypeError, match="read_hif"):
            from_hif(wrong)


FILES = {
    "empty": b"",
    "half": b'{"incidences": [{"edge": 1,',
    "two": b'{"incidences": []} {}',
    "not text": b"\xff\xfe\x00\xd8",
    "not utf-8": b'{"incidences": [], "metadata": {"a": "\xff"}}',
    "nan": b'{"incidences": [{"edge": 1, "node": 1, "weight": NaN}]}',
    "minus infinity": b'{"incidences": [], "metadata": {"a": -Infinity}}',
    "a name twice": b'{"incidences": [{"edge": 1, "node": 1, "node": 2}]}',
    "deep list": b"[" * 200_000,
    "deep object": b'{"a":' * 200_000,
    "deep attribute": b'{"incidences": [], "metadata": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "65 levels": b'{"incidences": [], "metadata": ' + b'{"a":' * 64 + b"{}" + b"}" * 64 + b"}",
    "long number": b'{"incidences": [{"edge": 1, "node": ' + b"9" * 10_000 + b"}]}",
    "beyond floats": b'{"incidences": [{"edge": 1, "node": 1, "weight": 1e999}]}',
    "safetensors": b"\x10\x00\x00\x00\x00\x00\x00\x00{}" + b" " * 14,
    "zip": b"PK\x03\x04" + b"\x00" * 40,
    "pickle": b"\x80\x04N.",
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files(name, tmp_path):
    path = tmp_path / "bad.json"
    path.write_bytes(FILES[name])
    with pytest.raises(DataError, match="^" + re.escape(str(path))) as caught:
        read_hif(path)
    assert len(str(caught.value)) < 600


def test_files_that_are_missing_or_too_large(tmp_path):
    for path in (tmp_path / "none.json", tmp_path, "a\0b"):
        with pytest.raises(DataError, match="cannot be read"):
            read_hif(path)
    path = tmp_path / "big.json"
    path.write_text('{"incidences": []}')
    with pytest.raises(DataError, match="larger than 17 bytes"):
        read_hif(path, max_bytes=17)
    assert read_hif(path, max_bytes=18).structure.num_nodes == 0


def test_64_levels_are_read(tmp_path):
    (tmp_path / "deep.json").write_text('{"incidences": [], "metadata": ' + '{"a":' * 63 + "{}" + "}" * 63 + "}")
    write_hif(read_hif(tmp_path / "deep.json"), tmp_path / "again.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node_ids": [(1, 2), "b"]}, "node_ids"),
        ({"node_ids": [1.5, "b"]}, "node_ids"),
        ({"hyperedge_ids": [True]}, "hyperedge_ids"),
        ({"meta": {"network-type": "tree"}}, "network-type"),
        ({"meta": {3: 4}}, "metadata"),
        ({"meta": {"made": {1, 2}}}, "metadata"),
        ({"node_attrs": {"a": [0, object()]}}, r"nodes\[1\]"),
        ({"hyperedge_attrs": {"a": [math.nan]}}, r"edges\[0\]"),
        ({"node_attrs": {"x": [0, 0]}, "x": torch.ones(2, 1)}, "x: expected an unused attribute name"),
        ({"meta": {"network-type": "directed"}, "edge_attrs": {"direction": ["up", "head"]}}, "direction"),
    ],
)
def test_structures_that_cannot_be_written(change, message, tmp_path):
    c = Converted(Hypergraph.from_lists([[0, 1]], num_nodes=2))._replace(**change)
    with pytest.raises(ArgumentError, match=message):
        write_hif(c, tmp_path / "out.json")
    assert not list(tmp_path.iterdir())


def test_more_structures_that_cannot_be_written():
    with pytest.raises(ArgumentTypeError, match="HIF holds hypergraphs"):
        to_hif(Graph.from_edge_index([[0], [1]], num_nodes=2, directed=True))
    infinite = Hypergraph.from_lists([[0]], num_nodes=1, hyperedge_weight=[math.inf])
    with pytest.raises(ArgumentError, match=r"edges\[0\].weight"):
        to_hif(infinite)
    twice = Hypergraph.from_coo(node=[0, 0], hyperedge=[0, 0], num_nodes=1, num_hyperedges=1, duplicates="keep")
    with pytest.raises(ArgumentError, match="incidence once"):
        to_hif(twice)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "saved.json"
    write_hif(Hypergraph.from_lists([[0]], num_nodes=1), path)
    before = path.read_bytes()
    with pytest.raises(ArgumentError):
        write_hif(Converted(Hypergraph.from_lists([[0]], num_nodes=1), meta={"a": object()}), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["saved.json"]


# ---------------------------------------------------------------------- fuzz

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.integers(),
        st.floats(),
        st.text(max_size=3),
        st.sampled_from(["node", "edge", "weight", "attrs", "direction", "head", "incidences", "nodes", 10**400]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["node", "edge", "weight", "attrs", "direction", "z"]), inner, max_size=3),
    ),
    max_leaves=6,
)


def places(value, place=()):
    """Every (container, key) of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(items):
        yield value, key
        yield from places(part, (*place, key))


@st.composite
def damaged(draw):
    document = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(1, 3))):
        spots = list(places(document))
        if not spots:
            break
        container, key = draw(st.sampled_from(spots))
        what = draw(st.sampled_from(["replace", "delete", "repeat", "rename"]))
        if what == "replace":
            container[key] = draw(JSON)
        elif what == "delete":
            del container[key]
        elif isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[draw(st.sampled_from(["node", "edge", "weight", "attrs", "direction", "z"]))] = container.pop(key)
    return document


def accepted(read, name, content_of):
    """A document is either rejected by name, or a round trip preserves its content."""
    error = ""
    try:
        c = read()
    except DataError as caught:
        error = str(caught)
    assert error == "" or error.startswith(name)
    assert len(error) < 1000
    if error:
        return False
    assert c.structure.num_nodes == len(c.node_ids) == len(set(c.node_ids))
    assert content_of(from_hif(to_hif(c))) == content_of(c)
    return True


def test_damaged_documents(content_of):
    count = {True: 0, False: 0}

    @FUZZ
    @given(document=damaged())
    def run(document):
        count[accepted(lambda: from_hif(document), "document: ", content_of)] += 1

    run()
    assert min(count.values()) > 40, "a fuzzer whose documents are all refused, or all fine, tests little"


@FUZZ
@given(data=st.data())
def test_damaged_files(content_of, folder, data):
    content = bytearray(json.dumps(FULL).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        what = data.draw(st.sampled_from(["flip", "cut", "insert", "shorten"]))
        if what == "flip" and content:
            content[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del content[at : at + data.draw(st.integers(1, 30))]
        elif what == "insert":
            content[at:at] = data.draw(st.sampled_from([b"[", b"{", b"9", b'"', b",", b"null", b"\x00", b"1e9", b"-"]))
        else:
            del content[at:]
    path = folder / "fuzzed.json"
    path.write_bytes(content)
    accepted(lambda: read_hif(path), str(path), content_of)


@functools.cache
def published_checker():
    import fastjsonschema

    return fastjsonschema.compile(json.loads(Path(schema.__file__).with_name("hif_schema.json").read_text()))


@FUZZ
@given(document=st.one_of(damaged(), st.fixed_dictionaries({"incidences": JSON})))
def test_the_checker_agrees_with_a_json_schema_validator(document):
    fastjsonschema = pytest.importorskip("fastjsonschema")
    try:
        published_checker()(document)
    except fastjsonschema.JsonSchemaValueException:
        with pytest.raises(DataError):
            schema.check_hif(document, "document")
    else:
        error = ""
        try:
            schema.check_hif(document, "document")
        except DataError as caught:
            error = str(caught)
        # not in the schema: numbers are finite
        assert error == "" or re.search("nan|inf|many digits", error)
