"""Run the same tests in Triton's interpreter on a CPU and, if there is one, on a GPU."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hgraph import backend


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device of a test, with the Triton backend selected."""
    if request.param == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("kernels run natively here, not in the interpreter")
    with backend("triton"):
        yield request.param


@pytest.fixture
def unpoisoned() -> None:
    """Restore the functions that create tensors, because compilers recognize them by name."""


@pytest.fixture(autouse=True)
def poisoned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill uninitialized memory with NaN, so that reading it is noticed."""
    if "unpoisoned" in request.fixturenames:
        return

    def poison(t: Tensor) -> Tensor:
        return t.fill_(float("nan")) if t.is_floating_point() and t.numel() < 2**20 else t

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        make = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, make=make, **k: poison(make(*a, **k)))


@pytest.fixture(autouse=True)
def one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use one seed for every dropout, because generators of CPU and GPU give different seeds."""
    for name in ("attend", "tiles.tokens"):
        module = importlib.import_module(f"hgraph.ops.{name}")
        monkeypatch.setattr(module, "draw_seed", lambda _, device: torch.full((1,), 0x123456789ABCDEF, device=device))


@pytest.fixture
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of more than eight edges are cut."""
    split = importlib.import_module("hgraph.kernels.split")
    monkeypatch.setattr(split, "LONGEST", 8)


@pytest.fixture
def no_overflow_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the interpreter's overflow checks of int32, which take half of its time."""
    interpreter = importlib.import_module("triton.runtime.interpreter").interpreter_builder
    monkeypatch.setattr(interpreter, "options", dataclasses.replace(interpreter.options, sanitize_overflow=False))
