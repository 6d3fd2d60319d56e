"""How many edges the longest row has: known since construction, so that no launch looks for hubs where there are none.

What is known belongs to a list of pointers, not to the structure that holds it: a transpose, a copy with other weights
or one put together by hand has it for the lists that it shares, and nobody can give a structure the number of another.
A list that was written to, or that somebody made on the device without a look at it, has none: kernels then take rows
to be as long as the number of edges. Whatever they are told, they add up all of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hgraph._torch import is_plain
from hgraph.cache import TensorTable

__all__ = ["carry", "longest", "measure", "most", "note"]

_KNOWN: TensorTable[int] = TensorTable()  # pointers -> the length of the longest row, or more


def longest(indptr: Tensor) -> int | None:
    """At most so many edges a row has; None where nobody has looked."""
    return _KNOWN.get(indptr)


def note(lists: Sequence[Tensor], lengths: Sequence[int]) -> None:
    """Remember that no row of each list has more edges than this; not for what compilers and transforms hold."""
    for indptr, length in zip(lists, lengths, strict=True):
        if is_plain(indptr):
            _KNOWN.put(indptr, length)


def most(indptr: Tensor) -> Tensor:
    """[] the length of the longest row, where the pointers are."""
    return indptr.diff().amax() if indptr.shape[0] > 1 else indptr.new_zeros(())


def measure(*lists: Tensor) -> None:
    """Look at lists of pointers of one device; waits for it, once. Compilers and transforms have nothing to look at."""
    if not all(map(is_plain, lists)):
        return
    lists = tuple(t for t in lists if longest(t) is None)
    if not lists:
        return
    note(lists, torch.stack([most(t) for t in lists]).tolist())


def carry(old: Tensor, new: Tensor) -> None:
    """The copy of a list on another device has what the list has; one that comes from a CPU is looked at before."""
    if is_plain(old) and is_plain(new):
        if old.is_cpu:
            measure(old)
        known = longest(old)
        if known is not None:
            note([new], [known])
