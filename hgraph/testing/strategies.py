"""Hypothesis strategies for structures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from hgraph.structure import Adjacency, Hypergraph, KnowledgeGraph

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["adjacencies", "hypergraphs", "knowledge_graphs"]


def adjacencies(*, max_size: int = 8, max_edges: int = 24, weighted: bool | None = None) -> SearchStrategy[Adjacency]:
    """Hypothesis strategy: structures of any shape, also empty, with parallel edges and isolated nodes."""
    from hypothesis import strategies as st

    @st.composite
    def draw_one(draw: Any) -> Adjacency:
        t, s = draw(st.integers(0, max_size)), draw(st.integers(0, max_size))
        edges = (
            draw(st.lists(st.tuples(st.integers(0, t - 1), st.integers(0, s - 1)), max_size=max_edges)) if t * s else []
        )
        has_weight = draw(st.booleans()) if weighted is None else weighted
        weight = [draw(st.floats(-2, 2, width=32)) for _ in edges] if has_weight else None
        return Adjacency.from_coo(
            target=[e[0] for e in edges],
            source=[e[1] for e in edges],
            weight=None if weight is None else torch.tensor(weight, dtype=torch.float64),
            num_targets=t,
            num_sources=s,
            duplicates="keep",
        )

    return draw_one()


def hypergraphs(*, max_nodes: int = 8, max_hyperedges: int = 6, weighted: bool = False) -> SearchStrategy[Hypergraph]:
    """Hypothesis strategy: hypergraphs with empty, repeated and one-node hyperedges, and isolated nodes."""
    from hypothesis import strategies as st

    @st.composite
    def draw_one(draw: Any) -> Hypergraph:
        n = draw(st.integers(0, max_nodes))
        members = st.lists(st.integers(0, n - 1), unique=True, max_size=n) if n else st.just([])
        hyperedges = draw(st.lists(members, max_size=max_hyperedges))
        positive = st.floats(0.125, 4, width=32)
        weight = [draw(positive) for _ in hyperedges] if weighted else None
        return Hypergraph.from_lists(
            hyperedges,
            num_nodes=n,
            hyperedge_weight=None if weight is None else torch.tensor(weight, dtype=torch.float64),
        )

    return draw_one()


def knowledge_graphs(
    *, max_nodes: int = 7, max_relations: int = 3, max_triples: int = 16
) -> SearchStrategy[KnowledgeGraph]:
    """Hypothesis strategy: knowledge graphs with duplicate triples, loops, isolated nodes, unused relations.

    They may have no nodes. Nodes may have types and names; there are no weights.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_one(draw: Any) -> KnowledgeGraph:
        n, r = draw(st.integers(0, max_nodes)), draw(st.integers(0, max_relations))
        one = st.tuples(st.integers(0, max(n - 1, 0)), st.integers(0, max(r - 1, 0)), st.integers(0, max(n - 1, 0)))
        triples = draw(st.lists(one, max_size=max_triples)) if n * r else []
        named, typed = draw(st.booleans()), draw(st.booleans())
        return KnowledgeGraph.from_triples(
            head=[t[0] for t in triples],
            relation=[t[1] for t in triples],
            tail=[t[2] for t in triples],
            num_nodes=n,
            num_relations=r,
            node_type=[v % 2 for v in range(n)] if typed else None,
            node_names=draw(st.lists(st.text(max_size=4), min_size=n, max_size=n)) if named else None,
            relation_names=[f"r{i}" for i in range(r)] if named else None,
            type_names=["even", "odd"] if typed and named else None,
            duplicates="keep",
        )

    return draw_one()
