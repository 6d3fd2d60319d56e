"""Partitions: every pair of the support exactly once, for any length and size; and errors for wrong partitions."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph import patterns
from hgraph.errors import ArgumentError
from hgraph.patterns import Partition, partitions

MAKERS = {
    "fixed": partitions.fixed,
    "logsparse": lambda n, size, causal: partitions.logsparse(n, causal=causal),
    "vertical": partitions.vertical,
    "horizontal": partitions.horizontal,
    "horizontal, split": lambda n, size, causal: partitions.horizontal(n, size, causal=causal, split=True),
    "row_major": partitions.row_major,
}


def support_of(n, causal):
    return patterns.causal(n) if causal else patterns.full(n)


def times(partition):
    """[N, N]: how often each pair is reached, by dense products."""
    total = sum(g.adjacency().dense() for g in partition.direct)
    for regions in partition.regions:
        total = total + regions.attended.adjacency().dense() @ regions.members.adjacency().dense()
    return total


@pytest.mark.parametrize("name", MAKERS)
@given(n=st.integers(0, 70), size=st.integers(1, 20), causal=st.booleans())
@settings(max_examples=15, deadline=None)
def test_direct_edges_and_regions_reach_each_pair_once(name, n, size, causal):
    partition, support = MAKERS[name](n, size, causal=causal), support_of(n, causal)
    partition.validate(support)
    assert torch.equal(times(partition), support.adjacency().dense())
    for regions in partition.regions:
        assert (
            regions.sizes[regions.attended.adjacency().indices.long()] > 0
        ).all()  # no token attends to an empty region
        assert regions.hypergraph().v2e.num_edges == regions.members.num_edges


@pytest.mark.parametrize("name", MAKERS)
@given(size=st.integers(1, 6), causal=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=6, deadline=None)
def test_masked_partitions_reach_each_present_pair_once(name, size, causal, seed):
    mask = torch.rand(3, 19, generator=torch.Generator().manual_seed(seed)) < torch.tensor([[0.3], [0.7], [1.0]])
    partition = MAKERS[name](19, size, causal=causal).masked(mask)
    partition.validate(support_of(19, causal) & patterns.present(mask))


@given(group=st.lists(st.integers(-1, 5), max_size=40), causal=st.booleans())
@settings(max_examples=30, deadline=None)
def test_clusters_reach_each_pair_once(group, causal):
    """Clusters of the tokens that are in one; other tokens have no edges."""
    mask = torch.tensor(group, dtype=torch.long).view(1, -1) >= 0
    partition, support = partitions.clusters(group, causal=causal), support_of(len(group), causal)
    partition.validate(support & patterns.present(mask))
    assert torch.equal(times(partition), support.adjacency().dense() * (mask & mask.T))


@pytest.mark.parametrize("causal", [True, False])
def test_the_neighbors_of_powers_of_two_are_siblings(causal):
    """Siblings of the ancestors of i in the tree, at every level; in both directions if not causal."""
    n = 32
    partition = partitions.logsparse(n, causal=causal)
    for i in range(n):
        found = []
        for regions in partition.regions:
            attended = regions.attended.adjacency().select(torch.tensor([i])).indices.long()
            found += [regions.members.adjacency().select(h.view(1)).indices.tolist() for h in attended]
        siblings = [i >> level ^ 1 for level in range(1, 5)]
        expected = [list(range(b << level, (b + 1) << level)) for level, b in enumerate(siblings, 1)]
        assert sorted(found) == sorted(e for e in expected if e[0] < i or not causal)


def test_one_region_per_segment_and_the_code_that_counts_its_own_twice():
    partition = partitions.fixed(10, 4, causal=False)
    assert partition.regions[0].hypergraph().to_lists() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert partition.regions[0].sizes.tolist() == [4, 4, 2]
    for twice in (
        partitions.fixed(10, 4, causal=False, twice=True),
        partitions.row_major(10, 4, causal=False, twice=True),
    ):
        assert twice.support().equal(patterns.full(10))
        with pytest.raises(ArgumentError, match="partition: expected 100 pairs, each once, got 136"):
            twice.validate(patterns.full(10))


def test_wrong_partitions_raise_errors():
    whole = partitions.fixed(9, 3)
    with pytest.raises(ArgumentError, match=r"exactly once, got the pair \(3, 0\), which is not covered"):
        Partition(whole.direct).validate(patterns.causal(9))
    with pytest.raises(ArgumentError, match=r"the pair \(3, 0\), which is covered but not in the support"):
        whole.validate(patterns.block_local(9, 3, causal=True))
    doubled = dataclasses.replace(whole, direct=(patterns.causal(9),))
    with pytest.raises(ArgumentError, match="45 pairs, each once, got 72"):
        doubled.validate(patterns.causal(9))
    with pytest.raises(ArgumentError, match="size: expected a whole number, 1 or more, got 0"):
        partitions.fixed(9, 0)
    with pytest.raises(ArgumentError, match="assignment"):
        partitions.clusters(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ArgumentError, match="columns"):
        partitions.vertical(9, 0)


@pytest.mark.parametrize("name", MAKERS)
def test_partitions_of_many_tokens_are_made_from_runs(name):
    """Four billion pairs are a few runs per token."""
    n = 1 << 16
    partition = MAKERS[name](n, 256, causal=True)
    runs = sum(g.num_runs for g in partition.direct)
    runs += sum(r.attended.num_runs + r.members.num_runs for r in partition.regions)
    assert runs <= (12 if name == "logsparse" else 8) * n
    assert partition.num_pairs == n * (n + 1) // 2
