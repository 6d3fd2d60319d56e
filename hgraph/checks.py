"""Argument checks for numbers, tensors, structures and channels.

Each error names the argument, what was expected, what was passed and what to try. Only `Checks`, which checks values on
a device, waits for the device, and it does so once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.memory import check_memory

__all__ = [
    "Checks",
    "booleans",
    "check_channels",
    "check_dtype",
    "count",
    "floating",
    "integers",
    "numbers",
    "of_kind",
    "real",
    "seed_of",
    "shape",
    "structure",
    "whole",
]

T = TypeVar("T")
_OTHER = {
    "Graph": "Convert it with hypergraph.clique()",
    "Hypergraph": "Convert it with a function of hgraph.builders",
}


def whole(name: str, value: Any, least: int = 0, most: int | None = None, why: str = "") -> int:
    """Return a whole number in this range."""
    fits = not isinstance(value, bool) and isinstance(value, (int, np.integer)) and value >= least
    if not fits or (most is not None and value > most):
        span = f"a whole number, {least} or more" if most is None else f"{least} .. {most}"
        raise ArgumentError(name, span + (f" ({why})" if why else ""), repr(value))
    return int(value)


def count(name: str, value: Any, bytes_each: int, least: int = 0) -> int:
    """Return a whole number of items, after checking that memory suffices at ``bytes_each`` per item."""
    number = whole(name, value, least)
    check_memory(name, number * bytes_each, f"{number:,}")
    return number


def seed_of(value: Any, name: str = "seed") -> int:
    """Return a seed: an unsigned 64-bit integer."""
    return whole(name, value, 0, 2**64 - 1)


def real(name: str, value: Any, expected: str, low: float = 0.0, high: float = math.inf) -> float:
    """Return a finite number in this range."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(name, expected, repr(value))
    if not (math.isfinite(value) and low <= value <= high):
        raise ArgumentError(name, expected, repr(value))
    return float(value)


def numbers(name: str, values: Any, expected: str) -> np.ndarray[Any, Any]:
    """Return a float64 array of the numbers."""
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(name, expected, f"{type(values).__name__} ({error})") from None


def of_kind(name: str, value: Any, kind: type[T]) -> T:
    """Return the value if it is a structure of this kind."""
    if not isinstance(value, kind):
        raise ArgumentTypeError(name, f"a {kind.__name__}", type(value).__name__, _OTHER[kind.__name__])
    return value


# ---------------------------------------------------------------------- tensors and structures


def structure(adj: Any, *kinds: type) -> None:
    """Check for a structure of one of these kinds; a `Graph` or `Hypergraph` that contains one is an error."""
    if not isinstance(adj, kinds):
        hint = "Pass graph.adj of a Graph, or hypergraph.v2e or hypergraph.e2v of a Hypergraph"
        if isinstance(adj, Tensor):
            hint = "Create one with Adjacency.from_coo(target=..., source=..., num_targets=..., num_sources=...)"
        raise ArgumentTypeError("adj", " or ".join(kind.__name__ for kind in kinds), type(adj).__name__, hint)


def floating(name: str, value: Any, device: torch.device) -> None:
    """Check for a floating-point tensor on the device of the structure."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.device == device:
        return  # fast path for the usual case
    _kind(name, value, device, "a floating-point tensor", Tensor.is_floating_point)


def integers(name: str, value: Any, device: torch.device) -> None:
    """Check for an integer tensor on the device of the structure."""
    _kind(name, value, device, "an integer tensor", lambda t: not (t.is_floating_point() or t.dtype == torch.bool))


def booleans(name: str, value: Any, device: torch.device) -> None:
    """Check for a boolean tensor on the device of the structure."""
    _kind(name, value, device, "a boolean tensor", lambda t: t.dtype == torch.bool)


def _kind(name: str, value: Any, device: torch.device, expected: str, fits: Callable[[Tensor], bool]) -> None:
    if not isinstance(value, Tensor) or not fits(value):
        raise ArgumentTypeError(name, expected, value.dtype if isinstance(value, Tensor) else type(value).__name__)
    if value.device != device:
        hint = "Move one of them with .to(device)"
        raise ArgumentError(name, f"a tensor on {device}, the device of the structure", value.device, hint)


def shape(name: str, value: Tensor, expected: Sequence[int | str], hint: str = "") -> None:
    """Check a shape; a name allows any size, and a leading "..." allows any number of leading dimensions."""
    free = expected[0] == "..."
    wanted = expected[1:] if free else expected
    got = value.shape[len(value.shape) - len(wanted) :] if free else value.shape
    fits = len(got) == len(wanted) and all(isinstance(w, str) or w == g for w, g in zip(wanted, got, strict=True))
    if not fits:
        text = ", ".join(str(e) for e in expected)
        raise ArgumentError(name, f"shape [{text}]", f"shape {list(value.shape)}", hint)


# ---------------------------------------------------------------------- layers


def check_channels(**channels: int) -> None:
    """Raise an error if a number of channels is below 1, or if the weights do not fit into memory."""
    for name, value in channels.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(name, "a whole number, 1 or more", repr(value))
    (least, _), (most, name) = ([(1, ""), *sorted((value, name) for name, value in channels.items())])[-2:]
    check_memory(name, 4 * least * most, f"{most:,}, for a weight of {least:,} x {most:,}")


def check_dtype(name: str, x: Tensor, weight: Tensor) -> None:
    """Raise an error if features and weights differ in dtype; under autocast, any floating-point dtype is allowed."""
    if x.dtype == weight.dtype or (x.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
        return
    hint = f"Convert it with {name}.to({weight.dtype})"
    raise ArgumentTypeError(name, f"{weight.dtype}, the dtype of the weights", x.dtype, hint)


# ---------------------------------------------------------------------- values on a device


class Checks:
    """Checks of tensor values in a constructor, collected without waiting for the device and read all at once.

    >>> checks = Checks()
    >>> checks.in_range("ids", torch.tensor([0, 7]), 3, "ids")
    >>> checks.read()
    Traceback (most recent call last):
    hgraph.errors.ArgumentError: ids: expected ids in 0 .. 2, got 7 at position 1
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, Callable[[int], ArgumentError]]] = []

    def refuse(self, bad: Tensor, error: Callable[[int], ArgumentError]) -> None:
        """Add a check that fails if any entry of ``bad`` [n] is true; ``error`` gets the position of the first one."""
        self._pending.append((bad, error))

    def in_range(self, name: str, values: Tensor, size: int, what: str) -> None:
        """Add a check that fails for indices outside 0 .. size - 1; the error names the first one."""

        def error(at: int) -> ArgumentError:
            allowed = f"{what} in 0 .. {size - 1}" if size else f"no entry, because there are no {what}"
            return ArgumentError(name, allowed, f"{int(values[at])} at position {at}")

        self.refuse((values < 0) | (values >= size), error)

    def no_nan(self, name: str, weight: Tensor | None) -> None:
        """Add a check that fails if weights [n] contain NaN."""
        if weight is not None:
            self.refuse(weight.isnan(), lambda at: ArgumentError(name, "weights without NaN", f"NaN at position {at}"))

    def read(self, *numbers: Tensor) -> list[int]:
        """Wait for the device; raise the error of the first failed check, or return the values of scalar tensors."""
        flags = [bad.any() for bad, _ in self._pending]
        asked = [t.long() for t in (*flags, *numbers)]
        found = torch.stack([t.to(asked[0].device) for t in asked]).tolist() if asked else []
        for failed, (bad, error) in zip(found, self._pending, strict=False):
            if failed:
                raise error(int(bad.nonzero()[0, 0]))
        return found[len(flags) :]
