"""Clauses of causal layers with a decode state: one check per clause.

The first input is ``x``, [B, N, D]; the layer is called as ``layer(x, state=state)``.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError
from hgraph.testing.case import Case, clause

LENGTH = 21


@clause
def check_causality(case: Case) -> None:
    """Changing one token does not change earlier outputs, bit for bit, and changes its own."""
    module, x = _module_and_tokens(case)
    before = module(x)
    for t in (0, LENGTH // 3, LENGTH - 1):
        changed = x.clone()
        changed[:, t] += 1
        after = module(changed)
        assert torch.equal(after[:, :t], before[:, :t]), f"a change of token {t} changes earlier outputs"
        assert (after[:, t] != before[:, t]).any(), f"a change of token {t} does not change its output"


@clause
def check_tokens(case: Case) -> None:
    """Decoding token by token equals the full causal forward."""
    _check_decoding(case, range(LENGTH + 1))


@clause
def check_chunks(case: Case) -> None:
    """Decoding several tokens at a time, or none, equals the full causal forward."""
    _check_decoding(case, (0, 9, 10, 10, 11, 20, LENGTH))


@clause
def check_prompt(case: Case) -> None:
    """A state filled in inference mode can be continued outside of it."""
    module, x = _module_and_tokens(case)
    state = _state(case, module)
    with torch.inference_mode():
        outs = [module(x[:, :9], state=state)]
    with torch.no_grad():
        outs += [module(x[:, t : t + 1], state=state) for t in range(9, LENGTH)]
    _assert_whole(module, x, outs)


@clause
def check_beams(case: Case) -> None:
    """``state.reorder(index)`` continues with the chosen examples, as beam search does."""
    module, x = _module_and_tokens(case)
    state, beams = _state(case, module), torch.tensor([1, 1, 0])
    with torch.no_grad():
        module(x[:, :9], state=state)
        state.reorder(beams)
        step = module(x[beams, 9:10], state=state)
        torch.testing.assert_close(step, module(x)[beams, 9:10], rtol=1e-11, atol=1e-11, msg="beams: ".__add__)


@clause
def check_examples(case: Case) -> None:
    """A state rejects a different number of examples than it began with."""
    module, x = _module_and_tokens(case)
    state = _state(case, module)
    module(x[:, :2], state=state)
    try:
        module(x[:1, 2:3], state=state)
    except ArgumentError:
        return
    raise AssertionError("a state of 2 examples accepts 1 example")


def _check_decoding(case: Case, ends: range | tuple[int, ...]) -> None:
    module, x = _module_and_tokens(case)
    state = _state(case, module)
    outs = [module(x[:, a:b], state=state) for a, b in itertools.pairwise(ends)]
    assert len(state) == LENGTH, f"len(state) is {len(state)} after {LENGTH} tokens"
    _assert_whole(module, x, outs)


def _assert_whole(module: nn.Module, x: Tensor, outs: list[Tensor]) -> None:
    with torch.no_grad():
        found, whole = torch.cat(outs, 1), module(x)
        torch.testing.assert_close(found, whole, rtol=1e-11, atol=1e-11, msg="decoding: ".__add__)


def _module_and_tokens(case: Case) -> tuple[nn.Module, Tensor]:
    return case.module(dtype=torch.float64), case.inputs(LENGTH)[0]


def _state(case: Case, module: nn.Module) -> Any:
    assert case.state is not None, "the case of a decoder needs state="
    return case.state(module, LENGTH)


DECODER = (check_causality, check_tokens, check_chunks, check_prompt, check_beams, check_examples)
