"""Kernels run in Triton's interpreter on a CPU, and natively where there is a GPU: the same tests, twice."""

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
    """Where a test runs, with the Triton backend chosen by name."""
    if request.param == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("kernels run natively here, not in the interpreter")
    with backend("triton"):
        yield request.param


@pytest.fixture
def unpoisoned() -> None:
    """For compilers, which know what makes a tensor by name."""


@pytest.fixture(autouse=True)
def poisoned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody has written to yet is NaN, so that reading it shows."""
    if "unpoisoned" in request.fixturenames:
        return

    def poison(t: Tensor) -> Tensor:
        return t.fill_(float("nan")) if t.is_floating_point() and t.numel() < 2**20 else t

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        make = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, make=make, **k: poison(make(*a, **k)))


@pytest.fixture(autouse=True)
def one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dropout draws by one seed: generators of a CPU and of a GPU give different ones."""
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
    """The interpreter looks at every sum and product of int32 for overflow, which takes half of its time."""
    interpreter = importlib.import_module("triton.runtime.interpreter").interpreter_builder
    monkeypatch.setattr(interpreter, "options", dataclasses.replace(interpreter.options, sanitize_overflow=False))
