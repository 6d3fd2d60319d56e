"""Errors that name the argument, the expectation, the actual value, and a fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "BackendError",
    "DataError",
    "HgraphError",
    "LicenseWarning",
    "MissingPackageError",
    "did_you_mean",
]


class HgraphError(Exception):
    """Base of all errors that hgraph raises intentionally."""


def _message(argument: str, expected: str, got: object, hint: str) -> str:
    return f"{argument}: expected {expected}, got {got}" + (f". {hint}" if hint else "")


class ArgumentError(HgraphError, ValueError):
    """An argument of the right type with a wrong value, shape or range.

    >>> raise ArgumentError("x", "4 rows (one per source)", "3 rows", "Is the structure transposed?")
    Traceback (most recent call last):
    hgraph.errors.ArgumentError: x: expected 4 rows (one per source), got 3 rows. Is the structure transposed?
    """

    def __init__(self, argument: str, expected: str, got: object, hint: str = "") -> None:
        super().__init__(_message(argument, expected, got, hint))


class ArgumentTypeError(HgraphError, TypeError):
    """An argument of a wrong type or dtype."""

    def __init__(self, argument: str, expected: str, got: object, hint: str = "") -> None:
        super().__init__(_message(argument, expected, got, hint))


class BackendError(HgraphError, ValueError):
    """A requested backend cannot run here; explicit requests never fall back."""


class DataError(HgraphError, ValueError):
    """A file or data set is missing, damaged, unsafe, or does not match its card."""


class LicenseWarning(UserWarning):
    """The loaded file has its own license terms."""


class MissingPackageError(HgraphError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        how = f": pip install 'hgraph[{extra}]'" if extra else "; install it as its documentation describes"
        super().__init__(f"{purpose} needs the package {package!r}{how}")


def did_you_mean(given: object, known: Iterable[str], otherwise: str = "") -> str:
    """A hint with up to three similar known names; ``otherwise`` if there are none.

    >>> did_you_mean("hgnnn", ["gcn", "hgnn", "mlp"])
    "Did you mean 'hgnn'?"
    """
    names, text = {name.lower(): name for name in known}, str(given).lower()
    near = [names[low] for low in difflib.get_close_matches(text, names, n=3, cutoff=0.5)]
    near += [name for low, name in names.items() if text and text in low and name not in near][: 3 - len(near)]
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else otherwise
