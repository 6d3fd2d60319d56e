"""Saved tensors, temporary memory, and no reads of uninitialized memory."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hgraph import (
    Additive,
    Dot,
    attend,
    attention_weights,
    edge_score,
    edge_softmax,
    keep_freed_memory,
    merge,
    propagate,
)
from hgraph.ops.sparse.linear import CHUNK_NUMBERS
from hgraph.testing import degenerate_adjacencies, random_adjacency

STRUCTURES = degenerate_adjacencies()
INF = float("inf")

# E x D is 33 times T D + S D + E H, and twelve chunks.
T, S, E, H, D = 37, 41, 25_000, 2, 64
LARGE = random_adjacency(T, S, E, seed=1)
ALLOWED = T * H * D + S * H * D + E * H


def leaf(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()


def attention(score: str, **options: object) -> Callable[[], tuple[Tensor, ...]]:
    def run() -> tuple[Tensor, ...]:
        vector = score == "vector"
        own = () if score == "additive" else (D,)
        kind = {"dot": Dot(), "additive": Additive()}.get(score) or Additive(leaf(H, D))
        assert vector == (isinstance(kind, Additive) and kind.a is not None)
        return attend(LARGE, leaf(T, H, *own), leaf(S, H, *own), leaf(S, H, D), score=kind, **options)

    return run


def weights() -> tuple[Tensor, ...]:
    q, k, v = leaf(T, H, D), leaf(S, H, D), leaf(S, H, D)
    return (attention_weights(LARGE, q, k, attend(LARGE, q, k, v).lse),)


VERBS: dict[str, Callable[[], tuple[Tensor, ...]]] = {
    "sum": lambda: (propagate(LARGE, leaf(S, H * D)),),
    "sum, weighted": lambda: (propagate(LARGE, leaf(S, H * D), weight=leaf(E, H)),),
    "mean": lambda: (propagate(LARGE, leaf(S, H * D), weight=leaf(E), reduce="mean"),),
    "max": lambda: (propagate(LARGE, leaf(S, H * D), reduce="max"),),
    "min, weighted": lambda: (propagate(LARGE, leaf(S, H * D), weight=leaf(E, H), reduce="min"),),
    "dot score": lambda: (edge_score(LARGE, leaf(T, H, D), leaf(S, H, D)),),
    "vector score": lambda: (edge_score(LARGE, leaf(T, H, D), leaf(S, H, D), score=Additive(leaf(H, D))),),
    "softmax": lambda: (edge_softmax(LARGE, leaf(E, H)),),
    "attend, dot": attention("dot"),
    "attend, additive": attention("additive"),
    "attend, vector": attention("vector"),
    "attend, dropout": attention("dot", dropout=0.5, bias=torch.zeros(E, H)),
    "attention weights": weights,
    "half sum": lambda: (propagate(LARGE, leaf(S, H * D, dtype=torch.bfloat16), weight=leaf(E, H)),),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_tensor_of_size_edges_times_features_is_saved(verb: str) -> None:
    structure = {t.untyped_storage().data_ptr() for t in LARGE.tensors()}
    saved: dict[int, Tensor] = {}

    def pack(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in structure:
            saved[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        VERBS[verb]()
    numbers = sum(t.untyped_storage().nbytes() // t.element_size() for t in saved.values())
    assert saved or verb == "sum"
    assert numbers <= 8 * ALLOWED < E * H * D / 2


class Largest(TorchDispatchMode):
    """Records the largest tensor of any operation, also inside the kernels of hgraph."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.inside = 0, False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "hgraph":
            with self:  # also record inside the kernel
                self.inside = True
                return func._op_dk(torch._C.DispatchKey.CPU, *args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        # A broadcast view has no memory of its own, so the storage counts.
        found = [t.values() if t.is_sparse_csr else t for t in tree_leaves(out) if isinstance(t, Tensor)]
        sizes = [t.untyped_storage().nbytes() // t.element_size() for t in found]
        self.numbers = max([self.numbers, *sizes])
        return out


@pytest.mark.parametrize("verb", VERBS)
def test_temporaries_are_chunks(verb: str) -> None:
    with Largest() as forward:
        outputs = VERBS[verb]()
    with Largest() as backward:
        torch.autograd.backward(outputs, [torch.ones_like(o) for o in outputs])
    assert forward.inside
    assert backward.inside
    bound = max(CHUNK_NUMBERS, 2 * ALLOWED)
    assert bound < E * H * D / 4
    assert forward.numbers <= bound
    assert backward.numbers <= bound


def test_the_recorder_sees_inside_kernels() -> None:
    adj = random_adjacency(3, 3, 3 * CHUNK_NUMBERS // 64)
    with Largest() as watch:
        torch.ops.hgraph.sddmm([adj.indptr, *adj.tensors()[1:8]], torch.ones(3, 64), torch.ones(3, 64), 1)
    assert watch.numbers == CHUNK_NUMBERS


# ---------------------------------------------------------------------- poisoned memory


def test_the_poison_works(poisoned: None) -> None:
    for made in (torch.empty(3), torch.ones(3).new_empty(3), torch.empty_like(torch.ones(3))):
        assert bool(made.isnan().all())


@pytest.mark.parametrize("name", STRUCTURES)
def test_uninitialized_memory_is_not_read(name: str, poisoned: None) -> None:
    adj = STRUCTURES[name]
    t, s, e = adj.num_targets, adj.num_sources, adj.num_edges
    outputs, inputs = [], []

    def given(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        made = torch.ones(shape, dtype=dtype).requires_grad_()
        inputs.append(made)
        return made

    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for reduce in ("sum", "mean", "max", "min"):
            outputs.append(propagate(adj, given(s, 4, dtype=dtype), reduce=reduce))
            outputs.append(propagate(adj, given(2, s, 4, dtype=dtype), weight=given(e, 2, dtype=dtype), reduce=reduce))
        outputs.append(edge_softmax(adj, given(e, 2, dtype=dtype)))
        outputs.append(edge_softmax(adj, given(e, 2, dtype=dtype), group=adj.indices))
        for score, own in ((Dot(), (3,)), (Additive(), ()), (Additive(given(2, 3, dtype=dtype)), (3,))):
            q, k, v = (given(2, *n, dtype=dtype) for n in ((t, 2, *own), (s, 1, *own), (s, 1, 3)))
            result = attend(adj, q, k, v, score=score, bias=given(e, dtype=dtype))
            union = merge(result, result)
            outputs += [result.out, union.out, result.lse.exp(), union.lse.exp()]
            k = k[0].repeat_interleave(2, 1)
            outputs.append(edge_score(adj, q[0], k, score=score))
            outputs.append(attention_weights(adj, q[0], k, result.lse[0], score=score))
    grads = torch.autograd.grad(
        outputs, inputs, [torch.ones_like(o) for o in outputs], create_graph=True, materialize_grads=True
    )
    second = torch.autograd.grad(
        sum(g.double().square().sum() for g in grads), inputs, allow_unused=True, materialize_grads=True
    )
    for found in (outputs, grads, second):
        assert all(bool(o.isfinite().all()) for o in found)


_FAULTS = """
import resource, sys
import torch, hgraph

def fill(value):
    new = torch.full((2**23,), value)
    assert new.data_ptr() != held.data_ptr()

if sys.argv[1] == "kept":
    assert hgraph.keep_freed_memory()
held = torch.ones(2**23)
for i in range(20):  # the C library leaves gaps between the first tensors
    fill(2.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for i in range(5):
    fill(3.0)
assert held.eq(1).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_reused() -> None:
    """Five tensors of 32 MiB one after the other, while another one exists: no page faults, or 8192 for each tensor."""

    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("kept") < 2**13
    assert faults("given back") >= 5 * 2**13


def test_other_c_libraries_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
