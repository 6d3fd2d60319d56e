"""HyperNetX through HIF: its ``from_hif`` reads our documents, and we read those of its ``to_hif``.

HyperNetX 2.4 imports fastjsonschema, which it does not install, and makes no hypergraph of a dict under pandas 3.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hgraph import Hypergraph
from hgraph.convert import ABSENT, Converted, from_hif, schema, to_hif

# pandas warns about how HyperNetX uses it.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def hnx():
    hnx = pytest.importorskip("hypernetx", reason="needs hypernetx")
    import hypernetx.hif

    text = Path(schema.__file__).with_name("hif_schema.json").read_text()
    with pytest.MonkeyPatch.context() as patch:  # HyperNetX downloads the schema in every call
        patch.setattr(hypernetx.hif, "requests", SimpleNamespace(get=lambda url: SimpleNamespace(text=text)))
        yield hnx


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_round_trip(hnx, hypergraphs, content_of, data):
    """HyperNetX sets all weights and drops isolated nodes and empty hyperedges; everything else is preserved."""
    c = data.draw(
        hypergraphs(
            weighted=True, hyperedge_weighted=True, node_weighted=True, ids=("integers", "strings"), empties=False
        )
    )
    hg = c.structure
    assume(hg.num_incidences and int(hg.v2e.t_indptr.diff().min()) > 0)
    c = c._replace(node_attrs={"color": [f"c{i}" for i in range(hg.num_nodes)]})
    theirs = hnx.from_hif(to_hif(c))
    assert theirs.shape == (hg.num_nodes, hg.num_hyperedges)
    again = from_hif(json.loads(json.dumps(hnx.to_hif(theirs))))
    assert content_of(again._replace(meta={})) == content_of(c)


def test_documents_of_hypernetx(hnx):
    theirs = hnx.Hypergraph({"e": ["a", "b"], "f": ["b"]})
    c = from_hif(hnx.to_hif(theirs))
    assert sorted(
        (e, c.node_ids[v]) for e, vs in zip(c.hyperedge_ids, c.structure.to_lists(), strict=True) for v in vs
    ) == [
        ("e", "a"),
        ("e", "b"),
        ("f", "b"),
    ]
    assert c.structure.hyperedge_weight.tolist() == [1, 1]
    assert c.meta["network-type"] == "undirected"


def test_what_hypernetx_drops_is_in_our_document():
    c = Converted(Hypergraph.from_lists([[0], []], num_nodes=2), node_attrs={"a": [ABSENT, 1]})
    document = to_hif(c)
    assert document["nodes"] == [{"node": 0}, {"node": 1, "attrs": {"a": 1}}]
    assert document["edges"] == [{"edge": 0}, {"edge": 1}]
