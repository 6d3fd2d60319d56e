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
    "printable",
]


_LONGEST = 2_000  # maximum length of a message, in characters; it may quote a file


class HgraphError(Exception):
    r"""Base of all errors that hgraph raises intentionally.

    Messages can quote names and values from files. Control characters, which a terminal would execute, are therefore
    escaped, and a message that is too long is cut in the middle.

    >>> str(HgraphError("unknown class \x1b[2J"))
    'unknown class \\x1b[2J'
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


def printable(text: object, longest: int = _LONGEST) -> str:
    r"""Return a text that is safe to print: not too long, and without control characters except line breaks and tabs.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    whole = str(text)
    if len(whole) > longest:
        whole = f"{whole[: longest // 2]} ... {whole[-longest // 2 :]}"
    if whole.isprintable():
        return whole
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in whole)


def _message(argument: str, expected: str, got: object, hint: str) -> str:
    return f"{argument}: expected {expected}, got {got}" + (f". {hint}" if hint else "")


class ArgumentError(HgraphError, ValueError):
    """An argument has the right type, but a wrong value, shape or range.

    >>> raise ArgumentError("x", "4 rows (one per source)", "3 rows", "Is the structure transposed?")
    Traceback (most recent call last):
    hgraph.errors.ArgumentError: x: expected 4 rows (one per source), got 3 rows. Is the structure transposed?
    """

    def __init__(self, argument: str, expected: str, got: object, hint: str = "") -> None:
        super().__init__(_message(argument, expected, got, hint))


class ArgumentTypeError(HgraphError, TypeError):
    """An argument has a wrong type or dtype."""

    def __init__(self, argument: str, expected: str, got: object, hint: str = "") -> None:
        super().__init__(_message(argument, expected, got, hint))


class BackendError(HgraphError, ValueError):
    """A requested backend cannot run here; explicit requests never fall back."""


class DataError(HgraphError, ValueError):
    """A file or data set is missing, damaged, unsafe, or does not match its card."""


class LicenseWarning(UserWarning):
    """The loaded file has its own license terms."""


class MissingPackageError(HgraphError, ImportError):
    """An optional package is missing; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        how = f": pip install 'hgraph[{extra}]'" if extra else "; install it as its documentation describes"
        super().__init__(f"{purpose} needs the package {package!r}{how}")


def did_you_mean(given: object, known: Iterable[str], otherwise: str = "") -> str:
    """A hint with up to three similar known names; ``otherwise`` if there are none.

    >>> did_you_mean("hgnnn", ["gcn", "hgnn", "mlp"])
    "Did you mean 'hgnn' or 'gcn'?"
    >>> did_you_mean("hgnnp", ["hgnn", "hgnn+"])
    "Did you mean 'hgnn+'?"
    """
    names, text = {name.lower(): name for name in known}, str(given).lower()
    same = [name for low, name in names.items() if _letters(low) == _letters(text)]
    if same:
        return f"Did you mean {same[0]!r}?"
    near = [names[low] for low in difflib.get_close_matches(text, names, n=3, cutoff=0.5)]
    near += [name for low, name in names.items() if text and text in low and name not in near][: 3 - len(near)]
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else otherwise


def _letters(name: str) -> str:
    """A name without hyphens and blanks, and with the p of "plus" for +, as in class names."""
    return "".join({"+": "p", "-": "", "_": "", " ": ""}.get(c, c) for c in name).replace("plus", "p")
