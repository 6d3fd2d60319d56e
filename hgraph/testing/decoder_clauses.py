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
def check_reorder(case: Case) -> None:
    """After ``state.reorder(index)`` the layer continues as if the reordered batch had been decoded from the start."""
    module, x = _module_and_tokens(case)
    for index in (torch.tensor([1, 1, 0]), torch.tensor([1])):
        state = _state(case, module)
        with torch.no_grad():
            module(x[:, :9], state=state)
            state.reorder(index)
            steps = [module(x[index, a:b], state=state) for a, b in ((9, 10), (10, 14), (14, LENGTH))]
            found, whole = torch.cat(steps, 1), module(x)[index, 9:]
        torch.testing.assert_close(found, whole, rtol=1e-11, atol=1e-11, msg="reorder: ".__add__)


@clause
def check_reset_state(case: Case) -> None:
    """After ``state.reset()`` a state equals a new one, for another number of examples too."""
    module, x = _module_and_tokens(case)
    state, new = _state(case, module), _state(case, module)
    with torch.no_grad():
        module(x[:, :9], state=state)
        state.reset()
        assert len(state) == 0, f"len(state) is {len(state)} after reset()"
        ours, theirs = ([module(x[:1, a:b], state=s) for a, b in ((0, 6), (6, 7), (7, 12))] for s in (state, new))
    assert torch.equal(torch.cat(ours, 1), torch.cat(theirs, 1)), "after reset() a state differs from a new one"


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


DECODER = (check_causality, check_tokens, check_chunks, check_prompt, check_reorder, check_reset_state, check_examples)
