"""The verbs under torch.compile and autocast, and without reading numbers of tensors from Python."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hgraph import Additive, Adjacency, attend, edge_score, edge_softmax, merge, propagate
from hgraph.testing import random_adjacency

VERBS = {
    "propagate": lambda adj, x, y: propagate(adj, x.flatten(1)),
    "mean": lambda adj, x, y: propagate(adj, x.flatten(1), reduce="mean"),
    "max": lambda adj, x, y: propagate(adj, x.flatten(1), reduce="max"),
    "heads": lambda adj, x, y: propagate(adj, x.flatten(1), weight=edge_score(adj, y, x)),
    "edge_score": lambda adj, x, y: edge_score(adj, y, x),
    "edge_softmax": lambda adj, x, y: edge_softmax(adj, edge_score(adj, y, x)),
    "attend": lambda adj, x, y: attend(adj, y, x, x).out,
    "attend additive": lambda adj, x, y: attend(adj, y[..., 0], x[..., 0], x, score=Additive()).out,
    "attend GATv2": lambda adj, x, y: attend(adj, y, x, x, score=Additive(y[:2, 0].new_ones(2, 3))).out,
    "merge": lambda adj, x, y: merge(attend(adj, y, x, x), attend(adj, y, 2 * x, x)).out,
}


def numbers(n: int, seed: int) -> Tensor:
    return torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def case(kind: str, size: int) -> tuple[Adjacency, Tensor, Tensor]:
    targets, sources = (size, size) if kind == "square" else (size + 4, size)
    adj = random_adjacency(targets, sources, 3 * size, seed=size, weighted=kind == "weighted")
    if kind == "int64":
        adj = Adjacency(**{k: None if t is None else t.long() for k, t in vars(adj).items()})
    return adj, numbers(sources, 1), numbers(targets, 2)


def agree(compiled, verb, adj: Adjacency, x: Tensor, y: Tensor, **tolerance: float) -> None:
    out, expected = compiled(adj, x, y), verb(adj, x, y)
    torch.testing.assert_close(out, expected, **tolerance)
    grads = [torch.autograd.grad(o.square().sum(), [x, y], allow_unused=True) for o in (out, expected)]
    torch.testing.assert_close(*grads, **tolerance)


@pytest.mark.parametrize("kind", ["rectangular", "square", "weighted", "int64"])
@pytest.mark.parametrize("name", VERBS)
def test_compiles_once_for_all_sizes(name: str, kind: str) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(VERBS[name], fullgraph=True, dynamic=True, backend=counter)
    frames = []
    for size in (9, 14, 23):
        agree(compiled, VERBS[name], *case(kind, size))
        frames.append(counter.frame_count)
    assert frames == frames[:1] * 3


@pytest.mark.parametrize("name", VERBS)
def test_empty_structures_compile(name: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(VERBS[name], fullgraph=True, dynamic=True, backend="aot_eager")
    none = Adjacency.from_coo(target=[], source=[], num_targets=3, num_sources=4)
    agree(compiled, VERBS[name], none, numbers(4, 1), numbers(3, 2))


@pytest.mark.parametrize("name", ["propagate", "max", "attend"])
def test_inductor(name: str) -> None:
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("inductor needs a C++ compiler, there is none")
    torch._dynamo.reset()
    compiled = torch.compile(VERBS[name], fullgraph=True, dynamic=True)
    for size in (9, 14):
        agree(compiled, VERBS[name], *case("rectangular", size), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", VERBS)
def test_autocast_changes_no_verb(name: str, dtype: torch.dtype) -> None:
    """Verbs compute in the precision of their inputs, which a linear layer before them determines."""
    adj, x, y = case("weighted", 12)
    with torch.autocast("cpu", dtype):
        full = VERBS[name](adj, x, y)
        half = VERBS[name](adj, x.to(dtype), y.to(dtype))
    exact = VERBS[name](adj, x, y)
    assert full.dtype == torch.float32
    torch.testing.assert_close(full, exact, rtol=0, atol=0)
    size = exact.detach().abs().max()
    assert (half.float() - exact).abs().max() <= 32 * torch.finfo(dtype).eps * max(float(size), 1.0)
    half.float().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


class NoReads(TorchDispatchMode):
    """Raises an error if Python reads a number of a tensor, or a shape that depends on one, which syncs with a GPU."""

    REFUSED = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "equal.default")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(word in str(func) for word in self.REFUSED):
            raise AssertionError(f"{func} looks at numbers")
        return func(*args, **(kwargs or {}))


def test_the_watch_works() -> None:
    with NoReads(), pytest.raises(AssertionError, match="looks"):
        torch.ones(3).sum().item()


@pytest.mark.parametrize("name", VERBS)
def test_no_number_is_read_forward_or_backward(name: str) -> None:
    adj, x, y = case("weighted", 12)
    with NoReads():
        out = VERBS[name](adj, x, y)
        torch.autograd.grad(out.square().sum(), [x, y], allow_unused=True)
