"""`aux_losses`: the sum of auxiliary losses of all layers of a model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentTypeError

__all__ = ["aux_losses"]


def aux_losses(model: nn.Module) -> Tensor:
    r"""The sum of the auxiliary losses from the last forward of a model's layers.

    Use it in a training loop: add the result to the loss of the task.

    .. math:: \sum_{m} \sum_{k} a_{mk}

    A layer with such losses (load balancing, reconstruction) sets ``self.aux = {"name": scalar tensor, ...}`` in its
    forward, already multiplied by their weights; `hgraph.train.fit` adds them to the loss.

    Args:
        model: any module; a layer used twice counts once.

    Returns:
        A scalar tensor; 0 if no layer has any.

    Raises:
        ArgumentTypeError: an ``aux`` that is not a mapping of scalar tensors.

    >>> class Balanced(nn.Linear):
    ...     def forward(self, x):
    ...         y = super().forward(x)
    ...         self.aux = {"balance": 0.5 * y.mean() ** 2}
    ...         return y
    >>> layer = Balanced(2, 1)
    >>> _ = layer(torch.ones(3, 2))
    >>> bool(aux_losses(nn.Sequential(layer)) == layer.aux["balance"])
    True
    """
    found: list[Tensor] = []
    for name, module in model.named_modules():
        aux = getattr(module, "aux", None)
        if aux is None or isinstance(aux, nn.Module):  # a submodule named aux is unrelated
            continue
        if not isinstance(aux, Mapping) or not all(isinstance(v, Tensor) and v.numel() == 1 for v in aux.values()):
            raise ArgumentTypeError(f"{name or 'model'}.aux", "a mapping from names to scalar tensors", repr(aux))
        found += [value.reshape(()) for value in aux.values()]
    return torch.stack(found).sum() if found else torch.zeros(())
