"""Reads arrays and plain data from pickles of untrusted sources.

`hgraph.data.pickles.interpret` runs no code: it makes inert records of the few names that are admitted here, and
arrays and matrices are built from the records afterwards, with checks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from hgraph.data.pickles import Record, check_key, interpret
from hgraph.errors import DataError

__all__ = ["loads"]

_MAX_BYTES = 64 * 2**20  # one byte of pickle (an empty list) may become sixty bytes of memory
_MAX_DEPTH = 16


def loads(content: bytes, *, source: str = "pickle", max_bytes: int = _MAX_BYTES) -> Any:
    """Read plain data from an untrusted pickle without executing anything in it.

    Supported are dicts, lists, sets, tuples, numbers, strings, bytes, `numpy.ndarray` of booleans, integers and floats,
    and `scipy.sparse.csr_matrix`. NumPy scalars become Python numbers, a ``defaultdict(list)`` becomes a dict, and
    Python 2 strings become latin-1 text.

    Args:
        content: the whole pickle, protocol 2 or later.
        source: the name used in errors.
        max_bytes: maximum length of the content.

    Raises:
        DataError: the pickle contains anything else (the message gives the name or opcode), or inconsistent arrays.

    >>> import pickle
    >>> loads(pickle.dumps({"ids": {1, 2}}))
    {'ids': {1, 2}}
    >>> loads(pickle.dumps(print))
    Traceback (most recent call last):
    hgraph.errors.DataError: pickle: builtins.print is not allowed, only arrays and plain containers are
    """
    if len(content) > max_bytes:
        raise DataError(f"{source}: expected at most {max_bytes} bytes, got {len(content)}")
    try:
        records = interpret(content, calls=_CALLS, names=_NAMES, max_bytes=max_bytes)
        return _Resolver(budget=4 * len(content)).resolve(records)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    except Exception as error:  # a malformed record may raise many types of errors
        raise DataError(f"{source}: not a pickle of plain data ({type(error).__name__}: {error})") from error


# ---------------------------------------------------------------------- calls that are made while reading


def _scalar(dtype: object, raw: object) -> Any:
    """``numpy.core.multiarray.scalar``: a Python number at once, since it may be a key."""
    kind = _dtype(dtype)
    if not isinstance(raw, (bytes, str)) or len(raw) != kind.itemsize:
        raise DataError(f"scalar: expected {kind.itemsize} bytes for {kind}")
    return np.frombuffer(_as_bytes(raw), kind)[0].item()


def _default_dict(factory: object = None) -> dict[Any, Any]:
    """``collections.defaultdict(list)``: a plain dict, since a default factory is a function."""
    if factory is not None and not (_is_record(factory, *_LISTS) and not factory.made):  # type: ignore[attr-defined]
        raise DataError("defaultdict: expected list as default factory")
    return {}


def _set(members: object) -> set[Any]:
    """``set`` called with a list, which is how protocol 2 writes sets."""
    if not isinstance(members, list):
        raise DataError("set: malformed")
    return {check_key(member) for member in members}


def _text(text: object, encoding: object = None) -> str:
    """``_codecs.encode``: how Python 3 writes bytes in protocol 2, as latin-1 text; stays text.

    Encoding waits until an array is built and counted in the budget: otherwise every few bytes of the file could
    encode the same megabyte again and fill the memory.
    """
    if not isinstance(text, str) or encoding != "latin1":
        raise DataError("bytes: malformed")
    return text


# Old and new module paths of each name, for Python 2 and 3.
_LISTS = ("builtins.list", "__builtin__.list")
_MATRICES = ("scipy.sparse.csr.csr_matrix", "scipy.sparse._csr.csr_matrix")
_ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_CALLS: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "collections.defaultdict": _default_dict,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "_codecs.encode": _text,
}
_NAMES = frozenset({"numpy.ndarray", "numpy.dtype", *_LISTS, *_MATRICES, *_ARRAYS, *_CALLS})


# ---------------------------------------------------------------------- from records to values


class _Resolver:
    """Replaces records by the values they represent; each object once, so that shared objects stay shared."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.done: dict[int, Any] = {}
        self.open: set[int] = set()

    def resolve(self, value: Any, depth: int = 0) -> Any:
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        if id(value) in self.done:
            return self.done[id(value)]
        if depth > _MAX_DEPTH or id(value) in self.open:
            raise DataError(f"containers are nested deeper than {_MAX_DEPTH}, or contain themselves")
        self.open.add(id(value))
        self.done[id(value)] = result = self._made(value, depth + 1)
        self.open.discard(id(value))
        return result

    def _made(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {key: self.resolve(v, depth) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolve(v, depth) for v in value)
        if isinstance(value, set):
            return value
        if _is_record(value, *_ARRAYS):
            return self._array(value)
        if _is_record(value, *_MATRICES):
            return self._matrix(value)
        raise DataError(f"{getattr(value, 'name', type(value).__name__)} is not a value by itself")

    def _array(self, record: Record) -> np.ndarray[Any, Any]:
        """An array whose shape fits its bytes: it needs no memory beyond the file."""
        if not record.made or len(record.args) != 3 or not _is_record(record.args[0], "numpy.ndarray"):
            raise DataError("array: only plain arrays are supported")
        if record.state is None:
            raise DataError("array: has no content")
        if not isinstance(record.state, tuple) or len(record.state) != 5:
            raise DataError("array: malformed state")
        _, shape, dtype, fortran, raw = record.state
        kind = _dtype(dtype)
        if not isinstance(fortran, (bool, int)):
            raise DataError("array: malformed state")
        if not isinstance(raw, (bytes, str)):
            raise DataError(f"array: expected raw bytes, got {type(raw).__name__}")
        sizes = _sizes(shape)
        if len(sizes) > 8 or math.prod(sizes) * kind.itemsize != len(raw):
            raise DataError(f"array: shape {sizes!r:.60} of {kind} does not fit {len(raw)} bytes")
        self.budget -= len(raw)
        if self.budget < 0:  # many arrays may share the same bytes of the file
            raise DataError("the arrays are much larger than the file")
        flat = np.frombuffer(_as_bytes(raw), kind) if raw else np.empty(0, kind)
        flat = flat.astype(kind.newbyteorder("="))  # a writable copy
        return flat.reshape(sizes, order="F" if fortran else "C")

    def _matrix(self, record: Record) -> Any:
        state = record.state if isinstance(record.state, dict) else {}
        shape = state.get("_shape", state.get("shape"))
        parts = [state.get(name) for name in ("data", "indices", "indptr")]
        sized = isinstance(shape, tuple) and len(shape) == 2
        if not record.made or record.args or not sized or not all(_is_record(part, *_ARRAYS) for part in parts):
            raise DataError("csr_matrix: expected a shape and the arrays data, indices and indptr")
        return _csr_matrix(_sizes(shape), *(self.resolve(part) for part in parts))


def _is_record(value: object, *names: str) -> bool:
    return isinstance(value, Record) and value.name in names


def _sizes(shape: object) -> tuple[int, ...]:
    """A shape of whole numbers; foreign objects are never printed, since their text may be endless."""
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise DataError("the shape does not fit: expected a tuple of whole numbers below 2**31")
    return shape


def _dtype(record: Any) -> np.dtype[Any]:
    """``numpy.dtype``: plain booleans, integers and floats; no objects, strings, fields or subarrays."""
    if not _is_record(record, "numpy.dtype") or not record.made or not record.args:
        raise DataError("dtype: malformed")
    code, state = record.args[0], record.state
    if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
        given = repr(code[:20]) if isinstance(code, str) else type(code).__name__
        raise DataError(f"dtype {given}: expected booleans, integers or floats")
    if state is None:
        return np.dtype(code)
    if not isinstance(state, tuple) or len(state) < 8 or state[1] not in ("<", ">", "=", "|"):
        raise DataError("dtype: malformed state")
    if state[2:5] != (None, None, None) or any(state[8:]):
        raise DataError("dtype: fields, subarrays and metadata are not supported")
    return np.dtype(state[1] + code)


def _as_bytes(raw: bytes | str) -> bytes:
    """Convert a Python 2 string, which arrives as latin-1 text, to bytes; bytes stay as they are."""
    return raw.encode("latin1") if isinstance(raw, str) else raw


def _csr_matrix(shape: Any, data: Any, indices: Any, indptr: Any) -> Any:
    from scipy.sparse import csr_matrix

    if any(a.ndim != 1 for a in (data, indices, indptr)) or indices.dtype.kind != "i" or indptr.dtype.kind != "i":
        raise DataError("csr_matrix: expected data, indices and indptr with one dimension, the last two of integers")
    # Compare instead of subtracting: a difference may overflow and look right.
    descends = bool((indptr[1:] < indptr[:-1]).any())
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or indptr[-1] != len(indices) or descends:
        raise DataError("csr_matrix: indptr does not divide the entries into rows")
    if len(data) != len(indices) or (len(indices) and (indices.min() < 0 or indices.max() >= shape[1])):
        raise DataError(f"csr_matrix: column indices and data do not fit shape {shape}")
    return csr_matrix((data, indices, indptr), shape=shape)
