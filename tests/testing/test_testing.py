"""Combinations of choices for parametrized tests."""

from __future__ import annotations

import itertools

import pytest

from hgraph.errors import ArgumentError
from hgraph.testing import covering, pairwise

CHOICES = {"a": [1, 2, 3], "b": "xy", "c": [True, False], "d": [None, 0]}


@pytest.mark.parametrize("strength", [1, 2, 3, 4])
def test_all_choices_of_so_many_lists_meet(strength: int) -> None:
    rows = covering(strength, **CHOICES)
    lists = list(CHOICES.values())
    for at in itertools.combinations(range(4), strength):
        assert {tuple(row[i] for i in at) for row in rows} == set(itertools.product(*(lists[i] for i in at)))


def test_no_combinations_are_refused() -> None:
    """A test parametrized by them would run nothing, and say nothing."""
    for strength in (0, 5):
        with pytest.raises(ArgumentError, match="strength: expected 1 .. 4"):
            covering(strength, **CHOICES)
    with pytest.raises(ArgumentError, match="strength: expected 1 .. 1"):
        pairwise(a=[1, 2, 3])
    for nothing in (pairwise, lambda **choices: covering(3, **choices)):
        with pytest.raises(ArgumentError, match="b: expected at least one choice"):
            nothing(a=[1, 2], b=[], c=[1, 2])
