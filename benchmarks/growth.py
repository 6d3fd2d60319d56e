"""Growth of time and memory: 1,000 times as many edges, ten per node, F = 32, from ten thousand to ten million.

Every point is measured in a separate process: milliseconds of one call by CPU time (the minimum of three), and peak MiB
above the inputs. Linear growth means that cost per edge is constant once caches are exceeded.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

import hgraph
from hgraph import Additive, Adjacency, Graph
from hgraph.benchmarks import cases, ops, peak
from hgraph.benchmarks.harness import Found, Method, gradient
from hgraph.nn import GCNConv

_LONG = 10.0  # seconds; longer calls run once
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)


def build(edges: int) -> Method:
    adj, _ = cases.grown(edges)
    target, source, rows, columns = adj.target.long(), adj.indices.long(), adj.num_targets, adj.num_sources
    return lambda: Adjacency.from_coo(target=target, source=source, num_targets=rows, num_sources=columns)


def summed(edges: int) -> Method:
    adj, x = cases.grown(edges)
    x.requires_grad_()
    return gradient(lambda: hgraph.propagate(adj, x), [x], torch.ones(adj.num_targets, x.shape[1]))


def gathered(edges: int) -> Method:
    """The limit of the sum: reads the same rows forward and backward, in the same order, and writes almost nothing."""
    adj, x = cases.grown(edges)
    forward, backward = (
        ops.pure_gather(adj, x),
        ops.pure_gather(adj.transpose(), torch.ones(adj.num_targets, x.shape[1])),
    )
    return lambda: (forward(), backward())


def largest(edges: int) -> Method:
    adj, x = cases.grown(edges)
    x.requires_grad_()
    grad = torch.ones(adj.num_targets, x.shape[1])
    return gradient(lambda: hgraph.propagate(adj, x, reduce="max"), [x], grad)


def attended(edges: int) -> Method:
    adj, x = cases.grown(edges)
    v = x.view(len(x), 8, -1)
    q = v.sum(-1)
    v.requires_grad_()
    grad = torch.ones_like(v)
    return gradient(lambda: hgraph.attend(adj, q, q, v, score=Additive()).out, [v], grad)


def trained(edges: int) -> Method:
    adj, x = cases.grown(edges)
    graph, conv = Graph(adj.with_weight(None)), GCNConv(32, 32)

    def step() -> torch.Tensor:
        conv.zero_grad()
        loss = conv(x, graph).square().mean()
        loss.backward()
        return loss

    return step


CALLS: dict[str, Callable[[int], Method]] = {
    "Adjacency.from_coo": build,
    "propagate sum f+b": summed,
    "limit: pure gather f+b": gathered,
    "propagate max f+b": largest,
    "attend additive 8x4 f+b": attended,
    "GCNConv 32-32 f+b": trained,
}


def timed(make: Callable[[], Method]) -> list[float]:
    """Milliseconds of one call by CPU time, three times; long calls once."""
    torch.set_num_threads(1)
    call = make()
    start = time.process_time()
    call()
    first = time.process_time() - start
    if first > _LONG:
        return [first * 1e3]
    found = []
    for _ in range(3):
        start, calls = time.process_time(), 0
        while calls == 0 or time.process_time() - start < 0.05:
            call()
            calls += 1
        found.append((time.process_time() - start) / calls * 1e3)
    return found


def _timed(make: Callable[[], Method], queue: Any) -> None:
    queue.put(timed(make))


def milliseconds(make: Callable[[], Method]) -> list[float]:
    """Milliseconds of one call, in a separate process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_timed, args=(make, queue))
    process.start()
    value = queue.get(timeout=600)
    process.join()
    return value


def measured(name: str, unit: str) -> Found:
    values = {}
    for edges in SIZES:
        make = partial(CALLS[name], edges)
        values[f"{edges} edges"] = milliseconds(make) if unit == "ms" else [peak.peak_mib(make)]
    return Found(values, unit)


def suite(device: str) -> Mapping[str, Callable[[], Found]]:
    units = {"time": "ms", "memory": "MiB above the inputs"}
    return {f"{name}, {what}": partial(measured, name, unit) for name in CALLS for what, unit in units.items()}
