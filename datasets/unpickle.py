"""Reads pickles from untrusted sources as plain data, with two protections against code execution.

First, the opcodes are scanned without running them; only those that build plain data, within the size of the file,
are allowed. Second, the unpickler's ``find_class`` resolves only array names, and maps them to inert records of this
module: no function of NumPy, SciPy or Python is called with arguments from the file. Arrays and matrices are built
from the records afterwards, with checks.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from typing import Any

import numpy as np

from hgraph.errors import DataError

__all__ = ["loads"]

_MAX_BYTES = 64 * 2**20  # one byte of pickle (an empty list) may become sixty bytes of memory
_MAX_DEPTH = 16

# ---------------------------------------------------------------------- opcodes

_STRINGS = {"BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
_TUPLES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_CREATING = _STRINGS | {"EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET", "GLOBAL", "NEWOBJ", "REDUCE", "STACK_GLOBAL"}
_PUTS = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"BINGET", "LONG_BINGET"}
_FILLING = {"ADDITEMS", "APPEND", "APPENDS", "BUILD", "SETITEM", "SETITEMS"}
_NUMBERS = {"BINFLOAT", "BININT", "BININT1", "BININT2", "LONG1", "NEWFALSE", "NEWTRUE", "NONE"}
_HARMLESS = _TUPLES | _CREATING | _FILLING | _NUMBERS | {"MARK", "PROTO", "STOP"}
_CHECKED = _PUTS | _GETS | {"FRAME"}


def _scan(content: bytes) -> None:
    """Refuse opcodes that are not needed for data, and those that would make unpickling explode in time or memory.

    `pickletools` itself refuses strings longer than the file. Memo entries must be numbered in order, since a
    single ``LONG_BINPUT 2**31`` makes the unpickler allocate as many slots. A tuple may not be used twice:
    a chain of thirty tuples that each contain the previous one twice takes 2**30 steps to hash.
    """
    previous, memo, tuples = "", set[int](), set[int]()
    argument: Any
    for opcode, argument, position in pickletools.genops(content):
        name = opcode.name
        if name in _HARMLESS:
            previous = name
            continue
        if name not in _CHECKED:
            raise DataError(f"opcode {name} at byte {position} is not needed for data")
        if name == "FRAME":
            if argument > len(content):
                raise DataError(f"a frame of {argument} bytes in a file of {len(content)}")
            continue
        if name in _PUTS:
            index = len(memo) if name == "MEMOIZE" else argument
            if index > len(memo) + 1:  # Python 2 counts from 1
                raise DataError(f"memo entry {index} at byte {position}, after {len(memo)} entries")
            if previous in _TUPLES:
                tuples.add(index)
            elif previous not in _CREATING:  # otherwise an old tuple could get a second memo entry
                raise DataError(f"memo entry at byte {position} for an object that is not new")
            memo.add(index)
        elif name in _GETS and argument in tuples:
            raise DataError(f"a tuple is used twice at byte {position}")
        previous = name


# ---------------------------------------------------------------------- inert records


class _Record:
    """Base of the records for allowed names: no settable attributes, not callable, no behavior."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise DataError(f"{type(self).__name__.strip('_')} does not take a state")


class _Marker(_Record):
    """A name that may only be an argument of another one."""

    __slots__ = ()

    def __new__(cls, *args: object) -> _Marker:
        raise DataError(f"{cls.__name__.strip('_')} must not be called")


class _NdArray(_Marker):
    __slots__ = ()


class _List(_Marker):
    __slots__ = ()


class _DType(_Record):
    """``numpy.dtype``: plain booleans, integers and floats; no objects, strings, fields or subarrays."""

    __slots__ = ("code", "order")
    code: str
    order: str

    def __new__(cls, code: object, align: object = False, copy: object = False) -> _DType:
        if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise DataError(f"dtype {code!r:.40}: expected booleans, integers or floats")
        self = object.__new__(cls)
        self.code, self.order = code, "="
        return self

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 8 or state[1] not in ("<", ">", "=", "|"):
            raise DataError("dtype: malformed state")
        if state[2:5] != (None, None, None) or any(state[8:]):
            raise DataError("dtype: fields, subarrays and metadata are not supported")
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array(_Record):
    """An array before it is built: its shape fits its bytes, and it needs no memory beyond the file."""

    __slots__ = ("dtype", "fortran", "raw", "shape")
    dtype: np.dtype[Any]
    fortran: bool
    raw: bytes | str
    shape: tuple[int, ...]

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise DataError("array: malformed state")
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _DType) or not isinstance(fortran, (bool, int)):
            raise DataError("array: malformed state")
        if not isinstance(raw, (bytes, str)):
            raise DataError(f"array: expected raw bytes, got {type(raw).__name__}")
        sizes = shape if isinstance(shape, tuple) else (-1,)
        if len(sizes) > 8 or any(type(n) is not int or not 0 <= n < 2**31 for n in sizes):
            raise DataError(f"array: shape {shape!r:.60} does not fit {len(raw)} bytes")
        self.dtype, self.fortran, self.raw, self.shape = dtype.numpy(), bool(fortran), raw, sizes
        if math.prod(sizes) * self.dtype.itemsize != len(raw):
            raise DataError(f"array: shape {shape!r:.60} of {dtype.code} does not fit {len(raw)} bytes")

    def build(self) -> np.ndarray[Any, Any]:
        flat = np.frombuffer(_as_bytes(self.raw), self.dtype) if self.raw else np.empty(0, self.dtype)
        flat = flat.astype(self.dtype.newbyteorder("="))  # a writable copy
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


class _Reconstruct(_Record):
    """``numpy.core.multiarray._reconstruct``: an array whose content follows as its state."""

    __slots__ = ()

    def __new__(cls, subtype: object, shape: object, code: object) -> Any:
        if subtype is not _NdArray:
            raise DataError("array: only plain arrays are supported")
        return _Array()


class _Scalar(_Record):
    """``numpy.core.multiarray.scalar``: converted to a Python number immediately, since it may be a dictionary key."""

    __slots__ = ()

    def __new__(cls, dtype: object, raw: object) -> Any:
        if not isinstance(dtype, _DType):
            raise DataError("scalar: malformed")
        kind = dtype.numpy()
        if not isinstance(raw, (bytes, str)) or len(raw) != kind.itemsize:
            raise DataError(f"scalar: expected {kind.itemsize} bytes for {dtype.code}")
        return np.frombuffer(_as_bytes(raw), kind)[0].item()


class _Csr(_Record):
    """``scipy.sparse.csr_matrix``: its attributes, checked when the matrix is built."""

    __slots__ = ("state",)
    state: dict[str, Any]

    def __new__(cls, *args: object) -> _Csr:
        if args:
            raise DataError("csr_matrix: malformed")
        self = object.__new__(cls)
        self.state = {}
        return self

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise DataError("csr_matrix: malformed state")
        self.state = state

    def build(self) -> Any:
        shape = self.state.get("_shape", self.state.get("shape"))
        parts = [self.state.get(name) for name in ("data", "indices", "indptr")]
        if not isinstance(shape, tuple) or len(shape) != 2 or not all(isinstance(p, _Array) for p in parts):
            raise DataError("csr_matrix: expected a shape and the arrays data, indices and indptr")
        return _csr_matrix(shape, *(p.build() for p in parts))  # type: ignore[union-attr]


class _DefaultDict(_Record):
    """``collections.defaultdict(list)``: becomes a plain dict, since a default factory is a function."""

    __slots__ = ()

    def __new__(cls, factory: object = None) -> Any:
        if factory not in (None, _List):
            raise DataError("defaultdict: expected list as default factory")
        return {}


class _Set(_Record):
    """``set`` called with a list, which is how protocol 2 writes sets."""

    __slots__ = ()

    def __new__(cls, members: object) -> Any:
        if not isinstance(members, list):
            raise DataError("set: malformed")
        return set(members)


class _Bytes(_Record):
    """``_codecs.encode``: how Python 3 writes bytes in protocol 2, as latin-1 text; stays text.

    Encoding waits until an array is built and counted in the budget: otherwise every few bytes of the file could
    encode the same megabyte again and fill the memory.
    """

    __slots__ = ()

    def __new__(cls, text: object, encoding: object = None) -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise DataError("bytes: malformed")
        return text


def _as_bytes(raw: object) -> bytes:
    """Convert a Python 2 string, which arrives as latin-1 text, to bytes; bytes stay as they are."""
    if isinstance(raw, str):
        return raw.encode("latin1")
    if not isinstance(raw, bytes):
        raise DataError(f"array: expected raw bytes, got {type(raw).__name__}")
    return raw


def _csr_matrix(shape: tuple[Any, ...], data: Any, indices: Any, indptr: Any) -> Any:
    from scipy.sparse import csr_matrix

    if any(type(n) is not int or not 0 <= n < 2**31 for n in shape):
        raise DataError(f"csr_matrix: shape {shape!r:.60}")
    if any(a.ndim != 1 for a in (data, indices, indptr)) or indices.dtype.kind != "i" or indptr.dtype.kind != "i":
        raise DataError("csr_matrix: expected data, indices and indptr with one dimension, the last two of integers")
    # Compare instead of subtracting: a difference may overflow and look right.
    descends = bool((indptr[1:] < indptr[:-1]).any())
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or indptr[-1] != len(indices) or descends:
        raise DataError("csr_matrix: indptr does not divide the entries into rows")
    if len(data) != len(indices) or (len(indices) and (indices.min() < 0 or indices.max() >= shape[1])):
        raise DataError(f"csr_matrix: column indices and data do not fit shape {shape}")
    return csr_matrix((data, indices, indptr), shape=shape)


# Old and new module paths of each name, for Python 2 and 3.
_ALLOWED: dict[tuple[str, str], type[_Record]] = {
    ("numpy", "ndarray"): _NdArray,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy._core.multiarray", "scalar"): _Scalar,
    ("scipy.sparse.csr", "csr_matrix"): _Csr,
    ("scipy.sparse._csr", "csr_matrix"): _Csr,
    ("_codecs", "encode"): _Bytes,
    ("collections", "defaultdict"): _DefaultDict,
    ("builtins", "list"): _List,
    ("__builtin__", "list"): _List,
    ("builtins", "set"): _Set,
    ("__builtin__", "set"): _Set,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _ALLOWED:
            raise DataError(f"{module}.{name} is not allowed, only arrays and plain containers are")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: object) -> Any:
        raise DataError("references to objects outside the file are not allowed")


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
            return {self._key(k): self.resolve(v, depth) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolve(v, depth) for v in value)
        if isinstance(value, set):
            return {self._key(v) for v in value}
        if isinstance(value, _Array):
            self._charge(value)
            return value.build()
        if isinstance(value, _Csr):
            for part in value.state.values():
                if isinstance(part, _Array):
                    self._charge(part)
            return value.build()
        raise DataError(f"{getattr(value, '__name__', type(value).__name__).strip('_')} is not a value by itself")

    def _key(self, key: Any) -> Any:
        if not isinstance(key, (int, float, str, bytes, type(None))):
            raise DataError(f"expected numbers or strings as keys and set members, got {type(key).__name__.strip('_')}")
        return key

    def _charge(self, array: _Array) -> None:
        """Limit the total size of arrays to a few times the file, since many arrays may share the same bytes in it."""
        if not hasattr(array, "raw"):
            raise DataError("array: has no content")
        self.budget -= len(array.raw)
        if self.budget < 0:
            raise DataError("the arrays are much larger than the file")


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

    >>> loads(pickle.dumps({"ids": {1, 2}}))
    {'ids': {1, 2}}
    >>> loads(pickle.dumps(print))
    Traceback (most recent call last):
    hgraph.errors.DataError: pickle: builtins.print is not allowed, only arrays and plain containers are
    """
    if len(content) > max_bytes:
        raise DataError(f"{source}: expected at most {max_bytes} bytes, got {len(content)}")
    try:
        _scan(content)
        records = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        return _Resolver(budget=4 * len(content)).resolve(records)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    except Exception as error:  # unpickling raises many types of errors for malformed files
        raise DataError(f"{source}: not a pickle of plain data ({type(error).__name__}: {error})") from error
