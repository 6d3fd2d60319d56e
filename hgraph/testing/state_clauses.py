"""Clauses of layers: state dicts, copies, initialization, determinism and caches."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch

from hgraph.testing.case import Case, clause, outputs, trainable
from hgraph.testing.compare import (
    assert_all_near,
    assert_same,
    backward,
    named_leaves,
    same_bits,
    structures_of,
    with_gradients,
)


@clause
def check_state_dict(case: Case) -> None:
    """A module that loads the state dict of another one from a file computes the same."""
    one, other, inputs = case.module(), case.module(seed=1), case.inputs(case.sizes[0], dtype=torch.float32)
    names = set(one.state_dict())
    assert not same_bits(one(*inputs), other(*inputs)), "modules with different parameters give the same output"
    assert set(one.state_dict()) == names, "a forward adds entries to the state dict"
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same(other(*inputs), one(*inputs), "after loading the state dict the output")


@clause
def check_deepcopy(case: Case) -> None:
    """A deep copy computes the same and shares no memory with the module."""
    one, inputs = case.module(), case.inputs(case.sizes[0], dtype=torch.float32)
    expected = one(*inputs)
    other = copy.deepcopy(one)
    assert_same(other(*inputs), expected, "the output of a deep copy")
    with torch.no_grad():
        for parameter in trainable(other).values():
            parameter.zero_()
    assert_same(one(*inputs), expected, "after changing a deep copy the output")


@clause
def check_reset(case: Case) -> None:
    """``reset_parameters()`` initializes every parameter."""
    module = case.build()
    reset = getattr(module, "reset_parameters", None)
    assert callable(reset), "the module has no reset_parameters()"
    with torch.no_grad():
        for parameter in trainable(module).values():
            parameter.fill_(7.0)
    reset()
    for name, parameter in trainable(module).items():
        assert not (parameter == 7.0).any(), f"reset_parameters() leaves {name} as it was"


@clause
def check_determinism(case: Case) -> None:
    """The same inputs and seed give the same bits in training, forward and backward."""
    runs = []
    for _ in range(2):
        module = case.module(training=True)
        inputs = with_gradients(case.inputs(case.sizes[2], dtype=torch.float32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            out = module(*inputs)
        backward(out, inputs, module)
        runs.append([*outputs(out), *(leaf.grad for _, leaf in named_leaves(inputs, module) if leaf.grad is not None)])
    assert_same(runs[1], runs[0], "the second result of the same inputs")


@clause
def check_inference_mode(case: Case) -> None:
    """Values cached in inference mode can be used in training."""
    module, inputs = case.module(), case.inputs(2 * case.sizes[2], dtype=torch.float32)  # a size that no clause uses
    with torch.inference_mode():
        before = module(*inputs)
    inputs = with_gradients(inputs)
    out = module(*inputs)
    backward(out, inputs, module)
    assert_all_near(out, before, 1e-5, "the output after inference mode")
    backward(module.train()(*inputs), inputs, module)


@clause
def check_caches(case: Case) -> None:
    """Cached values are not used for another structure, nor for the same one after its weights change in place.

    Use a case with weighted structures: without weights, only the first half is checked.
    """
    module, n = case.module(), case.sizes[1]
    inputs = [case.inputs(n, seed=seed, dtype=torch.float32) for seed in range(1, 9)]
    assert any(structures_of(x) for x in inputs[0]), "no structure is among the inputs"
    # the tensors of the first inputs, with the structures of all inputs
    mixed = [tuple(b if structures_of(b) else a for a, b in zip(inputs[0], other, strict=True)) for other in inputs]
    first = [module(*one) for one in mixed]
    assert not same_bits(first[0], first[1]), "different structures give the same output"
    for at in reversed(range(len(mixed))):
        assert_same(module(*mixed[at]), first[at], "the output for a structure seen before")
        assert_same(module(*copy.deepcopy(mixed[at])), first[at], "the output for a copy of a structure")
    alive = [module(*_with_structures_of(case, inputs[0], seed)) for seed in range(1, 9)]  # memory is reused
    assert_same(alive, first, "the output for structures that die after use")
    weights = [t for x in mixed[0] for s in structures_of(x) for t in s.tensors() if t.is_floating_point()]
    for weight in weights:
        weight.mul_(torch.linspace(0.5, 2.0, len(weight)) if weight.dim() == 1 else 0.5)
    expected = module(*copy.deepcopy(mixed[0]))
    assert_same(module(*mixed[0]), expected, "the output after changing weights in place")


def _with_structures_of(case: Case, inputs: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    other = case.inputs(case.sizes[1], seed=seed, dtype=torch.float32)
    return tuple(b if structures_of(b) else a for a, b in zip(inputs, other, strict=True))
