"""What the tests of the verbs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.utils import deterministic


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads may be set at will: it is put back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["in python", "in torch"])
def poisoned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Memory that nobody has written to yet is NaN, so that reading it shows."""
    if request.param == "in python":

        def poison(t: Tensor) -> Tensor:
            return t.fill_(float("nan")) if t.is_floating_point() else t

        for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
            make = getattr(owner, name)
            monkeypatch.setattr(owner, name, lambda *a, make=make, **k: poison(make(*a, **k)))
        yield
    else:
        before = torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory
        deterministic.fill_uninitialized_memory = True
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(before[0])
        deterministic.fill_uninitialized_memory = before[1]
