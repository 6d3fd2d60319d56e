"""First and second derivatives of every verb, in every floating input, against finite differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from hgraph import (
    Additive,
    Adjacency,
    Dot,
    SoftAdjacency,
    attend,
    attention_weights,
    edge_score,
    edge_softmax,
    propagate,
)
from hgraph.testing import degenerate_adjacencies, random_adjacency

STRUCTURES = degenerate_adjacencies()
STRUCTURES["hub"] = Adjacency.from_coo(target=[0] * 9 + [1, 3], source=[*range(9), 0, 4], num_targets=4, num_sources=9)
STRUCTURES["late_hub"] = Adjacency.from_coo(
    target=[0, 1] + [2] * 9 + [3], source=[4, 4, *range(9), 4], num_targets=4, num_sources=9
)
STRUCTURES["odd"] = random_adjacency(5, 4, 12, seed=3)
KINDS = ["dot", "additive", "vector"]
H, D, V = 2, 2, 1
INF = float("inf")


def leaf(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def check(function: Callable[..., Tensor | tuple[Tensor, ...]], *inputs: Tensor) -> None:
    """Check every entry of both derivatives for small inputs, random directions for large ones."""
    if not any(t.numel() for t in inputs):  # no entries to check, but the backward must run
        outputs = function(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        grads = torch.autograd.grad(
            [o for o in outputs if o.requires_grad], inputs, [torch.ones_like(o) for o in outputs if o.requires_grad]
        )
        assert all(g.shape == t.shape for g, t in zip(grads, inputs, strict=True))
        return
    empty = any(t.numel() == 0 for t in inputs)  # torch's random directions fail for empty inputs
    fast = not empty and sum(t.numel() for t in inputs) > 24
    assert gradcheck(function, inputs, nondet_tol=0, fast_mode=fast)
    assert gradgradcheck(function, inputs, nondet_tol=0, fast_mode=not empty)


def finite(lse: Tensor) -> Tensor:
    return lse.masked_fill(lse == -INF, 0.0)


@pytest.mark.parametrize("heads", [None, 0, 2])
@pytest.mark.parametrize(
    ("name", "reduce"), [*itertools.product(STRUCTURES, ["sum", "mean", "max"]), ("odd", "min"), ("duplicates", "min")]
)
def test_propagate(name: str, reduce: str, heads: int | None) -> None:
    adj = STRUCTURES[name]
    x = leaf(adj.num_sources, 4, seed=0)
    if heads is None:
        check(lambda x: propagate(adj, x, reduce=reduce), x)
    else:
        weight = leaf(adj.num_edges, *([heads] if heads else []), seed=1)
        check(lambda x, w: propagate(adj, x, weight=w, reduce=reduce), x, weight)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
def test_propagate_batches(reduce: str) -> None:
    adj = STRUCTURES["odd"]
    check(lambda x, w: propagate(adj, x, weight=w, reduce=reduce), leaf(2, 2, 4, 2, seed=0), leaf(12, 2, seed=1))


def test_propagate_in_the_structures_own_weights() -> None:
    adj = STRUCTURES["odd"]
    check(lambda x, w: propagate(adj.with_weight(w), x), leaf(4, 2, seed=0), leaf(12, seed=1))
    check(lambda x, w: propagate(adj.with_weight(w).normalize("row"), x), leaf(4, 2, seed=0), leaf(12, seed=1).exp())


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_propagate_over_a_soft_structure(reduce: str) -> None:
    run = lambda x, w: propagate(SoftAdjacency.from_weight(w), x, reduce=reduce)  # noqa: E731
    check(run, leaf(2, 4, 3, seed=0), leaf(2, 5, 4, seed=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STRUCTURES)
def test_edge_score(name: str, kind: str) -> None:
    adj = STRUCTURES[name]
    own = () if kind == "additive" else (D,)
    q, k = leaf(adj.num_targets, H, *own, seed=0), leaf(adj.num_sources, H, *own, seed=1)
    if kind == "vector":
        check(lambda q, k, a: edge_score(adj, q, k, score=Additive(a)), q, k, leaf(H, D, seed=2))
    else:
        check(lambda q, k: edge_score(adj, q, k, score=Dot() if kind == "dot" else Additive()), q, k)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", STRUCTURES)
def test_edge_softmax(name: str, grouped: bool) -> None:
    adj = STRUCTURES[name]
    group = (adj.indices + 3 * (adj.target % 2)) if grouped else None
    masked = torch.arange(adj.num_edges) % 4 == 1
    masked |= adj.target == 3
    check(lambda s: edge_softmax(adj, s, group=group), leaf(adj.num_edges, seed=0))
    check(
        lambda s: edge_softmax(adj, s.masked_fill(masked.unsqueeze(1), -INF), group=group),
        leaf(adj.num_edges, H, seed=0),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STRUCTURES)
def test_attend(name: str, kind: str) -> None:
    """In q, k, v, bias and a, through the output and the lse; a masked edge and a masked target included."""
    adj = STRUCTURES[name]
    own = () if kind == "additive" else (D,)
    q, k, v = (
        leaf(adj.num_targets, H, *own, seed=0),
        leaf(adj.num_sources, 1, *own, seed=1),
        leaf(adj.num_sources, 1, V, seed=2),
    )
    bias = leaf(adj.num_edges, H, seed=3)
    masked = ((adj.target == 3) | (torch.arange(adj.num_edges) == 1)).unsqueeze(1)
    vector = [leaf(H, D, seed=4)] if kind == "vector" else []

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, *a: Tensor) -> tuple[Tensor, Tensor]:
        score = Dot() if kind == "dot" else Additive(*a)
        out, lse = attend(adj, q, k, v, score=score, bias=bias.masked_fill(masked, -INF), scale=0.6)
        return out, finite(lse)

    check(run, q, k, v, bias, *vector)


@pytest.mark.parametrize("kind", KINDS)
def test_attend_batches_masks_and_dropout(kind: str) -> None:
    adj = STRUCTURES["odd"]
    own = () if kind == "additive" else (D,)
    q, k, v = leaf(2, 5, 2, *own, seed=0), leaf(2, 4, 1, *own, seed=1), leaf(2, 4, 1, V, seed=2)
    bias, vector = leaf(12, seed=3), [leaf(H, D, seed=4)] if kind == "vector" else []
    mask = torch.tensor([[True, False], [True, True], [False, True], [True, True], [True, True]])

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, *a: Tensor) -> tuple[Tensor, Tensor]:
        score = Dot() if kind == "dot" else Additive(*a)
        generator = torch.Generator().manual_seed(0)
        out, lse = attend(adj, q, k, v, score=score, bias=bias, dropout=0.3, generator=generator, head_mask=mask)
        return out, finite(lse)

    check(run, q, k, v, bias, *vector)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STRUCTURES)
def test_attention_weights(name: str, kind: str) -> None:
    adj = STRUCTURES[name]
    own = () if kind == "additive" else (D,)
    q, k = leaf(adj.num_targets, H, *own, seed=0), leaf(adj.num_sources, 1, *own, seed=1)
    lse, bias = leaf(adj.num_targets, H, seed=2), leaf(adj.num_edges, seed=3)
    unheard = torch.zeros(adj.num_targets, H, dtype=torch.bool)
    unheard[1:2, 0] = True
    vector = [leaf(H, D, seed=4)] if kind == "vector" else []

    def run(q: Tensor, k: Tensor, lse: Tensor, bias: Tensor, *a: Tensor) -> Tensor:
        score = Dot() if kind == "dot" else Additive(*a)
        return attention_weights(adj, q, k, lse.masked_fill(unheard, -INF), score=score, bias=bias)

    check(run, q, k, lse, bias, *vector)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_weights_through_the_lse_are_those_of_the_softmax(kind: str) -> None:
    adj = STRUCTURES["odd"]
    own = () if kind == "additive" else (D,)
    q, k, v = leaf(5, H, *own, seed=0), leaf(4, H, *own, seed=1), leaf(4, H, V, seed=2)
    score = {"dot": Dot(), "additive": Additive(), "vector": Additive(leaf(H, D, seed=4))}[kind]
    scale = D**-0.5 if kind == "dot" else 1.0
    probability = attention_weights(adj, q, k, attend(adj, q, k, v, score=score).lse, score=score)
    wanted = edge_softmax(adj, scale * edge_score(adj, q, k, score=score))
    torch.testing.assert_close(probability, wanted, rtol=1e-13, atol=1e-13)
    weight = leaf(12, H, seed=5).detach()
    grads = [torch.autograd.grad(s, [q, k], weight) for s in (probability, wanted)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_an_unused_lse_and_an_unused_output_are_fine() -> None:
    adj = STRUCTURES["odd"]
    q, k, v = leaf(5, H, D, seed=0), leaf(4, H, D, seed=1), leaf(4, H, V, seed=2)
    out, lse = attend(adj, q, k, v)
    both = torch.autograd.grad(out.sum() + lse.exp().sum(), [q, k], retain_graph=True)
    one = torch.autograd.grad(out.sum(), [q, k], retain_graph=True)
    other = torch.autograd.grad(lse.exp().sum(), [q, k])
    for a, b, c in zip(both, one, other, strict=True):
        torch.testing.assert_close(a, b + c, rtol=1e-12, atol=1e-13)


class Sizes(TorchDispatchMode):
    """Records the number of elements of each result of hgraph's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.namespace == "hgraph":
            self.found[func.name()] = [t.numel() for t in (out if isinstance(out, tuple) else (out,))]
        return out


@pytest.mark.parametrize("asking", ["x", "weight", "both"])
def test_gradients_of_an_extremum_only_for_inputs_that_need_them(asking: str) -> None:
    adj = STRUCTURES["odd"]
    x, weight = leaf(2, 4, 2, seed=0), leaf(12, 2, seed=1)
    everything = torch.autograd.grad(propagate(adj, x, weight=weight, reduce="max").square().sum(), (x, weight))
    own = x.detach().requires_grad_(asking != "weight"), weight.detach().requires_grad_(asking != "x")
    with Sizes() as sizes:
        propagate(adj, own[0], weight=own[1], reduce="max").square().sum().backward()
    assert sizes.found["hgraph::extremum_grads"] == [16 * (asking != "weight"), 24 * (asking != "x")]
    for mine, wanted in zip(own, everything, strict=True):
        assert (mine.grad is not None) == mine.requires_grad
        assert mine.grad is None or torch.equal(mine.grad, wanted)


def test_only_inputs_that_require_gradients_get_them() -> None:
    adj = STRUCTURES["odd"]
    x, weight = leaf(4, 2, seed=0), leaf(12, seed=1)
    for reduce in ("sum", "mean", "max"):
        propagate(adj, x.detach(), weight=weight, reduce=reduce).sum().backward()
        propagate(adj, x, weight=weight.detach(), reduce=reduce).sum().backward()
        assert not propagate(adj, x.detach(), weight=weight.detach(), reduce=reduce).requires_grad
    only = [torch.autograd.grad(attend(adj, *args).out.square().sum(), args[i])[0] for i in range(3)
            for args in [[t.detach().requires_grad_(i == j) for j, t in enumerate(
                (leaf(5, H, D, seed=0), leaf(4, H, D, seed=1), leaf(4, H, V, seed=2)))]]]  # fmt: skip
    every = [leaf(5, H, D, seed=0), leaf(4, H, D, seed=1), leaf(4, H, V, seed=2)]
    together = torch.autograd.grad(attend(adj, *every).out.square().sum(), every)
    assert all(torch.equal(a, b) for a, b in zip(only, together, strict=True))


@pytest.mark.parametrize("value", [float("-inf"), float("nan"), float("inf")])
@pytest.mark.parametrize("second", [False, True])
def test_entries_that_are_not_extremal_have_no_influence(value: float, second: bool) -> None:
    """Gradients of the extremal entries do not contain the others, not even multiplied by 0."""
    adj = Adjacency.from_coo(target=[0, 0, 1], source=[0, 1, 2], num_targets=2, num_sources=3)
    x = torch.tensor([[value], [1.0], [2.0]], requires_grad=True)
    weight = torch.ones(3, requires_grad=True)
    reduce = "min" if value > 0 else "max"
    out = propagate(adj, x, weight=weight, reduce=reduce)
    if math.isnan(value):
        assert out[0].isnan()  # NaN is the maximum, and no entry ties with it
    grads = torch.autograd.grad(
        out[1].sum() + (0.0 if math.isnan(value) else out[0].sum()), (x, weight), create_graph=second
    )
    won = [0.0, 0.0 if math.isnan(value) else 1.0, 1.0]
    assert grads[0].flatten().tolist() == won
    assert grads[1].tolist() == [0.0, won[1], 2.0]


def test_fixed_weights_of_two_structures_are_not_confused():
    """Weights in the order of the transpose are cached by tensor: another structure has another order."""
    one, other = (random_adjacency(6, 6, 20, seed=seed) for seed in (1, 2))
    weight = torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for adj in (one, other, one):
        x = torch.zeros(6, 2, dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(propagate(adj, x, weight=weight).sum(), x)
        expected = adj.with_weight(weight).dense().sum(0).unsqueeze(1).expand(6, 2)
        torch.testing.assert_close(grad, expected)
