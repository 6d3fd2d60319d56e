"""Fixtures of the tests of the verbs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.utils import deterministic
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hgraph.ops import current_backend

# With native kernels built, the same tests run with backend "auto", which uses these kernels for float32; tests of
# other dtypes are not repeated.
BOTH_WAYS = {"test_attend", "test_edge", "test_propagate", "test_merge", "test_determinism", "test_properties",
             "test_forward_mode"}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rsplit(".")[-1] in BOTH_WAYS:
        metafunc.parametrize("computed_by", ["torch", "native"], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def repeated(item: pytest.Item) -> bool:
        given = item.callspec.params if hasattr(item, "callspec") else {}
        return given.get("computed_by") == "native" and given.get("dtype", torch.float32) != torch.float32

    items[:] = [item for item in items if not repeated(item)]


@pytest.fixture(autouse=True)
def computed_by(request: pytest.FixtureRequest) -> str:
    """The backend: plain torch, or native kernels where they support the call."""
    name = getattr(request, "param", "torch")
    if name == "native":
        request.getfixturevalue("native_present")
        assert current_backend() == "native"
    return name


@pytest.fixture
def threads() -> Iterator[None]:
    """Restore the number of threads after a test that changes it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["in python", "in torch"])
def poisoned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fill uninitialized memory with NaN, so that reading it is noticed."""
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


class Largest(TorchDispatchMode):
    """Records the largest storage in bytes of any result, also inside the kernels of hgraph."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "hgraph":
            with self:
                return func._op_dk(torch._C.DispatchKey.CPU, *args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        found = [t.untyped_storage().nbytes() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.bytes = max([self.bytes, *found])
        return out


@pytest.fixture
def largest() -> Largest:
    """After a ``with`` block, ``bytes`` is the size of the largest tensor."""
    return Largest()
