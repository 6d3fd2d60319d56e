"""Check the tensors of a structure, so that no operator reads or writes out of bounds.

Constructors only create valid structures. Structures from a pickle or `torch.load` can come from a file, so they are
checked once, when they are loaded. Copies, and structures sent by DataLoader workers, are not checked.
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
    """Raise an error with this message unless the condition holds.

    Raises:
        DataError: the condition is false.
    """
    if not bool(holds):
        raise DataError(message)


def check_integers(name: str, value: Tensor, *shape: int) -> None:
    """Check for int32 or int64 values of this shape; without a shape, for one dimension."""
    require(value.dtype in INTEGERS, f"{name} has dtype {value.dtype}, not int32 or int64")
    fits = value.shape == shape if shape else value.dim() == 1
    require(fits, f"{name} has shape {list(value.shape)}, expected {list(shape) if shape else 'one dimension'}")


def check_pointers(name: str, pointers: Tensor, end: int) -> None:
    """Check that pointers start at 0, never decrease and finish at ``end``."""
    require(len(pointers) > 0 and pointers[0] == 0 and pointers[-1] == end, f"{name} must start at 0 and end at {end}")
    require(bool((pointers.diff() >= 0).all()), f"{name} has decreasing values")


def check_range(name: str, ids: Tensor, size: int) -> None:
    """Check that ids are in 0 .. size - 1."""
    require(is_inside(ids, size), f"{name} has values outside 0 .. {size - 1}")


def is_inside(ids: Tensor, size: int) -> bool:
    """Whether all ids are in 0 .. size - 1."""
    return not len(ids) or (int(ids.min()) >= 0 and int(ids.max()) < size)


def check_permutation(name: str, order: Tensor) -> None:
    """Check that each of 0 .. len(order) - 1 occurs exactly once."""
    check_integers(name, order)
    check_range(name, order, len(order))
    seen = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    seen[order.long()] = True
    require(bool(seen.all()), f"{name} is not a permutation")


def check_tiles(lists: tuple[Tensor, Tensor, Tensor], row: Tensor, columns: int, masks: int) -> None:
    """Check lists (index, rule, count) of tiles: indices below ``columns`` in ascending order, with known rules."""
    index, rule, count = lists
    require(all(t.dtype == torch.int32 for t in (*lists, row)), "the tile lists are not int32")
    require(index.dim() == 4 and row.shape == index.shape[2:3], "the tile lists do not have shape [B, H, R, K]")
    require(rule.shape == index.shape and count.shape == index.shape[:3], "index, rule and count have different sizes")
    require(0 not in index.shape[:2], "the tile lists have no examples or no heads")
    used = torch.arange(index.shape[3], device=index.device) < count.unsqueeze(3)
    require(bool(((count >= 0) & (count <= index.shape[3])).all()), "a count is out of range")
    require(bool(((index >= 0) & (~used | (index < columns))).all()), "a tile index is out of range")
    require(
        not bool((used[..., 1:] & (index[..., 1:] <= index[..., :-1])).any()),
        "the tile indices of a row are not ascending",
    )
    require(not bool(index[~used].any()), "an unused entry of index is not 0")
    require(bool(((rule >= -2) & (rule < masks))[used].all()), "a rule has no mask")


def rows_of(pointers: Tensor) -> Tensor:
    """Return the row of each entry, from row pointers."""
    count = pointers.long().diff()
    return torch.arange(len(count), device=count.device).repeat_interleave(count)
