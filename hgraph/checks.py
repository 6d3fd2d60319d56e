"""Checks of plain arguments that builders and splits share: numbers, lists of numbers, structures."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from hgraph.errors import ArgumentError, ArgumentTypeError

__all__ = ["numbers", "of_kind", "real", "whole"]

T = TypeVar("T")
_OTHER = {"Graph": "hypergraph.clique() makes a graph", "Hypergraph": "hgraph.build makes hypergraphs of graphs"}


def whole(name: str, value: Any, least: int = 0, most: int | None = None, why: str = "") -> int:
    """A whole number of that range."""
    fits = not isinstance(value, bool) and isinstance(value, (int, np.integer)) and value >= least
    if not fits or (most is not None and value > most):
        span = f"a whole number, {least} or more" if most is None else f"{least} .. {most}"
        raise ArgumentError(name, span + (f" ({why})" if why else ""), repr(value))
    return int(value)


def real(name: str, value: Any, expected: str, low: float = 0.0, high: float = math.inf) -> float:
    """A finite number of that range."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(name, expected, repr(value))
    if not (math.isfinite(value) and low <= value <= high):
        raise ArgumentError(name, expected, repr(value))
    return float(value)


def numbers(name: str, values: Any, expected: str) -> np.ndarray[Any, Any]:
    """An array of numbers in float64."""
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(name, expected, f"{type(values).__name__} ({error})") from None


def of_kind(name: str, value: Any, kind: type[T]) -> T:
    """A structure of that kind."""
    if not isinstance(value, kind):
        raise ArgumentTypeError(name, f"a {kind.__name__}", type(value).__name__, _OTHER[kind.__name__])
    return value
