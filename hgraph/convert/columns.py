"""Columns and records: what other libraries keep beside a structure, as tensors, lists and dictionaries."""

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
    "numbers",
    "pick",
    "plain",
    "records",
    "short",
    "take",
    "vertices",
    "with_column",
]


_MOST_EMPTY = 10_000_000


class _Absent:
    """The one value of its kind: a record that does not name an attribute, which None (JSON's null) would not say."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __reduce__(self) -> str:
        return "ABSENT"  # a copy or a pickle stays the same object


ABSENT = _Absent()


def columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """One list an attribute from one mapping a record; `ABSENT` where a record lacks it."""
    names = dict.fromkeys(name for record in records for name in record)
    given = sum(len(record) for record in records)
    if len(names) * len(records) > max(_MOST_EMPTY, 100 * given):  # a small file must not ask for a big table
        hint = "Gather them in one attribute that holds an object"
        raise ArgumentError("attributes", "few names that many records share", f"{len(names)} names", hint)
    return {name: [record.get(name, ABSENT) for record in records] for name in names}


def records(attrs: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """One mapping a record from one column an attribute; tensors become numbers and lists."""
    out: list[dict[str, Any]] = [{} for _ in range(size)]
    for name, column in attrs.items():
        for record, value in zip(out, plain(column), strict=True):
            if value is not ABSENT:
                record[name] = value
    return out


def plain(column: Any) -> Sequence[Any]:
    """A column as Python values: what a tensor or an array holds, as numbers and lists."""
    return column.tolist() if hasattr(column, "tolist") else column


def pick(column: Any, order: Tensor) -> Any:
    """The entries of a column at ``order``; tensors stay tensors."""
    if isinstance(column, Tensor):
        return column[order.to(column.device)]
    return [column[i] for i in order.tolist()]


def numbers(name: str, values: Sequence[Any], of: Sequence[Any], *, dtype: torch.dtype = torch.float64) -> Tensor:
    """A tensor [len(values)] of an attribute that every record must have as a number; ``of`` names them in errors."""
    for value, who in zip(values, of, strict=True):
        if value is ABSENT or value is None:
            raise ArgumentError(name, "a number everywhere", f"none at {who!r}", "Give every record one, or do not ask")
        if not is_number(value):
            raise ArgumentError(name, "a number everywhere", f"{short(value)} at {who!r}")
    return torch.tensor([float(value) for value in values], dtype=dtype)


def is_number(value: Any) -> bool:
    """Whether it is a real number that a float can hold, infinity included; booleans and NaN are not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return not math.isnan(value)
    except OverflowError:  # an integer of more than 308 digits
        return False


def short(value: Any) -> str:
    """What a value looks like, cut to what fits into a message; never the digits of a huge integer."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return "an integer of many digits"
    if isinstance(value, (dict, list, tuple, Mapping)):
        return f"{'an object' if isinstance(value, Mapping) else 'a list'} of {len(value)} entries"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def take(
    attrs: Mapping[str, Any], name: str | None, argument: str, of: Sequence[Any]
) -> tuple[dict[str, Any], Tensor | None]:
    """The columns without ``name``, and that one as a tensor; None when no name is given."""
    rest = dict(attrs)
    if name is None:
        return rest, None
    if len(of) == 0:
        return rest, torch.zeros(0, dtype=torch.float64)
    column = rest.pop(name, [ABSENT] * len(of))
    return rest, numbers(f"{argument}={name!r}", column, of)


def vertices(
    given: Sequence[Mapping[str, Any]], nodes: Sequence[Hashable], x: str | Sequence[str] | None, y: str | None
) -> tuple[dict[str, Any], Tensor | None, Tensor | None]:
    """(other columns, x, y) of the nodes' attributes."""
    attrs: dict[str, Any] = columns(given)
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
    """The columns and one more, if there is one."""
    if tensor is None:
        return dict(attrs)
    if name in attrs:
        raise ArgumentError(name, "an attribute name that is free", "one in use", "Pass another name for it")
    return dict(attrs) | {name: tensor.detach()}


def _feature(column: Sequence[Any], name: str, nodes: Sequence[Hashable]) -> Tensor:
    """[N, F] of one attribute: a number or a list of numbers a node."""
    rows = [list(v) if isinstance(v, (list, tuple)) else [v] for v in map(plain, column)]
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise ArgumentError(f"x={name!r}", "as many numbers at every node", f"lengths {sorted(widths)}")
    width = widths.pop() if widths else 0
    flat = [value for row in rows for value in row]
    return numbers(f"x={name!r}", flat, [n for n in nodes for _ in range(width)]).reshape(len(nodes), width)
