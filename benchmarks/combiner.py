"""Combiner vs. full attention over 1k to 64k tokens, 4 heads of 64: time, memory, and how they grow.

One thread: milliseconds of one forward by CPU time; peak MiB of a forward and a backward above the inputs, each in a
separate process. Useful work is 4 D operations per edge and head, including edges from tokens to regions.
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
from hgraph.nn.attention import combiner_attention, ready_partition
from hgraph.patterns import Partition, partitions

LENGTHS = (1024, 4096, 16384, 65536)
HEADS, CHANNELS = 4, 64
PLANS: dict[str, Callable[[int], Partition]] = {
    "fixed": lambda n: partitions.fixed(n, math.isqrt(n)),
    "logsparse": partitions.logsparse,
    "vertical": lambda n: partitions.vertical(n, math.isqrt(n)),
    "row_major": lambda n: partitions.row_major(n, math.isqrt(n)),
}
DENSE = "SDPA is_causal"


def call(name: str, backward: bool, tokens: int) -> Method:
    """One call over a partition that is already built."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, tokens, HEADS, CHANNELS, generator=generator) for _ in range(3))
    if name == DENSE:
        q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
        attention = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)  # noqa: E731
    else:
        made = ready_partition(PLANS[name](tokens))
        with torch.no_grad():
            combiner_attention(made, q[:, :, :1], k[:, :, :1], v[:, :, :1])  # builds the plans of the tiles
        attention = lambda: combiner_attention(made, q, k, v).out  # noqa: E731
    if not backward:
        return without_gradient(attention)
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    return gradient(attention, [q, k, v], torch.randn_like(v))


def growing(name: str, unit: str) -> Found:
    values = {}
    for tokens in LENGTHS:
        make = partial(call, name, unit != "ms", tokens)
        values[f"{tokens} tokens"] = growth.timed(make) if unit == "ms" else [peak.peak_mib(make)]
    minimum = {n: min(values[f"{n} tokens"]) for n in LENGTHS}
    steps = [math.log(minimum[b] / minimum[a]) / math.log(b / a) for a, b in itertools.pairwise(LENGTHS)]
    note = f"power of the tokens from length to length: {', '.join(f'{s:.2f}' for s in steps)}"
    if unit == "ms":
        flops = {n: 4 * CHANNELS * HEADS * _edges(name, n) for n in LENGTHS}
        note += f"; useful GFLOP/s: {', '.join(f'{flops[n] / minimum[n] / 1e6:.1f}' for n in LENGTHS)}"
    return Found(values, unit, note)


def _edges(name: str, n: int) -> int:
    """The number of summed terms: pairs of tokens, or edges of the partition including those to regions."""
    if name == DENSE:
        return n * (n + 1) // 2
    made = PLANS[name](n)
    return made.num_edges + made.num_members


def suite(device: str) -> Mapping[str, Callable[[], Found]]:
    made: dict[str, Callable[[], Found]] = {}
    for name in (*PLANS, DENSE):
        made[f"{name}, time"] = partial(growing, name, "ms")
        made[f"{name}, memory f+b"] = partial(growing, name, "MiB above the inputs")
    return made
