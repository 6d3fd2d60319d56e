"""Function transforms: tangents raise an error instead of being lost; `vmap` equals a loop over examples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from hgraph import Additive, Adjacency, Affine, Memory, attend, edge_score, edge_softmax, errors, propagate, scan
from hgraph.testing import random_adjacency

ADJ = random_adjacency(5, 4, 12, seed=3)
REFUSED = r"operator inputs: expected tensors without forward-mode tangents.*autograd.functional.jvp"


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Irregular numbers without a generator, which `vmap` does not support."""
    return (torch.arange(math.prod(shape)) * (seed + 2.3)).sin().view(shape)


def over(adj: Adjacency, verb: str, x: Tensor) -> Tensor:
    """A verb as a function of x [S, 2, 3]."""
    y, flat = numbers(adj.num_targets, 2, 3, seed=1), x.flatten(1)
    if verb in ("sum", "mean", "max", "min"):
        return propagate(adj, flat, reduce=verb)
    if verb == "weights":
        return propagate(adj, numbers(adj.num_sources, 6, seed=2), weight=x.sum((0, 1, 2)).expand(adj.num_edges))
    if verb == "edge_score":
        return edge_score(adj, y, x)
    if verb == "edge_score, vector":
        return edge_score(adj, y, x, score=Additive(numbers(2, 3, seed=3)))
    if verb == "edge_softmax":
        return edge_softmax(adj, flat[:, :1].sum() * numbers(adj.num_edges, seed=2))
    if verb == "attend":
        return attend(adj, y, x, x).out
    if verb == "affine scan":
        return scan(Affine("scalar"), (numbers(len(x), seed=2), flat)).states
    assert verb == "memory scan"
    return scan(Memory(), (flat, flat, flat, None)).states


VERBS = ["sum", "mean", "max", "min", "weights", "edge_score", "edge_score, vector", "edge_softmax", "attend",
         "affine scan", "memory scan"]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_activation_checkpointing_gives_the_same_gradients(verb: str) -> None:
    """Checkpointing lets a backward read saved tensors only once."""
    x = numbers(4, 2, 3).requires_grad_()
    run = lambda x: over(ADJ, verb, x).sin().sum()  # noqa: E731
    (want,) = torch.autograd.grad(run(x), x)
    (got,) = torch.autograd.grad(checkpoint(run, x, use_reentrant=False), x)
    assert torch.equal(got, want)


@pytest.mark.parametrize("verb", VERBS)
def test_tangents_are_refused_where_they_would_be_lost(verb: str) -> None:
    x = numbers(4, 2, 3)
    run = lambda x: over(ADJ, verb, x)  # noqa: E731
    with pytest.raises(errors.ArgumentTypeError, match=REFUSED):
        torch.func.jvp(run, (x,), (torch.ones_like(x),))
    for needs in (False, True):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x.clone().requires_grad_(needs), torch.ones_like(x))
            with pytest.raises(errors.ArgumentTypeError, match=REFUSED):
                run(dual)
            with torch.no_grad(), pytest.raises(errors.ArgumentTypeError, match=REFUSED):
                run(dual)
            with FlopCounterMode(display=False), pytest.raises(errors.ArgumentTypeError, match=REFUSED):
                run(dual)
            assert run(x).isfinite().all()  # an open level alone raises no error
            with FlopCounterMode(display=False):
                assert run(x).isfinite().all()


@pytest.mark.parametrize("verb", VERBS)
def test_going_backward_twice_gives_the_derivative_along_a_direction(verb: str) -> None:
    x, way = numbers(4, 2, 3), numbers(4, 2, 3, seed=5)
    run = lambda x: over(ADJ, verb, x)  # noqa: E731
    _, found = torch.autograd.functional.jvp(run, x, way)
    whole = torch.autograd.functional.jacobian(run, x)
    torch.testing.assert_close(found, (whole * way).sum((-3, -2, -1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("verb", VERBS)
def test_vmap_is_a_loop_over_examples(verb: str) -> None:
    x = numbers(3, 4, 2, 3)
    run = lambda x: over(ADJ, verb, x)  # noqa: E731
    torch.testing.assert_close(torch.func.vmap(run)(x), torch.stack([run(one) for one in x]))
    grads = torch.func.vmap(torch.func.grad(lambda x: run(x).square().sum()))(x)
    wanted = torch.stack([torch.func.grad(lambda x: run(x).square().sum())(one) for one in x])
    torch.testing.assert_close(grads, wanted)
