"""Operators along edges: sum, mean, max, softmax, attention, compared with other libraries and with limits.

The limit of a sum is the pure gather: reads the same rows of x in the same order and adds them up in few long bags, so
it writes almost nothing. "C++ loop" is a plain row loop (reference.cpp), with an output that is newly allocated for
each call, as in all methods, or reused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import hgraph
from hgraph import Additive, Dot
from hgraph.benchmarks import cases, gpu, peers, reference
from hgraph.benchmarks.harness import Case, Found, Method, gradient, own, present, without_gradient
from hgraph.structure import Adjacency

Inputs = tuple[Adjacency, Tensor]


def placed(inputs: Inputs, device: str) -> Inputs:
    return inputs[0].to(device), inputs[1].to(device)


def summed(adj: Adjacency, x: Tensor) -> Tensor:
    """The sum in float64 with gather and index_add: slow but simple."""
    weight = torch.ones(adj.num_edges, device=x.device) if adj.weight is None else adj.weight
    messages = x.double().index_select(0, adj.indices.long()) * weight.double().unsqueeze(1)
    return x.new_zeros(adj.num_targets, x.shape[1], dtype=torch.float64).index_add(0, adj.target.long(), messages)


def pure_gather(adj: Adjacency, x: Tensor) -> Method:
    """Read all rows of the sum in the same order and add them up in long bags: a practical limit for reading."""
    bags = torch.arange(0, adj.num_edges + 1, 256, dtype=torch.int32, device=x.device)
    return lambda: F.embedding_bag(adj.indices, x, bags, mode="sum")


def loops(adj: Adjacency, x: Tensor, *, largest: bool = False) -> dict[str, Method]:
    """The C++ loop as a limit, if there is a compiler."""
    if x.is_cuda or reference.library() is None:
        return {}
    output = x.new_empty(adj.num_targets, x.shape[1])
    return {
        "limit: C++ loop": lambda: reference.reduce_rows(adj, x, largest=largest),
        "limit: C++ loop, kept output": lambda: reference.reduce_rows(adj, x, largest=largest, out=output),
    }


def sums(make: Callable[[], Inputs], name: str, device: str) -> Case:
    adj, x = placed(make(), device)
    methods = own(lambda: hgraph.propagate(adj, x), device) | peers.fused_sums(adj, x)
    methods |= peers.scattered_sums(adj, x) | ({} if x.is_cuda else peers.on_arrays(adj, x))
    limits = {"limit: pure gather": pure_gather(adj, x), **loops(adj, x)}
    methods = {n: without_gradient(m) for n, m in methods.items()}
    return Case(name, methods, limits, expected=lambda: summed(adj, x))


def sums_both_ways(make: Callable[[], Inputs], name: str, device: str) -> Case:
    adj, x = placed(make(), device)
    x.requires_grad_()
    grad = torch.randn(adj.num_targets, x.shape[1], generator=torch.Generator().manual_seed(3)).to(device)
    methods = own(lambda: hgraph.propagate(adj, x), device) | peers.fused_sums(adj, x) | peers.scattered_sums(adj, x)
    back, plain, limits = adj.transpose(), x.detach(), {}
    if not x.is_cuda and reference.library() is not None:
        limits["limit: C++ loop, kept transpose"] = lambda: (
            reference.reduce_rows(adj, plain),
            reference.reduce_rows(back, grad),
        )
    both = {n: gradient(m, [x], grad) for n, m in methods.items()}
    return Case(name, both, limits, expected=lambda: (summed(back, grad),))


def means(make: Callable[[], Inputs], name: str, device: str) -> Case:
    adj, x = placed(make(), device)
    count = adj.indptr.diff().clamp(min=1).unsqueeze(1)
    methods = own(lambda: hgraph.propagate(adj, x, reduce="mean"), device) | peers.means(adj, x)
    methods = {n: without_gradient(m) for n, m in methods.items()}
    limits = {"limit: pure gather": pure_gather(adj, x), **loops(adj, x)}
    return Case(name, methods, limits, expected=lambda: summed(adj, x) / count)


def maxima(make: Callable[[], Inputs], name: str, device: str) -> Case:
    adj, x = placed(make(), device)
    methods = own(lambda: hgraph.propagate(adj, x, reduce="max"), device) | peers.largest(adj, x)
    return Case(name, {n: without_gradient(m) for n, m in methods.items()}, loops(adj, x, largest=True))


def maxima_both_ways(make: Callable[[], Inputs], name: str, device: str) -> Case:
    adj, x = placed(make(), device)
    x.requires_grad_()
    grad = torch.randn(adj.num_targets, x.shape[1], generator=torch.Generator().manual_seed(3)).to(device)
    methods = own(lambda: hgraph.propagate(adj, x, reduce="max"), device) | peers.largest(adj, x)
    return Case(name, {n: gradient(m, [x], grad) for n, m in methods.items()})


def softmaxes(heads: int, backward: bool, name: str, device: str) -> Case:
    adj, _ = placed(cases.arxiv128(channels=1), device)
    generator = torch.Generator().manual_seed(4)
    score = torch.randn(adj.num_edges, heads, generator=generator).to(device).requires_grad_(backward)
    grad = torch.randn(adj.num_edges, heads, generator=generator).to(device)
    methods = own(lambda: hgraph.edge_softmax(adj, score), device) | peers.softmaxes(adj, score)
    limits: dict[str, Method] = {"limit: exp alone": lambda: torch.exp(score.detach())}
    if not score.is_cuda and reference.library() is not None and not backward:
        limits["limit: C++ loop"] = lambda: reference.softmax_rows(adj, score)
    wrapped = (lambda m: gradient(m, [score], grad)) if backward else without_gradient
    return Case(name, {n: wrapped(m) for n, m in methods.items()}, limits)


def attention(score: Additive | Dot, heads: int, channels: int, backward: bool, name: str, device: str) -> Case:
    """The core of a graph attention layer, without projections; other libraries store messages or scores per edge."""
    adj, _ = placed(cases.arxiv128(channels=1), device)
    generator = torch.Generator().manual_seed(5)
    size = (adj.num_targets, heads) if isinstance(score, Additive) else (adj.num_targets, heads, channels)
    q, k = (torch.randn(size, generator=generator).to(device).requires_grad_(backward) for _ in range(2))
    v, grad = (torch.randn(adj.num_targets, heads, channels, generator=generator).to(device) for _ in range(2))
    v.requires_grad_(backward)
    adj = adj.with_weight(None)
    source, target, offsets = adj.indices.long(), adj.target.long(), adj.indptr.long()

    def logits() -> Tensor:
        if isinstance(score, Additive):
            return F.leaky_relu(q.index_select(0, target) + k.index_select(0, source), score.slope)
        return (q.index_select(0, target) * k.index_select(0, source)).sum(-1) * channels**-0.5

    def pyg() -> Method:
        from torch_geometric.utils import scatter, softmax

        def call() -> Tensor:
            probability = softmax(logits(), ptr=offsets, dim=0)
            messages = v.index_select(0, source) * probability.unsqueeze(-1)
            return scatter(messages, target, dim=0, dim_size=adj.num_targets, reduce="sum")

        return call

    methods = own(lambda: hgraph.attend(adj, q, k, v, score=score).out, device) | present(
        {"PyG softmax + scatter": pyg}
    )
    wrapped = (lambda m: gradient(m, [q, k, v], grad)) if backward else without_gradient
    plain = v.detach().flatten(1)
    limits = {"limit: pure gather of v": pure_gather(adj, plain)}
    return Case(name, {n: wrapped(m) for n, m in methods.items()}, limits, rtol=1e-3)


def suite(device: str) -> Mapping[str, Callable[[], Case | Found]]:
    """All cases, built when they are run; on a GPU also those of `gpu`."""
    made: dict[str, Callable[[], Case | Found]] = {}

    def add(name: str, make: Callable[..., Case], *arguments: object) -> None:
        made[name] = partial(make, *arguments, name, device)

    for which, inputs in cases.SUMS.items():
        add(f"sum {which}", sums, inputs)
    for which in ("hyper64", "arxiv128"):
        add(f"sum {which} f+b", sums_both_ways, cases.SUMS[which])
    add("mean hyper64", means, cases.hyper64)
    for which in ("hyper64", "arxiv128"):
        add(f"max {which}", maxima, cases.SUMS[which])
    for which in ("hyper64", "arxiv128"):
        add(f"max {which} f+b", maxima_both_ways, cases.SUMS[which])
    add("softmax arxiv H=1", softmaxes, 1, False)
    add("softmax arxiv H=8", softmaxes, 8, False)
    add("softmax arxiv H=8 f+b", softmaxes, 8, True)
    for backward in (False, True):
        add(f"attend arxiv additive 8x8{' f+b' * backward}", attention, Additive(), 8, 8, backward)
        add(f"attend arxiv dot 8x16{' f+b' * backward}", attention, Dot(), 8, 16, backward)
    return made if torch.device(device).type == "cpu" else {**made, **gpu.suite(device)}
