"""Clauses of layers: half precision, autocast, and float64 after float32."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hgraph.testing.case import Case, clause, map_floating, outputs, trainable
from hgraph.testing.compare import (
    assert_all_near,
    assert_same,
    backward,
    map_structures,
    named_leaves,
    with_gradients,
)
from hgraph.testing.layouts import tensors_of

HALF = (torch.bfloat16, torch.float16)


@clause
def check_half(case: Case) -> None:
    """Half precision is within a few rounding units of float64 on the same rounded inputs; gradients are finite.

    Inputs scaled by 30, with entries of about 100, give no NaN.
    """
    for dtype in HALF:
        module, inputs = case.module(dtype=dtype), with_gradients(case.inputs(case.sizes[2], seed=2, dtype=dtype))
        out = module(*inputs)
        exact = copy.deepcopy(module).double()(*map_floating(inputs, lambda t: t.detach().double()))
        for at, got in enumerate(outputs(out)):
            assert got.dtype == dtype, f"output {at}: expected {dtype}, the dtype of the inputs, got {got.dtype}"
        assert_all_near(out, exact, case.roundings * torch.finfo(dtype).eps, str(dtype))
        backward(out, inputs, module)
        for name, leaf in named_leaves(inputs, module):
            if leaf.grad is not None:
                assert leaf.grad.dtype == dtype, f"{name}: expected a gradient in {dtype}, got {leaf.grad.dtype}"
                assert leaf.grad.isfinite().all(), f"the gradient of {name} in {dtype} is not finite"
        large = map_floating(case.inputs(case.sizes[2], seed=2, dtype=dtype), lambda t: t * 30)
        for at, got in enumerate(outputs(module(*large))):
            assert not got.isnan().any(), f"output {at} in {dtype}: NaN for inputs 30 times as large"


@clause
def check_autocast(case: Case) -> None:
    """Autocast is close to float32, gives finite float32 gradients, and caches no rounded values."""
    for dtype in HALF:
        module, inputs = case.module(), with_gradients(case.inputs(case.sizes[2], dtype=torch.float32))
        exact = module(*inputs)
        with torch.autocast("cpu", dtype):
            out = module(*inputs)
        for at, got in enumerate(outputs(out)):
            assert got.dtype in (dtype, torch.float32), f"output {at}: expected {dtype} or float32, got {got.dtype}"
        assert_all_near(out, exact, 2 * case.roundings * torch.finfo(dtype).eps, f"autocast to {dtype}")
        backward(out, inputs, module)
        for name, parameter in trainable(module).items():
            assert parameter.grad is None or parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
        assert_same(module(*inputs), exact, "the float32 result after autocast")


@clause
def check_float64(case: Case) -> None:
    """Values cached in float32 are not used in float64, and float64 is not rounded to lower precision."""
    inputs = case.inputs(case.sizes[1], seed=4, dtype=torch.float32)
    case.module()(*inputs)
    doubled = map_floating(inputs, Tensor.double)
    found = case.module(dtype=torch.float64)(*doubled)
    fresh = tuple(map_structures(x, lambda s: s._map(_double)) for x in doubled)
    module = case.module(dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        exact = module(*fresh)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_all_near(found, exact, 64 * torch.finfo(torch.float64).eps, "float64 after float32")
    module = case.module(dtype=torch.float64)
    with RoundingMode() as rounding, torch.no_grad():
        module(*fresh)
    assert not rounding.found, f"a float64 module computes in lower precision: {', '.join(sorted(rounding.found))}"


class RoundingMode(TorchDispatchMode):
    """Collects the operators that return floating-point tensors of less than 64 bits.

    >>> with RoundingMode() as rounding:
    ...     two = torch.ones(1, dtype=torch.float64).float() + 1
    >>> sorted(rounding.found)
    ['aten._to_copy', 'aten.add']
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(t.is_floating_point() and t.dtype.itemsize < 8 and t.numel() for t in tensors_of(result)):
            self.found.add(str(func.overloadpacket))
        return result


def _double(t: Tensor) -> Tensor:
    return t.double() if t.is_floating_point() else t.clone()
