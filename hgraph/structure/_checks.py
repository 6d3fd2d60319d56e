"""Checks of values that wait for the device once, all together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hgraph.errors import ArgumentError

__all__ = ["Checks"]


class Checks:
    """What a constructor asks of the values it was given: collected without waiting, read in one go.

    >>> checks = Checks()
    >>> checks.in_range("ids", torch.tensor([0, 7]), 3, "ids")
    >>> checks.read()
    Traceback (most recent call last):
    hgraph.errors.ArgumentError: ids: expected ids in 0 .. 2, got 7 at position 1.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, Callable[[int], ArgumentError]]] = []

    def refuse(self, bad: Tensor, error: Callable[[int], ArgumentError]) -> None:
        """Refuse if any of ``bad`` [n] is true; ``error`` is asked with the position of the first that is."""
        self._pending.append((bad, error))

    def in_range(self, name: str, values: Tensor, size: int, what: str) -> None:
        """Refuse indices outside 0 .. size - 1, naming the first one."""

        def error(at: int) -> ArgumentError:
            allowed = f"{what} in 0 .. {size - 1}" if size else f"no entry, as there are no {what}"
            return ArgumentError(name, allowed, f"{int(values[at])} at position {at}")

        self.refuse((values < 0) | (values >= size), error)

    def no_nan(self, name: str, weight: Tensor | None) -> None:
        """Refuse weights [n] with a NaN among them."""
        if weight is not None:
            self.refuse(weight.isnan(), lambda at: ArgumentError(name, "weights without NaN", f"NaN at position {at}"))

    def read(self, *numbers: Tensor) -> list[int]:
        """Wait for the device: raise what the first failed check says, else these numbers, one element each."""
        flags = [bad.any() for bad, _ in self._pending]
        asked = [t.long() for t in (*flags, *numbers)]
        found = torch.stack([t.to(asked[0].device) for t in asked]).tolist() if asked else []
        for failed, (bad, error) in zip(found, self._pending, strict=False):
            if failed:
                raise error(int(bad.nonzero()[0, 0]))
        return found[len(flags) :]
