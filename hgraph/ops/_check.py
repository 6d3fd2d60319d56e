"""Checks of the verbs' arguments that name the argument, what was expected and what was given; none syncs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError


def structure(adj: Any, *kinds: type) -> None:
    """A structure of one of the given kinds, rather than what holds one."""
    if not isinstance(adj, kinds):
        hint = "A Graph holds its structure as .adj, a Hypergraph two as .v2e and .e2v"
        if isinstance(adj, Tensor):
            hint = "Adjacency.from_coo(target=..., source=..., num_targets=..., num_sources=...) makes one of two lists"
        raise ArgumentTypeError("adj", " or ".join(kind.__name__ for kind in kinds), type(adj).__name__, hint)


def floating(name: str, value: Any, device: torch.device) -> None:
    """A floating-point tensor on the structure's device."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.device == device:
        return  # the usual case, without the cost of the general one
    _kind(name, value, device, "a floating-point tensor", Tensor.is_floating_point)


def integers(name: str, value: Any, device: torch.device) -> None:
    """An integer tensor on the structure's device."""
    _kind(name, value, device, "an integer tensor", lambda t: not (t.is_floating_point() or t.dtype == torch.bool))


def booleans(name: str, value: Any, device: torch.device) -> None:
    """A boolean tensor on the structure's device."""
    _kind(name, value, device, "a boolean tensor", lambda t: t.dtype == torch.bool)


def _kind(name: str, value: Any, device: torch.device, expected: str, fits: Callable[[Tensor], bool]) -> None:
    if not isinstance(value, Tensor) or not fits(value):
        raise ArgumentTypeError(name, expected, value.dtype if isinstance(value, Tensor) else type(value).__name__)
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
