"""What a causal attention keeps between the steps of decoding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.errors import ArgumentError

__all__ = ["KVState", "check_examples"]


def check_examples(before: Sequence[int], now: Sequence[int]) -> None:
    """Refuse another batch than a state has begun with."""
    if list(now) != list(before):
        hint = "Make a state for each sequence or batch"
        raise ArgumentError("x", f"examples {list(before)}, as those before", list(now), hint)


class KVState:
    """Keys and values of the tokens so far, for one layer: the caller makes it and hands it to every step.

    Args:
        capacity: the most tokens it will hold; pattern and memory are laid out for these.

    >>> from hgraph import nn
    >>> layer, x = nn.SelfAttention(8, 2, causal=True).eval(), torch.randn(1, 5, 8)
    >>> state = KVState(5)
    >>> steps = torch.cat([layer(x[:, t : t + 1], state=state) for t in range(5)], 1)
    >>> torch.allclose(steps, layer(x), atol=1e-6), len(state)
    (True, 5)
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = whole("capacity", capacity, 1)
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._more: list[Tensor] = []
        self._length = 0

    def __len__(self) -> int:
        """Tokens held."""
        return self._length

    def __repr__(self) -> str:
        return f"KVState({len(self)} of {self.capacity} tokens)"

    def reorder(self, index: Tensor) -> None:
        """Go on with the examples [B'] of the batch, repeated ones too: after a step of beam search."""
        if self._keys is None or self._values is None:
            return
        if self._keys.dim() != 4:
            raise ArgumentError("state", "examples [B] to reorder", list(self._keys.shape[:-3]))
        self._keys, self._values, *self._more = (x[index] for x in (self._keys, self._values, *self._more))

    def append(self, key: Tensor, value: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        """Add [..., T, H, D] of new tokens; gives those of all tokens so far.

        Differentiable in the new tokens, for which all are copied: decode without gradients. What else a layer keeps
        of each token is ``more``.
        """
        low, high = self._length, self._length + key.shape[-3]
        if high > self.capacity:
            hint = f"Make the state larger: KVState({high})"
            raise ArgumentError("state", f"room for {high} tokens", f"a capacity of {self.capacity}", hint)
        given = (key, value, *more)
        if self._keys is None or self._values is None:
            with torch.inference_mode(False):  # a prompt may be read in inference mode, and what follows not
                self._keys, self._values, *self._more = (self._room(x) for x in given)
        kept = (self._keys, self._values, *self._more)
        check_examples(self._keys.shape[:-3], key.shape[:-3])
        if len(given) != len(kept) or any(
            a.shape[-2:] != b.shape[-2:] or a.dtype != b.dtype for a, b in zip(kept, given, strict=False)
        ):
            expected, got = (f"{t[0].dtype} heads {list(t[0].shape[-2:])}" for t in (kept, given))
            raise ArgumentError("state", f"a layer of {expected}, as before", got, "Make a state for each layer")
        with torch.no_grad():
            for old, new in zip(kept, given, strict=True):
                old[..., low:high, :, :] = new
        self._length = high
        if torch.is_grad_enabled() and any(x.requires_grad for x in given):  # copied: what is kept is written again
            return tuple(torch.cat([old[..., :low, :, :], x], -3) for old, x in zip(kept, given, strict=True))
        return tuple(x[..., :high, :, :] for x in kept)

    def _room(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:-3], self.capacity, *x.shape[-2:])
