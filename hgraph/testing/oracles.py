"""Reference implementations of the operators as loops in float64: slow but simple."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hgraph.ops import Additive, Dot
from hgraph.structure import Adjacency

__all__ = ["attend_oracle", "propagate_oracle", "softmax_oracle"]


def _edges(adj: Adjacency) -> list[tuple[int, int]]:
    return list(zip(adj.target.tolist(), adj.indices.tolist(), strict=True))


def propagate_oracle(adj: Adjacency, x: Tensor, weight: Tensor | None = None, reduce: str = "sum") -> Tensor:
    """`hgraph.propagate` of x [S, D] as loops in float64."""
    x = x.detach().double()
    weight = adj.weight if weight is None else weight
    channels, edges = x.shape[1], _edges(adj)
    wide = torch.ones(adj.num_edges, 1) if weight is None else weight.detach().unsqueeze(-1).flatten(1)
    block = channels // max(wide.shape[1], 1)
    out = torch.zeros(adj.num_targets, channels, dtype=torch.float64)
    weights, numbers = wide.tolist(), x.tolist()
    for d in range(channels):
        received: list[list[float]] = [[] for _ in range(adj.num_targets)]
        for e, (t, s) in enumerate(edges):
            received[t].append(weights[e][d // block] * numbers[s][d])
        for t, messages in enumerate(received):
            if messages:
                total = math.fsum(messages)
                out[t, d] = {"sum": total, "mean": total / len(messages), "max": max(messages), "min": min(messages)}[
                    reduce
                ]
    return out


def softmax_oracle(adj: Adjacency, score: Tensor) -> Tensor:
    """`hgraph.edge_softmax` of scores [E, H] as loops in float64."""
    score = score.detach().double()
    out, edges, numbers = torch.zeros_like(score), _edges(adj), score.tolist()
    for h in range(score.shape[1]):
        for t in range(adj.num_targets):
            row = {e: numbers[e][h] for e, (target, _) in enumerate(edges) if target == t}
            finite = {e: s for e, s in row.items() if s > float("-inf")}
            if finite:
                top = max(finite.values())
                total = math.fsum(math.exp(s - top) for s in finite.values())
                for e, s in finite.items():
                    out[e, h] = math.exp(s - top) / total
    return out


def attend_oracle(
    adj: Adjacency,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score: Dot | Additive | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`hgraph.attend` without batch dimensions as loops in float64: (out [T, H, D], lse [T, H])."""
    q, k, v = (tensor.detach().double() for tensor in (q, k, v))
    heads, group = q.shape[1], q.shape[1] // k.shape[1]
    additive = isinstance(score, Additive)
    scale = (1.0 if additive else q.shape[-1] ** -0.5) if scale is None else scale
    out = torch.zeros(adj.num_targets, heads, v.shape[-1], dtype=torch.float64)
    lse = torch.full((adj.num_targets, heads), float("-inf"), dtype=torch.float64)
    for h in range(heads):
        rows: dict[int, list[tuple[float, int]]] = {}
        for e, (t, s) in enumerate(_edges(adj)):
            if isinstance(score, Additive):
                one = torch.nn.functional.leaky_relu(q[t, h] + k[s, h // group], score.slope)
                raw = float(one if score.a is None else one @ score.a[h].detach().double())
            else:
                raw = float(q[t, h] @ k[s, h // group])
            add = 0.0 if bias is None else float(bias.unsqueeze(-1).flatten(1).expand(-1, heads)[e, h])
            if scale * raw + add > float("-inf"):
                rows.setdefault(t, []).append((scale * raw + add, s))
        for t, edges in rows.items():
            top = max(value for value, _ in edges)
            total = math.fsum(math.exp(value - top) for value, _ in edges)
            lse[t, h] = top + math.log(total)
            for value, s in edges:
                out[t, h] += math.exp(value - top) / total * v[s, h // group]
    return out, lse
