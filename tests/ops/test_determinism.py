"""The same inputs give the same bits, forward and backward; sums do with any number of threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hgraph import Additive, Adjacency, Dot, attend, edge_softmax, propagate
from hgraph.testing import random_adjacency

# Large enough that torch splits the work among its threads; one row is a hub.
BASE = random_adjacency(3001, 2003, 40_000, seed=2)
ADJ = Adjacency.from_coo(
    target=torch.cat([BASE.target, torch.full((6000,), 17)]),
    source=torch.cat([BASE.indices, torch.arange(6000, dtype=torch.int32) % 2003]),
    num_targets=3001,
    num_sources=2003,
    duplicates="keep",
)
E, H, D = ADJ.num_edges, 4, 8


def leaf(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def propagated(reduce: str, heads: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    x, weight = leaf(2003, H * D, seed=0, dtype=dtype), leaf(E, heads, seed=1, dtype=dtype)
    out = propagate(ADJ, x, weight=weight, reduce=reduce)
    return [out, *torch.autograd.grad(out, [x, weight], leaf(*out.shape, seed=2, dtype=dtype).detach())]


def attended(score: str, dropout: float = 0.0) -> list[Tensor]:
    own = () if score == "additive" else (D,)
    a = leaf(H, D, seed=9)
    kind = {"dot": Dot(), "additive": Additive(), "vector": Additive(a)}[score]
    q, k, v, bias = (
        leaf(3001, H, *own, seed=0),
        leaf(2003, 2, *own, seed=1),
        leaf(2003, 2, D, seed=2),
        leaf(E, H, seed=3),
    )
    generator = torch.Generator().manual_seed(0)
    out, lse = attend(ADJ, q, k, v, score=kind, bias=bias, dropout=dropout, generator=generator)
    wrt = [q, k, v, bias, *([a] if score == "vector" else [])]
    weight = [leaf(*out.shape, seed=4).detach(), leaf(*lse.shape, seed=5).detach()]
    return [out, lse, *torch.autograd.grad((out, lse), wrt, weight)]


def softmaxed(grouped: bool) -> list[Tensor]:
    score = leaf(E, H, seed=0)
    out = edge_softmax(ADJ, score, group=ADJ.indices if grouped else None)
    return [out, *torch.autograd.grad(out, score, leaf(E, H, seed=1).detach())]


VERBS: dict[str, Callable[[], list[Tensor]]] = {
    "sum": lambda: propagated("sum", 1),
    "sum, heads": lambda: propagated("sum", H),
    "sum, bfloat16": lambda: propagated("sum", 1, torch.bfloat16),
    "sum, float64": lambda: propagated("sum", 1, torch.float64),
    "mean": lambda: propagated("mean", H),
    "max": lambda: propagated("max", H),
    "min": lambda: propagated("min", 1),
    "softmax": lambda: softmaxed(grouped=False),
    "softmax, groups": lambda: softmaxed(grouped=True),
    "dot": lambda: attended("dot"),
    "additive": lambda: attended("additive"),
    "vector": lambda: attended("vector"),
    "dropout": lambda: attended("dot", dropout=0.3),
}


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("verb", VERBS)
def test_repeated_runs_give_the_same_bits(verb: str, count: int, threads: None) -> None:
    torch.set_num_threads(count)
    first = VERBS[verb]()
    assert all(same(first, VERBS[verb]()) for _ in range(2))


@pytest.mark.parametrize("verb", VERBS)
def test_the_number_of_threads_does_not_change_the_bits(verb: str, threads: None) -> None:
    runs = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        runs.append(VERBS[verb]())
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])
