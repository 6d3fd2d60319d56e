"""Random structures with everything that a converter must preserve, and comparisons of two of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

from hgraph import Adjacency, Graph, Hypergraph
from hgraph.convert import ABSENT, Converted

WEIGHT = st.floats(-4, 4, width=32)
IDS = {
    "integers": st.integers(-5, 50),
    "strings": st.text(max_size=3),
    "both": st.one_of(st.integers(0, 9), st.sampled_from(["0", "1", "a", "é", "", "\u2028"])),
}


def _ids(draw, size, kinds):
    kind = draw(st.sampled_from(kinds))
    return None if kind is None else draw(st.lists(IDS[kind], min_size=size, max_size=size, unique=True))


def _weights(draw, size, wanted):
    has = draw(st.booleans()) if wanted is None else wanted
    values = draw(st.lists(WEIGHT, min_size=size, max_size=size)) if has else None
    return None if values is None else torch.tensor(values, dtype=torch.float64)


def _columns(draw, size, wanted):
    if not wanted or not draw(st.booleans()):
        return {}
    value = st.one_of(st.just(ABSENT), st.none(), st.text(max_size=2), st.integers(-3, 3))
    column = draw(st.lists(value, min_size=size, max_size=size))
    return {} if all(v is ABSENT for v in column) else {"color": column}


def _features(draw, n, wanted):
    if not wanted or not draw(st.booleans()):
        return None, None
    width = draw(st.integers(1, 3)) if n else 0
    return torch.randn(n, width, dtype=torch.float64), torch.arange(n) % 3


@st.composite
def _graphs(draw, *, parallel=True, loops=True, undirected=False, weighted=None, ids=(None,), attrs=False, empty=True):
    n = draw(st.integers(0 if empty else 1, 6))
    end = st.integers(0, n - 1)
    pairs = draw(st.lists(st.tuples(end, end), max_size=12, unique=not parallel)) if n else []
    pairs = [(u, v) for u, v in pairs if loops or u != v]
    if undirected:
        pairs = [(u, v) for u, v in pairs if u <= v]
    weight, color = _weights(draw, len(pairs), weighted), _columns(draw, len(pairs), attrs)
    if undirected:  # both directions of each edge, one after the other
        twice = [e for e, (u, v) in enumerate(pairs) for _ in range(1 + (u != v))]
        pairs = [p for u, v in pairs for p in dict.fromkeys([(u, v), (v, u)])]
        weight = None if weight is None else weight[twice]
        color = {name: [column[e] for e in twice] for name, column in color.items()}
    adj = Adjacency.from_coo(
        target=[v for _, v in pairs],
        source=[u for u, _ in pairs],
        weight=weight,
        num_targets=n,
        num_sources=n,
        duplicates="keep",
    )
    order = torch.argsort(adj.input_order).tolist()
    x, y = _features(draw, n, attrs)
    return Converted(
        Graph(adj),
        _ids(draw, n, ids),
        None,
        x,
        y,
        _columns(draw, n, attrs),
        {},
        {name: [column[e] for e in order] for name, column in color.items()},
    )


@st.composite
def _hypergraphs(
    draw,
    *,
    weighted=None,
    hyperedge_weighted=None,
    node_weighted=None,
    ids=(None,),
    attrs=False,
    empties=True,
    repeats=True,
    empty=True,
):
    n = draw(st.integers(0 if empty else 1, 6))
    members = st.lists(st.integers(0, n - 1), unique=True, max_size=n, min_size=not empties) if n else st.just([])
    key = None if repeats else (lambda e: tuple(sorted(e)))
    hyperedges = draw(st.lists(members, max_size=6, unique_by=key))
    m, incidences = len(hyperedges), [(v, e) for e, vs in enumerate(hyperedges) for v in vs]
    hg = Hypergraph.from_coo(
        node=[v for v, _ in incidences],
        hyperedge=[e for _, e in incidences],
        num_nodes=n,
        num_hyperedges=m,
        weight=_weights(draw, len(incidences), weighted),
        hyperedge_weight=_weights(draw, m, hyperedge_weighted),
        node_weight=_weights(draw, n, node_weighted),
    )
    x, y = _features(draw, n, attrs)
    return Converted(
        hg,
        _ids(draw, n, ids),
        _ids(draw, m, ids),
        x,
        y,
        _columns(draw, n, attrs),
        _columns(draw, m, attrs),
        _columns(draw, len(incidences), attrs),
    )


def _value(value: Any) -> Any:
    return repr(value.tolist() if hasattr(value, "tolist") else value)


def _records(attrs, size, *more):
    table = [
        {name: _value(column[i]) for name, column in attrs.items() if column[i] is not ABSENT} for i in range(size)
    ]
    for name, tensor in more:
        for record, value in zip(table, tensor if tensor is not None else [], strict=tensor is not None):
            record[name] = _value(value)
    return [tuple(sorted(record.items())) for record in table]


def _facts(c: Converted) -> dict[str, Any]:
    """The content of a `Converted` by ids, in any order; equal contents mean equal structures."""
    s = c.structure
    graph = isinstance(s, Graph)
    adj = s.adj if graph else s.v2e
    n, m = adj.num_sources, 0 if graph else adj.num_targets
    nodes = list(range(n) if c.node_ids is None else c.node_ids)
    hyperedges = list(range(m) if c.hyperedge_ids is None else c.hyperedge_ids)
    node_weight = None if graph else s.node_weight
    table = _records(c.node_attrs, n, ("x", c.x), ("y", c.y), ("weight", node_weight))
    content = {"nodes": {repr(i): record for i, record in zip(nodes, table, strict=True)}}
    edges = _records(c.edge_attrs, adj.num_edges, ("weight", adj.weight))
    targets = nodes if graph else hyperedges
    ends = zip(adj.indices.tolist(), adj.target.tolist(), edges, strict=True)
    content["edges"] = Counter((repr(nodes[u]), repr(targets[v]), record) for u, v, record in ends)
    table = _records(c.hyperedge_attrs, m, ("weight", None if graph else s.hyperedge_weight))
    content["hyperedges"] = {repr(i): record for i, record in zip(hyperedges, table, strict=True)}
    content["weighted"] = (adj.weight is None, node_weight is None, graph or s.hyperedge_weight is None)
    return content


@pytest.fixture(scope="session")
def graphs():
    return _graphs


@pytest.fixture(scope="session")
def hypergraphs():
    return _hypergraphs


@pytest.fixture(scope="session")
def content_of():
    return _facts
