"""The length of the longest row: where it is known, and that it cannot be wrong."""

import copy
import dataclasses
import pickle

import pytest
import torch

from hgraph import Adjacency, Graph, Hypergraph, KnowledgeGraph, collate, load
from hgraph.structure import row_lengths
from hgraph.testing import degenerate_adjacencies, random_adjacency

DEGENERATE = degenerate_adjacencies()


def known(adj):
    return row_lengths.longest(adj.indptr), row_lengths.longest(adj.t_indptr)


def counted(adj):
    return tuple(max(torch.bincount(ends, minlength=1).tolist()) for ends in (adj.target, adj.source))


@pytest.mark.parametrize("name", DEGENERATE)
def test_of_rows_and_of_columns(name):
    adj = DEGENERATE[name]
    assert known(adj) == counted(adj)
    assert known(adj.transpose()) == counted(adj)[::-1]


def test_public_constructors_compute_it():
    pairs = torch.tensor([[0, 1, 2, 2, 2], [2, 2, 2, 0, 1]])
    hypergraph = Hypergraph.from_lists([[0, 1, 2], [2, 3], [2]], num_nodes=5)
    graph = Graph.from_edge_index(pairs, num_nodes=4, directed=False)
    triples = {"head": [0, 0, 1], "relation": [0, 1, 0], "tail": [1, 1, 0], "num_nodes": 2, "num_relations": 2}
    for adj in (hypergraph.v2e, hypergraph.e2v, graph.adj, KnowledgeGraph.from_triples(**triples).adj):
        assert known(adj) == counted(adj)
    assert known(hypergraph.v2e) == (3, 3)


def test_set_algebra_and_composition_compute_it():
    adj, other, square = random_adjacency(6, 5, 17), random_adjacency(6, 5, 9, seed=4), random_adjacency(5, 5, 9)
    looped = square.add_self_loops()
    made = [adj | other, adj & other, adj - other, adj @ square, looped, looped.add_self_loops()]
    made += [square.reach(0), square.reach(2), adj.select(torch.tensor([0, 2])), adj.transpose() | other.transpose()]
    unseen = Adjacency.trusted(indptr=looped.indptr.clone(), indices=looped.indices, num_sources=5)
    for each in [*made, unseen.add_self_loops()]:
        assert known(each) == counted(each)


def test_it_is_kept_with_the_lists():
    adj = random_adjacency(6, 5, 17)
    assert known(adj.with_weight(torch.ones(17)).normalize("sym")) == counted(adj)
    swapped = dataclasses.replace(adj, indptr=adj.t_indptr, t_indptr=adj.indptr)
    assert known(swapped) == known(adj)[::-1]  # never another list's number
    assert known(dataclasses.replace(adj, indptr=adj.indptr.clone())) == (None, known(adj)[1])


def test_it_is_unknown_if_not_computed():
    adj = random_adjacency(6, 5, 17)
    made = Adjacency.trusted(indptr=adj.indptr.clone(), indices=adj.indices, num_sources=5)
    assert known(made) == (None, None)
    for same in (copy.deepcopy(adj), pickle.loads(pickle.dumps(adj))):
        assert known(same) == (None, None)
    adj.indptr[1:] = 17  # a row of 17 edges, by a write in place
    assert known(adj) == (None, counted(adj)[1])


def test_it_is_recomputed_on_the_way_to_a_device(tmp_path):
    """Because copies, batches of loaders and structures built in a forward lack it."""
    adj = random_adjacency(6, 5, 17)
    for old in (adj, copy.deepcopy(adj), collate([adj, random_adjacency(9, 7, 30)])):
        new = old._map(torch.clone)
        assert new.indptr is not old.indptr
        assert known(new) == counted(old)
    adj.save(tmp_path / "a")
    assert known(load(tmp_path / "a")) == counted(adj)


def test_it_is_unknown_under_compile_and_transforms():
    adj = random_adjacency(6, 5, 17)

    def moved(x):
        return adj._map(torch.clone).indptr + x

    torch.compile(moved, backend="aot_eager", fullgraph=True)(torch.ones(7))
    torch.func.vmap(moved)(torch.ones(2, 7))


def test_in_inference_mode():
    with torch.inference_mode():
        adj = random_adjacency(6, 5, 17)
        assert known(adj) == counted(adj)
