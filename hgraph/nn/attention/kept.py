"""What layers keep for lengths that they have met."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

__all__ = ["keep"]

Key = TypeVar("Key")
Value = TypeVar("Value")


def keep(kept: dict[Key, Value], key: Key, make: Callable[[], Value], most: int = 8) -> None:
    """Make what is not kept yet; the oldest of so many make room.

    Call it in a function marked `torch.compiler.assume_constant_result` and read ``kept`` outside: so a compiler looks
    at what is kept and not at how it is made.
    """
    if key in kept:
        return
    with torch.inference_mode(False):  # what is kept must serve training too
        value = make()
    if len(kept) >= most:
        kept.pop(next(iter(kept)))
    kept[key] = value
