"""What layers keep for lengths that they have met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

__all__ = ["constant", "keep"]

Key = TypeVar("Key")
Value = TypeVar("Value")
Function = TypeVar("Function", bound=Callable[..., Any])


def constant(function: Function) -> Function:
    """What `torch.compiler.assume_constant_result` does, without the seconds that importing the compiler takes."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def keep(kept: dict[Key, Value], key: Key, make: Callable[[], Value], most: int = 8) -> None:
    """Make what is not kept yet; the oldest of so many make room.

    Call it in a function marked `constant` and read ``kept`` outside: so a compiler looks
    at what is kept and not at how it is made.
    """
    if key in kept:
        return
    with torch.inference_mode(False):  # what is kept must serve training too
        value = make()
    if len(kept) >= most:
        kept.pop(next(iter(kept)))
    kept[key] = value
