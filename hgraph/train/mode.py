"""`eval_mode`: a context manager for eval mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["eval_mode"]


@contextmanager
def eval_mode(model: object) -> Iterator[None]:
    """Run a block with a module in eval mode, then restore the mode of each submodule; other objects are ignored.

    Use it when a model is evaluated in the middle of its training.

    >>> net = nn.Sequential(nn.Dropout())
    >>> with eval_mode(net):
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
