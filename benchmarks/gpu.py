"""GPU-only cases, in addition to `ops`: half precision, sums far beyond the cache, attention over tiles.

`hgraph bench ops --device cuda` runs these too. Limits: "copy" moves as many bytes as a sum reads and writes without
cache hits; "GEMM" is one product with as many operations as the visited tiles. Their ratio is the
fraction of the measured copy or matmul rate. Nothing here has run on a GPU; small versions run in the tests on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import hgraph
from hgraph.benchmarks import cases, peers
from hgraph.benchmarks.harness import Case, Found, Method, NotHereError, gradient, own, present, without_gradient

HEADS, BLOCK, HALF = 8, 128, {"rtol": 2e-2}  # two roundings of bfloat16 to the largest number
SIZES = {"edges": 10_000_000, "tokens": 16_384, "window": 1024}


def copied(numbers: float, dtype: torch.dtype, device: str) -> Method:
    """Reads and writes ``numbers`` numbers in total."""
    x = torch.empty(int(numbers / 2), dtype=dtype, device=device)
    y = torch.empty_like(x)
    return lambda: y.copy_(x)


def multiplied(operations: float, dtype: torch.dtype, device: str) -> Method:
    """One matrix product of ``operations`` operations."""
    side = max(int((operations / 2) ** (1 / 3)), 1)
    a = torch.randn(side, side, dtype=dtype, device=device)
    return lambda: a @ a


def far_sums(dtype: torch.dtype, channels: int, sizes: Mapping[str, int], name: str, device: str) -> Case:
    """Sums beyond the cache: 20 edges per target, 10 per source."""
    edges = sizes["edges"]
    adj = cases.uniform(max(edges // 20, 1), max(edges // 10, 1), edges, seed=0).to(device)
    adj = adj.with_weight(None if adj.weight is None else adj.weight.to(dtype))
    x = torch.randn(adj.num_sources, channels, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    methods = own(lambda: hgraph.propagate(adj, x), device) | peers.fused_sums(adj, x) | peers.scattered_sums(adj, x)
    size = x.element_size()
    moved = adj.num_edges * (channels * size + 4 + size) + adj.num_targets * (channels * size + 4)
    limits = {"limit: copy": copied(moved / size, dtype, device)}
    return Case(name, {n: without_gradient(m) for n, m in methods.items()}, limits, **HALF)


def allowed(which: str, window: int, length: int) -> Callable[[Any, Any, Any, Any], Any]:
    """The allowed pairs, for FlexAttention."""
    if which == "window":
        return lambda b, h, t, s: (t >= s) & (t - s < window)
    if which == "documents":
        return lambda b, h, t, s: t // length == s // length
    return lambda b, h, t, s: t >= s


def structure(which: str, tokens: int, window: int) -> hgraph.TokenGraph:
    if which == "window":
        return hgraph.patterns.sliding_window(tokens, window, causal=True)
    if which == "documents":
        return hgraph.patterns.packed([window] * (tokens // window))
    return hgraph.patterns.causal(tokens)


def tokens(
    which: str, channels: int, backward: bool, sizes: Mapping[str, int], name: str, device: str
) -> Case:  # fmt: skip
    """Attention of 8 heads in bfloat16 over a causal window, documents of that length, or all earlier tokens."""
    number, window = sizes["tokens"], sizes["window"]
    tiles = structure(which, number, window).tiles(BLOCK).to(device)
    tiles = tiles.with_transpose() if backward else tiles
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = (
        torch.randn(number, HEADS, channels, generator=generator).to(device, torch.bfloat16) for _ in range(4)
    )
    q, k, v = (x.requires_grad_(backward) for x in (q, k, v))
    first = [x.transpose(0, 1).unsqueeze(0) for x in (q, k, v)]
    back = lambda x: x.squeeze(0).transpose(0, 1)  # noqa: E731
    is_allowed = allowed(which, window, window)

    def flex() -> Method:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        mask = create_block_mask(is_allowed, None, None, number, number, device=device)
        call = torch.compile(flex_attention) if device != "cpu" else flex_attention
        return lambda: back(call(*first, block_mask=mask))

    methods = own(lambda: hgraph.attend(tiles, q, k, v).out, device) | present({"torch FlexAttention": flex})
    flops = 4 * tiles.num_tiles * BLOCK**2 * HEADS * channels * (3.5 if backward else 1)
    limits = {"limit: GEMM": multiplied(flops, torch.bfloat16, device)}
    dense = lambda: back(F.scaled_dot_product_attention(*first, is_causal=which != "documents"))  # noqa: E731
    wrapped = (lambda m: gradient(m, [q, k, v], grad)) if backward else without_gradient
    if which == "causal":
        methods["torch SDPA"] = dense
    else:
        limits["limit: SDPA (all keys: more work)"] = wrapped(dense)
    return Case(name, {n: wrapped(m) for n, m in methods.items()}, limits, flops=flops, **HALF)


def memories(decay: str, backward: bool, sizes: Mapping[str, int], name: str, device: str) -> Case:
    """Causal linear attention, heads of 128, against flash-linear-attention."""
    number, channels = sizes["tokens"], 128
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = (
        (torch.randn(1, number, HEADS, channels, generator=generator) / channels**0.5).to(device, torch.bfloat16)
        for _ in range(4)
    )
    log_a = -torch.rand(1, number, HEADS, generator=generator).to(device) / 8
    q, k, v = (x.requires_grad_(backward) for x in (q, k, v))
    by_head = lambda x: x.transpose(1, 2)  # noqa: E731

    def ours() -> Tensor:
        elements = (*map(by_head, (q, k, v)), None if decay == "none" else by_head(log_a))
        return by_head(hgraph.scan(hgraph.Memory(decay), elements).states)  # type: ignore[arg-type]

    def fla() -> Method:
        from fla.ops.linear_attn import chunk_linear_attn
        from fla.ops.simple_gla import chunk_simple_gla

        if decay == "none":
            return lambda: chunk_linear_attn(q, k, v, scale=1.0, normalize=False)[0]
        return lambda: chunk_simple_gla(q, k, v, g=log_a, scale=1.0)[0]

    methods = own(ours, device) | present({"flash-linear-attention": fla})
    limits = {"limit: copy": copied(4 * v.numel() * (3 if backward else 1), torch.bfloat16, device)}
    wrapped = (lambda m: gradient(m, [q, k, v], grad)) if backward else without_gradient
    return Case(name, {n: wrapped(m) for n, m in methods.items()}, limits, **HALF)


def peaks(make: Callable[[], Case], device: str) -> Found:
    """MiB allocated by each method of a case."""
    if device == "cpu":
        raise NotHereError("GPU memory needs --device cuda")
    values: dict[str, list[float]] = {}
    for name, method in make().methods.items():
        method()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = method()
        torch.cuda.synchronize()
        values[name] = [(torch.cuda.max_memory_allocated() - before) / 2**20]
        del result
    return Found(values, "MiB above the inputs")


def suite(device: str, sizes: Mapping[str, int] = SIZES) -> Mapping[str, Callable[[], Case | Found]]:
    """All cases, built when they are run."""
    made: dict[str, Callable[[], Case | Found]] = {}

    def add(name: str, make: Callable[..., Case], *arguments: object) -> None:
        made[name] = partial(make, *arguments, sizes, name, device)

    for dtype in (torch.float32, torch.bfloat16):
        for channels in (64, 128, 256):
            add(f"far sum F={channels} {str(dtype).removeprefix('torch.')}", far_sums, dtype, channels)
    for backward in (False, True):
        for which in ("window", "documents", "causal"):
            for channels in (64, 128):
                add(f"tiles, {which}, 8x{channels}{' f+b' * backward}", tokens, which, channels, backward)
        for decay in ("none", "scalar"):
            add(f"linear attention, decay {decay}, 8x128{' f+b' * backward}", memories, decay, backward)
    for name, make in list(made.items()):
        made[f"memory of {name}"] = partial(peaks, make, device)  # type: ignore[arg-type]
    return made
