"""Which backend computes the verbs: chosen by name, never silently replaced."""

from __future__ import annotations

from types import TracebackType

from hgraph.errors import ArgumentError, BackendError

__all__ = ["backend", "backends", "current_backend"]

_NAMES = ("auto", "torch", "native", "triton")
_current = "auto"


def backends() -> dict[str, str]:
    """Every backend with ``"available"`` or the reason why it cannot run here.

    >>> backends()["torch"]
    'available'
    """
    missing = "not part of this version"
    return {"torch": "available", "native": missing, "triton": missing}


def current_backend() -> str:
    """The backend that ``"auto"`` resolves to here, or the one asked for."""
    return "torch" if _current == "auto" else _current


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
        state = "available" if name == "auto" else backends()[name]
        if state != "available":
            raise BackendError(f"backend {name!r} cannot run here: {state}. hgraph.backends() lists what can")
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
