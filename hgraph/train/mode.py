"""Eval mode that begins and ends with a block of code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Run a block with a module in eval mode and give every part of it its own mode back; others pass unchanged.

    >>> net = nn.Sequential(nn.Dropout())
    >>> with evaluating(net):
    ...     inside = net.training
    >>> inside, net[0].training
    (False, True)
    """
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training
