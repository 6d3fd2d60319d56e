"""Landmark attention over 1k to 64k tokens, 2 heads of 64, blocks of 50, against dense attention by SDPA.

"training" is a full sequence: as many products as dense causal attention. "decode" is one token, "chunk" 250
tokens, after that many earlier ones: landmarks of all blocks are scored, the 4 best blocks are attended to; SDPA reads
every key. "f+b" includes the backward to q, k and v. They compute different things: only time and memory are compared.
`python -m hgraph.benchmarks.landmark` prints the growth, and the useful GFLOP/s of the training form.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph import merge
from hgraph.benchmarks import peak, records
from hgraph.benchmarks.harness import Case, Found, Method, gradient, without_gradient
from hgraph.nn.attention import LandmarkState, landmark_attention

TOKENS = (1024, 4096, 16384, 65536)
HEADS, CHANNELS, BLOCK, TOPK, CHUNK = 2, 64, 50, 4, 250
DENSE = "limit: SDPA, dense"


def heads(tokens: int, seed: int = 0) -> list[Tensor]:
    """q, k, v [1, N, H, D]."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, tokens, HEADS, CHANNELS, generator=generator) for _ in range(3)]


def dense(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=causal)


def training(tokens: int, backward: bool) -> dict[str, Callable[[], Method]]:
    """Factories of the calls, so that a process can build only one."""

    def made(call: Callable[[Tensor, Tensor, Tensor], Tensor], like: Callable[[Tensor], Tensor]) -> Method:
        q, k, v = heads(tokens)
        if not backward:
            return without_gradient(lambda: call(q, k, v))
        leaves = [x.requires_grad_() for x in (q, k, v)]
        return gradient(lambda: call(q, k, v), leaves, like(torch.ones_like(v)))

    return {
        "hgraph": lambda: made(lambda *x: landmark_attention(*x, BLOCK).out, lambda x: x),
        DENSE: lambda: made(partial(dense, causal=True), lambda x: x.transpose(1, 2)),
    }


def recalling(tokens: int, new: int) -> dict[str, Callable[[], Method]]:
    """Attention of ``new`` tokens after a number of earlier tokens."""
    q, k, v = heads(new, seed=1)

    def ours(select: str) -> Method:
        state, place = LandmarkState(tokens // (BLOCK + 1) + 1, TOPK, select=select), torch.arange(new)
        state.append(*heads(tokens)[1:], new=tokens, size=BLOCK + 1, base=10_000.0)

        def call() -> Tensor:
            past = state.recall(q, place, BLOCK + 1, 10_000.0)
            here = landmark_attention(q, k, v, BLOCK)
            return here.out if past is None else merge(here, past).out

        return without_gradient(call)

    def theirs() -> Method:
        past_k, past_v = (torch.cat([old, x], 1) for old, x in zip(heads(tokens)[1:], (k, v), strict=True))
        return without_gradient(lambda: dense(q, past_k, past_v, causal=False))

    made: dict[str, Callable[[], Method]] = {"hgraph": partial(ours, "token_and_head"), DENSE: theirs}
    if new > 1:
        made["limit: one choice for the chunk"] = partial(ours, "max_over_tokens")
    return made


def timed(makers: Callable[[], dict[str, Callable[[], Method]]], name: str) -> Case:
    made = {n: make() for n, make in makers().items()}
    return Case(name, {"hgraph": made.pop("hgraph")}, made)


def call(tokens: int, backward: bool, name: str) -> Method:
    training(256, backward)[name]()()  # libraries set up
    return training(tokens, backward)[name]()


def peaks(tokens: int, backward: bool) -> Found:
    values = {name: [peak.peak_mib(partial(call, tokens, backward, name))] for name in training(256, backward)}
    return Found(values, "MiB above the inputs")


def held(tokens: int) -> Found:
    """Memory on the layer's device if tokens of past blocks are offloaded: the landmarks."""
    whole = 2 * tokens * HEADS * CHANNELS * 4 / 2**20
    return Found({"hgraph": [whole / 2 / (BLOCK + 1)], "limit: all keys and values": [whole]}, "MiB held")


def suite(device: str) -> Mapping[str, Callable[[], Case | Found]]:
    made: dict[str, Callable[[], Case | Found]] = {}
    for tokens in TOKENS:
        for backward in (False, True) if tokens <= 16384 else (False,):  # for more tokens, the backward takes minutes
            name = f"training{' f+b' * backward}, {tokens} tokens"
            made[name] = partial(timed, partial(training, tokens, backward), name)
            made[f"{name}, peak memory"] = partial(peaks, tokens, backward)
        for what, new in (("decode", 1), ("chunk", CHUNK)):
            name = f"{what}, {tokens} tokens"
            made[name] = partial(timed, partial(recalling, tokens, new), name)
        made[f"offloaded, {tokens} tokens"] = partial(held, tokens)
    return made


def growth(rows: list[dict[str, str]]) -> list[str]:
    """Exponents between neighboring sizes, and useful GFLOP/s: 2 N^2 H D forward, 3.5 times as much with backward."""
    lines, found = [], {}
    for row in rows:
        kind, size, *rest = row["case"].removesuffix(" tokens").split(", ")
        if row["min"]:
            what = f"{', '.join([kind, *rest])}: {row['method'].removeprefix('limit: ')}"
            found.setdefault(what, {})[int(size.split()[0])] = float(row["min"])
    for what, points in found.items():
        sizes = sorted(points)
        steps = [f"{math.log(points[b] / points[a]) / math.log(b / a):.2f}" for a, b in itertools.pairwise(sizes)]
        line = f"{what}: N to the {', '.join(steps)}"
        if what.startswith("training") and "memory" not in what:
            work = 2 * HEADS * CHANNELS * (3.5 if "f+b" in what else 1)
            line += "; GFLOP/s " + ", ".join(f"{work * n * n / points[n] / 1e6:.0f}" for n in sizes)
        lines.append(line)
    return lines


if __name__ == "__main__":
    print("\n".join(growth(records.read_csv(records.RESULTS / "landmark.csv"))))
