"""`backend`: selected by name, for a block or for the process, without fallback."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from hgraph import backend, backends, edge_softmax, errors, propagate
from hgraph.ops import current_backend
from hgraph.testing import random_adjacency

# The class has the same name as the module and hides it.
module = importlib.import_module("hgraph.ops.dispatch.backend")


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Each test starts and ends with the default backend."""
    backend("auto")
    yield
    backend("auto")


def test_the_reference_is_always_available() -> None:
    assert backends()["torch"] == "available"
    assert set(backends()) == {"torch", "native", "triton"}
    assert backends()[current_backend()] == "available"


def test_a_block_chooses_and_then_restores() -> None:
    before = current_backend()
    with backend("torch") as chosen:
        assert isinstance(chosen, backend)
        assert current_backend() == "torch"
        with backend("auto"):
            assert backends()[current_backend()] == "available"
        assert current_backend() == "torch"
    assert current_backend() == before


def test_an_error_restores_too() -> None:
    with pytest.raises(KeyError, match="inside"), backend("torch"):
        raise KeyError("inside")
    assert module._current == "auto"


def test_without_a_block_it_is_the_process_default() -> None:
    backend("torch")
    assert module._current == "torch"
    with backend("auto"):
        assert module._current == "auto"
    assert module._current == "torch"


@pytest.mark.parametrize("name", ["cuda", "", "Torch", "all"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(errors.ArgumentError, match=r"backend: expected one of auto, torch, native, triton, got "):
        backend(name)
    assert current_backend() == "torch"


@pytest.mark.parametrize("name", ["native", "triton"])
def test_unavailable_backends_are_rejected_with_the_reason(name: str) -> None:
    reason = backends()[name]
    if reason == "available":
        pytest.skip(f"{name} runs here")
    with pytest.raises(errors.BackendError, match=rf"{name}.*cannot run here: .*{reason}"):
        backend(name)
    assert module._current == "auto"


def test_results_do_not_depend_on_the_name() -> None:
    adj, x = random_adjacency(5, 4, 12), torch.randn(4, 3)
    with backend("torch"):
        reference = propagate(adj, x)
    torch.testing.assert_close(propagate(adj, x), reference)


@pytest.fixture
def sevens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A native backend whose sums are 7 in float32; returns the list of its calls."""
    calls = []

    def spmm(adj, weight, x):
        calls.append(str(x.dtype))
        if x.dtype != torch.float32:
            return NotImplemented
        return x.new_full((adj[0].shape[0] - 1, x.shape[-1]), 7.0)

    module_of = SimpleNamespace(KERNELS={"spmm": spmm}, state=lambda: "available")
    monkeypatch.setattr(module, "_operators", {"native": module_of, "triton": None}.get)
    return calls


def test_the_best_available_backend_is_used(sevens: list[str]) -> None:
    adj, x = random_adjacency(5, 4, 12), torch.randn(4, 3)
    assert current_backend() == "native"
    assert propagate(adj, x).unique().tolist() == [7.0]
    with backend("torch"):
        reference = propagate(adj, x)
    assert reference.unique().numel() > 1
    torch.testing.assert_close(propagate(adj, x.double()), reference.double())  # not supported: uses the reference
    assert sevens == ["torch.float32", "torch.float64"]


def test_a_selected_backend_never_falls_back(sevens: list[str]) -> None:
    adj, x = random_adjacency(5, 4, 12), torch.randn(4, 3)
    with backend("native"):
        assert propagate(adj, x).unique().tolist() == [7.0]
        with pytest.raises(errors.BackendError, match=r"'native' does not compute 'spmm' for torch\.float64"):
            propagate(adj, x.double())
        with pytest.raises(errors.BackendError, match="'native' does not compute 'softmax'"):
            edge_softmax(adj, torch.zeros(12))
