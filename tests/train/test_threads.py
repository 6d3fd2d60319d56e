"""`fastest_threads` returns the faster number of threads and changes nothing else."""

from __future__ import annotations

import pytest
import torch

from hgraph.train import threads as module
from hgraph.train.threads import fastest_threads, threads


class Clock:
    """Time that passes only in steps."""

    def __init__(self, seconds):
        self.now, self.seconds, self.steps = 0.0, seconds, []

    def step(self):
        self.steps.append(torch.get_num_threads())
        torch.rand(3)
        self.now += self.seconds[self.steps[-1]]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [({1: 1.0, 2: 0.6}, 2), ({1: 1.0, 2: 1.5}, 1), ({1: 1.0, 2: 0.97}, 1), ({1: 0.01, 2: 0.001}, 2)],
)
def test_the_faster_number_is_returned(seconds, expected, monkeypatch):
    clock = Clock(seconds)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock.now)
    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    assert fastest_threads(clock.step, most=2) == expected
    assert torch.get_num_threads() == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert clock.steps[:4] == [1, 2, 1, 2]  # in turn
    assert len(clock.steps) <= 10


def test_long_steps_are_timed_once_after_the_first(monkeypatch):
    clock = Clock({1: 60.0, 2: 50.0})
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock.now)
    assert fastest_threads(clock.step, most=2) == 2
    assert len(clock.steps) == 4


def test_one_thread_is_not_timed():
    assert fastest_threads(lambda: pytest.fail("timed"), most=1) == 1


def test_threads_are_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="stop"), threads(1):
        raise ValueError("stop")
    assert torch.get_num_threads() == before
