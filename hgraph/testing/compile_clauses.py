"""Clauses of layers: torch.compile."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from hgraph.testing.case import Case, clause
from hgraph.testing.compare import (
    assert_all_near,
    backward,
    named_leaves,
    with_gradients,
)


@clause
def check_compile(case: Case) -> None:
    """`torch.compile` makes one graph without breaks, with the values of eager mode."""
    _frames(case)


@clause
def check_recompile(case: Case) -> None:
    """The graph of the first size is used for all sizes."""
    frames = _frames(case)
    assert frames[0] > 0, "nothing was compiled: is the compiler switched off?"
    assert frames == frames[:1] * len(frames), f"compiled for each size: {frames} graphs after sizes {case.sizes}"


@functools.cache
def _frames(case: Case) -> list[int]:
    """Compiled graphs after each size."""
    module, frames = case.module(), []
    with _compiled(module) as (compiled, counter), torch.no_grad():
        for n in case.sizes[: 2 if "recompile" in case.without else 3]:
            inputs = case.inputs(n, seed=n, dtype=torch.float32)
            assert_all_near(compiled(*inputs), module(*inputs), 2e-5, f"the compiled module, size {n}")
            frames.append(counter.frame_count)
    return frames


@clause
def check_compile_gradients(case: Case) -> None:
    """With gradients the compiled module has the values and gradients of eager mode."""
    _assert_compiled_alike(case, "aot_eager")


@clause
def check_inductor(case: Case) -> None:
    """With inductor, torch's default backend, the module has the values and gradients of eager mode.

    It takes ten times as long as the other clauses and is not in `hgraph.testing.contracts.LAYER`.
    """
    _assert_compiled_alike(case, "inductor")


def _assert_compiled_alike(case: Case, backend: str) -> None:
    module, outs, grads = case.module(), [], []
    with _compiled(module, backend) as (compiled, _):
        for function in (compiled, module):
            inputs = with_gradients(case.inputs(case.sizes[1], dtype=torch.float32))
            outs.append(function(*inputs))
            backward(outs[-1], inputs, module)
            grads.append([leaf.grad for _, leaf in named_leaves(inputs, module) if leaf.grad is not None])
    assert_all_near(outs[0], outs[1], 2e-5, "the compiled module with gradients")
    # where terms cancel, the rounding error of the largest gradient remains
    one, other = (torch.cat([g.flatten() for g in gs]) for gs in grads)
    assert_all_near(one, other, 2e-5, "gradients of the compiled module")


@contextlib.contextmanager
def _compiled(module: nn.Module, backend: str = "aot_eager") -> Iterator[tuple[Callable[..., Any], Any]]:
    """The compiled module and a counter of its graphs; no compiled code remains afterwards."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    try:
        yield torch.compile(module, fullgraph=True, dynamic=True, backend=counter), counter
    finally:
        torch._dynamo.reset()
