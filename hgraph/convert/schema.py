"""A small JSON Schema validator for the features used in hif_schema.json; errors include the position."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from hgraph.convert.columns import short
from hgraph.errors import DataError

__all__ = ["check_hif"]

Check = Callable[[Any], None]

_MAX_DEPTH = 64
_KNOWN = {"$schema", "title", "description", "type", "required", "additionalProperties", "properties", "items", "enum"}


class _Mismatch(Exception):
    """The expected and the actual value; the position is extended while the exception propagates."""

    def __init__(self, expected: str, got: str) -> None:
        self.expected, self.got, self.place = expected, got, ""


def check_hif(document: Any, name: str) -> None:
    """Check a document against the schema of HIF.

    Raises:
        DataError: the first violation, with its position, such as ``incidences[3].weight``.
    """
    try:
        _hif()(document)
    except _Mismatch as fault:
        place = fault.place.lstrip(".") or "the document"
        raise DataError(f"{name}: {place}: expected {fault.expected}, got {fault.got}") from None


@functools.cache
def _hif() -> Check:
    return _checker(json.loads(Path(__file__).with_name("hif_schema.json").read_text(encoding="utf-8")))


def _checker(schema: Mapping[str, Any]) -> Check:
    """Build a function that raises `_Mismatch` for invalid values; built once, run for every record."""
    unknown = set(schema) - _KNOWN
    if unknown:
        raise NotImplementedError(f"the schema uses {sorted(unknown)}")
    if "enum" in schema:
        return _one_of(tuple(schema["enum"]))
    kinds = schema["type"]
    if kinds == "object":
        return _object(schema) if "properties" in schema else _anything_in_braces
    if kinds == "array":
        return _array(_checker(schema["items"]))
    return _scalar((kinds,) if isinstance(kinds, str) else tuple(kinds))


def _one_of(allowed: tuple[str, ...]) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise _Mismatch(f"one of {', '.join(map(repr, allowed))}", short(value))

    return check


def _object(schema: Mapping[str, Any]) -> Check:
    checks = {name: _checker(part) for name, part in schema["properties"].items()}
    required = tuple(schema.get("required", ()))

    def check(value: Any) -> None:
        if not isinstance(value, Mapping):
            raise _Mismatch("an object", short(value))
        for name in required:
            if name not in value:
                raise _Mismatch(f"an object with {name!r}", "one without")
        for name, part in value.items():
            if name not in checks:
                raise _Mismatch(f"only {', '.join(map(repr, checks))}", short(name))
            try:
                checks[name](part)
            except _Mismatch as fault:
                fault.place = f".{name}{fault.place}"
                raise

    return check


def _array(item: Check) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, (list, tuple)):
            raise _Mismatch("a list", short(value))
        for i, part in enumerate(value):
            try:
                item(part)
            except _Mismatch as fault:
                fault.place = f"[{i}]{fault.place}"
                raise

    return check


def _scalar(kinds: tuple[str, ...]) -> Check:
    expected = " or ".join(
        {"string": "a string", "integer": "an integer", "number": "a finite number"}[k] for k in kinds
    )
    string, integer, number = (kind in kinds for kind in ("string", "integer", "number"))

    def check(value: Any) -> None:
        kind = type(value)
        if (string and kind is str) or (integer and kind is int):  # the common case
            return
        if string and isinstance(value, str):
            return
        if integer and isinstance(value, (Integral, float)) and kind is not bool and value == value // 1:
            return
        if number and isinstance(value, Real) and kind is not bool and _finite(value):
            return
        raise _Mismatch(expected, short(value))

    return check


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _anything_in_braces(value: Any) -> None:
    """An object with any content, but with string keys and bounded nesting."""
    if not isinstance(value, Mapping):
        raise _Mismatch("an object", short(value))
    level: list[Any] = [value] if value else []
    for _ in range(_MAX_DEPTH):
        if not level:
            return
        deeper: list[Any] = []
        for part in level:
            if isinstance(part, Mapping):
                for name in part:
                    if not isinstance(name, str):
                        raise _Mismatch("names that are strings", short(name))
            values = part.values() if isinstance(part, Mapping) else part
            deeper.extend(v for v in values if isinstance(v, (Mapping, list, tuple)))
        level = deeper
    if level:
        raise _Mismatch(f"at most {_MAX_DEPTH} levels of nesting", "more")
