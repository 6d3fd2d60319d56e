"""Reads JSON files into dataclasses: every key is checked, and errors name the file and the key."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hgraph.errors import DataError, HgraphError

__all__ = ["Span", "fields_of", "naming", "parse", "read", "read_lines"]

T = TypeVar("T")
_SHOWN = 60  # characters of a wrong value in an error


@dataclass(frozen=True)
class Span:
    """The range of a number, for ``Annotated[int, Span(0, 9)]``.

    Args:
        low: the smallest value.
        high: the largest value.
    """

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        return f"{self.low:,} or more" if self.high == math.inf else f"{self.low:,} .. {self.high:,}"


def read(path: str | os.PathLike[str], kind: type[T], *, hint: str = "", strict: bool = False) -> T:
    """Read a JSON object from a file into a dataclass.

    Args:
        path: the file.
        kind: a dataclass; its fields have the types str, bool, int, float, Any, Literal, ``T | None``,
            ``tuple[T, ...]``, ``dict[str, T]``, ``Annotated[T, Span(...)]`` or are dataclasses themselves.
        hint: what to do about an error.
        strict: whether keys without a field are an error.

    Raises:
        DataError: the file cannot be read, is not JSON, or a key is missing, unknown, of a wrong type or out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "span.json").write_text('{"low": 1, "high": 2.5}')
    ...     read(Path(folder, "span.json"), Span)
    Span(low=1.0, high=2.5)
    """
    try:
        text = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise _wrong(path, "", "a readable file", reason, hint) from error
    return fields_of(kind, parse(text, path, hint=hint), path, hint=hint, strict=strict)


def read_lines(path: str | os.PathLike[str], kind: type[T], *, hint: str = "") -> list[tuple[T, dict[str, Any]]]:
    """Read one JSON object per line; the objects come with all their keys, also those without a field.

    Raises:
        DataError: as `read`; the message has the number of the line.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except (OSError, ValueError) as error:
        raise _wrong(path, "", "a readable file", error, hint) from error
    found = []
    for number, line in enumerate(lines, 1):
        place = f"{path}:{number}"
        content = parse(line, place, hint=hint)
        found.append((fields_of(kind, content, place, hint=hint), dict(content)))
    return found


def parse(text: str | bytes, path: str | os.PathLike[str], *, hint: str = "") -> Any:
    """The value of a JSON text; NaN, infinity, repeated keys and too deep nesting are errors.

    Raises:
        DataError: the text is not such JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError as error:
        raise _wrong(path, "", "JSON", "lists or objects that are nested too deeply", hint) from error
    except ValueError as error:
        raise _wrong(path, "", "JSON", f"something else ({error})", hint) from error


def fields_of(
    kind: type[T], content: Any, path: str | os.PathLike[str], *, at: str = "", hint: str = "", strict: bool = False
) -> T:
    """Read a JSON object into a dataclass, with errors as in `read`.

    Args:
        kind: the dataclass.
        content: the value of the JSON text.
        path: the file, for errors.
        at: the key of the object in the file, for errors.
        hint: what to do about an error.
        strict: whether keys without a field are an error.

    >>> fields_of(Span, {"low": "much"}, "span.json")
    Traceback (most recent call last):
    hgraph.errors.DataError: span.json: low: expected a number, got 'much'
    """
    if not isinstance(content, Mapping):
        raise _wrong(path, at, "an object with keys", _shown(content), hint)
    wanted = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [name for name in content if name not in wanted]
    if unknown and strict:
        raise _wrong(path, _join(at, unknown[0]), f"one of the keys {list(wanted)}", "an unknown key", hint)
    types_of, found = get_type_hints(kind, include_extras=True), {}
    for name, field in wanted.items():
        if name in content:
            found[name] = _value(types_of[name], content[name], path, _join(at, name), hint, strict)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _wrong(path, _join(at, name), _name(types_of[name]), "nothing", hint)
    return kind(**found)


@contextmanager
def naming(key: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Name file and key in the errors of a value that is used, such as the path of a data set.

    >>> with naming("source", "config.json"):
    ...     raise DataError("shop: no such folder")
    Traceback (most recent call last):
    hgraph.errors.DataError: config.json: source: shop: no such folder
    """
    try:
        yield
    except (HgraphError, OSError) as error:
        raise DataError(f"{path}: {key}: {error}") from error


def _value(kind: Any, value: Any, path: Any, at: str, hint: str, strict: bool) -> Any:
    """The value as the type, or an error that names file and key."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in inner:
            return None
        (kind,) = (one for one in inner if one is not types.NoneType)
        return _value(kind, value, path, at, hint, strict)
    if origin is Annotated:
        number = _value(inner[0], value, path, at, hint, strict)
        if not inner[1].low <= number <= inner[1].high:
            raise _wrong(path, at, _name(kind), _shown(value), hint)
        return number
    if origin is tuple and isinstance(value, list):
        return tuple(_value(inner[0], one, path, f"{at}[{i}]", hint, strict) for i, one in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {k: _value(inner[1], one, path, _join(at, k), hint, strict) for k, one in value.items()}
    if dataclasses.is_dataclass(kind):
        return fields_of(kind, value, path, at=at, hint=hint, strict=strict)  # type: ignore[arg-type]
    if not _fits(kind, origin, inner, value):
        raise _wrong(path, at, _name(kind), _shown(value), hint)
    return float(value) if kind is float else value


def _fits(kind: Any, origin: Any, choices: tuple[Any, ...], value: Any) -> bool:
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in choices)
    if kind is float:
        return type(value) in (int, float) and abs(value) < 1e300
    if kind is int:
        return type(value) is int and abs(value) < 2**64
    return type(value) is kind and (kind is not str or _is_text(value))


def _is_text(value: str) -> bool:
    """Whether a text can be printed and be part of a path: valid Unicode without NUL."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _name(kind: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if one is types.NoneType else _name(one) for one in inner)
    if origin is Annotated:
        return f"{_name(inner[0])}, {inner[1]}"
    if origin is Literal:
        return f"one of {list(inner)}" if len(inner) > 1 else repr(inner[0])
    if origin is tuple:
        return "a list"
    if origin is dict or dataclasses.is_dataclass(kind):
        return "an object with keys"
    names = {str: "a text without control codes", bool: "true or false", int: "a whole number", float: "a number"}
    return names.get(kind, "a value")


def _shown(value: Any) -> str:
    """A short form of a value; long numbers and nested values are not printed whole."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 2**64:
        return "a number of many digits"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _join(at: str, name: object) -> str:
    return f"{at}.{str(name)[:_SHOWN]}" if at else str(name)[:_SHOWN]


def _wrong(path: Any, at: str, expected: str, got: object, hint: str) -> DataError:
    where = f"{path}: {at}" if at else f"{path}"
    return DataError(f"{where}: expected {expected}, got {got}" + (f". {hint}" if hint else ""))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is repeated")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")
