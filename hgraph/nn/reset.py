"""Resets the parameters of a module."""

from __future__ import annotations

from torch import nn

__all__ = ["reset"]


def reset(module: nn.Module) -> None:
    """Call ``reset_parameters`` of every module inside, in order."""
    for inner in module.modules():
        if inner is not module and callable(again := getattr(inner, "reset_parameters", None)):
            again()
