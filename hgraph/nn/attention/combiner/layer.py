"""Combiner: full attention at the cost of sparse attention, by conditional expectations."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hgraph.cache import cached_by_size, traced_as_constant
from hgraph.checks import whole
from hgraph.errors import ArgumentError
from hgraph.nn.attention.base import TokenAttention
from hgraph.nn.attention.call import Call
from hgraph.nn.attention.combiner.clusters import clustered_attention
from hgraph.nn.attention.combiner.regions import Part, ReadyPartition, Summary, combiner_attention, ready_partition
from hgraph.nn.attention.combiner.state import CombinerState
from hgraph.nn.attention.kinds import SELF
from hgraph.nn.attention.kmeans import OnlineKMeans, on_sphere
from hgraph.nn.attention.record import PartRecord, record, recording
from hgraph.nn.attention.settings import accepts
from hgraph.nn.padding import without_padding
from hgraph.patterns import Partition, partitions

__all__ = ["CombinerAttention"]

Plan = Literal["fixed", "logsparse", "vertical", "horizontal", "row_major", "mixture", "clusters"]
_CHOICES = {
    "plan": ("fixed", "logsparse", "vertical", "horizontal", "row_major", "mixture", "clusters"),
    "pool": ("max", "mean", "sum"),
    "activation": ("identity", "relu", "deepset"),
    "row_key": ("project", "key", "mean"),
    "variant": ("paper", "jax", "tf"),
}


@accepts("bias", "dropout", bias=False)
class CombinerAttention(TokenAttention):
    r"""Attention with full support at sparse cost: to some tokens directly, and to all others through regions.

    Use it for long sequences in which every token should reach every other one in a single layer.

    .. math:: y_i = W_O \Big\Vert_h \Big( \sum_{j \in \Omega_i^0} \tilde p(j \mid i) \, v_j
              + \sum_{r \ge 1} p(\Omega_i^r \mid i) \sum_{j \in \Omega_i^r} p(j \mid \Omega_i^r) \, v_j \Big)

    Attention is the expectation of a value under a distribution over tokens. The support of a token is partitioned into
    single tokens :math:`\Omega_i^0` and regions :math:`\Omega_i^r`, and within a region the distribution is the same
    for all targets: :math:`p(j \mid i) = p(j \mid \Omega)\, p(\Omega \mid i)`. Tokens and regions have one softmax. See
    `combiner_attention` for the scores and `hgraph.patterns.partitions` for the plans.

    Args:
        dim: features per token.
        num_heads: H heads.
        plan: ``"fixed"`` segments, ``"logsparse"`` blocks of a binary tree; on a grid ``"vertical"``, ``"horizontal"``,
            ``"row_major"``; ``"mixture"`` is the mean of vertical and horizontal. ``"clusters"`` of
            keys are learned by an `OnlineKMeans`, as in routing attention.
        block_size: tokens per segment (fixed); about the square root of the length by default.
        columns: columns of the grid, whose last row may be shorter; about the square root of the length by default.
        num_clusters: G, number of clusters for ``"clusters"``.
        causal: whether tokens attend only to tokens up to themselves.
        pool: pooling of the queries and keys of a region: ``"max"``, ``"mean"`` or ``"sum"``.
        activation: before pooling: ``"identity"``, ``"relu"``, or ``"deepset"``, a linear map of each head's features
            and a ReLU.
        row_key: the key of a region of row_major: ``"project"``, a linear map of the normalized sum of the token and
            its attention output in its row; ``"key"``, the token's key; ``"mean"``, the attention-weighted mean of
            keys.
        size_bias: whether to add the logarithm of its size to the score of a region, so that a region of equal keys has
            the weight of its tokens (not in the paper).
        variant: ``"paper"``, or as in the published code: ``"jax"`` splits the regions of horizontal in two
            and takes one softmax over both parts of the mixture, where tokens off the axes count twice; ``"tf"`` also
            has running sums instead of running maxima, and if not causal counts its own segment or row twice.
        bias: whether the four projections have a bias.
        dropout: dropout probability of attention to tokens, direct and within regions.

    Shapes:
        x [..., N, dim] -> [..., N, dim]. ``mask``, boolean [..., N], is True at real tokens: padding may contain
        any values, is in no region, gets no attention, and its output is 0; ``clusters``, integers [N], [H, N]
        or [B, H, N] below G, replace the learned clusters; with ``state``, a `CombinerState`, the tokens are the next
        ones of a sequence (for clusters, the first tokens at once and later ones one by one);
        ``head_mask`` [..., N or 1, H] selects the heads that a token uses.

        `record_attention` gets several records per call, first those within regions, then those over tokens and over
        regions; `attention_matrix` has the resulting weights of tokens.

    Source: Ren et al., "Combiner: Full Attention Transformer with Sparse Computation Cost", NeurIPS 2021, sections 3
    and 4. The noncausal logsparse plan is not in the paper.

    >>> layer = CombinerAttention(8, 2, block_size=4)
    >>> layer(torch.randn(2, 13, 8)).shape, layer.partitions_of(13)
    (torch.Size([2, 13, 8]), (Partition(13 tokens, 31 direct edges, 15 to 3 regions),))
    >>> layer.attention_matrix(torch.randn(1, 13, 8)).detach().sum(-1).round(decimals=4).unique()  # rows add up to 1
    tensor([1.])
    """

    kinds = SELF
    state_kind = CombinerState

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        plan: Plan = "fixed",
        block_size: int | None = None,
        columns: int | None = None,
        num_clusters: int | None = None,
        causal: bool = True,
        pool: Literal["max", "mean", "sum"] = "max",
        activation: Literal["identity", "relu", "deepset"] = "identity",
        row_key: Literal["project", "key", "mean"] = "project",
        size_bias: bool = False,
        variant: Literal["paper", "jax", "tf"] = "paper",
        **settings: Any,
    ) -> None:
        for (name, choices), value in zip(_CHOICES.items(), (plan, pool, activation, row_key, variant), strict=True):
            if value not in choices:
                raise ArgumentError(name, f"one of {', '.join(choices)}", repr(value))
        if variant == "tf" and plan == "mixture" and not causal:
            raise ArgumentError("variant", "'paper' or 'jax' for a noncausal mixture", "'tf', which does not have it")
        for name, number in (("block_size", block_size), ("columns", columns), ("num_clusters", num_clusters)):
            if number is not None:
                whole(name, number, 1)
        if (plan == "clusters") != (num_clusters is not None):
            raise ArgumentError("num_clusters", "a number for the plan 'clusters', None for others", num_clusters)
        super().__init__(dim, num_heads, causal=causal, **settings)
        self.plan, self.span, self.columns, self.variant = plan, block_size, columns, variant
        self.router = None if num_clusters is None else OnlineKMeans(num_heads, num_clusters, self.head_dim)
        self.pool, self.activation, self.row_key, self.size_bias = pool, activation, row_key, size_bias
        if activation == "deepset" and plan != "row_major":
            self.pool_query, self.pool_key = (nn.Linear(self.head_dim, self.head_dim, bias=False) for _ in range(2))
        if plan == "row_major" and row_key == "project":
            self.row_out = nn.Linear(dim, dim, bias=False)
            self.row_norm = nn.LayerNorm(dim)
            self.row_project = nn.Linear(dim, dim, bias=False)
        self._ready: dict[tuple[int, torch.device], tuple[ReadyPartition, ...]] = {}

    def extra_repr(self) -> str:
        """Sizes and plan."""
        return f"{super().extra_repr()}, {self.plan}"

    # ------------------------------------------------------------------ structure

    def partitions_of(self, n: int) -> tuple[Partition, ...]:
        """The partition for n tokens, or the two partitions whose attentions are averaged."""
        if self.plan == "clusters":
            hint = "Use partitions.clusters(assignment) for the partition of one head"
            raise ArgumentError("plan", "a plan of positions", "'clusters', which depends on content", hint)
        return _partitions(self, n)

    def _ready_of(self, n: int, device: torch.device) -> tuple[ReadyPartition, ...]:
        """The ready partitions, cached per length."""
        n = operator.index(n)  # specializes symbolic lengths
        self._make_ready(n, device)
        return self._ready[n, device]

    @traced_as_constant
    def _make_ready(self, n: int, device: torch.device) -> None:
        cached_by_size(self._ready, (n, device), functools.partial(_ready_partitions, self, n, device))

    # ------------------------------------------------------------------ attention

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        clusters: Tensor | None = None,
        state: CombinerState | None = None,
        head_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend within x, or from the next tokens of a sequence to all tokens so far."""
        call = self.prepare(x, mask=mask, state=state, head_mask=head_mask)
        q, k, v = self.project(call.x)
        found = self._clusters(k, call, clusters)
        parts: list[Part] = []
        if state is not None:
            out = self._decode(call, q, k, v, found, parts)
        else:
            if self.router is not None and found is not None and self.training and clusters is None:
                self.router.update(_folded(on_sphere(k)), found)
            out = self._whole(call, q, k, v, found, parts)
        for part in parts:
            lse = part.lse if head_mask is None or not part.joint else torch.where(head_mask, part.lse, float("-inf"))
            record(self, part.graph, part.query, part.key, lse, kind=PartRecord, mask=part.mask)
        out = out if head_mask is None else torch.where(head_mask.unsqueeze(-1), out, 0.0)
        return without_padding(self.output(out, call), call.mask)

    def attention_matrix(self, x: Tensor, *, mask: Tensor | None = None, clusters: Tensor | None = None) -> Tensor:
        """Attention weights [..., H, N, N] of each token's value in each token's output; for tests and plots."""
        call = self.prepare(x, mask=mask)
        q, k, v = self.project(call.x)
        each = torch.eye(x.shape[-2], dtype=v.dtype, device=v.device).unsqueeze(1).expand(*v.shape[:-1], -1)
        both = torch.cat([v, each], -1)  # the values are needed too: keys of row_major depend on them
        out = self._whole(call, q, k, both, self._clusters(k, call, clusters), [])
        matrix = out[..., self.head_dim :].transpose(-2, -3)
        return matrix if call.mask is None else torch.where(call.mask[..., None, :, None], matrix, 0.0)

    def _whole(self, call: Call, q: Tensor, k: Tensor, v: Tensor, clusters: Tensor | None, parts: list[Part]) -> Tensor:
        """Attention within x, [..., N, H, D_v]; its parts are appended to ``parts``."""
        options: dict[str, Any] = {"summary": self._summary(call.x), "dropout": self.dropout if self.training else 0.0}
        if self.router is not None and clusters is not None:
            options |= {"num_clusters": self.router.size.shape[1], "causal": self.causal}
            options["parts"] = parts if recording(self) else None
            out = clustered_attention(clusters, *(_folded(t) for t in (q, k, v)), **options)
            return out.view(*q.shape[:-1], v.shape[-1])
        options |= {"mask": call.mask, "parts": parts}
        made = self._ready_of(call.x.shape[-2], call.x.device)
        return _mean([combiner_attention(p, q, k, v, **options).out for p in made])

    def _clusters(self, k: Tensor, call: Call, clusters: Tensor | None) -> Tensor | None:
        """The clusters [B or 1, H or 1, N] of a call, negative for padding; None for other plans."""
        if self.router is None:
            if clusters is not None:
                raise ArgumentError("clusters", "None, except with the plan 'clusters'", type(clusters).__name__)
            return None
        if clusters is None:
            clusters = self.router.nearest(_folded(on_sphere(k)))
        else:
            clusters = _checked_clusters(clusters, k, self.router.size.shape[1], call.state is not None)
        return clusters if call.mask is None else torch.where(call.mask.reshape(-1, 1, k.shape[-3]), clusters, -1)

    def _decode(
        self, call: Call, q: Tensor, k: Tensor, v: Tensor, clusters: Tensor | None, parts: list[Part]
    ) -> Tensor:
        """Like `_whole`, from the next tokens of a sequence to all tokens so far."""
        if not self.causal:
            raise ArgumentError("state", "None for a noncausal layer", "a state", "Use causal=True")
        if self.router is not None and clusters is not None:
            how = {"summary": self._summary(call.x), "num_clusters": self.router.size.shape[1]}
            return call.state.append_clustered(clusters, *(_folded(t) for t in (q, k, v)), **how).view(q.shape)
        how = {"partitions": self.partitions_of, "summary": self._summary, "parts": parts if recording(self) else None}
        return _mean(call.state.append(call.x.unsqueeze(-2), q, k, v, **how))

    def _summary(self, x: Tensor) -> Summary:
        maps: list[Any] = [torch.relu if self.activation == "relu" else None] * 2
        if self.activation == "deepset" and self.plan != "row_major":
            maps = [functools.partial(_mapped, layer) for layer in (self.pool_query, self.pool_key)]
        running: Literal["sum"] | None = "sum" if self.variant == "tf" and self.pool == "max" else None
        own: Any = {"key": "token", "mean": "mean"}.get(self.row_key, functools.partial(self._row_keys, x))
        return Summary(self.pool, running, maps[0], maps[1], own, self.size_bias)

    def _row_keys(self, x: Tensor, values: Tensor) -> Tensor:
        row_output = self.row_out(values[..., : self.head_dim].flatten(-2))
        return self.row_project(self.row_norm(x + row_output)).unflatten(-1, (self.query_heads, self.head_dim))


def _mapped(layer: nn.Linear, x: Tensor) -> Tensor:
    return torch.relu(layer(x))


def _mean(outs: list[Tensor]) -> Tensor:
    return outs[0] if len(outs) == 1 else torch.stack(outs).mean(0)


def _partitions(layer: CombinerAttention, n: int) -> tuple[Partition, ...]:
    """The partitions of a layer with a plan of positions."""
    root = max(math.isqrt(max(n - 1, 0)) + 1, 1)
    columns, causal = layer.columns or root, layer.causal
    split, twice = layer.variant != "paper", layer.variant == "tf" and not causal
    if layer.plan == "fixed":
        return (partitions.fixed(n, layer.span or root, causal=causal, twice=twice),)
    if layer.plan == "logsparse":
        return (partitions.logsparse(n, causal=causal),)
    if layer.plan == "row_major":
        return (partitions.row_major(n, columns, causal=causal, twice=twice),)
    vertical = partitions.vertical(n, columns, causal=causal)
    horizontal = partitions.horizontal(n, columns, causal=causal, split=split)
    if layer.plan == "mixture":
        joint = Partition(vertical.direct, vertical.regions + horizontal.regions)
        return (joint,) if split else (vertical, horizontal)
    return (vertical if layer.plan == "vertical" else horizontal,)


def _ready_partitions(layer: CombinerAttention, n: int, device: torch.device) -> tuple[ReadyPartition, ...]:
    return tuple(ready_partition(p.to(device)) for p in layer.partitions_of(n))


def _checked_clusters(clusters: Tensor, k: Tensor, count: int, decodes: bool) -> Tensor:
    """Clusters of the caller, [N], [H, N] or [B, H, N], in three dimensions for keys k [..., N, H, D]."""
    sizes = ((1, k.shape[:-3].numel()), (1, k.shape[-2]), (k.shape[-3],))
    shape = (1,) * (3 - clusters.dim()) + tuple(clusters.shape)
    fits = len(shape) == 3 and all(a in b for a, b in zip(shape, sizes, strict=True))
    if clusters.is_floating_point() or not fits:
        expected = f"integers [N], [H, N] or [B, H, N], N = {k.shape[-3]}"
        raise ArgumentError("clusters", expected, f"{clusters.dtype} {list(clusters.shape)}")
    if clusters.numel() and int(clusters.max()) >= count:
        raise ArgumentError("clusters", f"numbers below {count}", int(clusters.max()))
    if decodes and clusters.numel() and int(clusters.min()) < 0:
        raise ArgumentError("clusters", "no padding in decoding", int(clusters.min()))
    return clusters.view(shape).long()


def _folded(x: Tensor) -> Tensor:
    """[B, N, H, D] of [..., N, H, D]."""
    return x.reshape(x.shape[:-3].numel(), *x.shape[-3:])
