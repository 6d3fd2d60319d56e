"""Decode states: tensors that a causal layer stores between steps, with a common protocol."""

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

    ``append`` stores the next tokens, ``len`` is the number of tokens so far, ``reorder`` continues with selected
    examples of the batch, and ``reset`` empties the state. A subclass defines :meth:`append`, :meth:`_map` and
    :meth:`_clear`; the first dimension of stored tensors is the batch.

    Use it to write a decode state for a custom layer.

    Args:
        capacity: maximum number of tokens; None is unlimited.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = None if capacity is None else whole("capacity", capacity, 1)
        self._length = 0
        self._examples: list[int] | None = None  # sizes of the batch dimensions, known after the first tokens
        self._device: torch.device | None = None

    def __len__(self) -> int:
        """Number of tokens so far."""
        return self._length

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of {self.capacity} tokens)"

    def append(self, *tokens: Tensor, **options: Any) -> Any:
        """Store the next tokens, tensors [..., T, H, D]; returns what the layer needs of all tokens so far."""
        raise NotImplementedError

    def reorder(self, index: Tensor) -> None:
        """Continue with the examples ``index`` [B'] of the batch, which may repeat, as after a step of beam search."""
        if not isinstance(index, Tensor) or index.dim() != 1 or index.is_floating_point() or index.dtype == torch.bool:
            got = f"{index.dtype} {list(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
            raise ArgumentTypeError("index", "indices [B'] of examples", got)
        if self._examples is None:
            return
        if len(self._examples) != 1:
            raise ArgumentError("state", "one batch dimension [B] to reorder", self._examples)
        with torch.inference_mode(False), torch.no_grad():  # stored tensors are written to outside of inference mode
            index = index.clone() if index.is_inference() else index
            self._map(lambda x: x.index_select(0, index.to(x.device)))
        self._examples = [len(index)]

    def reset(self) -> None:
        """Drop all tokens; the state can then be used for other examples."""
        self._length, self._examples, self._device = 0, None, None
        self._clear()

    def _map(self, function: Callable[[Tensor], Tensor]) -> None:
        """Apply a function to every stored tensor, whose first dimension is the batch."""
        raise NotImplementedError

    def _clear(self) -> None:
        """Drop all stored tensors."""
        raise NotImplementedError

    def _fit(self, examples: Sequence[int], count: int, device: torch.device) -> tuple[int, int]:
        """The positions of the next ``count`` tokens; checks the batch, the capacity and the device."""
        low, high = self._length, self._length + count
        if self.capacity is not None and high > self.capacity:
            hint = f"Use a larger state: {self._of_capacity(high)}"
            raise ArgumentError(
                "state", f"a capacity of at least {high} tokens", f"a capacity of {self.capacity}", hint
            )
        if self._examples is not None and list(examples) != self._examples:
            hint = "Use one state per sequence or batch"
            raise ArgumentError("x", f"examples {self._examples} as before", list(examples), hint)
        if self._device not in (None, device):
            raise ArgumentError("x", f"tokens on {self._device} as before", device, "Use one state per device")
        self._device = device
        return low, high

    def _of_capacity(self, capacity: int) -> str:
        """The expression that creates a state of that capacity."""
        return f"{type(self).__name__}({capacity})"

    def _advance(self, examples: Sequence[int], length: int) -> None:
        self._examples, self._length = list(examples), length


class KVState(DecodeState):
    """Keys and values of the tokens so far, for one layer.

    Use it to decode token by token without computing earlier keys and values again.

    Args:
        capacity: maximum number of tokens; pattern and memory have this size.

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
        self._stored: tuple[Tensor, ...] = ()  # keys, values, and other tensors per token

    def append(self, *tokens: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Add keys, values and other tensors per token, [..., T, H, D]; returns those of all tokens so far.

        Differentiable in the new tokens, which copies all tokens; decode without gradients to avoid this.
        """
        examples = tokens[0].shape[:-3]
        low, high = self._fit(examples, tokens[0].shape[-3], tokens[0].device)
        if not self._stored:
            with torch.inference_mode(False):  # only the prompt may be in inference mode
                self._stored = tuple(x.new_zeros(*x.shape[:-3], self.capacity, *x.shape[-2:]) for x in tokens)
        stored = self._stored
        if len(tokens) != len(stored) or any(
            a.shape[-2:] != b.shape[-2:] or a.dtype != b.dtype for a, b in zip(stored, tokens, strict=False)
        ):
            expected, got = (f"{t[0].dtype} heads {list(t[0].shape[-2:])}" for t in (stored, tokens))
            known = f"the layer it was first used with ({expected})"
            raise ArgumentError("state", known, got, "Use one state per layer")
        with torch.no_grad():
            for old, new in zip(stored, tokens, strict=True):
                old[..., low:high, :, :] = new
        self._advance(examples, high)
        if torch.is_grad_enabled() and any(
            x.requires_grad for x in tokens
        ):  # copied, since stored tensors are overwritten later
            return tuple(torch.cat([old[..., :low, :, :], x], -3) for old, x in zip(stored, tokens, strict=True))
        return tuple(x[..., :high, :, :] for x in stored)

    def _map(self, function: Callable[[Tensor], Tensor]) -> None:
        self._stored = tuple(function(x) for x in self._stored)

    def _clear(self) -> None:
        self._stored = ()
