"""Random and degenerate structures for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hgraph.structure import Adjacency, Graph, Hypergraph, KnowledgeGraph

__all__ = [
    "degenerate_adjacencies",
    "random_adjacency",
    "random_graph",
    "random_hypergraph",
    "random_knowledge_graph",
]


def random_adjacency(
    num_targets: int, num_sources: int, num_edges: int, *, seed: int = 0, weighted: bool = False
) -> Adjacency:
    """Uniformly random edges, including parallel ones; weights in -1 .. 1.

    >>> random_adjacency(3, 4, 10).shape
    (3, 4)
    """
    generator = torch.Generator().manual_seed(seed)
    return Adjacency.from_coo(
        target=torch.randint(num_targets, (num_edges,), generator=generator) if num_edges else [],
        source=torch.randint(num_sources, (num_edges,), generator=generator) if num_edges else [],
        weight=torch.rand(num_edges, generator=generator, dtype=torch.float64) * 2 - 1 if weighted else None,
        num_targets=num_targets,
        num_sources=num_sources,
        duplicates="keep",
    )


def random_graph(num_nodes: int, num_edges: int, *, seed: int = 0, weighted: bool = False) -> Graph:
    """A directed graph of uniformly random edges without duplicates; weights in 0.5 .. 1.5."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randint(max(num_nodes, 1), (2, num_edges), generator=generator).unique(dim=1)
    weight = torch.rand(pairs.shape[1], generator=generator) + 0.5 if weighted else None
    return Graph.from_edge_index(pairs, num_nodes=num_nodes, directed=True, weight=weight)


def random_hypergraph(
    num_nodes: int, num_hyperedges: int, num_incidences: int, *, seed: int = 0, weighted: bool = False
) -> Hypergraph:
    """Uniformly random incidences without duplicates; ``weighted`` adds all types of weights in 0.5 .. 1.5."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([[num_nodes], [num_hyperedges]])
    pairs = (torch.rand(2, num_incidences, generator=generator) * size).long().unique(dim=1)

    def weights(count: int) -> Tensor | None:
        return torch.rand(count, generator=generator) + 0.5 if weighted else None

    return Hypergraph.from_coo(
        node=pairs[0],
        hyperedge=pairs[1],
        num_nodes=num_nodes,
        num_hyperedges=num_hyperedges,
        weight=weights(pairs.shape[1]),
        hyperedge_weight=weights(num_hyperedges),
        node_weight=weights(num_nodes),
    )


def random_knowledge_graph(
    num_nodes: int, num_triples: int, num_relations: int = 3, *, seed: int = 0, weighted: bool = False
) -> KnowledgeGraph:
    """Uniformly random triples, with duplicates as parallel edges; weights in 0.5 .. 1.5.

    >>> random_knowledge_graph(5, 12)
    KnowledgeGraph(5 nodes, 12 triples, 3 relations, cpu)
    """
    generator = torch.Generator().manual_seed(seed)
    kg = KnowledgeGraph.from_triples(
        head=torch.randint(num_nodes, (num_triples,), generator=generator) if num_triples else [],
        relation=torch.randint(num_relations, (num_triples,), generator=generator) if num_triples else [],
        tail=torch.randint(num_nodes, (num_triples,), generator=generator) if num_triples else [],
        num_nodes=num_nodes,
        num_relations=num_relations,
        duplicates="keep",
    )
    return kg.with_weight(torch.rand(num_triples, generator=generator) + 0.5) if weighted else kg


def degenerate_adjacencies() -> dict[str, Adjacency]:
    """Degenerate structures that reveal common errors, by name.

    >>> sorted(degenerate_adjacencies())[:3]
    ['all_to_one', 'duplicates', 'empty_rows']
    """

    def make(target: Any, source: Any, t: int, s: int) -> Adjacency:
        return Adjacency.from_coo(target=target, source=source, num_targets=t, num_sources=s, duplicates="keep")

    hub = torch.cat([torch.zeros(90, dtype=torch.long), torch.arange(10)])
    late = torch.cat([torch.arange(10), torch.full((90,), 6)])
    return {
        "empty_rows": make([1, 1, 4], [0, 2, 2], 6, 4),
        "no_edges": make([], [], 3, 5),
        "no_targets": make([], [], 0, 5),
        "no_sources": make([], [], 3, 0),
        "nothing": make([], [], 0, 0),
        "one_loop": make([0], [0], 1, 1),
        "one_node": make([], [], 1, 1),
        "hub": make(hub, torch.arange(100) % 37, 11, 37),
        "late_hub": make(late, torch.cat([torch.full((10,), 30), torch.arange(90) % 37]), 11, 37),
        "all_to_one": make([0] * 5, [0, 1, 2, 3, 4], 1, 5),
        "one_to_all": make([0, 1, 2, 3, 4], [0] * 5, 5, 1),
        "duplicates": make([0, 0, 0, 1, 1], [2, 2, 2, 0, 0], 3, 3),
        "self_loops": make([0, 1, 2, 0], [0, 1, 2, 1], 3, 3),
        "odd": random_adjacency(17, 13, 61, seed=3),
    }
