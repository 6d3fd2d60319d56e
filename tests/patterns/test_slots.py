"""Layouts of tokens by content, and tiles of runs, against loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph.patterns.slots import grouped, of_runs


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 4), max_size=25), st.integers(1, 5), st.integers(5, 7))
def test_grouped_is_the_loop(group, block, count):
    group = torch.tensor(group, dtype=torch.long)
    layout = grouped(group.expand(2, 1, -1), count, block)
    place, expected = 0, {}
    for c in range(count):
        own = (group == c).nonzero().flatten().tolist()
        if own:
            assert layout.first[0, 0, c] == place
        for rank, token in enumerate(own):
            expected[token] = place + rank
        place += -(-len(own) // block) * block
    slots = layout.token.shape[-1]
    assert slots % block == 0
    assert place <= slots <= len(group) + count * (block - 1)
    assert layout.slot[1, 0].tolist() == [expected.get(t, -1) for t in range(len(group))]
    there = {slot: token for token, slot in expected.items()}
    assert layout.token[1, 0].tolist() == [there.get(s, -1) for s in range(slots)]


def test_an_earlier_token_stays_in_its_place_within_its_group():
    group = torch.randint(4, (50,), generator=torch.Generator().manual_seed(0))
    whole = grouped(group, 4, 8)
    for n in (1, 17, 49):
        part = grouped(group[:n], 4, 8)
        assert torch.equal(part.slot - part.first[group[:n]], (whole.slot - whole.first[group])[:n])


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 23), st.integers(1, 19), st.sampled_from([1, 2, 3, 8, 16]))
def test_tiles_of_runs_are_the_loop(data, targets, sources, block):
    ends = st.lists(st.integers(0, sources), min_size=2 * targets, max_size=2 * targets)
    runs = torch.tensor(data.draw(ends), dtype=torch.long).view(2, 1, 1, targets)
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=sources, max_size=sources))).view(1, 1, -1)
    start, stop = runs
    most = -(-sources // block)
    reach = torch.maximum(stop, torch.full_like(stop, min(3, sources)))
    for how in ({}, {"mask": mask}, {"reach": reach}):
        tiles = of_runs(start, stop, num_sources=sources, block_size=block, most=most, **how)
        column = torch.arange(sources)
        dense = (start[0, 0, :, None] <= column) & (column < stop[0, 0, :, None])
        dense = dense & mask[0, 0] if "mask" in how else dense
        assert torch.equal(tiles.adjacency().dense().bool(), dense)
        assert tiles.index.shape[3] <= most


def test_heads_and_examples_have_separate_runs():
    start = torch.zeros(2, 3, 5, dtype=torch.long)
    stop = torch.randint(6, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[[True, False, True, True, True]], [[True] * 5]])
    tiles = of_runs(start, stop, num_sources=5, block_size=2, most=3, mask=mask)
    for b in range(2):
        for h in range(3):
            dense = (torch.arange(5) < stop[b, h, :, None]) & mask[b, 0]
            assert torch.equal(tiles.adjacency(example=b, head=h).dense().bool(), dense)


@pytest.mark.parametrize("reach", [False, True])
def test_the_visits_of_a_target_can_be_independent_of_others(reach):
    """Without a reach the second target, which attends to more, makes the first one's tile visit more."""
    counts = []
    for stop in ([1, 1], [1, 4]):
        runs = torch.zeros(1, 1, 2, dtype=torch.long), torch.tensor([[stop]])
        how = {"reach": torch.full((1, 1, 2), 4)} if reach else {}
        counts.append(int(of_runs(*runs, num_sources=4, block_size=2, most=2, **how).count))
    assert (counts[0] == counts[1]) == reach
