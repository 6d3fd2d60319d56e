"""Decode states of recurrences: what a layer carries from token to token, of a size that does not grow."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.checks import whole
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn.attention.state import DecodeState

__all__ = ["ChainState", "StackState", "check_state", "states_of"]

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
        self._check(layer)
        high = self._fit(examples, x.shape[-2], x.device)[1]
        out, carried = recurrence(self.carried)
        with torch.inference_mode(False), torch.no_grad():  # what a prompt in inference mode carries is used outside
            self.carried = tuple(c.clone() if c.is_inference() else c.detach() for c in carried)
        self._layer = weakref.ref(layer)
        self._advance(examples, high)
        return out

    def _check(self, layer: nn.Module) -> None:
        owner = self._layer()
        if owner is not None and owner is not layer:
            names = f"the {type(owner).__name__} it was first used with"
            raise ArgumentError("state", names, f"another {type(layer).__name__}", "Use one state per layer")

    def _map(self, function: Callable[[Tensor], Tensor]) -> None:
        self.carried = None if self.carried is None else tuple(function(c) for c in self.carried)

    def _clear(self) -> None:
        self.carried, self._layer = None, _nobody


class StackState(DecodeState):
    """The decode states of all recurrent layers of a network, which are reordered and reset together.

    Use it to decode token by token with a network of `hgraph.models.sequence`.

    Args:
        num_layers: number of layers.

    >>> from hgraph import models
    >>> model, x = models.AarenEncoder(8, 2, num_layers=2, hidden_channels=16).eval(), torch.randn(1, 5, 8)
    >>> state = StackState(2)
    >>> steps = torch.cat([model(x[:, t : t + 1], state=state) for t in range(5)], 1)
    >>> torch.allclose(steps, model(x), atol=1e-5), len(state)
    (True, 5)
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.layers = [ChainState() for _ in range(whole("num_layers", num_layers, 1))]

    def __len__(self) -> int:
        """Number of tokens so far."""
        return len(self.layers[0])

    def __repr__(self) -> str:
        """The number of tokens and of layers."""
        return f"StackState({len(self)} tokens, {len(self.layers)} layers)"

    @property
    def num_bytes(self) -> int:
        """Memory of the carried tensors of all layers."""
        return sum(state.num_bytes for state in self.layers)

    def reorder(self, index: Tensor) -> None:
        """Continue with the examples ``index`` [B'] of the batch; repeats are allowed."""
        for state in self.layers:
            state.reorder(index)

    def reset(self) -> None:
        """Drop all tokens."""
        for state in self.layers:
            state.reset()


def states_of(state: Any, num_layers: int) -> Sequence[ChainState | None]:
    """The states of the layers of a network.

    Raises:
        ArgumentError: the state is for a different number of layers.
        ArgumentTypeError: the state is not a `StackState`.
    """
    if state is None:
        return [None] * num_layers
    hint = f"Use hgraph.nn.recurrent.StackState({num_layers})"
    if not isinstance(state, StackState):
        raise ArgumentTypeError("state", "a StackState", type(state).__name__, hint)
    if len(state.layers) != num_layers:
        raise ArgumentError("state", f"the states of {num_layers} layers", len(state.layers), hint)
    return state.layers


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
