"""Routing attention vs. full attention over 1k to 64k tokens, 4 heads of 64: time, memory, and how they grow.

Numbers of clusters, and of tokens per cluster, are the square root of the number of tokens. Every point runs in a
separate process, one thread: milliseconds of one forward by CPU time, peak MiB of a forward and a backward (in
training, with centroid updates) above the inputs. The linear maps of the layer are excluded; the choice of clusters
and the permutations are included. Useful work is 4 D operations per attended pair and head, and 2 D per token and
centroid.
SDPA is causal attention over all pairs with torch's fused kernel. They compute different things.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F

from hgraph.benchmarks import growth, peak
from hgraph.benchmarks.harness import Found, Method, gradient, without_gradient
from hgraph.nn import RoutingAttention
from hgraph.nn.attention.kmeans import on_sphere

LENGTHS = (1024, 4096, 16384, 65536)
HEADS, CHANNELS = 4, 64
DENSE = "SDPA is_causal"
KINDS = {"argmax": "routing by the nearest centroid", "topk": "routing by claim (topk)"}


def _layer(kind: str, tokens: int) -> RoutingAttention:
    torch.manual_seed(0)
    root = math.isqrt(tokens)
    sizes = {"num_clusters": root, "cluster_size": root}
    return RoutingAttention(HEADS * CHANNELS, HEADS, assignment=kind, **sizes).eval()  # type: ignore[arg-type]


def _tokens(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries, which are also the keys, and values."""
    generator = torch.Generator().manual_seed(0)
    q, v = (torch.randn(1, tokens, HEADS, CHANNELS, generator=generator) for _ in range(2))
    return on_sphere(q), v


def call(kind: str, backward: bool, tokens: int) -> Method:
    q, v = _tokens(tokens)
    if kind == DENSE:
        q, v = (x.transpose(1, 2).contiguous() for x in (q, v))
        attention = lambda: F.scaled_dot_product_attention(q, q, v, is_causal=True)  # noqa: E731
    else:
        layer = _layer(kind, tokens).train(backward)
        attention = lambda: layer._routed(q, q, v, layer._near(q, q, None), None).out  # noqa: E731
    if not backward:
        return without_gradient(attention)
    q, v = (x.requires_grad_() for x in (q, v))
    return gradient(attention, [q, v], torch.randn_like(v))


def flops(kind: str, tokens: int) -> int:
    """Useful operations of a forward."""
    if kind == DENSE:
        return 4 * CHANNELS * HEADS * (tokens * (tokens + 1) // 2)
    q, _ = _tokens(tokens)
    layer = _layer(kind, tokens)
    routes = layer._routes(q, q, layer._near(q, q, None), None)
    pairs = int((routes.stop - routes.start).sum())
    return 4 * CHANNELS * pairs + 2 * CHANNELS * HEADS * tokens * math.isqrt(tokens)


def growing(kind: str, unit: str) -> Found:
    values = {}
    for tokens in LENGTHS:
        make = partial(call, kind, unit != "ms", tokens)
        values[f"{tokens} tokens"] = growth.milliseconds(make) if unit == "ms" else [peak.peak_mib(make)]
    minimum = {n: min(values[f"{n} tokens"]) for n in LENGTHS}
    steps = [math.log(minimum[b] / minimum[a]) / math.log(b / a) for a, b in itertools.pairwise(LENGTHS)]
    note = f"power of the tokens from length to length: {', '.join(f'{s:.2f}' for s in steps)}"
    if unit == "ms":
        note += f"; useful GFLOP/s: {', '.join(f'{flops(kind, n) / minimum[n] / 1e6:.1f}' for n in LENGTHS)}"
    return Found(values, unit, note)


def suite(device: str) -> Mapping[str, Callable[[], Found]]:
    made: dict[str, Callable[[], Found]] = {}
    for kind, name in (*KINDS.items(), (DENSE, DENSE)):
        made[f"{name}, time"] = partial(growing, kind, "ms")
        made[f"{name}, memory f+b"] = partial(growing, kind, "MiB above the inputs")
    return made
