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

__all__ = ["OperatorFunction", "register"]


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


def register(schema: str, kernel: Callable[..., Any], fake: Callable[..., Any], function: Any) -> Callable[..., Any]:
    """Define an operator whose first argument is a structure's list of tensors; returns its caller.

    ``kernel`` is the reference in plain torch, which the chosen backend may replace
    (`hgraph.ops.dispatch.backend.dispatch`).

    An autograd.Function is registered on the Autograd key itself, which costs a few us per call; `register_autograd`
    costs tens. `torch.func` transforms cannot reach a Function below that key, so they get the bare Function, in the
    `setup_context` form that they need; other calls use its twin in the older form, which is 60 us faster to call.
    Eager calls with plain tensors skip the dispatcher, which would pass ten tensors back and forth twice: on
    graphs of the size of Cora that is a third of a call.
    """
    name = schema.split("(")[0]
    run = dispatch(name, kernel)
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for device in ("CPU", "CUDA"):
        LIBRARY.impl(name, run, device)
    torch.library.register_fake(f"hgraph::{name}", fake, lib=LIBRARY)
    operator = getattr(torch.ops.hgraph, name).default

    class Quick(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            with below_autograd():
                output = operator(*arguments)
            function.setup_context(ctx, arguments, output)
            return output

        backward, jvp = function.backward, function.jvp

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            output = run(*arguments)
            function.setup_context(ctx, arguments, output)
            return output

        backward, jvp = function.backward, function.jvp

    def recorded(*arguments: Any) -> Any:
        if _recorded(arguments):
            return Quick.apply(*arguments)
        if may_skip_dispatcher() and _ordinary(arguments):  # compiled code runs: nothing left to dispatch on
            return run(*arguments)
        with below_autograd():
            return operator(*arguments)

    LIBRARY.impl(name, recorded, "Autograd")

    def call(*arguments: Any) -> Any:
        if is_transformed():
            return function.apply(*arguments)
        if not may_skip_dispatcher() or not _ordinary(arguments):
            return operator(*arguments)
        return Direct.apply(*arguments) if _recorded(arguments) else run(*arguments)

    return call


class OperatorFunction(torch.autograd.Function):
    """Base of the operators' autograd functions: the forward runs the registered kernel below autograd."""

    operator: str

    @classmethod
    def run(cls, *arguments: Any) -> Any:
        """The return value of the subclass's forward."""
        with below_autograd():
            return getattr(torch.ops.hgraph, cls.operator).default(*arguments)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Reject forward-mode tangents, which no kernel supports and which would be lost silently."""
        raise ArgumentTypeError(
            "the verbs' tensors",
            "no tangents of forward-mode derivatives (torch.func.jvp, jacfwd, hessian; dual tensors)",
            "some",
            "torch.autograd.functional.jvp gives the same result with two backward passes; so does jacrev(jacrev(f))",
        )

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        """A loop over examples: correct for every operator; for speed use the verbs' batch dimensions."""
        outputs = []
        for i in range(info.batch_size):
            one = (a.select(d, i) if isinstance(d, int) else a for a, d in zip(arguments, in_dims, strict=True))
            outputs.append(cls.apply(*one))
        if isinstance(outputs[0], tuple):
            return tuple(torch.stack(o) for o in zip(*outputs, strict=True)), (0,) * len(outputs[0])
        return torch.stack(outputs), 0
