"""Consistency checks of structures, so that no kernel reads or writes out of bounds.

Constructors guarantee consistency. Unpickled structures (also with `torch.load`) come from a file and are checked
once; copies and structures sent by DataLoader workers are not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.errors import DataError

__all__ = [
    "check_integers",
    "check_permutation",
    "check_pointers",
    "check_range",
    "check_tiles",
    "is_inside",
    "require",
    "rows_of",
]

INTEGERS = (torch.int32, torch.int64)


def require(holds: bool | Tensor, message: str) -> None:
    """Raise unless the condition holds.

    Raises:
        DataError: the condition is False.
    """
    if not bool(holds):
        raise DataError(message)


def check_integers(name: str, value: Tensor, *shape: int) -> None:
    """Require int32 or int64 of that shape; without a shape, one dimension."""
    require(value.dtype in INTEGERS, f"{name} has dtype {value.dtype}, expected integers")
    fits = value.shape == shape if shape else value.dim() == 1
    require(fits, f"{name} has shape {list(value.shape)}, expected {list(shape) if shape else 'one dimension'}")


def check_pointers(name: str, pointers: Tensor, end: int) -> None:
    """Require pointers that ascend from 0 to ``end``."""
    require(len(pointers) > 0 and pointers[0] == 0 and pointers[-1] == end, f"{name} does not go from 0 to {end}")
    require(bool((pointers.diff() >= 0).all()), f"{name} decreases")


def check_range(name: str, ids: Tensor, size: int) -> None:
    """Require ids within 0 .. size - 1."""
    require(is_inside(ids, size), f"{name} has entries outside 0 .. {size - 1}")


def is_inside(ids: Tensor, size: int) -> bool:
    """Whether all ids are in 0 .. size - 1."""
    return not len(ids) or (int(ids.min()) >= 0 and int(ids.max()) < size)


def check_permutation(name: str, order: Tensor) -> None:
    """Require each of 0 .. len(order) - 1 exactly once."""
    check_integers(name, order)
    check_range(name, order, len(order))
    seen = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    seen[order.long()] = True
    require(bool(seen.all()), f"{name} is not a permutation")


def check_tiles(lists: tuple[Tensor, Tensor, Tensor], row: Tensor, columns: int, masks: int) -> None:
    """Check that lists (index, rule, count) have ascending tiles below ``columns`` and valid rules."""
    index, rule, count = lists
    require(all(t.dtype == torch.int32 for t in (*lists, row)), "the lists of tiles are not int32")
    require(index.dim() == 4 and row.shape == index.shape[2:3], "the lists of tiles are not [B, H, R, K]")
    require(rule.shape == index.shape and count.shape == index.shape[:3], "index, rule and count have different sizes")
    require(0 not in index.shape[:2], "the lists of tiles have no example or no head")
    used = torch.arange(index.shape[3], device=index.device) < count.unsqueeze(3)
    require(bool(((count >= 0) & (count <= index.shape[3])).all()), "a count is out of range")
    require(bool(((index >= 0) & (~used | (index < columns))).all()), "tiles are out of range")
    require(not bool((used[..., 1:] & (index[..., 1:] <= index[..., :-1])).any()), "the tiles of a row do not ascend")
    require(not bool(index[~used].any()), "unused entries of index are not 0")
    require(bool(((rule >= -2) & (rule < masks))[used].all()), "a rule refers to an unknown mask")


def rows_of(pointers: Tensor) -> Tensor:
    """Return the row of each entry, from row pointers."""
    count = pointers.long().diff()
    return torch.arange(len(count), device=count.device).repeat_interleave(count)
