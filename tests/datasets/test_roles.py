"""Roles of columns: names that belong together win, other ambiguous tables are refused."""

from __future__ import annotations

import pytest

from hgraph.datasets.tables import from_tables
from hgraph.errors import DataError


def table(names):
    """A table of two rows; the first column contains a0 and a1, and so on."""
    return {name: [f"{chr(97 + i)}{row}" for row in range(2)] for i, name in enumerate(names.split(","))}


# columns -> the nodes, by the letter of their columns
EDGES = {
    "src,dst,target": {"a", "b"},
    "target,src,dst": {"b", "c"},
    "source,target,src": {"a", "b"},
    "from,to,target": {"a", "b"},
    "from,dst": {"a", "b"},
    "Source,Target": {"a", "b"},
    "subject,predicate,object,t": {"a", "c"},
    "h,r,t,subject": {"a", "c"},
}
HYPEREDGES = {
    "member,group,node": "a",
    "node,member,group": "b",
    "vertex,hyperedge,group": "a",
    "vertex_id,hyperedge_id,vertex": "a",
    "node_id,group": "a",
}
REFUSED = {
    "source,target,src,dst": ("edges", "one column for the source, got 'source' and 'src'"),
    "src,to,dst,from": ("edges", "one column for the"),
    "source,target,head,relation,tail": ("edges", "one of triples and edges, got both"),
    "source,Source,target": ("edges", "one column for the source, got 'source' and 'Source'"),
    "source,target,time,date": ("edges", "one column for the time, got 'time' and 'date'"),
    "vertex,node,hyperedge": ("hyperedges", "one column for the node, got 'vertex' and 'node'"),
    "node,hyperedge,members": ("hyperedges", "one of wide and long, got both"),
    "members,nodes": ("hyperedges", "one column for the members"),
    "id,members,group": ("hyperedges", "one column for the hyperedge, got 'group' and 'id'"),
}


@pytest.mark.checked(
    "columns", "If several columns fit a role, those with matching names win (`src`, `dst` over `target`)."
)
@pytest.mark.parametrize(("names", "letters"), EDGES.items(), ids=EDGES)
def test_the_columns_of_one_scheme_are_the_edges(names, letters):
    found = from_tables(None, edges=table(names))[0].meta["node_names"]
    assert {name[0] for name in found} == letters


@pytest.mark.parametrize(("names", "letter"), HYPEREDGES.items(), ids=HYPEREDGES)
def test_the_columns_of_one_scheme_are_the_incidences(names, letter):
    assert {name[0] for name in from_tables(None, table(names))[0].meta["node_names"]} == {letter}


@pytest.mark.checked("columns", "Columns that fit a role equally well are an error that lists the choices.")
@pytest.mark.parametrize(("names", "kind", "said"), [(n, *v) for n, v in REFUSED.items()], ids=REFUSED)
def test_ambiguous_tables_are_refused(names, kind, said):
    with pytest.raises(DataError, match=said) as caught:
        from_tables(None, **{kind: table(names)})
    assert "--column" in str(caught.value)


def test_the_user_decides():
    edges = table("source,target,src,dst")
    data = from_tables(None, edges=edges, columns={"source": "src", "target": "dst"})[0]
    assert {name[0] for name in data.meta["node_names"]} == {"c", "d"}
    both = table("node,hyperedge,members")
    assert from_tables(None, both, columns={"members": "members"})[0].structure.num_hyperedges == 2
    named = from_tables(None, table("id,members,group"), columns={"hyperedge": "id"})[0]
    assert named.meta["hyperedge_names"] == ("a0", "a1")
    with pytest.raises(DataError, match="one column for the id, got 'id' and 'node'"):
        from_tables({"id": [1], "node": [2]}, {"members": [[1]]})


def test_all_missing_columns_of_both_tables_are_in_one_error():
    papers, authors = {"paper": ["a", "b"], "topic": ["x", "y"]}, {"article": ["a", "b"], "author": ["u", "u"]}
    with pytest.raises(DataError) as found:
        from_tables(papers, authors, label="topic")
    for part in ("--column id=", "--column node=", "--column hyperedge=", "'paper'", "'article'"):
        assert part in str(found.value)
    with pytest.raises(DataError, match="--column source=... --column target=..."):
        from_tables({"id": ["a", "b"]}, edges={"a": ["a"], "b": ["b"]})
    with pytest.raises(DataError) as found:  # only one is missing
        from_tables({"id": ["a", "b"]}, {"node": ["a"], "b": ["b"]})
    assert "--column node=" not in str(found.value)
