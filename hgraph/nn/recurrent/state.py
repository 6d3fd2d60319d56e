"""Decode states of recurrences: what a layer carries from token to token, of a size that does not grow."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn.attention.state import DecodeState

__all__ = ["ChainState", "check_state"]

Carried = tuple[Tensor, ...]


class ChainState(DecodeState):
    """The decode state of one recurrent layer; its size does not depend on the number of tokens.

    Use it to decode token by token with a layer of `hgraph.nn.recurrent`. Its tensors are stored without gradients.

    >>> from hgraph import nn
    >>> layer, x = nn.LightningAttention(8, 2).eval(), torch.randn(1, 5, 8)
    >>> state = ChainState()
    >>> steps = torch.cat([layer(x[:, t : t + 1], state=state) for t in range(5)], 1)
    >>> torch.allclose(steps, layer(x), atol=1e-6), len(state), [list(c.shape) for c in state.carried]
    (True, 5, [[1, 2, 4, 4]])
    """

    def __init__(self) -> None:
        super().__init__()
        self.carried: Carried | None = None
        self._layer: Callable[[], nn.Module | None] = _nobody

    def __repr__(self) -> str:
        """The number of tokens."""
        return f"ChainState({len(self)} tokens)"

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles do not contain the layer."""
        return {**self.__dict__, "_layer": _nobody}

    @property
    def num_bytes(self) -> int:
        """Memory of the carried tensors."""
        return sum(x.numel() * x.element_size() for x in self.carried or ())

    def append(  # type: ignore[override]
        self, x: Tensor, *, layer: nn.Module, recurrence: Callable[[Carried | None], tuple[Any, Carried]]
    ) -> Any:
        """Continue a recurrence over the next tokens.

        Args:
            x: the tokens, [..., T, dim].
            layer: the layer that calls.
            recurrence: a function of the carried tensors, None at the beginning, that returns outputs and the new
                carried tensors.

        Returns:
            The outputs.

        Raises:
            ArgumentError: the state was first used by another layer, for a different number of examples, or on another
                device.
        """
        examples = x.shape[:-2]
        self._check(x, layer)
        high = self._fit(examples, x.shape[-2])[1]
        out, carried = recurrence(self.carried)
        with torch.inference_mode(False), torch.no_grad():  # what a prompt in inference mode carries is used outside
            self.carried = tuple(c.clone() if c.is_inference() else c.detach() for c in carried)
        self._layer = weakref.ref(layer)
        self._advance(examples, high)
        return out

    def _check(self, x: Tensor, layer: nn.Module) -> None:
        owner = self._layer()
        if self.carried is None:
            return
        if owner is not None and owner is not layer:
            names = f"the {type(owner).__name__} it was first used with"
            raise ArgumentError("state", names, f"another {type(layer).__name__}", "Use one state per layer")
        if self.carried and self.carried[0].device != x.device:
            was = f"tokens on {self.carried[0].device} as before"
            raise ArgumentError("x", was, x.device, "Use one state per device")

    def _map(self, function: Callable[[Tensor], Tensor]) -> None:
        self.carried = None if self.carried is None else tuple(function(c) for c in self.carried)

    def _clear(self) -> None:
        self.carried, self._layer = None, _nobody


def _nobody() -> None:
    """In place of a weak reference: no layer."""


def check_state(state: Any, mask: Tensor | None, causal: bool = True) -> None:
    """Check the state that is passed to a forward.

    Raises:
        ArgumentError: a state with a mask, or for a layer that is not causal.
        ArgumentTypeError: the state is not a `ChainState`.
    """
    if state is None:
        return
    if not isinstance(state, ChainState):
        raise ArgumentTypeError("state", "a ChainState", type(state).__name__, "Use hgraph.nn.recurrent.ChainState()")
    if not causal:
        raise ArgumentError("state", "None, because the layer is not causal", repr(state))
    if mask is not None:
        raise ArgumentError("mask", "None with a state", "a mask", "Decode examples of equal length together")
