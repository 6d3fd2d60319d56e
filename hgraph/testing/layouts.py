"""Tensors with random strides, and a check that a function does not depend on strides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hgraph.structure import Structure

__all__ = ["assert_layout_independent", "random_layout"]


def random_layout(x: Tensor, *, seed: int, expand: bool = True) -> Tensor:
    """A tensor of x's shape with random strides: permuted, sliced with steps and an offset, or expanded.

    Use it to test code against inputs and output gradients that are views: compare ``f(y)`` with
    ``f(y.contiguous())``. Unused memory between and around the values is NaN (in integer tensors, the largest
    value), so code that reads it is detected. Dimensions of size 1 get arbitrary strides.

    Args:
        x: a dense tensor.
        seed: chooses the layout.
        expand: whether one dimension may get stride 0; the result then repeats the first slice of x along it.

    Returns:
        A view with the values of x, except along an expanded dimension; without a gradient history.

    >>> y = random_layout(torch.arange(6.0).view(2, 3), seed=2)
    >>> y.stride(), y.tolist()
    ((1, 4), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*choices: int) -> int:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    x, shape = x.detach(), x.shape
    wide = [d for d in range(x.dim()) if shape[d] > 1]
    if wide and expand and draw(0, 0, 1):
        x = x.narrow(wide[draw(*range(len(wide)))], 0, 1)
    order = torch.randperm(x.dim(), generator=generator).tolist()
    steps, gaps = [draw(1, 1, 2, 3) for _ in order], [draw(0, 0, 1, 2) for _ in order]
    if x.dim() > 2 and draw(0, 0, 1):  # channels last, as convolutions return it
        order, steps, gaps = [0, *range(2, x.dim()), 1], [1] * x.dim(), [0] * x.dim()
    sizes = [x.shape[d] * step + gap for d, step, gap in zip(order, steps, gaps, strict=True)]
    offset = draw(0, 1, 5)
    if x.is_floating_point():
        fill = float("nan")
    else:
        fill = True if x.dtype == torch.bool else torch.iinfo(x.dtype).max
    view = torch.full((offset + math.prod(sizes),), fill, dtype=x.dtype, device=x.device)[offset:].view(sizes)
    for axis, (step, gap) in enumerate(zip(steps, gaps, strict=True)):
        view = view[(slice(None),) * axis + (slice(gap, None, step),)]
    view = view.permute([order.index(d) for d in range(x.dim())])
    view.copy_(x)
    strides = [draw(0, 1, *view.stride()) if n == 1 else s for n, s in zip(view.shape, view.stride(), strict=True)]
    return view.as_strided(view.shape, strides, view.storage_offset()).expand(shape)


def assert_layout_independent(
    function: Callable[..., Any], *inputs: Tensor, seeds: Sequence[int] = range(4), tolerance: float | None = None
) -> None:
    """Compare a function of strided tensors with the same function of contiguous copies.

    Inputs, and the gradients of outputs, get new strides for each seed (`random_layout`); outputs and gradients
    are compared with those of contiguous copies.

    Args:
        function: of the inputs; returns a tensor, a structure, or nested tuples of them, whose floating-point tensors
            are compared. It must be deterministic.
        *inputs: contiguous tensors; gradients are computed for the floating-point ones.
        seeds: one layout per seed.
        tolerance: relative to the largest value of each result; by default 64 rounding units of its dtype.

    Raises:
        AssertionError: two results differ; the message has the seed and the result.

    >>> assert_layout_independent(torch.mm, torch.randn(3, 4), torch.randn(4, 2))
    """
    for seed in seeds:
        strided = [random_layout(x, seed=1000 * seed + i) for i, x in enumerate(inputs)]
        found = [_outputs_and_gradients(function, tensors, seed, dense) for tensors, dense in
                 ((strided, False), ([x.contiguous() for x in strided], True))]  # fmt: skip
        for i, (got, expected) in enumerate(zip(*found, strict=True)):
            size = expected[expected.isfinite()].abs().max().item() if expected.isfinite().any() else 1.0
            limit = (64 * torch.finfo(got.dtype).eps if tolerance is None else tolerance) * max(size, 1.0)
            where = f"seed {seed}, result {i}: "
            torch.testing.assert_close(got, expected, rtol=0, atol=limit, msg=where.__add__)


def _outputs_and_gradients(
    function: Callable[..., Any], inputs: Sequence[Tensor], seed: int, dense: bool
) -> list[Tensor]:
    leaves = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs]
    out = [t for t in tensors_of(function(*leaves)) if t.is_floating_point()]
    # -inf of empty rows would make every gradient NaN; elsewhere the gradient's strides must arrive as they are.
    finite = [t if t.isfinite().all() else torch.where(t.isfinite(), t, 0.0) for t in out if t.requires_grad]
    grads = [torch.randn(t.shape, generator=torch.Generator().manual_seed(9)).to(t) for t in finite]
    grads = [random_layout(g, seed=1000 * seed + 500 + i) for i, g in enumerate(grads)]
    grads = [g.contiguous() for g in grads] if dense else grads
    wanted = [x for x in leaves if x.requires_grad]
    return [*(t.detach() for t in out), *torch.autograd.grad(finite, wanted, grads, materialize_grads=True)]


def tensors_of(result: Any) -> list[Tensor]:
    """The tensors in a tensor, a structure, or nested tuples, lists and dictionaries of them."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, Structure):
        return result.tensors()
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, (tuple, list)) else ()
    return [t for part in parts for t in tensors_of(part)]
