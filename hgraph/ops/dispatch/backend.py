"""Which backend computes the verbs: chosen by name, never silently replaced."""

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
# Beside the reference: where each backend's operators are, and the device they run on.
_DEVICES = {"native": "cpu", "triton": "cuda"}
_current = "auto"


def backends() -> dict[str, str]:
    """Every backend with ``"available"`` (and what computes, where that is a file) or the reason why it cannot run.

    >>> backends()["torch"]
    'available'
    """
    return {"torch": "available", **{name: _state(name) for name in _DEVICES}}


def current_backend(device: torch.device | str = "cpu") -> str:
    """The backend that ``"auto"`` resolves to for tensors on a device, or the one asked for.

    >>> with backend("torch"):
    ...     current_backend()
    'torch'
    """
    if _current != "auto":
        return _current
    return _best(torch.device(device).type)


@functools.cache
def _best(kind: str) -> str:
    """What ``"auto"`` means for a kind of device, found out once: a process computes with one backend throughout."""
    return next((name for name, on in _DEVICES.items() if on == kind and _available(_state(name))), "torch")


def refresh() -> None:
    """Let ``"auto"`` look again for the best backend: something has been built."""
    _best.cache_clear()
    _kernel.cache_clear()


def _state(name: str) -> str:
    operators = _operators(name)
    return "not part of this version" if operators is None else operators.state()


def _available(state: str) -> bool:
    return state.startswith("available")


@functools.cache
def _operators(name: str) -> ModuleType | None:
    """The module ``hgraph.ops.bindings.<name>`` when first asked for: it may import what `import hgraph` must not."""
    if importlib.util.find_spec(f"hgraph.ops.bindings.{name}") is None:
        return None
    return importlib.import_module(f"hgraph.ops.bindings.{name}")


@functools.cache
def _kernel(operator: str, chosen: str, device: str) -> Callable[..., Any] | None:
    """What the backend chosen computes an operator with on a kind of device; None is the reference."""
    name = _best(device) if chosen == "auto" else chosen
    if name == "torch":
        return None
    module = _operators(name)
    return _unserved if module is None else module.KERNELS.get(operator, _unserved)


def _unserved(*_: Any) -> Any:
    return NotImplemented


def dispatch(operator: str, reference: Callable[..., Any]) -> Callable[..., Any]:
    """What runs an operator below autograd: the chosen backend's kernel, or the reference in plain torch.

    A backend is a module ``hgraph.ops.bindings.<name>`` with a function ``state() -> str`` (``"available"`` or the
    reason why not) and a dictionary ``KERNELS`` of the operators it computes. A kernel takes the operator's arguments
    and gives NotImplemented for those it does not serve (a dtype, a width). Then ``"auto"`` takes the reference; a
    backend that was asked for by name raises, for nothing may fall back unseen.
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
    """Choose who computes the verbs: the process default from here on, or inside a ``with`` block only.

    The name of a verb fixes the mathematics, the backend only who computes it.

    Args:
        name: ``"torch"`` (the reference, runs anywhere), ``"native"`` (optional CPU kernels), ``"triton"``
            (CUDA), or ``"auto"``: the best one present.

    Raises:
        ArgumentError: no backend of that name.
        BackendError: it cannot run here; nothing else is taken in its place.

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
            raise BackendError(f"backend {name!r} cannot run here: {state}. hgraph.backends() lists what can")
        if name == "auto":
            refresh()
        self._previous, _current = _current, name

    def __enter__(self) -> backend:
        """Keep the choice until the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the choice from before."""
        global _current
        _current = self._previous
