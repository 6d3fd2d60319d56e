"""What a CUDA graph and several GPUs ask of a verb: nothing is read from the device or sent to it while it runs.

Without a GPU the first is watched in the interpreter; the graphs themselves, and a second device, are for a GPU.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hgraph import (
    Additive,
    Affine,
    BlockAdjacency,
    Memory,
    Relative,
    SoftmaxState,
    attend,
    attention_weights,
    backend,
    edge_score,
    edge_softmax,
    gather,
    merge,
    patterns,
    propagate,
    scan,
    scatter,
    segment_reduce,
)
from hgraph.testing import random_adjacency

ADJ = random_adjacency(6, 5, 17, seed=2)
SIZES = {"T": 6, "S": 5, "E": 17, "H": 2, "D": 4, "N": 20, "L": 9}


@functools.cache
def tiled(device: torch.device) -> tuple[BlockAdjacency, Tensor]:
    """Tiles and the places of their tokens, there once and for all."""
    graph = patterns.sliding_window(20, 3) | patterns.global_tokens(20, [0])
    return graph.tiles(16).with_transpose().to(device), torch.arange(20, device=device).unsqueeze(1)


def biased(_: object, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    tiles, place = tiled(q.device)
    return attend(tiles, q, k, v, bias=Relative(table, place, place)).out


# Each verb: what is called on a structure, and the shapes of the numbers that it is given.
VERBS: dict[str, tuple[Callable[..., Tensor], str]] = {
    "sum": (lambda adj, x, w: propagate(adj, x, weight=w), "SD EH"),
    "mean": (lambda adj, x, w: propagate(adj, x, weight=w, reduce="mean"), "SD ED"),
    "max": (lambda adj, x, w: propagate(adj, x, weight=w, reduce="max"), "SD E"),
    "dot score": (edge_score, "THD SHD"),
    "vector score": (lambda adj, q, k, a: edge_score(adj, q, k, score=Additive(a)), "THD SHD HD"),
    "softmax": (edge_softmax, "EH"),
    "grouped softmax": (lambda adj, s: edge_softmax(adj, s, group=adj.indices % 2), "EH"),
    "attend": (lambda adj, q, k, v, b: attend(adj, q, k, v, bias=b).out, "THD SHD SHD EH"),
    "additive attend": (lambda adj, q, k, v: attend(adj, q, k, v, score=Additive()).out, "TH SH SHD"),
    "weights": (attention_weights, "THD SHD TH"),
    "merge": (lambda adj, q, k, v: merge(attend(adj, q, k, v), attend(adj, q, k, 2 * v)).out, "THD SHD SHD"),
    "scatter": (lambda adj, x: scatter(x, adj.indices, 0, dim_size=5, reduce="mean"), "ED"),
    "segments": (lambda adj, x: segment_reduce(x, adj.indptr, reduce="max"), "ED"),
    "gather": (lambda adj, x: gather(x, adj.indices, 0), "SD"),
    "affine scan": (lambda adj, a, b: scan(Affine(), (a, b)).states, "ED ED"),
    "memory scan": (lambda adj, q, k, v, a: scan(Memory("scalar"), (q, k, v, -(a**2))).states, "ED ED ED E"),
    "packed scan": (lambda adj, a, b, h: scan(Affine(), (a, b), initial=h, segments=adj.indptr).states, "ED ED TD"),
    "softmax scan": (lambda adj, s, v: scan(SoftmaxState(), (s, v)).states.out, "E ED"),
    "tiles": (lambda _, q, k, v: attend(tiled(q.device)[0], q, k, v).out, "NHD NHD NHD"),
    "biased tiles": (biased, "NHD NHD NHD HL"),
}


def numbers(verb: str, device: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [[SIZES[letter] for letter in shape] for shape in VERBS[verb][1].split()]
    return [torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in shapes]


def step(verb: str, adj: object, leaves: list[Tensor]) -> list[Tensor]:
    """The result and all gradients."""
    out = VERBS[verb][0](adj, *leaves)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), leaves)]


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_goes_between_host_and_device(verb: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    adj, leaves = ADJ.to(device), numbers(verb, device)
    tiled(adj.device)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a GPU would be waited for")

    # indices are looked at on a CPU alone
    monkeypatch.setattr(importlib.import_module("hgraph.ops.scatter"), "_in_range", lambda *_: None)
    for name in ("item", "tolist", "nonzero", "__bool__", "__int__", "__float__", "__index__"):
        monkeypatch.setattr(Tensor, name, refuse)
    for name in ("tensor", "as_tensor", "nonzero", "unique", "masked_select"):
        monkeypatch.setattr(torch, name, refuse)
    step(verb, adj, leaves)


@pytest.mark.gpu
@pytest.mark.parametrize("verb", VERBS)
def test_a_cuda_graph_gives_the_bits_of_eager_steps(verb: str) -> None:
    adj, leaves = ADJ.to("cuda"), numbers(verb, "cuda")
    with backend("triton"):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # kernels are compiled and structures copied before the capture
            step(verb, adj, leaves)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            held = step(verb, adj, leaves)
        for t in leaves:
            t.detach().mul_(-0.5)
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(held, step(verb, adj, leaves), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("verb", VERBS)
def test_a_second_gpu_gives_the_bits_of_the_first(verb: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    with backend("triton"):
        one = step(verb, ADJ.to("cuda:0"), numbers(verb, "cuda:0"))
        two = step(verb, ADJ.to("cuda:1"), numbers(verb, "cuda:1"))  # the current device stays the first
    assert all(b.device.index == 1 and torch.equal(a.cpu(), b.cpu()) for a, b in zip(one, two, strict=True))
