"""Cache of the longest row length, so that kernels do not look for long rows where there are none.

The cache belongs to a pointer tensor, not to the structure that holds it: transposes, copies with other weights and
hand-built structures share it through their pointers, and no structure can get the value of another.
A pointer tensor that was modified in place, or built on the device without a check, has no entry: kernels then assume
that a row may hold all edges. Results do not depend on the cache; kernels always reduce whole rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hgraph._torch import is_plain
from hgraph.cache import TensorTable

__all__ = ["carry", "longest", "measure", "most", "note"]

_KNOWN: TensorTable[int] = TensorTable()  # pointers -> upper bound on the longest row


def longest(indptr: Tensor) -> int | None:
    """Upper bound on the edges of a row; None if unknown."""
    return _KNOWN.get(indptr)


def note(lists: Sequence[Tensor], lengths: Sequence[int]) -> None:
    """Record an upper bound on the row lengths of each list; does nothing under compilers and transforms."""
    for indptr, length in zip(lists, lengths, strict=True):
        if is_plain(indptr):
            _KNOWN.put(indptr, length)


def most(indptr: Tensor) -> Tensor:
    """[] the length of the longest row, on the device of the pointers."""
    return indptr.diff().amax() if indptr.shape[0] > 1 else indptr.new_zeros(())


def measure(*lists: Tensor) -> None:
    """Measure pointer lists of one device; synchronizes once. Does nothing under compilers and transforms."""
    if not all(map(is_plain, lists)):
        return
    lists = tuple(t for t in lists if longest(t) is None)
    if not lists:
        return
    note(lists, torch.stack([most(t) for t in lists]).tolist())


def carry(old: Tensor, new: Tensor) -> None:
    """Copy the bound of a list to its copy on another device; lists on a CPU are measured first."""
    if is_plain(old) and is_plain(new):
        if old.is_cpu:
            measure(old)
        known = longest(old)
        if known is not None:
            note([new], [known])
