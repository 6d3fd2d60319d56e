"""Decode states: what a causal layer stores between steps, and the protocol that all of them follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.errors import ArgumentError, ArgumentTypeError

__all__ = ["DecodeState", "KVState"]


class DecodeState:
    """Base of all decode states: the caller makes one for each layer and passes it at every step.

    ``append`` stores the next tokens, ``len`` is how many came so far, ``reorder`` continues with chosen examples of
    the batch, and ``reset`` makes the state as good as new. A subclass defines :meth:`append`, :meth:`_map` and
    :meth:`_clear`; the first dimension of what it stores counts examples.

    Use it when you write a decode state for a layer of your own.

    Args:
        capacity: the most tokens it can store; None is without limit.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = None if capacity is None else whole("capacity", capacity, 1)
        self._length = 0
        self._examples: list[int] | None = None  # sizes of the batch dimensions, once tokens came

    def __len__(self) -> int:
        """Tokens so far."""
        return self._length

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of {self.capacity} tokens)"

    def append(self, *tokens: Tensor, **options: Any) -> Any:
        """Store the next tokens, tensors [..., T, H, D]; gives what the layer needs of those so far."""
        raise NotImplementedError

    def reorder(self, index: Tensor) -> None:
        """Continue with the examples ``index`` [B'] of the batch, repeated ones too: after a step of beam search."""
        if not isinstance(index, Tensor) or index.dim() != 1 or index.is_floating_point() or index.dtype == torch.bool:
            got = f"{index.dtype} {list(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
            raise ArgumentTypeError("index", "integers [B'], numbers of examples", got)
        if self._examples is None:
            return
        if len(self._examples) != 1:
            raise ArgumentError("state", "examples [B] to reorder", self._examples)
        with torch.inference_mode(False), torch.no_grad():  # what is stored is written to outside of inference mode
            index = index.clone() if index.is_inference() else index
            self._map(lambda x: x.index_select(0, index.to(x.device)))
        self._examples = [len(index)]

    def reset(self) -> None:
        """Drop all tokens: the state is as new, for other examples too."""
        self._length, self._examples = 0, None
        self._clear()

    def _map(self, function: Callable[[Tensor], Tensor]) -> None:
        """Replace every stored tensor, whose first dimension is that of examples."""
        raise NotImplementedError

    def _clear(self) -> None:
        """Drop what is stored."""
        raise NotImplementedError

    def _fit(self, examples: Sequence[int], count: int) -> tuple[int, int]:
        """The positions of ``count`` more tokens; refuses another batch than before, and more than the capacity."""
        low, high = self._length, self._length + count
        if self.capacity is not None and high > self.capacity:
            hint = f"Make the state larger: {self._of_capacity(high)}"
            raise ArgumentError("state", f"room for {high} tokens", f"a capacity of {self.capacity}", hint)
        if self._examples is not None and list(examples) != self._examples:
            hint = "Make a state for each sequence or batch"
            raise ArgumentError("x", f"examples {self._examples}, as those before", list(examples), hint)
        return low, high

    def _of_capacity(self, capacity: int) -> str:
        """How to make a state of that capacity."""
        return f"{type(self).__name__}({capacity})"

    def _advance(self, examples: Sequence[int], length: int) -> None:
        self._examples, self._length = list(examples), length


class KVState(DecodeState):
    """Keys and values of the tokens so far, for one layer.

    Args:
        capacity: the most tokens it can store; pattern and memory are laid out for these.

    >>> from hgraph import nn
    >>> layer, x = nn.SelfAttention(8, 2, causal=True).eval(), torch.randn(1, 5, 8)
    >>> state = KVState(5)
    >>> steps = torch.cat([layer(x[:, t : t + 1], state=state) for t in range(5)], 1)
    >>> torch.allclose(steps, layer(x), atol=1e-6), len(state)
    (True, 5)
    """

    capacity: int

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._stored: tuple[Tensor, ...] = ()  # keys, values, and what else a layer stores per token

    def append(self, *tokens: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Add keys, values, and what else the layer stores, [..., T, H, D]; gives those of all tokens so far.

        Differentiable in the new tokens, for which all are copied: decode without gradients.
        """
        examples = tokens[0].shape[:-3]
        low, high = self._fit(examples, tokens[0].shape[-3])
        if not self._stored:
            with torch.inference_mode(False):  # a prompt may be read in inference mode, and what follows not
                self._stored = tuple(x.new_zeros(*x.shape[:-3], self.capacity, *x.shape[-2:]) for x in tokens)
        stored = self._stored
        if len(tokens) != len(stored) or any(
            a.shape[-2:] != b.shape[-2:] or a.dtype != b.dtype for a, b in zip(stored, tokens, strict=False)
        ):
            expected, got = (f"{t[0].dtype} heads {list(t[0].shape[-2:])}" for t in (stored, tokens))
            raise ArgumentError("state", f"a layer of {expected}, as before", got, "Make a state for each layer")
        with torch.no_grad():
            for old, new in zip(stored, tokens, strict=True):
                old[..., low:high, :, :] = new
        self._advance(examples, high)
        if torch.is_grad_enabled() and any(x.requires_grad for x in tokens):  # copied: what is stored is written again
            return tuple(torch.cat([old[..., :low, :, :], x], -3) for old, x in zip(stored, tokens, strict=True))
        return tuple(x[..., :high, :, :] for x in stored)

    def _map(self, function: Callable[[Tensor], Tensor]) -> None:
        self._stored = tuple(function(x) for x in self._stored)

    def _clear(self) -> None:
        self._stored = ()
