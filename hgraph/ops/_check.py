"""Checks of the verbs' arguments that name the argument, what was expected and what was given; none syncs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError


def floating(name: str, value: Any, device: torch.device) -> None:
    """A floating-point tensor on the structure's device."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentTypeError(name, "a floating-point tensor", got)
    if value.device != device:
        hint = "Move one of them with .to(device)"
        raise ArgumentError(name, f"a tensor on {device}, where the structure is", value.device, hint)


def shape(name: str, value: Tensor, expected: Sequence[int | str], hint: str = "") -> None:
    """The shape, from the right; names stand for any size and a leading "..." for any further dimensions."""
    free = expected[0] == "..."
    wanted = expected[1:] if free else expected
    got = value.shape[len(value.shape) - len(wanted) :] if free else value.shape
    fits = len(got) == len(wanted) and all(isinstance(w, str) or w == g for w, g in zip(wanted, got, strict=True))
    if not fits:
        text = ", ".join(str(e) for e in expected)
        raise ArgumentError(name, f"shape [{text}]", f"shape {list(value.shape)}", hint)
