"""A restricted pickle reader that only calls functions on an explicit list.

Python's unpickler imports and calls whatever a file names. This reader knows only the opcodes that build plain
data; a global is just a name until the caller assigns a meaning to it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection, Mapping
from typing import Any

from hgraph.errors import DataError

__all__ = ["Record", "check_key", "interpret"]

_MAX_OPERATIONS = 20_000_000
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "BINBYTES", "BINFLOAT", "BININT", "BININT1", "BININT2", "BINSTRING", "BINUNICODE", "LONG1",
    "SHORT_BINBYTES", "SHORT_BINSTRING", "SHORT_BINUNICODE",
}  # fmt: skip
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_KEYS = (str, int, float, bytes, type(None))  # no tuples: hashing deeply nested ones takes forever


class Record:
    """Placeholder for a global or an object made from it: its name, arguments and state. It executes nothing.

    Attributes:
        name: the name in the file, ``module.name``.
        made: whether it was called, or only named.
        args: the arguments of the call.
        state: the state passed to it, or None.
    """

    __slots__ = ("args", "made", "name", "state")

    def __init__(self, name: str, *, made: bool = False, args: tuple[Any, ...] = ()) -> None:
        self.name, self.made, self.args = name, made, args
        self.state: Any = None

    def __repr__(self) -> str:
        """Its name."""
        return f"Record({self.name!r})"


def interpret(
    content: bytes,
    *,
    calls: Mapping[str, Callable[..., Any]],
    names: Collection[str] | None = None,
    persistent: Callable[[Any], Any] | None = None,
    max_bytes: int = 64 * 2**20,
) -> Any:
    """The plain data in a pickle of protocol 2 or later; everything else becomes a `Record`.

    Strings of Python 2 become latin-1 text.

    Args:
        content: the complete pickle.
        calls: allowed functions by ``module.name``: harmless functions of plain data.
        names: the ``module.name`` that may occur; None admits every name, as a `Record`.
        persistent: resolves references to objects outside the pickle; None rejects them.
        max_bytes: longer content is rejected.

    Raises:
        DataError: a forbidden opcode or name, or a malformed pickle.

    >>> import pickle
    >>> interpret(pickle.dumps({"a": [1, print]}, protocol=2), calls={})
    {'a': [1, Record('__builtin__.print')]}
    """
    if len(content) > max_bytes:
        raise DataError(f"the pickle has {len(content)} bytes, more than the limit of {max_bytes}")
    machine = _Machine(calls, names, persistent, len(content))
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(content)):
            if count > _MAX_OPERATIONS:
                raise DataError(f"the pickle has more than {_MAX_OPERATIONS} operations")
            if opcode.name == "STOP":
                return machine.pop()
            if opcode.name == "FRAME" and argument is not None and argument > len(content):
                raise DataError(f"a frame of {argument} bytes in a file of {len(content)}")
            machine.step(opcode.name, argument, position or 0)
    except DataError:
        raise
    except Exception as error:  # the opcode reader may raise anything on malformed bytes
        raise DataError(f"not a complete pickle ({type(error).__name__}: {error})") from error
    raise DataError("the pickle has no end")


class _Machine:
    """A stack, a memo, and a method for each known opcode."""

    def __init__(
        self,
        calls: Mapping[str, Callable[..., Any]],
        names: Collection[str] | None,
        persistent: Callable[[Any], Any] | None,
        readable: int,
    ) -> None:
        self.readable = readable  # items in arguments of calls: a set made of a known list is short in the file only
        self.calls, self.names, self.persistent = calls, names, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any, position: int) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.top()
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(reversed([self.pop() for _ in range(int(name[-1]))])))
        elif name == "TUPLE":
            self.stack.append(tuple(self.to_mark()))
        elif name not in ("PROTO", "FRAME"):
            known = getattr(self, f"do_{name.lower()}", None)
            if known is None:
                raise DataError(f"opcode {name} at byte {position} is not needed for data")
            known(argument)

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise DataError("the stack is empty")
        return self.stack[-1]

    def pop(self) -> Any:
        self.top()
        return self.stack.pop()

    def to_mark(self) -> list[Any]:
        """Pop everything above the last mark, and the mark."""
        at = len(self.stack) - 1
        while at >= 0 and self.stack[at] is not _MARK:
            at -= 1
        if at < 0:
            raise DataError("no mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def filled(self, kind: type) -> Any:
        """The container on top of the stack."""
        if type(self.top()) is not kind:
            raise DataError(f"expected a {kind.__name__}, got {type(self.top()).__name__}")
        return self.stack[-1]

    def do_append(self, _: Any) -> None:
        item = self.pop()
        self.filled(list).append(item)

    def do_appends(self, _: Any) -> None:
        items = self.to_mark()
        self.filled(list).extend(items)

    def do_additems(self, _: Any) -> None:
        items = self.to_mark()
        self.filled(set).update(check_key(item) for item in items)

    def do_setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.filled(dict)[check_key(key)] = value

    def do_setitems(self, _: Any) -> None:
        items = self.to_mark()
        if len(items) % 2:
            raise DataError("a key without a value")
        self.filled(dict).update(zip(map(check_key, items[::2]), items[1::2], strict=True))

    def do_global(self, argument: str) -> None:
        self.named(*argument.split(" ", 1))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise DataError("a global without a name")
        self.named(module, name)

    def named(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if self.names is not None and full not in self.names:
            raise DataError(f"{full} is not allowed, only arrays and plain containers are")
        self.stack.append(Record(full))

    def do_reduce(self, _: Any) -> None:
        args, function = self.pop(), self.pop()
        if not isinstance(args, tuple) or not isinstance(function, Record) or function.made:
            raise DataError("only a global can be called, with a tuple")
        self.readable -= sum(len(item) for item in args if isinstance(item, (list, tuple, set, dict)))
        if self.readable < 0:
            raise DataError("its calls repeat the same values over and over, far beyond the size of the file")
        call = self.calls.get(function.name)
        self.stack.append(Record(function.name, made=True, args=args) if call is None else call(*args))

    do_newobj = do_reduce

    def do_build(self, _: Any) -> None:
        state = self.pop()
        made = self.top()
        if isinstance(made, dict) and isinstance(state, dict):
            return  # attributes of an ordered dict, which are not part of the data
        if not isinstance(made, Record) or not made.made:
            raise DataError(f"{type(made).__name__} accepts no state")
        made.state = state

    def do_binpersid(self, _: Any) -> None:
        if self.persistent is None:
            raise DataError("it refers to objects outside the file")
        self.stack.append(self.persistent(self.pop()))


def check_key(key: Any) -> Any:
    """The key of a dict or member of a set, if it is a number, a string, bytes or None."""
    if not isinstance(key, _KEYS):
        raise DataError(f"keys and set members must be numbers or strings, not {type(key).__name__}")
    return key
