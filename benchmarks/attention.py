"""Token attention: a causal window of 256 over 4k and 16k tokens, 8 heads of 64, compared with torch.

Useful work is 4 T W H D operations forward; "GEMM of as many operations" is one matrix product of the same size, so
its ratio is the fraction of the machine's peak. SDPA with `is_causal` visits all earlier keys, which is more
work, but the usual choice without windows. Growth of time and memory is measured from 1k to 64k tokens.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import hgraph
from hgraph.benchmarks import growth, peak
from hgraph.benchmarks.harness import Case, Found, Method, NotHereError, gradient, own, without_gradient
from hgraph.errors import HgraphError

WINDOW, HEADS, CHANNELS = 256, 8, 64


def inputs(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v [T, H, D]."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(tokens, HEADS, CHANNELS, generator=generator) for _ in range(3))
    return q, k, v


def by_head(x: Tensor) -> Tensor:
    """[1, H, T, D], the layout of torch."""
    return x.transpose(0, 1).unsqueeze(0)


def back(x: Tensor) -> Tensor:
    return x.squeeze(0).transpose(0, 1)


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SDPA with a T x T mask."""
    distance = torch.arange(len(q)).unsqueeze(1) - torch.arange(len(q))
    mask = (distance >= 0) & (distance < WINDOW)
    return back(F.scaled_dot_product_attention(by_head(q), by_head(k), by_head(v), attn_mask=mask))


def in_blocks(q: Tensor, k: Tensor, v: Tensor, block: int = 256) -> Tensor:
    """SDPA per block of queries with the keys that any of them attends to: the fastest way in plain torch."""
    q, k, v = by_head(q), by_head(k), by_head(v)
    parts = []
    for first in range(0, q.shape[2], block):
        begin, end = max(0, first - WINDOW), first + block
        distance = torch.arange(first, end).unsqueeze(1) - torch.arange(begin, end)
        mask = (distance >= 0) & (distance < WINDOW)
        parts.append(F.scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin:end], v[:, :, begin:end], mask))
    return back(torch.cat(parts, 2))


def flex(tokens: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """FlexAttention, compiled."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def allowed(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return (t >= s) & (t - s < WINDOW)

    mask = create_block_mask(allowed, None, None, tokens, tokens, device="cpu")
    compiled = torch.compile(flex_attention)
    return lambda q, k, v: back(compiled(by_head(q), by_head(k), by_head(v), block_mask=mask))


def windowed(tokens: int, backward: bool, name: str) -> Case:
    q, k, v = inputs(tokens)
    tiles = hgraph.patterns.sliding_window(tokens, WINDOW, causal=True).tiles(128)
    if backward:
        tiles = tiles.with_transpose()
        q, k, v = (x.requires_grad_() for x in (q, k, v))

    def ours() -> Tensor:
        return hgraph.attend(tiles, q, k, v).out

    try:
        with torch.no_grad():
            ours()
    except HgraphError as error:
        raise NotHereError(f"attend over tiles: {' '.join(str(error).split())}") from error
    methods: dict[str, Method] = own(ours)
    methods["torch SDPA per 256-block"] = lambda: in_blocks(q, k, v)
    if shutil.which("g++") and not backward:  # no backward on CPUs
        call = flex(tokens)
        methods["torch FlexAttention, compiled"] = lambda: call(q, k, v)
    flops = 4 * tokens * WINDOW * HEADS * CHANNELS * (3.5 if backward else 1)  # backward: five products for two
    left, right = torch.randn(int(flops / 2 / 1024**2), 1024), torch.randn(1024, 1024)
    limits: dict[str, Method] = {"limit: GEMM of as many operations": lambda: left @ right}
    causal = partial(F.scaled_dot_product_attention, is_causal=True)
    all_keys = lambda: back(causal(by_head(q), by_head(k), by_head(v)))  # noqa: E731
    grad = torch.randn_like(v)
    wrapped = (lambda m: gradient(m, [q, k, v], grad)) if backward else without_gradient
    if not (backward and tokens > 4096):
        limits["limit: SDPA is_causal (all keys: more work)"] = wrapped(all_keys)
    expected = wrapped(lambda: dense(q, k, v)) if tokens <= 4096 else None
    return Case(name, {n: wrapped(m) for n, m in methods.items()}, limits, expected, rtol=1e-3)


def patterned(tokens: int, pattern: str, backward: bool, name: str) -> Case:
    """A pattern of blocks of 128, compared with a causal window of blocks that visits about as many tiles."""
    rows = tokens // 128
    graph = {
        "power": hgraph.patterns.power(tokens, 128, window=3, num_sink=128),
        "strided": hgraph.patterns.strided(tokens, 16, causal=True),  # tokens ordered by residue
        "global": hgraph.patterns.block_local(tokens, 128, before=5, causal=True) | hgraph.patterns.sinks(tokens, 128),
    }[pattern]
    count = graph.num_tiles(128)
    width = next(w for w in range(1, rows + 1) if w * rows - w * (w - 1) // 2 >= count)
    window = hgraph.patterns.block_local(tokens, 128, before=width - 1, causal=True)
    tiles, even = graph.tiles(128), window.tiles(128)
    q, k, v = inputs(tokens)
    if backward:
        q, k, v = (x.requires_grad_() for x in (q, k, v))
    grad = torch.randn_like(v)
    wrapped = (lambda m: gradient(m, [q, k, v], grad)) if backward else without_gradient
    methods: dict[str, Method] = own(lambda: hgraph.attend(tiles, q, k, v).out)
    limit = f"limit: a window of {even.num_tiles} tiles for {tiles.num_tiles}"
    limits = {limit: wrapped(lambda: hgraph.attend(even, q, k, v).out)}
    return Case(name, {n: wrapped(m) for n, m in methods.items()}, limits, None, rtol=1e-3)


LENGTHS = (1024, 4096, 16384, 65536)
GROWING: dict[str, Callable[[int], hgraph.TokenGraph]] = {
    "window 256": lambda n: hgraph.patterns.sliding_window(n, WINDOW, causal=True),
    "power": lambda n: hgraph.patterns.power(n, 128, window=3, num_sink=128),
    "axial": lambda n: hgraph.patterns.axial((math.isqrt(n), math.isqrt(n)), 0),
}


def grown(name: str, backward: bool, tokens: int) -> Method:
    """One call over tiles that are already built."""
    graph = GROWING[name](tokens)
    q, k, v = inputs(tokens)
    with torch.no_grad():
        hgraph.attend(graph, q[:, :1], k[:, :1], v[:, :1])  # builds the tiles and their plan
    if not backward:
        return without_gradient(lambda: hgraph.attend(graph, q, k, v).out)
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    return gradient(lambda: hgraph.attend(graph, q, k, v).out, [q, k, v], torch.randn_like(v))


def growing(name: str, backward: bool, unit: str) -> Found:
    values = {}
    for tokens in LENGTHS:
        make = partial(grown, name, backward, tokens)
        values[f"{tokens} tokens"] = growth.milliseconds(make) if unit == "ms" else [peak.peak_mib(make)]
    first, last = (math.log(min(values[f"{n} tokens"])) for n in (LENGTHS[0], LENGTHS[-1]))
    exponent = (last - first) / math.log(LENGTHS[-1] / LENGTHS[0])
    return Found(values, unit, f"grows with the power {exponent:.2f} of the tokens")


def suite(device: str) -> Mapping[str, Callable[[], Case | Found]]:
    made: dict[str, Callable[[], Case | Found]] = {}
    for tokens in (4096, 16384):
        for backward in (False, True):
            name = f"window 256 of {tokens // 1024}k tokens{' f+b' * backward}"
            made[name] = partial(windowed, tokens, backward, name)
    for pattern in ("power", "strided", "global"):
        name = f"{pattern} of 16k tokens"
        made[name] = partial(patterned, 16384, pattern, False, name)
    for pattern in GROWING:
        made[f"{pattern}, time by tokens"] = partial(growing, pattern, False, "ms")
        made[f"{pattern}, memory by tokens f+b"] = partial(growing, pattern, True, "MiB above the inputs")
    return made
