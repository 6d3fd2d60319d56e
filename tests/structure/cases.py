"""Instances of every public structure, empty ones too. tests/test_meta.py fails when one is missing."""

from __future__ import annotations

import torch

from hgraph import (
    Adjacency,
    Graph,
    Hypergraph,
    Interactions,
    KnowledgeGraph,
    SoftAdjacency,
    SoftHypergraph,
    TripleSplit,
    patterns,
)
from hgraph.structure import Names
from hgraph.testing import (
    degenerate_adjacencies,
    random_adjacency,
    random_graph,
    random_hypergraph,
    random_knowledge_graph,
)

NO_EDGES = torch.empty(2, 0, dtype=torch.long)


def rand(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def interactions():
    pairs = torch.tensor([[0, 0, 1, 2, 2, 3], [0, 1, 1, 2, 3, 0]])
    return Interactions.random(*pairs, random_knowledge_graph(5, 9), num_users=4, num_items=4, seed=0)


def named():
    return KnowledgeGraph.from_names([("Dune", "by", "Herbert"), ("Dune", "is", "novel")])


CASES = {
    "Adjacency": random_adjacency(4, 5, 9),
    "Adjacency summed": Adjacency.from_coo(
        target=[1, 0, 1], source=[0, 0, 0], num_targets=2, num_sources=1, duplicates="sum"
    ),
    "Adjacency weighted": random_adjacency(4, 5, 9, weighted=True),
    **{f"Adjacency {name}": adj for name, adj in degenerate_adjacencies().items()},
    "Graph": random_graph(5, 9),
    "Graph weighted": random_graph(5, 9, weighted=True),
    "Graph empty": Graph.from_edge_index(NO_EDGES, num_nodes=0, directed=True),
    "Hypergraph": random_hypergraph(6, 4, 12),
    "Hypergraph weighted": random_hypergraph(6, 4, 12, weighted=True),
    "Hypergraph empty": Hypergraph.from_lists([], num_nodes=0),
    "Interactions": interactions(),
    "KnowledgeGraph": random_knowledge_graph(5, 9),
    "KnowledgeGraph weighted": random_knowledge_graph(5, 9, weighted=True),
    "KnowledgeGraph named": named(),
    "KnowledgeGraph empty": KnowledgeGraph.from_triples(head=[], relation=[], tail=[], num_nodes=0, num_relations=0),
    "Names": Names.of(["Dune", "", "Herbert"]),
    "SoftAdjacency": SoftAdjacency.from_weight(rand(2, 3, 4)),
    "SoftAdjacency masked": SoftAdjacency.from_weight(rand(3, 4), mask=rand(3, 4) > 0.5),
    "SoftAdjacency half, transposed": SoftAdjacency.from_weight(rand(3, 4).half().T),
    "SoftAdjacency empty": SoftAdjacency.from_weight(rand(0, 4)),
    "SoftHypergraph": SoftHypergraph.from_participation(rand(2, 5, 3)),
    "SoftHypergraph selected": SoftHypergraph.from_participation(rand(2, 5, 3)).select(torch.tensor([[0, 2], [1, 1]])),
    "SoftHypergraph empty": SoftHypergraph.from_participation(rand(2, 0, 3)),
    "TokenGraph": patterns.dilated(9, 3, 2) | patterns.sinks(9, 1),
    "TokenGraph per head": patterns.sink_band(9, [2, 4], num_sink=1, block_size=2),
    "TokenGraph ordered": patterns.hilbert_windows((4, 5), 3),
    "TokenGraph empty": patterns.full(0),
    "TokenGraph without edges": patterns.none(3, 5),
    "BlockAdjacency": (patterns.causal(40) | patterns.global_tokens(40, [0])).tiles(2),
    "BlockAdjacency transposed": patterns.sink_band(40, [4, 9], num_sink=2, block_size=2).tiles(8).with_transpose(),
    "BlockAdjacency empty": patterns.full(0, 3).tiles(4),
    "TripleSplit": TripleSplit.random(random_knowledge_graph(6, 20), seed=0),
}
PART = "is saved as a part of its knowledge graph"
WITHOUT = {("Names", "check_file"): PART, ("Names", "check_damaged_file"): PART}
