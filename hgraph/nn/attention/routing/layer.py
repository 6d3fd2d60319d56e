"""Routing attention: tokens attend within clusters of similar content."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hgraph import patterns
from hgraph.checks import check_channels, whole
from hgraph.errors import ArgumentError
from hgraph.nn.attention.base import TokenAttention
from hgraph.nn.attention.call import Call
from hgraph.nn.attention.kinds import SELF
from hgraph.nn.attention.kmeans import OnlineKMeans, on_sphere
from hgraph.nn.attention.record import record, recording
from hgraph.nn.attention.routing.record import HeadsResult, RoutedRecord
from hgraph.nn.attention.routing.routes import Routes, attend_slots, by_claim, by_nearest, nearby
from hgraph.nn.attention.settings import accepts
from hgraph.nn.attention.state import KVState
from hgraph.ops import attend

__all__ = ["RoutingAttention"]

_BLOCK = 64  # slots per tile


@accepts("bias", "dropout", bias=False)
class RoutingAttention(TokenAttention):
    r"""Attention within clusters of similar content; some heads attend to local windows instead.

    Use it when related tokens are far apart and should find each other by content.

    Each head has C centroids, running means of its normalized queries and keys (`OnlineKMeans`). A centroid is a
    hyperedge, whose tokens attend to each other up to their own position:

    .. math:: o_{ct} = \sum_{s \in \mathcal N_c(t)}
              \operatorname{softmax}_s\!\Big(\frac{q_t \cdot k_s}{\sqrt D}\Big) v_s, \qquad
              y_t = \frac{1}{|\{c \ni t\}|} \sum_{c \ni t} o_{ct}, \qquad
              q, k \leftarrow \mathrm{LN}_0(q), \mathrm{LN}_0(k)

    A token in no cluster gets 0 from a head. The ``assignment`` of tokens to clusters is:

    - ``"argmax"``, the default of causal attention: the nearest centroid; a token attends to the last w keys of its
      cluster up to its own position. It does not depend on later tokens, so decoding equals the full forward.
    - ``"topk"``, the default otherwise, as published: each centroid gets its w nearest tokens. Later tokens replace
      earlier ones, so even if causal, the **selection** of tokens leaks information from the future; no decoding.

    With shared queries and keys, every token would attend mostly to itself, so in causal attention, a token attends to
    itself only if it is alone. ``variant="official"`` is the published code: ``"topk"``, with attention to oneself,
    sums divided by the count plus 0.01, and separate queries and keys compared by rank within the cluster, which is not
    causal either. Its learned relative positions are not included. Local heads attend within blocks of
    ``local_window`` tokens and to the block before (and after, if not causal).

    Args:
        dim: features per token.
        num_heads: H; the first ``local_heads`` of them are local.
        num_clusters: C; about the square root of the number of tokens is cheapest.
        cluster_size: w, number of tokens of a cluster that a token attends to.
        local_heads: number of local heads.
        local_window: tokens per block of local heads.
        causal: whether tokens attend only to tokens up to themselves.
        shared_qk: whether routing heads use queries as keys; equal to ``causal`` by default.
        assignment: ``"argmax"`` or ``"topk"``.
        decay: decay of the running means, which are updated in training.
        commitment: weight of the mean squared distance of queries and keys to their centroids, in ``aux``.
        scale: scale of the scores; :math:`1/\sqrt D` by default.
        bias: whether the projections to queries, keys and values have a bias; the output has none.
        dropout: dropout probability of the attention weights.
        variant: ``"paper"`` or ``"official"``.

    Shapes:
        x [..., N, dim] -> [..., N, dim]. ``mask``, boolean [..., N], is True at real tokens: padding may contain
        any values, gets no attention, does not affect centroids, and its output is 0; with ``state``, a
        `KVState`, the tokens are the next ones of a sequence; ``head_mask`` [..., N or 1, H] selects the heads that a
        token uses.

    Source: Roy et al., "Efficient Content-Based Sparse Attention with Routing Transformers", sections 4.1 and 4.2.

    >>> layer = RoutingAttention(16, 4, num_clusters=4, cluster_size=8, local_heads=2, local_window=4)
    >>> layer(torch.randn(2, 20, 16)).shape, sorted(layer.aux)
    (torch.Size([2, 20, 16]), ['commitment'])
    """

    kinds = SELF

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_clusters: int,
        cluster_size: int,
        local_heads: int = 0,
        local_window: int = 256,
        causal: bool = True,
        shared_qk: bool | None = None,
        assignment: str | None = None,
        decay: float = 0.999,
        commitment: float = 1e-4,
        scale: float | None = None,
        variant: str = "paper",
        **settings: Any,
    ) -> None:
        check_channels(num_heads=num_heads, cluster_size=cluster_size, local_window=local_window)
        whole("local_heads", local_heads, most=num_heads - 1, why="at least one routing head")
        if variant not in ("paper", "official"):
            raise ArgumentError("variant", "'paper' or 'official'", repr(variant))
        self.official = variant == "official"
        strict = causal and not self.official
        assignment = ("argmax" if strict else "topk") if assignment is None else assignment
        if assignment not in (("argmax", "topk") if strict else ("topk",)):
            expected = "'argmax' or 'topk'" if strict else "'topk', except for causal attention of variant 'paper'"
            raise ArgumentError("assignment", expected, repr(assignment))
        self.num_heads, self.local_heads, self.local_window = num_heads, local_heads, local_window
        self.cluster_size, self.assignment, self.commitment = cluster_size, assignment, commitment
        self.shared_qk = causal if shared_qk is None else shared_qk
        self.block = min(_BLOCK, max(8, 1 << (cluster_size - 1).bit_length()))
        super().__init__(dim, num_heads, causal=causal, out_bias=False, **settings)
        self.scale = self.head_dim**-0.5 if scale is None else scale
        self.router = OnlineKMeans(num_heads - local_heads, num_clusters, self.head_dim, decay=decay)

    def key_projection(self, context_dim: int, bias: bool) -> nn.Linear | None:
        """The linear map of sources to keys that are not queries; None if all keys are queries."""
        heads = self.local_heads if self.shared_qk else self.query_heads
        return nn.Linear(context_dim, heads * self.head_dim, bias=bias) if heads else None

    def extra_repr(self) -> str:
        """Sizes."""
        heads = f"{self.num_heads - self.local_heads} routing heads and {self.local_heads} local of {self.head_dim}"
        return f"{self.dim}, {heads}, {self.assignment} of {self.cluster_size}{', causal' if self.causal else ''}"

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """Initialize the centroids with tokens of x [..., N, dim] that are far from each other."""
        query, key, _ = self.project(self.prepare(x).x.reshape(1, -1, self.dim))
        both = (query,) if self.shared_qk else (query, key)
        self.router.start_from(torch.cat([t[:, :, self.local_heads :] for t in both], 1))

    # ------------------------------------------------------------------ forward

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, state: KVState | None = None, head_mask: Tensor | None = None
    ) -> Tensor:
        """Attend within clusters and local windows, and put the commitment loss into ``aux``."""
        if state is not None and (not self.causal or self.assignment != "argmax" or mask is not None):
            expected = "None, except for causal attention with assignment 'argmax' and without a mask"
            hint = "Use assignment='argmax': with 'topk', the selection depends on later tokens"
            raise ArgumentError("state", expected, "a state", hint)
        return self.run(x, mask=mask, state=state, head_mask=head_mask)

    def project(
        self, x: Tensor, source: Tensor | None = None, *, query: Tensor | None = None, start: int = 0
    ) -> tuple[Tensor, ...]:
        """Queries, keys and values [..., N, H, D]; those of routing heads are on the sphere."""
        query, local = self.queries(x), self.local_heads
        value = self.value(x).unflatten(-1, (self.query_heads, self.head_dim))
        query = torch.cat([query[..., :local, :], on_sphere(query[..., local:, :])], -2)
        if self.key is None:
            return query, query, value
        key = self.key(x).unflatten(-1, (-1, self.head_dim))
        routed = query[..., local:, :] if self.shared_qk else on_sphere(key[..., local:, :])
        return query, torch.cat([key[..., :local, :], routed], -2), value

    def compute_heads(self, call: Call, *, query: Tensor | None = None) -> Tensor:
        """Attention within local windows and within clusters, [..., N, H, D]."""
        lead, local = call.x.shape[:-2], self.local_heads
        mask = None if call.mask is None else call.mask.reshape(lead.numel(), -1)
        query, key, value = (t.reshape(lead.numel(), *t.shape[-3:]) for t in self.project(call.x))
        near = self._near(query, key, mask)
        if call.state is not None:
            tokens = key, value, near[1].transpose(1, 2).unsqueeze(-1)
            stored = call.state.append(*(t.reshape(*lead, *t.shape[1:]) for t in tokens))
            key, value, cluster = (t.reshape(lead.numel(), *t.shape[-3:]) for t in stored)
            near = near[0], cluster.squeeze(-1).transpose(1, 2)
        shared = self.shared_qk and call.state is None  # a step has more keys than queries
        q, k, v = (t[:, :, local:] for t in (query, key, value))
        parts = [self._routed(q, k, v, self._routes(q, k, near, mask, shared))]
        if local:
            q, k, v = (t[:, :, :local] for t in (query, key, value))
            parts.insert(0, self._local(q, k, v, mask))
        out = torch.cat([part.out for part in parts], 2).reshape(*lead, *query.shape[1:])
        if recording(self):
            self._record(query, key, parts, call)
        return out if call.head_mask is None else torch.where(call.head_mask.unsqueeze(-1), out, 0.0)

    def _near(self, query: Tensor, key: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """The nearest centroids [B, H, N] of queries and keys, -1 for padding; updates the centroids in training."""
        routed = [x[:, :, self.local_heads :] for x in ((key,) if self.shared_qk else (query, key))]
        near = [self.router.nearest(x) for x in routed]
        if present is not None:
            near = [torch.where(present.unsqueeze(1), n, -1) for n in near]
        self.aux = {}
        if self.training:
            first, *second = (self.router.distance(x, n) for x, n in zip(routed, near, strict=True))
            self.aux = {"commitment": self.commitment * (first + (second[0] if second else first))}
            self.router.update(torch.cat(routed, 1).detach(), torch.cat(near, 2))
        return near[0], near[-1]

    def _local(self, q: Tensor, k: Tensor, v: Tensor, present: Tensor | None) -> HeadsResult:
        sizes = q.shape[1], k.shape[1], self.local_window
        tiles = nearby(*sizes, causal=self.causal, block=_BLOCK, present=present, device=q.device)
        result = attend(tiles, q, k, v, scale=self.scale, dropout=self.dropout if self.training else 0.0)
        return HeadsResult(result.out, tiles, result.lse, None)

    def _routed(self, q: Tensor, k: Tensor, v: Tensor, routes: Routes) -> HeadsResult:
        dropout = self.dropout if self.training else 0.0
        out, tiles, lse, back = attend_slots(routes, q, k, v, shared=self.shared_qk, scale=self.scale, dropout=dropout)
        if self.official:
            clusters = back.target_degree()[:-1].to(out.dtype).view(*q.shape[:3], 1)
            out = out * (clusters / (clusters + 0.01))
        return HeadsResult(out, tiles, lse, routes)

    def _routes(
        self, q: Tensor, k: Tensor, near: tuple[Tensor, Tensor], present: Tensor | None, shared: bool
    ) -> Routes:
        itself = self.official or not (self.causal and self.shared_qk)
        if self.assignment == "argmax":
            sizes = self.router.size.shape[1], min(self.cluster_size, k.shape[1])
            return by_nearest(*near, *sizes, block=self.block, itself=itself, shared=shared)
        scores = [self.router.scores(x) for x in ((k,) if self.shared_qk else (q, k))]
        if present is not None:
            scores = [s.masked_fill(~present[:, None, None], -torch.inf) for s in scores]
        how = {"causal": self.causal, "itself": itself, "by_rank": self.official, "shared": self.shared_qk}
        return by_claim(scores[0], scores[-1], self.cluster_size, block=self.block, **how)

    def _record(self, query: Tensor, key: Tensor, parts: list[HeadsResult], call: Call) -> None:
        graph = (patterns.causal if self.causal else patterns.full)(query.shape[1], key.shape[1])
        more: dict[str, Any] = {"scale": self.scale, "surplus": 0.01 if self.official else 0.0}
        if call.head_mask is not None:
            more["head_mask"] = call.head_mask.expand(*call.x.shape[:-1], -1).reshape(query.shape[:3])
        more["parts"] = tuple(part._replace(out=part.out.detach(), lse=part.lse.detach()) for part in parts)
        # the parts have one lse per slot
        record(self, graph, query, key, query.new_zeros(query.shape[:3]), kind=RoutedRecord, **more)
