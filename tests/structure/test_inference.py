"""Structures built under `torch.inference_mode` consist of ordinary tensors and can be used in training."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
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
    attend,
    builders,
    nn,
    patterns,
    propagate,
)
from hgraph.structure import BlockAdjacency, Names
from hgraph.testing import random_adjacency, random_graph, random_hypergraph, random_knowledge_graph
from tests.structure.cases import CASES

PAIRS = [[0, 1, 2, 2], [1, 2, 0, 1]]
WEIGHT = [0.5, 1.0, 2.0, 4.0]


def weights():
    return torch.tensor(WEIGHT)


def points():
    return torch.rand(7, 2, generator=torch.Generator().manual_seed(0))


def adjacency():
    return Adjacency.from_coo(
        target=torch.tensor(PAIRS[0]), source=torch.tensor(PAIRS[1]), weight=weights(), num_targets=3, num_sources=3
    )


def knowledge():
    return random_knowledge_graph(6, 20)


ORDINARY = {name: random_adjacency(4, 4, 9, weighted=name == "weighted") for name in ("weighted", "unweighted")}
GRAPH, HYPERGRAPH = random_graph(5, 9, weighted=True), random_hypergraph(6, 4, 12, weighted=True)
TOKENS = patterns.causal(40) | patterns.global_tokens(40, [0])
MADE = {
    "from_coo": adjacency,
    "trusted": lambda: Adjacency.trusted(
        indptr=torch.tensor([0, 1, 2]), indices=torch.tensor([1, 0]), num_sources=2, weight=torch.ones(2)
    ),
    "eye": lambda: Adjacency.eye(3),
    "with_weight": lambda: ORDINARY["unweighted"].with_weight(torch.ones(9)),
    "transpose": lambda: ORDINARY["weighted"].transpose(),
    "normalize": lambda: ORDINARY["unweighted"].normalize("sym"),
    "add_self_loops": lambda: ORDINARY["weighted"].add_self_loops(),
    "select": lambda: ORDINARY["weighted"].select(torch.tensor([2, 0])),
    "union": lambda: ORDINARY["unweighted"] | Adjacency.eye(4),
    "compose": lambda: ORDINARY["weighted"] @ ORDINARY["unweighted"],
    "reach": lambda: ORDINARY["unweighted"].reach(2),
    "replace": lambda: dataclasses.replace(ORDINARY["weighted"], weight=torch.zeros(9)),
    "deepcopy": lambda: copy.deepcopy(GRAPH),
    "pickle": lambda: pickle.loads(pickle.dumps(HYPERGRAPH)),
    "Graph": lambda: Graph.from_edge_index(torch.tensor(PAIRS), num_nodes=3, directed=False),
    "Hypergraph lists": lambda: Hypergraph.from_lists([[0, 1], [2]], num_nodes=3, hyperedge_weight=torch.ones(2)),
    "Hypergraph incidence": lambda: Hypergraph.from_incidence(torch.eye(3)),
    "clique": lambda: HYPERGRAPH.clique(),
    "KnowledgeGraph": knowledge,
    "KnowledgeGraph names": lambda: KnowledgeGraph.from_names([("a", "r", "b")]),
    "Names": lambda: Names.of(["a", "b"]),
    "Interactions": lambda: Interactions.random(
        torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 1, 2]), knowledge(), num_users=3, num_items=3, seed=0
    ).collaborative(),
    "TripleSplit": lambda: TripleSplit.random(knowledge(), seed=0),
    "SoftAdjacency": lambda: SoftAdjacency.from_weight(torch.rand(3, 4)).topk(2),
    "SoftHypergraph": lambda: SoftHypergraph.from_participation(torch.rand(5, 3)).select(torch.tensor([0, 1])),
    "pattern": lambda: patterns.sliding_window(9, 3) & patterns.causal(9),
    "tiles": lambda: TOKENS.tiles(2),
    "tiles from index": lambda: BlockAdjacency.from_index(
        torch.tensor([[0], [1]]), num_targets=4, num_sources=4, block_size=2
    ),
    "token adjacency": lambda: TOKENS.adjacency(),
    "knn": lambda: builders.knn_hypergraph(points(), 2),
    "radius": lambda: builders.radius_hypergraph(points(), 0.5),
    "grid": lambda: builders.grid_graph(3, 3),
}


@pytest.mark.parametrize("name", MADE)
def test_structures_consist_of_ordinary_tensors(name):
    with torch.inference_mode():
        made = MADE[name]()
    assert made.tensors()
    assert not any(t.is_inference() for t in made.tensors())


@pytest.mark.parametrize("name", CASES)
def test_copies_consist_of_ordinary_tensors(name):
    with torch.inference_mode():
        made = copy.deepcopy(CASES[name])
    assert not any(t.is_inference() for t in made.tensors())
    assert made.equal(CASES[name])


def test_training_with_structures_built_and_used_in_inference_mode():
    x, (gcn, hgnn, gat) = torch.randn(3, 4), (nn.GCNConv(4, 2), nn.HGNNConv(4, 2), nn.GATConv(4, 2))
    with torch.inference_mode():
        adj, graph = adjacency(), Graph.from_edge_index(torch.tensor(PAIRS), num_nodes=3, directed=False)
        hg, soft = Hypergraph.from_lists([[0, 1], [1, 2]], num_nodes=3), SoftAdjacency.from_weight(torch.rand(3, 3))
        tokens = patterns.sliding_window(3, 2)
        layers = [(gcn, graph), (hgnn, hg), (gat, graph)]
        before = [propagate(adj, x), *(layer(x, structure) for layer, structure in layers)]
    x.requires_grad_()
    after = [propagate(adj, x), *(layer(x, structure) for layer, structure in layers), propagate(soft, x)]
    after.append(attend(tokens, x.unsqueeze(1), x.unsqueeze(1), x.unsqueeze(1)).out)
    for old, new in zip(before, after, strict=False):
        torch.testing.assert_close(old.clone(), new.detach())
    sum(y.square().sum() for y in after).backward()
    assert x.grad.isfinite().all()
