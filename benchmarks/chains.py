"""Recurrences along a chain over 1k to 64k tokens, 4 heads of 64, against their loop and dense causal attention.

"lightning" is linear attention with the decays of Lightning Attention, "aaren" softmax by one query. "f+b" includes the
backward to all inputs; "decode" is one token after that many earlier ones. The loop over tokens computes the same and
is run up to 4,096 tokens; causal SDPA computes something else. `python -m hgraph.benchmarks.chains` prints the growth
of time, and GFLOP/s of the necessary products beside those of a large matrix product.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph import AttendResult, SoftmaxState, scan
from hgraph.benchmarks import records
from hgraph.benchmarks.harness import Case, Found, Method, gradient, without_gradient
from hgraph.nn.recurrent import linear_attention, log_decays

TOKENS = (1024, 2048, 4096, 16384, 65536)
HEADS, CHANNELS, CHUNK = 4, 64, 64
LOOP, DENSE = "loop over tokens", "limit: SDPA, dense"
Run = Callable[..., Tensor]


def heads(tokens: int, seed: int = 0) -> list[Tensor]:
    """q, k, v [1, N, H, D]."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, tokens, HEADS, CHANNELS, generator=generator) * 0.3 for _ in range(3)]


def lightning(q: Tensor, k: Tensor, v: Tensor, initial: Tensor | None = None) -> Tensor:
    return linear_attention(q, k, v, log_decay=log_decays(HEADS), initial=initial, chunk=CHUNK).out


def lightning_loop(q: Tensor, k: Tensor, v: Tensor, initial: Tensor | None = None) -> Tensor:
    decay = log_decays(HEADS).exp().view(HEADS, 1, 1)
    state, out = q.new_zeros(1, HEADS, CHANNELS, CHANNELS) if initial is None else initial, []
    for t in range(q.shape[1]):
        state = decay * state + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        out.append((q[:, t].unsqueeze(-2) @ state).squeeze(-2))
    return torch.stack(out, 1)


def scores(q: Tensor, k: Tensor) -> Tensor:
    """[1, H, N], of one query per head."""
    return torch.einsum("hd,bnhd->bhn", q[0, 0], k)


def aaren(q: Tensor, k: Tensor, v: Tensor, initial: AttendResult | None = None) -> Tensor:
    states = scan(SoftmaxState(), (scores(q, k), v.transpose(1, 2)), initial=initial).states
    return states.out.transpose(1, 2)


def aaren_loop(q: Tensor, k: Tensor, v: Tensor, initial: AttendResult | None = None) -> Tensor:
    score, out = scores(q, k), []
    top = torch.full((1, HEADS), -math.inf) if initial is None else initial.lse
    total = torch.zeros(1, HEADS) if initial is None else torch.ones(1, HEADS)
    mixed = torch.zeros(1, HEADS, CHANNELS) if initial is None else initial.out
    for t in range(v.shape[1]):
        new = torch.maximum(top, score[:, :, t])
        before, own = torch.exp(top - new), torch.exp(score[:, :, t] - new)
        total, top = total * before + own, new
        mixed = mixed * before.unsqueeze(-1) + v[:, t] * own.unsqueeze(-1)
        out.append(mixed / total.unsqueeze(-1))
    return torch.stack(out, 1)


def dense(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = True) -> Tensor:
    return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=causal).transpose(1, 2)


RUNS: dict[str, tuple[Run, Run]] = {"lightning": (lightning, lightning_loop), "aaren": (aaren, aaren_loop)}


def whole(kind: str, tokens: int, backward: bool, name: str) -> Case:
    ours, loop = RUNS[kind]

    def made(run: Run) -> Method:
        leaves = heads(tokens)
        if not backward:
            return without_gradient(lambda: run(*leaves))
        leaves = [x.requires_grad_() for x in leaves]
        return gradient(lambda: run(*leaves), leaves, torch.ones(leaves[2].shape))

    methods = {"hgraph": made(ours)}
    if tokens <= (1024 if backward else 4096):
        methods[LOOP] = made(loop)
    limits = {DENSE: made(dense)} if tokens <= (4096 if backward else 16384) else {}
    return Case(name, methods, limits, rtol=1e-3)


def decode(kind: str, tokens: int, name: str) -> Case:
    past, new = heads(tokens), heads(1, seed=1)
    with torch.no_grad():
        if kind == "lightning":
            initial = linear_attention(*past, log_decay=log_decays(HEADS)).final
        else:
            new[0] = past[0][:, :1]
            initial = scan(SoftmaxState(), (scores(past[0], past[1]), past[2].transpose(1, 2))).final
    ours, loop = (without_gradient(partial(run, *new, initial)) for run in RUNS[kind])
    keys, values = (torch.cat([old, x], 1) for old, x in zip(past[1:], new[1:], strict=True))
    cached = without_gradient(lambda: dense(new[0], keys, values, causal=False))
    return Case(name, {"hgraph": ours, LOOP: loop}, {DENSE: cached})


def suite(device: str) -> Mapping[str, Callable[[], Case | Found]]:
    made: dict[str, Callable[[], Case | Found]] = {}
    for kind, tokens in itertools.product(RUNS, TOKENS):
        for backward in (False, True):
            name = f"{kind}{' f+b' * backward}, {tokens} tokens"
            made[name] = partial(whole, kind, tokens, backward, name)
        name = f"{kind} decode, {tokens} tokens"
        made[name] = partial(decode, kind, tokens, name)
    return made


def growth(rows: list[dict[str, str]], peak: float) -> list[str]:
    """Per computation: the exponent from 4,096 to 65,536 tokens, GFLOP/s, and where hgraph overtakes SDPA."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        kind, size = row["case"].removesuffix(" tokens").split(", ")
        if row["min"]:
            found.setdefault(kind, {}).setdefault(row["method"], {})[int(size)] = float(row["min"])
    lines = []
    for kind, methods in found.items():
        ours, theirs = methods["hgraph"], methods.get(DENSE, {})
        parts = [f"{n}: {ours[n]:.3g} ms" for n in sorted(ours)]
        if {4096, 65536} <= set(ours):
            parts.append(f"exponent {math.log(ours[65536] / ours[4096]) / math.log(16):.2f}")
        if kind == "lightning":
            work = HEADS * (2 * CHUNK * 2 * CHANNELS + 4 * CHANNELS**2)
            parts += [f"{n}: {work * n / ours[n] / 1e6 / peak:.2f} of GEMM" for n in sorted(ours)]
        faster = [n for n in sorted(theirs) if ours.get(n, math.inf) < theirs[n]]
        parts.append(f"faster than SDPA from {faster[0]} tokens on" if faster else "not faster than SDPA")
        lines.append(f"{kind}: {'; '.join(parts)}")
    return lines


def gemm() -> float:
    """GFLOP/s of a large matrix product on one thread."""
    torch.set_num_threads(1)
    a, best = torch.randn(1024, 1024), math.inf
    for _ in range(5):
        begin = time.perf_counter()
        _ = a @ a
        best = min(best, time.perf_counter() - begin)
    return 2 * 1024**3 / best / 1e9


if __name__ == "__main__":
    print("\n".join(growth(records.read_csv(records.RESULTS / "chains.csv"), gemm())))
