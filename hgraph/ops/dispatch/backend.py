"""Backend selection: chosen by name, never replaced silently."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

import torch

from hgraph.errors import ArgumentError, BackendError

__all__ = ["backend", "backends", "current_backend", "dispatch"]

_NAMES = ("auto", "torch", "native", "triton")
# Modules of the operators of each backend other than the reference, and their devices.
_DEVICES = {"native": "cpu", "triton": "cuda"}
_current = "auto"


def backends() -> dict[str, str]:
    """Every backend with ``"available"`` (and the library path, if any) or the reason why it cannot run.

    Use it to check which kernels this machine can run.

    >>> backends()["torch"]
    'available'
    """
    return {"torch": "available", **{name: _state(name) for name in _DEVICES}}


def current_backend(device: torch.device | str = "cpu") -> str:
    """The backend that ``"auto"`` resolves to for tensors on a device, or the selected one.

    Use it to see which kernels an operator will run.

    >>> with backend("torch"):
    ...     current_backend()
    'torch'
    """
    if _current != "auto":
        return _current
    return _best(torch.device(device).type)


@functools.cache
def _best(kind: str) -> str:
    """The resolution of ``"auto"`` for a device type; cached, so a process uses one backend throughout."""
    return next((name for name, on in _DEVICES.items() if on == kind and _available(_state(name))), "torch")


def refresh() -> None:
    """Let ``"auto"`` search for the best backend again after a build."""
    _best.cache_clear()
    _kernel.cache_clear()


def _state(name: str) -> str:
    operators = _operators(name)
    return "not part of this version" if operators is None else operators.state()


def _available(state: str) -> bool:
    return state.startswith("available")


@functools.cache
def _operators(name: str) -> ModuleType | None:
    """Import ``hgraph.ops.bindings.<name>`` lazily: it may import packages that `import hgraph` must not."""
    if importlib.util.find_spec(f"hgraph.ops.bindings.{name}") is None:
        return None
    return importlib.import_module(f"hgraph.ops.bindings.{name}")


@functools.cache
def _kernel(operator: str, chosen: str, device: str) -> Callable[..., Any] | None:
    """The kernel of the selected backend for an operator on a device type; None means the reference."""
    name = _best(device) if chosen == "auto" else chosen
    if name == "torch":
        return None
    module = _operators(name)
    return _unserved if module is None else module.KERNELS.get(operator, _unserved)


def _unserved(*_: Any) -> Any:
    return NotImplemented


def dispatch(operator: str, reference: Callable[..., Any]) -> Callable[..., Any]:
    """Run an operator below autograd: with the selected backend's kernel, or with the reference in plain torch.

    A backend is a module ``hgraph.ops.bindings.<name>`` with a function ``state() -> str`` (``"available"`` or the
    reason why not) and a dictionary ``KERNELS`` of its operators. A kernel takes the operator's arguments
    and returns NotImplemented if it does not support them (a dtype, a width). Then ``"auto"`` uses the reference; a
    backend selected by name raises, because nothing may fall back silently.
    """

    def run(*arguments: Any) -> Any:
        kernel = _kernel(operator, _current, arguments[0][0].device.type)
        if kernel is None:
            return reference(*arguments)
        output = kernel(*arguments)
        if output is not NotImplemented:
            return output
        if _current == "auto":
            return reference(*arguments)
        given = ", ".join(str(a.dtype) for a in arguments if isinstance(a, torch.Tensor))
        raise BackendError(
            f"backend {_current!r} does not compute {operator!r} for {given} here. Use 'auto' or 'torch'"
        )

    return run


class backend:
    """Select the backend of the operators: for the whole process, or only within a ``with`` block.

    Use it to compare backends or to rule one out; the default is the fastest available one.

    The mathematics of an operator does not depend on the backend.

    Args:
        name: ``"torch"`` (the reference, runs anywhere), ``"native"`` (optional CPU kernels), ``"triton"``
            (CUDA), or ``"auto"``: the best available one.

    Raises:
        ArgumentError: an unknown backend.
        BackendError: the backend cannot run here; there is no fallback.

    >>> with backend("torch"):
    ...     current_backend()
    'torch'
    """

    def __init__(self, name: str) -> None:
        global _current
        if name not in _NAMES:
            raise ArgumentError("backend", f"one of {', '.join(_NAMES)}", repr(name))
        state = _state(name) if name in _DEVICES else "available"
        if not _available(state):
            raise BackendError(f"backend {name!r} cannot run here: {state}. hgraph.backends() lists the available ones")
        if name == "auto":
            refresh()
        self._previous, _current = _current, name

    def __enter__(self) -> backend:
        """Select until the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous backend."""
        global _current
        _current = self._previous
