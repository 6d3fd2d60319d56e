"""Operator registration: defined once for autograd, the compiler and `torch.func`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from hgraph._torch import LIBRARY, below_autograd, has_tangent, is_transformed, may_skip_dispatcher
from hgraph.errors import ArgumentTypeError
from hgraph.ops.dispatch.backend import dispatch

__all__ = ["register"]


def _ordinary(arguments: tuple[Any, ...]) -> bool:
    """Whether all are plain tensors on a device with kernels, not tensor subclasses."""
    structure = arguments[0][0]
    if not (structure.is_cpu or structure.is_cuda):
        return False
    return all(type(a) is Tensor or type(a) is Parameter or not isinstance(a, Tensor) for a in arguments)


def _recorded(arguments: tuple[Any, ...]) -> bool:
    """Whether autograd must see the call: to record a graph, or to reject tangents, which no kernel supports."""
    if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
        return True
    return has_tangent(arguments)


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """For operators that compute gradients: their callers take a differentiable path for second order."""


def register(
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    save: Callable[[Any, tuple[Any, ...], Any], None] = _save_nothing,
    backward: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Define an operator whose first argument is a structure's list of tensors; returns its caller.

    An autograd.Function is registered on the Autograd key itself, which costs a few us per call; `register_autograd`
    costs tens. `torch.func` transforms cannot reach a Function below that key, so they get a Function in the
    `setup_context` form that they need; other calls use its twin in the older form, which is 60 us faster to call.
    Eager calls with plain tensors skip the dispatcher, which would pass ten tensors back and forth twice: on
    graphs of the size of Cora that is a third of a call.

    Args:
        schema: the operator's signature, as `torch.library.define` takes it.
        kernel: the reference in plain torch, which the chosen backend may replace
            (`hgraph.ops.dispatch.backend.dispatch`).
        fake: empty outputs of the right shapes, for the compiler.
        save: ``setup_context`` of the autograd function: what the backward pass needs goes into ``ctx``.
        backward: gradients of all arguments from ``ctx`` and the gradients of the outputs. None: not differentiable.
    """
    name = schema.split("(")[0]
    run = dispatch(name, kernel)
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for device in ("CPU", "CUDA"):
        LIBRARY.impl(name, run, device)
    torch.library.register_fake(f"hgraph::{name}", fake, lib=LIBRARY)
    operator = getattr(torch.ops.hgraph, name).default

    def through_dispatcher(*arguments: Any) -> Any:
        with below_autograd():
            return operator(*arguments)

    transformable = _transformable(name, through_dispatcher, save, backward)
    from_dispatcher = _function(name, through_dispatcher, save, backward)
    direct = _function(name, run, save, backward)

    def recorded(*arguments: Any) -> Any:
        if _recorded(arguments):
            return from_dispatcher.apply(*arguments)
        if may_skip_dispatcher() and _ordinary(arguments):  # compiled code runs: nothing left to dispatch on
            return run(*arguments)
        return through_dispatcher(*arguments)

    LIBRARY.impl(name, recorded, "Autograd")

    def call(*arguments: Any) -> Any:
        if is_transformed():
            return transformable.apply(*arguments)
        if not may_skip_dispatcher() or not _ordinary(arguments):
            return operator(*arguments)
        return direct.apply(*arguments) if _recorded(arguments) else run(*arguments)

    return call


class _Operator(torch.autograd.Function):
    """What the autograd functions of all operators share."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Reject forward-mode tangents, which no kernel supports and which would be lost silently."""
        raise ArgumentTypeError(
            "operator inputs",
            "tensors without forward-mode tangents (torch.func.jvp, jacfwd, hessian; dual tensors)",
            "forward-mode tangents",
            "torch.autograd.functional.jvp gives the same result with two backward passes; so does jacrev(jacrev(f))",
        )

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        """A loop over examples: correct for every operator; for speed use the batch dimensions of the operators."""
        outputs = []
        for i in range(info.batch_size):
            one = (a.select(d, i) if isinstance(d, int) else a for a, d in zip(arguments, in_dims, strict=True))
            outputs.append(cls.apply(*one))
        if isinstance(outputs[0], tuple):
            return tuple(torch.stack(o) for o in zip(*outputs, strict=True)), (0,) * len(outputs[0])
        return torch.stack(outputs), 0


def _function(
    name: str, run: Callable[..., Any], save: Callable[..., None], backward: Callable[..., Any] | None
) -> Any:
    """An operator's autograd function in the form that is fast to call."""

    def forward(ctx: Any, *arguments: Any) -> Any:
        output = run(*arguments)
        save(ctx, arguments, output)
        return output

    return _made(name, backward, forward=forward)


def _transformable(
    name: str, run: Callable[..., Any], save: Callable[..., None], backward: Callable[..., Any] | None
) -> Any:
    """An operator's autograd function in the form that `torch.func` transforms need."""
    return _made(name, backward, forward=lambda *arguments: run(*arguments), setup_context=save)


def _made(name: str, backward: Callable[..., Any] | None, **methods: Callable[..., Any]) -> Any:
    """An autograd function of that name, which ``grad_fn`` and profiles show."""
    methods |= {} if backward is None else {"backward": backward}
    return type(name, (_Operator,), {key: staticmethod(method) for key, method in methods.items()})
