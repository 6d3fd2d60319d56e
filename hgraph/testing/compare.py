"""Helpers of the clauses: comparing results, and finding tensors and structures in inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.structure import Structure
from hgraph.testing.case import is_floating, map_floating, outputs, scalar, trainable
from hgraph.testing.layouts import tensors_of


def named_leaves(inputs: tuple[Any, ...], module: nn.Module) -> list[tuple[str, Tensor]]:
    """Floating-point inputs and trainable parameters, with their names."""
    tensors = [(f"input {i}", x) for i, x in enumerate(inputs) if is_floating(x)]
    return [*tensors, *((f"parameter {name}", x) for name, x in trainable(module).items())]


def with_gradients(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inputs whose floating-point tensors are leaves that require a gradient."""
    return map_floating(inputs, lambda x: x.detach().clone().requires_grad_())


def backward(out: Any, inputs: tuple[Any, ...], module: nn.Module) -> None:
    """Set the gradients of a loss of all outputs, replacing older ones."""
    for _, leaf in named_leaves(inputs, module):
        leaf.grad = None
    scalar(out).backward()


def structures_of(x: Any) -> list[Structure]:
    """The structures in a structure or nested lists of them."""
    if isinstance(x, (list, tuple)):
        return [structure for one in x for structure in structures_of(one)]
    return [x] if isinstance(x, Structure) else []


def map_structures(x: Any, function: Callable[[Structure], Structure]) -> Any:
    """Apply a function to the structures in nested lists."""
    if isinstance(x, (list, tuple)):
        return [map_structures(one, function) for one in x]
    return function(x) if isinstance(x, Structure) else x


def same_bits(one: Any, other: Any) -> bool:
    """Whether all tensors of two results are equal."""
    return all(torch.equal(a, b) for a, b in zip(tensors_of(one), tensors_of(other), strict=True))


def assert_same(found: Any, expected: Any, what: str) -> None:
    """Compare all tensors of two results bit for bit."""
    for a, b in zip(tensors_of(found), tensors_of(expected), strict=True):
        assert a.shape == b.shape, f"{what} has the shape {list(a.shape)}, expected {list(b.shape)}"
        difference = (a.detach().double() - b.detach().double()).abs().max() if a.numel() else 0.0
        assert torch.equal(a, b), f"{what} differs, by up to {float(difference):.3g}"


def assert_all_near(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """Compare all outputs; the tolerance is relative to the largest value of each."""
    for at, (a, b) in enumerate(zip(outputs(found), outputs(expected), strict=True)):
        assert a.shape == b.shape, f"{what}: output {at} has the shape {list(a.shape)}, expected {list(b.shape)}"
        if b.numel():
            error, bound = (
                float((a.double() - b.double()).detach().abs().max()),
                tolerance * float(b.detach().abs().max()),
            )
            assert error <= bound, f"{what}: output {at} differs by {error:.3g}, more than {bound:.3g}"
