"""Structures built on the device equal those of the checked constructors, without device syncs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import Adjacency
from hgraph.ops.prepare import coalesce, from_pairs, invert, top_edges, top_sources
from hgraph.testing import adjacencies, degenerate_adjacencies

few = settings(max_examples=30, deadline=None, derandomize=True, database=None)


@few
@given(adjacencies(weighted=True), st.integers(0, 1000))
def test_pairs_in_any_order(adj: Adjacency, seed: int) -> None:
    order = torch.randperm(adj.num_edges, generator=torch.Generator().manual_seed(seed))
    sizes = {"num_targets": adj.num_targets, "num_sources": adj.num_sources}
    target, source, weight = adj.target[order], adj.indices[order], adj.weight[order]
    made, back = from_pairs(target, source, weight=weight, **sizes)
    wanted = Adjacency.from_coo(target=target, source=source, weight=weight, duplicates="keep", **sizes)
    for name in ("indptr", "indices", "target", "t_indptr", "t_indices", "source", "perm", "inv_perm", "weight"):
        assert torch.equal(getattr(made, name), getattr(wanted, name)), name
    assert torch.equal(target[back], made.target)
    merged = coalesce(target, source, weight=weight, **sizes)
    wanted = Adjacency.from_coo(target=target, source=source, weight=weight, duplicates="sum", **sizes)
    assert torch.equal(merged.indices, wanted.indices)
    assert torch.equal(merged.indptr, wanted.indptr)
    torch.testing.assert_close(merged.weight, wanted.weight)


@pytest.mark.parametrize("name", degenerate_adjacencies())
def test_inverse(name: str) -> None:
    adj = degenerate_adjacencies()[name]
    t_indptr, t_indices, perm = invert(adj.indptr, adj.indices, adj.num_sources)
    assert torch.equal(t_indptr, adj.t_indptr)
    assert torch.equal(t_indices, adj.t_indices)
    assert torch.equal(perm, adj.perm)


@few
@given(adjacencies(), st.integers(0, 4), st.integers(0, 1000))
def test_best_edges(adj: Adjacency, k: int, seed: int) -> None:
    score = torch.randint(4, (adj.num_edges,), generator=torch.Generator().manual_seed(seed)).double()
    best, edges = top_edges(adj, score, k)
    wanted = []
    for t in range(adj.num_targets):
        own = [e for e in range(adj.num_edges) if adj.target[e] == t]
        wanted += sorted(sorted(own, key=lambda e: -float(score[e]))[:k])
    assert edges.tolist() == wanted
    assert best.indices.tolist() == adj.indices[edges].tolist()
    assert best.target.tolist() == adj.target[edges].tolist()


def test_best_sources() -> None:
    score = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    adj, chosen = top_sources(score, 3)
    selected = torch.zeros(5, 7)
    selected[adj.target, adj.indices] = 1
    smallest = score.masked_fill(selected == 0, float("inf")).min(1).values
    assert (score.masked_fill(selected == 1, -float("inf")).max(1).values <= smallest).all()
    assert adj.target_degree().tolist() == [3] * 5
    chosen.sum().backward()
    assert torch.equal(score.grad, selected)


def test_the_weights_of_pairs_carry_gradients() -> None:
    weight = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    target, source = torch.tensor([1, 0, 1]), torch.tensor([0, 0, 0])
    sizes = {"num_targets": 2, "num_sources": 1}
    (from_pairs(target, source, weight=weight, **sizes)[0].weight * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert weight.grad.tolist() == [10.0, 1.0, 100.0]
    weight.grad = None
    (coalesce(target, source, weight=weight, **sizes).weight * torch.tensor([1.0, 10.0])).sum().backward()
    assert weight.grad.tolist() == [10.0, 1.0, 10.0]


def test_nothing_is_read_back_from_the_device() -> None:
    """These run on meta tensors, which cannot be read."""
    with torch.device("meta"):
        ids, score = torch.empty(6, dtype=torch.long), torch.empty(3, 5)
        made, _ = from_pairs(ids, ids, num_targets=4, num_sources=4, weight=torch.empty(6))
        assert made.num_edges == 6
        assert top_sources(score, 2)[0].num_edges == 6
        assert invert(torch.empty(5, dtype=torch.long), ids, 4)[1].shape == (6,)
