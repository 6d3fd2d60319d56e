"""Mixture of attention spans: each head its own causal band, chosen by how much its edges matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.nn.attention.kinds import AttentionKind
from hgraph.nn.attention.layer import TokenAttention
from hgraph.nn.attention.state import KVState
from hgraph.structure import TokenGraph, patterns

__all__ = ["MoAAttention", "SpanRule", "edge_influence", "plan_spans", "span_rules"]


class SpanRule(NamedTuple):
    """A span that is an affine function of the length: alpha + beta n tokens.

    >>> SpanRule(-1024, 1.0).span(4096), SpanRule(0, 0.125).blocks(4096, 64)
    (3072, 8)
    """

    alpha: int
    beta: float

    def span(self, n: int) -> int:
        """Tokens for a sequence of n, between 1 and n."""
        return min(max(int(self.alpha + self.beta * n), 1), n)

    def blocks(self, n: int, block: int) -> int:
        """Blocks of the band, the diagonal one included: at least one, at most all."""
        blocks = -(-n // block)  # a last block that is cut short counts as one
        return min(max(int(self.alpha / block + self.beta * blocks), 1), blocks)


def span_rules(shortest: int, profiled: int, longest: int, *, step: int = 1024, slopes: int = 9) -> list[SpanRule]:
    """The search space: offsets on a grid, slopes 0 .. 1, spans that are positive and within the lengths.

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


def edge_influence(q: Tensor, k: Tensor, v: Tensor, grad: Tensor, *, block: int = 64) -> Tensor:
    r"""How much the loss changes when an edge of causal attention is removed and the others are normalised again.

    .. math:: E_{ij} = \frac{A_{ij} (\sum_n G_{in} A_{in} - G_{ij})}{1 - A_{ij}}, \qquad
              A = \operatorname{softmax}(q k^\top / \sqrt{D}), \quad G = \mathrm{grad} \, v^\top

    exact for the linearised loss and one removal; summed over blocks of edges, then taken absolutely. A row of one edge
    has :math:`-G A`. Head by head, so that one T x T matrix is held at a time.

    Args:
        q: [T, H, D].
        k: [T, H_kv, D].
        v: [T, H_kv, D].
        grad: [T, H, D], the gradient of the attention's output.
        block: tokens a block.

    Returns:
        [H, T / block, T / block] (rounded up), float32 at least.

    Source: Fu et al., "MoA: Mixture of Sparse Attention for Automatic Large Language Model Compression", section 4.1.

    >>> q, k, v, grad = (torch.randn(8, 2, 4) for _ in range(4))
    >>> edge_influence(q, k, v, grad, block=4).shape
    torch.Size([2, 2, 2])
    """
    n, heads, width = q.shape
    group, size = heads // k.shape[1], -(-n // block)
    wide = torch.promote_types(q.dtype, torch.float32)
    future = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
    out = []
    for h in range(heads):
        query, key, value, own = (x.to(wide) for x in (q[:, h], k[:, h // group], v[:, h // group], grad[:, h]))
        share = (query @ key.T / width**0.5).masked_fill(future, -torch.inf).softmax(-1)
        flow = own @ value.T
        lost = share * ((flow * share).sum(-1, keepdim=True) - flow) / (1 - share + torch.finfo(wide).eps)
        lost = torch.where(share == 1, -flow * share, lost)  # the only edge of its row
        lost = torch.nn.functional.pad(lost, (0, size * block - n, 0, size * block - n))
        out.append(lost.unflatten(1, (size, block)).unflatten(0, (size, block)).sum((1, 3)).abs())
    return torch.stack(out)


def plan_spans(
    influence: Mapping[int, Tensor],
    rules: Sequence[SpanRule],
    density: Mapping[int, float],
    *,
    block: int = 64,
    max_rules: int = 2,
    weight: Mapping[int, float] | None = None,
) -> Tensor:
    r"""A rule for each head so that what the bands remove matters least, under a budget at every length.

    .. math:: \min \sum_{n} w_n \sum_{l,h,r} \Delta_{lhrn} x_{lhr}, \quad \sum_r x_{lhr} = 1, \quad
              \operatorname{mean}_{lh} \sum_r d_{rn} x_{lhr} \le \rho_n, \quad
              \text{at most } m \text{ rules a layer}

    with :math:`\Delta` the influence of the blocks that a rule removes (one sink block stays) and d the share of blocks
    in its last row. The published search lists the Pareto set of several lengths; here their weighted sum is minimised,
    and other weights give other points of that set.

    Args:
        influence: [L, H, blocks, blocks] for each profiled length (`edge_influence`).
        rules: the choices.
        density: the budget for each length, profiled or not.
        block: tokens a block.
        max_rules: m.
        weight: of each profiled length; equal by default.

    Returns:
        [L, H], the number of each head's rule.

    Raises:
        ArgumentError: a budget that no plan keeps.

    Source: Fu et al., section 4.2; solved with HiGHS through scipy.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    layers, heads = next(iter(influence.values())).shape[:2]
    count, spots = len(rules), layers * heads
    cost = np.zeros((spots, count))
    for n, matter in influence.items():
        own = 1.0 if weight is None else weight[n]
        lost = torch.stack([_removed(matter, rule.blocks(n, block)) for rule in rules], -1)
        cost += own * lost.reshape(spots, count).double().numpy()
    used = layers * count  # whether a layer uses a rule: second half of the variables
    objective = np.concatenate([cost.ravel(), np.zeros(used)])
    one = np.kron(np.eye(spots), np.ones(count))
    constraints = [LinearConstraint(np.hstack([one, np.zeros((spots, used))]), 1, 1)]
    for n, bound in density.items():
        row = np.tile([_kept(rule, n, block) for rule in rules], spots) / spots
        constraints.append(LinearConstraint(np.concatenate([row, np.zeros(used)])[None], 0, bound))
    per_layer = np.kron(np.eye(layers), np.kron(np.ones((heads, 1)), np.eye(count)))
    constraints.append(LinearConstraint(np.hstack([np.eye(spots * count), -per_layer]), -np.inf, 0))
    constraints.append(
        LinearConstraint(
            np.hstack([np.zeros((layers, spots * count)), np.kron(np.eye(layers), np.ones(count))]), 0, max_rules
        )
    )
    found: Any = milp(objective, constraints=constraints, integrality=np.ones(len(objective)), bounds=Bounds(0, 1))
    if found.x is None:
        raise ArgumentError("density", "a budget that some plan keeps", dict(density), "Allow more, or shorter rules")
    return torch.from_numpy(found.x[: spots * count].reshape(layers, heads, count).argmax(-1))


def _kept(rule: SpanRule, n: int, block: int) -> float:
    """The share of blocks in the last row: band and sink."""
    blocks = -(-n // block)
    return min(rule.blocks(n, block) + 1, blocks) / blocks


def _removed(matter: Tensor, band: int) -> Tensor:
    """[L, H]: what lies in causal blocks outside the band and the sink block."""
    rows = torch.arange(matter.shape[-1])
    outside = (rows.unsqueeze(1) - rows >= band) & (rows > 0)
    return (matter.abs() * outside).sum((-1, -2))


class MoAAttention(TokenAttention):
    r"""Causal attention in which head h hears sink tokens and a band of its own width.

    .. math:: N_h(t) = \{ s \le t : s < \text{sink or } \lfloor t/b \rfloor - \lfloor s/b \rfloor < w_h(n) \}, \qquad
              w_h(n) = \max(1, \lfloor \alpha_h / b + \beta_h \lceil n / b \rceil \rfloor)

    The sink lies on top of the span. With :math:`\alpha = 0, \beta = 1` everywhere this is full causal attention, with
    :math:`\beta = 0` and one :math:`\alpha` StreamingLLM's mask, in whole blocks.

    Args:
        dim: features of a token.
        num_heads: H query heads.
        rules: a `SpanRule` for each head.
        num_kv_heads: heads of keys and values; H by default.
        sink: tokens at the beginning that every head hears.
        block: b, tokens a block.
        bias: of the four projections.
        dropout: of the attention shares, in training.
        rotary: the base of rotary embeddings, or None for none.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``state`` as in `SelfAttention`, spans are then those of its capacity.

    Source: Fu et al., "MoA: Mixture of Sparse Attention for Automatic Large Language Model Compression", section 3.

    >>> layer = MoAAttention(8, 2, [SpanRule(4, 0.0), SpanRule(0, 1.0)], sink=2, block=2)
    >>> layer(torch.randn(1, 16, 8)).shape, layer.graph_of(16)
    (torch.Size([1, 16, 8]), TokenGraph(16 x 16, 2 heads, 212 edges, cpu))
    """

    kinds = frozenset({AttentionKind.CAUSAL_SELF})

    def __init__(
        self,
        dim: int,
        num_heads: int,
        rules: Sequence[SpanRule],
        *,
        num_kv_heads: int | None = None,
        sink: int = 64,
        block: int = 64,
        bias: bool = True,
        dropout: float = 0.0,
        rotary: float | None = None,
    ) -> None:
        if len(rules) != num_heads:
            raise ArgumentError("rules", f"one for each of {num_heads} heads", len(rules))
        self.rules, self.sink, self.block = [SpanRule(*rule) for rule in rules], sink, block
        super().__init__(
            dim,
            num_heads,
            num_kv_heads=num_kv_heads,
            causal=True,
            bias=bias,
            out_bias=bias,
            dropout=dropout,
            rotary=rotary,
        )
        self.pattern = self._bands

    def _bands(self, n: int) -> TokenGraph:
        spans = [rule.blocks(n, self.block) * self.block for rule in self.rules]
        return patterns.sink_band(n, spans, sink=self.sink, block=self.block)

    def forward(
        self,
        x: Tensor,
        graph: TokenGraph | None = None,
        *,
        state: KVState | None = None,
        head_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend over the bands, or over what they have in common with a graph of the caller."""
        graph = None if graph is None else self.graph_of(graph.num_targets) & graph
        return self.out(self.heads(x, graph=graph, state=state, head_mask=head_mask).flatten(-2))
