"""Converts values of Python, numpy, pandas or pyarrow to the text that a CSV file would have."""

from __future__ import annotations

import array
import collections
import datetime
import decimal as decimals
import enum
import numbers
import re
import uuid
from collections.abc import Callable, Sequence, Set, ValuesView
from typing import Any

import numpy as np

__all__ = ["canonical", "is_missing", "items", "text"]

_PLAIN = (numbers.Number, np.generic, datetime.date, datetime.time, datetime.timedelta, uuid.UUID)
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_TRUTH = {word: word.lower() for word in ("True", "TRUE", "False", "FALSE")}


def is_missing(value: Any) -> bool:
    """Whether a value means a missing one: None, NaN and NaT of any library, and pandas' NA.

    >>> is_missing(float("nan")), is_missing(np.datetime64("NaT")), is_missing("")
    (True, True, False)
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (numbers.Number, np.generic)) and bool(value != value)


def items(value: Any) -> list[Any] | None:
    """The items of a cell that is a sequence, or None for other cells; sets are sorted by text.

    Sequences are lists, tuples, sets, ranges, deques, numpy arrays, pandas Series, Index and arrays, and list types of
    pyarrow: everything that a column of a data frame can contain.

    >>> items(np.array(["a", "b"])), items({"b", "a"}), items("ab")
    (['a', 'b'], ['a', 'b'], None)
    """
    if isinstance(value, (str, bytes, bytearray, memoryview, np.generic)):
        return None
    if isinstance(value, (Set, ValuesView)):
        return sorted(value, key=str)
    if isinstance(value, (Sequence, array.array, collections.deque)):
        return list(value)
    for method in ("as_py", "to_pylist", "tolist", "to_list"):
        if hasattr(value, method):
            found = _of_pyarrow(getattr(value, method))
            return items(found) if isinstance(found, (list, tuple, set, frozenset)) else None
    return None


def text(value: Any, decimal: str | None = None) -> str:
    """The text of a value that is not a sequence; missing values become the empty text.

    Args:
        value: text, a number, a boolean, a date or time, an identifier, a scalar of numpy, pandas or pyarrow.
        decimal: the decimal separator in texts that are numbers; None means a period.

    Raises:
        TypeError: any other type, whose printed form would be read as a word.

    >>> text(30.5), text(30.5, ","), text(30.0, ","), text("30.5", ",")
    ('30.5', '30,5', '30', '30.5')
    """
    if isinstance(value, str):
        return str(value.value) if isinstance(value, enum.Enum) else str(value)
    if hasattr(value, "as_py"):  # a scalar of pyarrow
        value = _of_pyarrow(value.as_py)
        if isinstance(value, str):
            return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if is_missing(value):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if decimal == "," and isinstance(value, (numbers.Real, decimals.Decimal)):
        return canonical(str(value)).replace(".", ",")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return text(value.value)
    if isinstance(value, _PLAIN) or type(value).__module__.split(".")[0] == "pandas":
        return str(value)
    hint = "Sequences inside sequences are not supported" if items(value) is not None else "Convert it to text first"
    raise TypeError(f"{type(value).__name__}. {hint}")


def _of_pyarrow(convert: Callable[[], Any]) -> Any:
    """The value of a scalar of pyarrow in Python; TypeError if Python cannot hold it."""
    try:
        return convert()
    except Exception as error:  # a year, a nanosecond, a zone without a database: each has another exception
        raise TypeError(f"a value that Python cannot hold ({error}). Convert the column to text first") from error


def canonical(cell: str) -> str:
    """The canonical text of a category: whole numbers without ``.0``, booleans in lower case, anything else unchanged.

    pandas turns whole numbers into 1.0 if a column has a missing cell, and True is written in three ways.

    >>> canonical("1.0"), canonical("True"), canonical("Red"), canonical("1.50")
    ('1', 'true', 'Red', '1.50')
    """
    whole = _WHOLE.fullmatch(cell)
    return whole[1] if whole else _TRUTH.get(cell, cell)
