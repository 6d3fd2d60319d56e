"""Checks of arguments: numbers, tensors, structures, channels; and of values on a device, with a single sync.

Each error names the argument, the expectation, the actual value, and a fix. Only `Checks` synchronizes.
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
_OTHER = {"Graph": "Use hypergraph.clique()", "Hypergraph": "Use hgraph.builders to convert graphs"}


def whole(name: str, value: Any, least: int = 0, most: int | None = None, why: str = "") -> int:
    """Check a whole number in a range."""
    fits = not isinstance(value, bool) and isinstance(value, (int, np.integer)) and value >= least
    if not fits or (most is not None and value > most):
        span = f"a whole number, {least} or more" if most is None else f"{least} .. {most}"
        raise ArgumentError(name, span + (f" ({why})" if why else ""), repr(value))
    return int(value)


def count(name: str, value: Any, bytes_each: int, least: int = 0) -> int:
    """Check a number of items, including that their memory is available."""
    number = whole(name, value, least)
    check_memory(name, number * bytes_each, f"{number:,}")
    return number


def seed_of(value: Any, name: str = "seed") -> int:
    """Check a seed: a 64-bit whole number, as in torch generators."""
    return whole(name, value, 0, 2**64 - 1)


def real(name: str, value: Any, expected: str, low: float = 0.0, high: float = math.inf) -> float:
    """Check a finite number in a range."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(name, expected, repr(value))
    if not (math.isfinite(value) and low <= value <= high):
        raise ArgumentError(name, expected, repr(value))
    return float(value)


def numbers(name: str, values: Any, expected: str) -> np.ndarray[Any, Any]:
    """Convert to an array of float64."""
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(name, expected, f"{type(values).__name__} ({error})") from None


def of_kind(name: str, value: Any, kind: type[T]) -> T:
    """Check the type of a structure."""
    if not isinstance(value, kind):
        raise ArgumentTypeError(name, f"a {kind.__name__}", type(value).__name__, _OTHER[kind.__name__])
    return value


# ---------------------------------------------------------------------- tensors and structures


def structure(adj: Any, *kinds: type) -> None:
    """Check that the argument is a structure of one of the types, not an object that contains one."""
    if not isinstance(adj, kinds):
        hint = "Pass the .adj of a Graph, or the .v2e or .e2v of a Hypergraph"
        if isinstance(adj, Tensor):
            hint = "Build one with Adjacency.from_coo(target=..., source=..., num_targets=..., num_sources=...)"
        raise ArgumentTypeError("adj", " or ".join(kind.__name__ for kind in kinds), type(adj).__name__, hint)


def floating(name: str, value: Any, device: torch.device) -> None:
    """Check a floating-point tensor on the structure's device."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.device == device:
        return  # the fast path for the common case
    _kind(name, value, device, "a floating-point tensor", Tensor.is_floating_point)


def integers(name: str, value: Any, device: torch.device) -> None:
    """Check an integer tensor on the structure's device."""
    _kind(name, value, device, "an integer tensor", lambda t: not (t.is_floating_point() or t.dtype == torch.bool))


def booleans(name: str, value: Any, device: torch.device) -> None:
    """Check a boolean tensor on the structure's device."""
    _kind(name, value, device, "a boolean tensor", lambda t: t.dtype == torch.bool)


def _kind(name: str, value: Any, device: torch.device, expected: str, fits: Callable[[Tensor], bool]) -> None:
    if not isinstance(value, Tensor) or not fits(value):
        raise ArgumentTypeError(name, expected, value.dtype if isinstance(value, Tensor) else type(value).__name__)
    if value.device != device:
        hint = "Move one of them with .to(device)"
        raise ArgumentError(name, f"a tensor on {device}, the device of the structure", value.device, hint)


def shape(name: str, value: Tensor, expected: Sequence[int | str], hint: str = "") -> None:
    """Check a shape, from the right; names match any size and a leading "..." matches further dimensions."""
    free = expected[0] == "..."
    wanted = expected[1:] if free else expected
    got = value.shape[len(value.shape) - len(wanted) :] if free else value.shape
    fits = len(got) == len(wanted) and all(isinstance(w, str) or w == g for w, g in zip(wanted, got, strict=True))
    if not fits:
        text = ", ".join(str(e) for e in expected)
        raise ArgumentError(name, f"shape [{text}]", f"shape {list(value.shape)}", hint)


# ---------------------------------------------------------------------- layers


def check_channels(**channels: int) -> None:
    """Reject numbers of channels below 1, or whose weights would not fit into memory."""
    for name, value in channels.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(name, "a whole number, 1 or more", repr(value))
    (least, _), (most, name) = ([(1, ""), *sorted((value, name) for name, value in channels.items())])[-2:]
    check_memory(name, 4 * least * most, f"{most:,}, for a weight of {least:,} x {most:,}")


def check_dtype(name: str, x: Tensor, weight: Tensor) -> None:
    """Reject features whose dtype is not that of a layer's weights; autocast converts floating-point dtypes."""
    if x.dtype == weight.dtype or (x.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
        return
    raise ArgumentTypeError(
        name, f"{weight.dtype}, the dtype of the weights", x.dtype, f"Pass {name}.to({weight.dtype})"
    )


# ---------------------------------------------------------------------- values on a device


class Checks:
    """The value checks of a constructor: collected without synchronizing, evaluated together.

    >>> checks = Checks()
    >>> checks.in_range("ids", torch.tensor([0, 7]), 3, "ids")
    >>> checks.read()
    Traceback (most recent call last):
    hgraph.errors.ArgumentError: ids: expected ids in 0 .. 2, got 7 at position 1
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, Callable[[int], ArgumentError]]] = []

    def refuse(self, bad: Tensor, error: Callable[[int], ArgumentError]) -> None:
        """Raise if any of ``bad`` [n] is true; ``error`` gets the position of the first one."""
        self._pending.append((bad, error))

    def in_range(self, name: str, values: Tensor, size: int, what: str) -> None:
        """Reject indices outside 0 .. size - 1, naming the first one."""

        def error(at: int) -> ArgumentError:
            allowed = f"{what} in 0 .. {size - 1}" if size else f"no entry, because there are no {what}"
            return ArgumentError(name, allowed, f"{int(values[at])} at position {at}")

        self.refuse((values < 0) | (values >= size), error)

    def no_nan(self, name: str, weight: Tensor | None) -> None:
        """Reject weights [n] that contain NaN."""
        if weight is not None:
            self.refuse(weight.isnan(), lambda at: ArgumentError(name, "weights without NaN", f"NaN at position {at}"))

    def read(self, *numbers: Tensor) -> list[int]:
        """Synchronize: raise the error of the first failed check, else return these one-element tensors as numbers."""
        flags = [bad.any() for bad, _ in self._pending]
        asked = [t.long() for t in (*flags, *numbers)]
        found = torch.stack([t.to(asked[0].device) for t in asked]).tolist() if asked else []
        for failed, (bad, error) in zip(found, self._pending, strict=False):
            if failed:
                raise error(int(bad.nonzero()[0, 0]))
        return found[len(flags) :]
