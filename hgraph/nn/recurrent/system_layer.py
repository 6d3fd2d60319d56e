"""Base of the recurrences that are a `LinearSystem` with coefficients computed from the tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.nn.attention.call import check_tokens
from hgraph.nn.attention.masks import token_mask
from hgraph.nn.padding import without_padding
from hgraph.nn.recurrent.state import ChainState, check_state
from hgraph.nn.recurrent.system import LinearSystem

__all__ = ["SystemLayer"]


class SystemLayer(nn.Module):
    """A layer whose outputs are those of a linear system over its tokens; subclasses override `system` and `output`.

    Use it to write a recurrence by its coefficients: masks, decoding and half precision come from here. ``dim`` is the
    number of features per token, ``chunk`` the number of tokens per chunk.
    """

    def __init__(self, dim: int, chunk: int = 64) -> None:
        super().__init__()
        self.dim, self.chunk = dim, chunk

    def system(self, x: Tensor) -> tuple[LinearSystem, Tensor]:
        """The system of tokens x [..., N, dim], and its inputs [..., N, H, V]."""
        raise NotImplementedError

    def output(self, received: Tensor, x: Tensor) -> Tensor:
        """[..., N, dim] of the outputs of the system [..., N, H, V], and the tokens."""
        received = received.flatten(-2)
        if x.dtype == torch.float16:  # sums over a sequence may exceed its range; inf - inf would be NaN further on
            most = torch.finfo(x.dtype).max
            received = received.clamp(-most, most)
        return received.to(x.dtype)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, state: ChainState | None = None) -> Tensor:
        """Mix the tokens of each sequence."""
        check_tokens("x", x, self.dim, next(self.parameters()))
        mask = token_mask("mask", mask, x.shape[:-1])
        check_state(state, mask)
        x = without_padding(x, mask)
        system, values = self.system(x)
        system = system if mask is None else system.without(mask)

        def recurrence(carried: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
            out, final = system.scan(values, None if carried is None else carried[0], chunk=self.chunk)
            return out, (final,)

        out = recurrence(None)[0] if state is None else state.append(x, layer=self, recurrence=recurrence)
        return without_padding(self.output(out, x), mask)
