"""Attributes of other libraries: columns and records as tensors, lists and dictionaries."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from hgraph.errors import ArgumentError

__all__ = [
    "ABSENT",
    "columns",
    "is_number",
    "node_columns",
    "numbers",
    "pick",
    "plain",
    "records",
    "short",
    "take",
    "with_column",
]


_MOST_EMPTY = 10_000_000


class _Absent:
    """Sentinel for a record without an attribute; None is a value of its own (JSON's null)."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __reduce__(self) -> str:
        return "ABSENT"  # copies and pickles stay the same object


ABSENT = _Absent()


def columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """One list per attribute from one mapping per record; `ABSENT` where a record lacks it."""
    names = dict.fromkeys(name for record in records for name in record)
    given = sum(len(record) for record in records)
    if len(names) * len(records) > max(_MOST_EMPTY, 100 * given):  # a small file must not create a huge table
        hint = "Put them into one attribute that holds an object"
        raise ArgumentError("attributes", "fewer distinct attribute names", f"{len(names)} names", hint)
    return {name: [record.get(name, ABSENT) for record in records] for name in names}


def records(attrs: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """One mapping per record from one column per attribute; tensors become numbers and lists."""
    out: list[dict[str, Any]] = [{} for _ in range(size)]
    for name, column in attrs.items():
        for record, value in zip(out, plain(column), strict=True):
            if value is not ABSENT:
                record[name] = value
    return out


def plain(column: Any) -> Sequence[Any]:
    """A column as Python values: tensors and arrays become numbers and lists."""
    return column.tolist() if hasattr(column, "tolist") else column


def pick(column: Any, order: Tensor) -> Any:
    """The entries of a column at ``order``; tensors stay tensors."""
    if isinstance(column, Tensor):
        return column[order.to(column.device)]
    return [column[i] for i in order.tolist()]


def numbers(name: str, values: Sequence[Any], of: Sequence[Any], *, dtype: torch.dtype = torch.float64) -> Tensor:
    """A numeric attribute of all records as a tensor [len(values)]; ``of`` are the record names for errors."""
    for value, who in zip(values, of, strict=True):
        if value is ABSENT or value is None:
            raise ArgumentError(name, "a number in every record", f"none at {who!r}", "Fill in the missing ones")
        if not is_number(value):
            raise ArgumentError(name, "a number in every record", f"{short(value)} at {who!r}")
    return torch.tensor([float(value) for value in values], dtype=dtype)


def is_number(value: Any) -> bool:
    """Whether it is a real number that fits into a float, including infinity; not a boolean or NaN."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return not math.isnan(value)
    except OverflowError:  # an integer of more than 308 digits
        return False


def short(value: Any) -> str:
    """A short description of a value for a message; never prints the digits of a huge integer."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return "an integer of many digits"
    if isinstance(value, (dict, list, tuple, Mapping)):
        return f"{'an object' if isinstance(value, Mapping) else 'a list'} of {len(value)} entries"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def take(
    attrs: Mapping[str, Any], name: str | None, argument: str, of: Sequence[Any]
) -> tuple[dict[str, Any], Tensor | None]:
    """The columns without ``name``, and that column as a tensor; None without a name."""
    rest = dict(attrs)
    if name is None:
        return rest, None
    if len(of) == 0:
        return rest, torch.zeros(0, dtype=torch.float64)
    column = rest.pop(name, [ABSENT] * len(of))
    return rest, numbers(f"{argument}={name!r}", column, of)


def node_columns(
    records: Sequence[Mapping[str, Any]], nodes: Sequence[Hashable], x: str | Sequence[str] | None, y: str | None
) -> tuple[dict[str, Any], Tensor | None, Tensor | None]:
    """(other columns, x, y) of the nodes' attributes."""
    attrs: dict[str, Any] = columns(records)
    features = labels = None
    chosen = [] if x is None else [x] if isinstance(x, str) else list(x)
    if x is not None:
        parts = [_feature(attrs.get(name, [ABSENT] * len(nodes)), name, nodes) for name in chosen]
        features = torch.cat(parts, dim=1) if parts else torch.zeros(len(nodes), 0, dtype=torch.float64)
    if y is not None:
        column = attrs.get(y, [ABSENT] * len(nodes))
        labels = numbers(f"y={y!r}", column, nodes)
        if all(isinstance(value, Integral) and abs(int(value)) < 2**63 for value in column):
            labels = torch.tensor([int(value) for value in column], dtype=torch.long)
    return {name: column for name, column in attrs.items() if name not in {*chosen, y}}, features, labels


def with_column(attrs: Mapping[str, Any], name: str, tensor: Tensor | None) -> dict[str, Any]:
    """The columns, plus ``tensor`` under ``name`` unless it is None."""
    if tensor is None:
        return dict(attrs)
    if name in attrs:
        raise ArgumentError(name, "an unused attribute name", "one in use", "Pass another name for it")
    return dict(attrs) | {name: tensor.detach()}


def _feature(column: Sequence[Any], name: str, nodes: Sequence[Hashable]) -> Tensor:
    """[N, F] from one attribute: a number or a list of numbers per node."""
    rows = [list(v) if isinstance(v, (list, tuple)) else [v] for v in map(plain, column)]
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise ArgumentError(f"x={name!r}", "equally many numbers at every node", f"lengths {sorted(widths)}")
    width = widths.pop() if widths else 0
    flat = [value for row in rows for value in row]
    return numbers(f"x={name!r}", flat, [n for n in nodes for _ in range(width)]).reshape(len(nodes), width)
