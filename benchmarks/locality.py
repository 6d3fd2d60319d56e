"""The effect of renumbering, and of bfloat16 features: sums over graphs with random node ids.

"mesh": eight neighbors on a 700 x 700 torus. "communities": 400,000 nodes in groups of 200, nine of ten edges
inside. "arxiv": a power law without locality. F = 64 and 128. The method "hgraph" uses the original numbering; the
others use the renumbered graph. Their results are permuted back and compared before timing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from hgraph import Graph, propagate, reorder
from hgraph.benchmarks import cases, ops
from hgraph.benchmarks.harness import Case, Method, without_gradient

METHODS = ("rcm", "cluster", "degree")


def renumbered(make: Callable[[], tuple[Graph, Tensor]], name: str) -> Case:
    graph, x = make()
    half = x.bfloat16()
    methods: dict[str, Method] = {"hgraph": lambda: propagate(graph.adj, x)}
    checks: dict[str, Method] = {}
    limits: dict[str, Method] = {
        "limit: pure gather, as numbered": ops.pure_gather(graph.adj, x),
        "bfloat16, as numbered": lambda: propagate(graph.adj, half),
    }
    for method in METHODS:
        start = time.process_time()
        moved = reorder(graph, method)
        print(f"{name}: reorder by {method} took {time.process_time() - start:.1f} s of CPU", flush=True)
        adj, permuted = moved.result.adj, moved.sort(x)
        which = f"reordered by {method}"
        methods[which] = partial(propagate, adj, permuted)
        checks[which] = lambda m=moved, a=adj, t=permuted: m.unsort(propagate(a, t))
        limits[f"bfloat16, {which}"] = partial(propagate, adj, permuted.bfloat16())
        if method == "rcm":
            limits[f"limit: pure gather, {which}"] = ops.pure_gather(adj, permuted)
    found = {n: without_gradient(m) for n, m in methods.items()}
    return Case(name, found, limits, checks=checks)


def _mesh() -> tuple[Graph, Tensor]:
    graph = cases.mesh()
    return graph, torch.randn(graph.num_nodes, 64, generator=torch.Generator().manual_seed(1))


def _communities() -> tuple[Graph, Tensor]:
    graph = cases.communities()
    return graph, torch.randn(graph.num_nodes, 64, generator=torch.Generator().manual_seed(1))


def _arxiv() -> tuple[Graph, Tensor]:
    adj, x = cases.arxiv128()
    return Graph(adj.with_weight(None)), x


def suite(device: str) -> Mapping[str, Callable[[], Case]]:
    kinds = {"mesh, F = 64": _mesh, "communities, F = 64": _communities, "arxiv (no locality), F = 128": _arxiv}
    return {name: partial(renumbered, make, name) for name, make in kinds.items()}
