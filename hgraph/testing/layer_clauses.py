"""Clauses of layers: outputs, gradients, batches and symmetry."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from hgraph.testing.case import Case, as_function, clause, is_floating, map_floating, outputs, scalar
from hgraph.testing.compare import (
    assert_all_near,
    named_leaves,
    structures_of,
    with_gradients,
)
from hgraph.testing.layouts import assert_layout_independent
from hgraph.testing.relabel import relabel

# ---------------------------------------------------------------------- outputs and sizes


@clause
def check_output(case: Case) -> None:
    """Outputs have the expected shape and the dtype of the inputs, and are finite."""
    for dtype in (torch.float32, torch.float64):
        inputs = case.inputs(case.sizes[0], dtype=dtype)
        _check_output(case, inputs, case.module(dtype=dtype)(*inputs), dtype)


@clause
def check_empty(case: Case) -> None:
    """A structure without nodes, or a sequence without tokens, gives an empty output, forward and backward."""
    _check_size(case, 0)


@clause
def check_single(case: Case) -> None:
    """One node or token gives finite outputs and gradients."""
    _check_size(case, 1)


def _check_size(case: Case, n: int) -> None:
    module, inputs = case.module(), with_gradients(case.inputs(n, dtype=torch.float32))
    out = module(*inputs)
    _check_output(case, inputs, out, torch.float32)
    loss = sum(t.sum() for t in outputs(out))  # a mean over nothing would be NaN
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()
    for name, leaf in named_leaves(inputs, module):
        if leaf.grad is not None:
            assert leaf.grad.isfinite().all(), f"n = {n}: the gradient of {name} is not finite"


def _check_output(case: Case, inputs: tuple[Any, ...], result: Any, dtype: torch.dtype) -> None:
    found = outputs(result)
    assert found, "the module returns no floating-point tensor"
    shape = list(found[0].shape)
    if case.shape is None:
        expected = [*inputs[0].shape[:-1], shape[-1] if shape else 1]
    else:
        expected = list(case.shape(*inputs))
    assert shape == expected, f"expected an output of shape {expected}, got {shape}"
    for at, out in enumerate(found):
        assert out.dtype == dtype, f"output {at}: expected {dtype}, the dtype of the inputs, got {out.dtype}"
        assert out.isfinite().all(), f"output {at} is not finite"


# ---------------------------------------------------------------------- gradients


@clause
def check_gradients(case: Case) -> None:
    """Gradients of inputs and parameters match finite differences, in float64."""
    _check_by_differences(case, torch.autograd.gradcheck)


@clause
def check_second_gradients(case: Case) -> None:
    """Second-order gradients match finite differences, in float64."""
    _check_by_differences(case, torch.autograd.gradgradcheck)


def _check_by_differences(case: Case, check: Callable[..., bool]) -> None:
    call, leaves = as_function(case.module(dtype=torch.float64), case.inputs(4, seed=1))
    try:
        check(call, tuple(leaf.requires_grad_() for leaf in leaves), fast_mode=True)
    except GradcheckError as error:
        raise AssertionError(f"gradients differ from finite differences: {error}") from error


@clause
def check_parameter_gradients(case: Case) -> None:
    """Every parameter and every floating-point input gets a gradient that is not 0."""
    module, inputs = case.module(), with_gradients(case.inputs(case.sizes[1], dtype=torch.float32))
    scalar(module(*inputs)).backward()
    for name, leaf in named_leaves(inputs, module):
        assert leaf.grad is not None, f"{name} gets no gradient"
        assert leaf.grad.abs().sum() > 0, f"the gradient of {name} is 0"


@clause
def check_layouts(case: Case) -> None:
    """Strides of inputs, parameters and output gradients do not change outputs or gradients.

    Parameters of torch's batch norm stay contiguous: torch assumes so. Dropout is off: torch draws its
    masks in memory order.
    """
    whole = case.inputs(4, seed=1)
    first = _first(whole, slice(1)) if case.batched else whole
    for training, inputs, seeds in ((False, whole, (0, 1)), (True, whole, (2, 3)), (True, first, (4, 5))):
        module = _without_dropout(case.module(dtype=torch.float64, training=training))
        fresh = functools.partial(_forward_of_a_copy, module)
        _, leaves = as_function(module, inputs, _batch_norm(module))
        assert_layout_independent(functools.partial(fresh, inputs), *leaves, seeds=seeds, tolerance=1e-11)


def _forward_of_a_copy(module: nn.Module, inputs: tuple[Any, ...], *leaves: Tensor) -> tuple[Tensor, ...]:
    """Runs on a copy, because a forward in training may change buffers."""
    return as_function(copy.deepcopy(module), inputs, _batch_norm(module))[0](*leaves)


def _without_dropout(module: nn.Module) -> nn.Module:
    for part in module.modules():
        for name in ("p", "dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    return module


def _batch_norm(module: nn.Module) -> set[str]:
    """Names of the parameters of batch norms."""
    norms = {name: m for name, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    return {f"{name}.{parameter}".lstrip(".") for name, m in norms.items() for parameter, _ in m.named_parameters()}


# ---------------------------------------------------------------------- batches and symmetry


@clause
def check_batch(case: Case) -> None:
    """The output for a batch equals that of its examples one by one; a batch may be empty."""
    module, n = case.module(dtype=torch.float64), case.sizes[0]
    inputs = case.inputs(n)
    if case.batched:
        count = next(len(x) for x in inputs if isinstance(x, Tensor))
        examples = [_first(inputs, slice(b, b + 1)) for b in range(count)]
        singles = [torch.cat(outs) for outs in zip(*(outputs(module(*one)) for one in examples), strict=True)]
        assert_all_near(outputs(module(*inputs)), singles, 1e-10, "a batch")
        empty = _first(inputs, slice(0, 0))
    else:
        # the tensors of several seeds, with the structures of one seed
        others = [case.inputs(n, seed=seed) for seed in range(6)]
        examples = [tuple(a if is_floating(a) else b for a, b in zip(x, inputs, strict=True)) for x in others]
        singles = [torch.stack(outs) for outs in zip(*(outputs(module(*one)) for one in examples), strict=True)]
        for shape in ((6,), (3, 2), (1,)):
            count = math.prod(shape)
            columns = zip(*examples[:count], strict=True)
            batch = tuple(torch.stack(xs).unflatten(0, shape) if is_floating(xs[0]) else xs[0] for xs in columns)
            found = [out.flatten(0, len(shape) - 1) for out in outputs(module(*batch))]
            assert_all_near(found, [out[:count] for out in singles], 1e-10, f"a batch of shape {list(shape)}")
        empty = map_floating(inputs, lambda x: x.new_zeros(0, *x.shape))
    for at, out in enumerate(outputs(module(*empty))):
        assert out.shape[0] == 0, f"output {at} of an empty batch has the shape {list(out.shape)}"


def _first(inputs: tuple[Any, ...], examples: slice) -> tuple[Any, ...]:
    return tuple(x[examples] if isinstance(x, Tensor) else x for x in inputs)


@clause
def check_permutation(case: Case) -> None:
    """Renumbered nodes get the same rows.

    Nodes are dimension -2 of floating-point tensors and dimension -1 of masks.
    """
    n = case.sizes[1]
    module, inputs = case.module(dtype=torch.float64), case.inputs(n)
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(n, generator=generator)

    def moved(x: Any) -> Any:
        if isinstance(x, Tensor):
            dim = -2 if x.is_floating_point() else -1
            return torch.empty_like(x).index_copy(dim, order, x) if x.dim() > 1 and x.shape[dim] == n else x
        if not structures_of(x):
            return x
        count = getattr(x, "num_hyperedges", 0)
        return relabel(x, order, torch.randperm(count, generator=generator) if count else None)

    found = [out.index_select(-2, order) for out in outputs(module(*map(moved, inputs)))]
    assert_all_near(found, module(*inputs), 1e-11, "permuted nodes")
