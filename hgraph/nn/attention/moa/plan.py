"""Choice of the span of each head: influence of edges on the loss, and plans under a budget."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hgraph.errors import ArgumentError

__all__ = ["SpanPlan", "SpanRule", "edge_influence", "pareto_plans", "plan_spans", "span_loss", "span_rules"]


class SpanRule(NamedTuple):
    """A span as an affine function of the length: alpha + beta n tokens.

    >>> SpanRule(-1024, 1.0).span(4096), SpanRule(0, 0.125).blocks(4096, 64)
    (3072, 8)
    """

    alpha: int
    beta: float

    def span(self, n: int) -> int:
        """The span for a sequence of n tokens, between 1 and n."""
        return min(max(int(self.alpha + self.beta * n), 1), n)

    def blocks(self, n: int, block_size: int) -> int:
        """Number of blocks in the band, including the diagonal one: at least one, at most all."""
        blocks = -(-n // block_size)  # a shorter last block counts as one
        return min(max(int(self.alpha / block_size + self.beta * blocks), 1), blocks)


def span_rules(shortest: int, profiled: int, longest: int, *, step: int = 1024, slopes: int = 9) -> list[SpanRule]:
    """The search space: offsets on a grid, slopes 0 .. 1, with positive spans within the lengths.

    >>> len(span_rules(2048, 8192, 16384))
    48
    """
    rules = [SpanRule(alpha, i / (slopes - 1)) for alpha in range(-shortest, profiled + 1, step) for i in range(slopes)]
    return [
        r
        for r in rules
        if r.alpha + r.beta * profiled <= profiled
        and r.alpha + r.beta * longest <= longest
        and r.alpha + r.beta * shortest > 0
    ]


def edge_influence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: Tensor,
    *,
    block_size: int = 64,
    bias: Tensor | None = None,
    absolute: bool = True,
) -> Tensor:
    r"""Change of the loss when an edge of causal attention is removed and the other weights are renormalized.

    Use it to profile a trained model; its results are the input of `plan_spans`.

    .. math:: E_{ij} = \frac{A_{ij} (\sum_n G_{in} A_{in} - G_{ij})}{1 - A_{ij}}, \qquad
              A = \operatorname{softmax}(q k^\top / \sqrt{D} + b), \quad G = \mathrm{grad} \, v^\top

    exact for the linearized loss and one removal. A row with one edge has :math:`-G A`. The influence of a block is
    computed from E in three steps:

    1. The sum over the edges of the block.
    2. Its absolute value (see ``absolute``).
    3. The maximum over the query heads that share keys.

    It is computed per head, with one T x T matrix in memory at a time.

    Args:
        q: [T, H, D].
        k: [T, H_kv, D].
        v: [T, H_kv, D].
        grad: [T, H, D], the gradient of the attention output.
        block_size: tokens per block.
        bias: [H or 1, T, T], added to the scores, or None.
        absolute: whether to take the absolute value of the sum of a block. If False, signs remain: removals that lower
            the loss offset removals that raise it, in averages over examples and in plans.

    Returns:
        [H_kv, T / block, T / block] (rounded up), float32 at least.

    Source: Fu et al., "MoA: Mixture of Sparse Attention for Automatic Large Language Model Compression", section 4.1.
    The paper keeps the sign; the published code averages over examples, then takes the absolute value.

    >>> q, k, v, grad = (torch.randn(8, 2, 4) for _ in range(4))
    >>> edge_influence(q, k, v, grad, block_size=4).shape
    torch.Size([2, 2, 2])
    """
    n, heads, width = q.shape
    group, size = heads // k.shape[1], -(-n // block_size)
    wide = torch.promote_types(q.dtype, torch.float32)
    future = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
    out = []
    for h in range(heads):
        query, key, value, gradient = (x.to(wide) for x in (q[:, h], k[:, h // group], v[:, h // group], grad[:, h]))
        score = query @ key.T / width**0.5
        score = score if bias is None else score + bias[h if len(bias) > 1 else 0].to(wide)
        weight = score.masked_fill(future, -torch.inf).softmax(-1)
        flow = gradient @ value.T
        lost = weight * ((flow * weight).sum(-1, keepdim=True) - flow) / (1 - weight + torch.finfo(wide).eps)
        lost = torch.where(weight == 1, -flow * weight, lost)  # the only edge of its row
        lost = torch.nn.functional.pad(lost, (0, size * block_size - n, 0, size * block_size - n))
        sums = lost.unflatten(1, (size, block_size)).unflatten(0, (size, block_size)).sum((1, 3))
        out.append(sums.abs() if absolute else sums)
    return torch.stack(out).unflatten(0, (-1, group)).amax(1)


class SpanPlan(NamedTuple):
    """A plan: one rule per head.

    Attributes:
        rule: [L, H], the index of each head's rule.
        lost: the influence of the removed edges, by profiled length.
    """

    rule: Tensor
    lost: dict[int, float]


def plan_spans(
    influence: Mapping[int, Tensor],
    rules: Sequence[SpanRule],
    density: Mapping[int, float],
    *,
    block_size: int = 64,
    max_rules: int = 2,
    least: float = 0.9,
    weight: Mapping[int, float] | None = None,
) -> SpanPlan:
    r"""The plan that minimizes the influence of removed edges, under a budget at every length.

    Use it to choose the spans of `MoAAttention` for a trained model.

    .. math:: \min \sum_{n} w_n \sum_{l,h,r} \Delta_{lhrn} x_{lhr}, \quad \sum_r x_{lhr} = 1, \quad
              0.9 \, \rho_n \le \operatorname{mean}_{lh} \sum_r d_{rn} x_{lhr} \le \rho_n, \quad
              \text{at most } m \text{ rules per layer}

    with :math:`\Delta` the influence of the blocks that a rule removes (all but band and one sink block), and d the
    fraction of blocks in its last row, that is, of the cache. See `pareto_plans` for the published search over several
    lengths.

    Args:
        influence: [L, H, blocks, blocks] by profiled length (`edge_influence`), with or without sign.
        rules: the available rules.
        density: the budget by length, also for lengths that are not profiled.
        block_size: tokens per block.
        max_rules: m, maximum number of rules per layer.
        least: minimum fraction of each budget to use.
        weight: weights of the profiled lengths; equal by default.

    Raises:
        ArgumentError: no plan is within the budget.

    Source: Fu et al., section 4.2; solved with HiGHS through scipy.
    """
    program = _Program(influence, rules, density, block_size, max_rules, least)
    found = program.solve({n: 1.0 if weight is None else weight[n] for n in influence}, {})
    if found is None:
        hint = "Raise the budget, add shorter rules, or reduce least="
        raise ArgumentError("density", "a budget that some plan satisfies", dict(density), hint)
    return found


def pareto_plans(
    influence: Mapping[int, Tensor],
    rules: Sequence[SpanRule],
    density: Mapping[int, float],
    *,
    block_size: int = 64,
    max_rules: int = 2,
    least: float = 0.9,
    slices: int = 4,
) -> list[SpanPlan]:
    """Pareto-optimal plans for the profiled lengths; select one by another length with `span_loss`.

    Use it when a plan must be good at several lengths.

    The loss at each length is minimized in turn, while the loss at every other length is restricted to one of
    ``slices`` equal intervals of its range (from the best plan for that length to the best plans for others); dominated
    plans are dropped. Arguments are as in `plan_spans`.

    Source: Fu et al., section 4.2.
    """
    program = _Program(influence, rules, density, block_size, max_rules, least)
    single = [program.solve({n: 1.0}, {}) for n in influence]
    found = [plan for plan in single if plan is not None]
    if not found:
        raise ArgumentError(
            "density", "a budget that some plan satisfies", dict(density), "Raise the budget or add shorter rules"
        )
    ends = {n: (min(p.lost[n] for p in found), max(p.lost[n] for p in found)) for n in influence}
    for n in influence:
        others = [m for m in influence if m != n]
        for part in itertools.product(range(slices), repeat=len(others)):
            step = {m: (ends[m][1] - ends[m][0]) / slices for m in others}
            limits = {
                m: (ends[m][0] + i * step[m], ends[m][0] + (i + 1) * step[m]) for m, i in zip(others, part, strict=True)
            }
            plan = program.solve({n: 1.0}, limits)
            found += [] if plan is None else [plan]
    return _undominated(found)


def _undominated(plans: list[SpanPlan]) -> list[SpanPlan]:
    """Plans that are not dominated by another one, sorted by the loss at the first length."""
    best: list[SpanPlan] = []
    for plan in sorted(plans, key=lambda p: tuple(p.lost.values())):
        if not any(all(k.lost[n] <= x + 1e-9 * max(abs(x), 1) for n, x in plan.lost.items()) for k in best):
            best.append(plan)
    return best


def span_loss(
    influence: Tensor, rules: Sequence[SpanRule], rule: Tensor, num_tokens: int, *, block_size: int = 64
) -> float:
    """The loss of a plan at a length: the total influence of the edges that it removes.

    Args:
        influence: [L, H, blocks, blocks] at that length.
        rules: the available rules.
        rule: [L, H], rule indices of a plan.
        num_tokens: the length.
        block_size: tokens per block.
    """
    lost = torch.stack([_removed(influence, r.blocks(num_tokens, block_size)) for r in rules], -1)
    return float(lost.gather(-1, rule.unsqueeze(-1)).sum())


class _Program:
    """The integer program; variables say whether head h of layer l has rule r, and whether a layer uses a rule."""

    def __init__(
        self,
        influence: Mapping[int, Tensor],
        rules: Sequence[SpanRule],
        density: Mapping[int, float],
        block: int,
        max_rules: int,
        least: float,
    ) -> None:
        import numpy as np
        from scipy.optimize import LinearConstraint

        layers, heads = next(iter(influence.values())).shape[:2]
        count, spots = len(rules), layers * heads
        self.shape, used = (layers, heads, count), np.zeros(layers * count)
        self.lost = {
            n: torch.stack([_removed(matter, rule.blocks(n, block)) for rule in rules], -1).double().cpu()
            for n, matter in influence.items()
        }
        self.rows = {n: np.concatenate([lost.numpy().ravel(), used]) for n, lost in self.lost.items()}
        one = np.hstack([np.kron(np.eye(spots), np.ones(count)), np.zeros((spots, len(used)))])
        self.constraints = [LinearConstraint(one, 1, 1)]
        for n, bound in density.items():
            fraction = np.tile([_visible_fraction(rule, n, block) for rule in rules], spots) / spots
            self.constraints.append(LinearConstraint(np.concatenate([fraction, used])[None], least * bound, bound))
        uses = np.kron(np.eye(layers), np.kron(np.ones((heads, 1)), np.eye(count)))
        self.constraints.append(LinearConstraint(np.hstack([np.eye(spots * count), -uses]), -np.inf, 0))
        few = np.hstack([np.zeros((layers, spots * count)), np.kron(np.eye(layers), np.ones(count))])
        self.constraints.append(LinearConstraint(few, 0, max_rules))

    def solve(self, weight: Mapping[int, float], limits: Mapping[int, tuple[float, float]]) -> SpanPlan | None:
        """The plan with the lowest weighted loss within the limits at other lengths, or None."""
        import numpy as np
        from scipy.optimize import Bounds, LinearConstraint, milp

        objective = np.sum([w * self.rows[n] for n, w in weight.items()], axis=0)
        own = [LinearConstraint(self.rows[n][None], low, high) for n, (low, high) in limits.items()]
        whole = np.ones(len(objective))
        found: Any = milp(objective, constraints=self.constraints + own, integrality=whole, bounds=Bounds(0, 1))
        if found.x is None:
            return None
        size = self.shape[0] * self.shape[1] * self.shape[2]
        rule = torch.from_numpy(found.x[:size].reshape(self.shape).argmax(-1))
        return SpanPlan(rule, {n: float(t.gather(-1, rule.unsqueeze(-1)).sum()) for n, t in self.lost.items()})


def _visible_fraction(rule: SpanRule, n: int, block: int) -> float:
    """The fraction of blocks in the last row that are in the band or the sink."""
    blocks = -(-n // block)
    return min(rule.blocks(n, block) + 1, blocks) / blocks


def _removed(matter: Tensor, band: int) -> Tensor:
    """The total [L, H] over causal blocks outside the band and the sink block."""
    rows = torch.arange(matter.shape[-1], device=matter.device)
    outside = (rows.unsqueeze(1) - rows >= band) & (rows > 0)
    return (matter * outside).sum((-1, -2))
