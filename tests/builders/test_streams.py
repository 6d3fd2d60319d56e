"""Time-stamped simplices against a loop over them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hgraph.builders import simplex_hypergraph
from hgraph.errors import ArgumentError

simplex = st.tuples(st.integers(0, 5), st.lists(st.integers(0, 4), min_size=1, max_size=4))
bound = st.one_of(st.none(), st.integers(0, 6))


@settings(max_examples=100, deadline=None)
@given(st.lists(simplex, max_size=10), bound, bound)
def test_equals_a_loop(stream, start, end):
    counts: dict[tuple[int, ...], int] = {}
    for time, members in sorted(stream, key=lambda s: s[0]):  # stable, as the builder is
        if (start is None or time >= start) and (end is None or time < end):
            key = tuple(sorted(set(members)))
            counts[key] = counts.get(key, 0) + 1
    built = simplex_hypergraph(
        [len(m) for _, m in stream],
        [v for _, m in stream for v in m],
        [t for t, _ in stream],
        num_nodes=5,
        start=start,
        end=end,
    )
    assert built.to_lists() == [list(k) for k in counts]
    assert built.hyperedge_weight.tolist() == list(counts.values())
    assert built.num_nodes == 5


@pytest.mark.parametrize(
    ("sizes", "members", "times", "message"),
    [
        ([1], [0], [1, 2], "times: expected 1"),
        ([0], [], [1], "at least 1 member"),
        ([2], [0], [1], "members: expected 2"),
        ([1], [5], [1], "nodes in 0 .. 4"),
        ([1], [-1], [1], "nodes in 0 .. 4"),
        ([1], [0.5], [1], "whole numbers"),
    ],
)
def test_arguments_are_checked(sizes, members, times, message):
    with pytest.raises(ArgumentError, match=message):
        simplex_hypergraph(sizes, members, np.array(times), num_nodes=5)


@pytest.mark.checked("builders", "A simplex without a time is an error; no time span would contain it.")
@pytest.mark.parametrize(
    "times", [[1.0, float("nan")], np.array(["2024-05-31", "NaT"], dtype="datetime64[D]"), [1, None]]
)
def test_missing_times_are_refused(times):
    with pytest.raises(ArgumentError, match="times: expected numbers or numpy dates, none missing"):
        simplex_hypergraph([1, 1], [0, 1], times, num_nodes=2)
