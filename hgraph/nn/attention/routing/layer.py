"""Routing attention: tokens meet where clusters of their content lie."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph import patterns
from hgraph.checks import check_channels, whole
from hgraph.errors import ArgumentError
from hgraph.nn.attention.kinds import SELF
from hgraph.nn.attention.kmeans import OnlineKMeans, on_sphere
from hgraph.nn.attention.masks import fitting, token_mask, without_padding
from hgraph.nn.attention.record import record, recording
from hgraph.nn.attention.routing.record import Heard, RoutedRecord
from hgraph.nn.attention.routing.routes import Routes, by_claim, by_nearest, nearby
from hgraph.nn.attention.state import KVState
from hgraph.ops import attend, propagate
from hgraph.ops.sparse.linear import widened
from hgraph.structure import Adjacency

__all__ = ["RoutingAttention"]

_BLOCK = 64  # slots a tile


class RoutingAttention(nn.Module):
    r"""Tokens attend within clusters of their content, some heads to their neighbourhood instead.

    Each head has C centroids, running means of its normalised queries and keys (`OnlineKMeans`). A centroid is a
    hyperedge, whose tokens attend to each other up to their own place:

    .. math:: o_{ct} = \sum_{s \in \mathcal N_c(t)}
              \operatorname{softmax}_s\!\Big(\frac{q_t \cdot k_s}{\sqrt D}\Big) v_s, \qquad
              y_t = \frac{1}{|\{c \ni t\}|} \sum_{c \ni t} o_{ct}, \qquad
              q, k \leftarrow \mathrm{LN}_0(q), \mathrm{LN}_0(k)

    A token in no cluster gets 0 from a head. How tokens come to clusters is the ``assignment``:

    - ``"argmax"``, the default of causal attention: to the nearest centroid; a token hears the last w keys of its
      cluster up to its own place. Nothing hangs on later tokens, and decoding gives what the whole forward gives.
    - ``"topk"``, the default else, as published: each centroid claims the w tokens nearest to it. Later tokens take
      earlier ones' places, so **which** tokens one hears leaks from the future even if causal; it cannot decode.

    Shared queries and keys would make every token hear itself above all, so in causal attention one hears oneself only
    where nobody else is. ``variant="official"`` is the published code: ``"topk"``, oneself heard like anybody, sums
    divided by the count plus 0.01, and separate queries and keys compared by rank within the cluster, which is not
    causal either. Its learned relative positions are not here. The local heads are those of blocks of ``local_window``
    tokens that hear themselves and the block before (and after, if not causal).

    Args:
        dim: features of a token.
        num_heads: H, of which the first ``local_heads`` are local.
        num_clusters: C; about the root of the number of tokens is cheapest.
        cluster_size: w, tokens of a cluster that are heard.
        local_heads: heads that hear their neighbourhood.
        local_window: tokens a block of it.
        causal: whether only tokens up to one's own are heard.
        shared_qk: whether routing heads have their queries for keys; as ``causal`` by default.
        assignment: ``"argmax"`` or ``"topk"``.
        decay: of the running means, which move in training alone.
        commitment: weight of the mean squared distance of queries and keys to their centroids, left in ``aux``.
        scale: of the scores; :math:`1/\sqrt D` by default.
        bias: of the projections to queries, keys and values; the output has none.
        dropout: of the attention shares, in training.
        variant: ``"paper"`` or ``"official"``.

    Shapes:
        x [..., N, dim] -> [..., N, dim]. In a call ``mask``, boolean [..., N], is True at real tokens: padding may hold
        anything, NaN too, gets no attention, moves no centroid, and its output is 0; ``state``, a `KVState`, makes the
        tokens the next ones of a sequence; ``head_mask`` [..., N or 1, H] says which heads a token uses.

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
        bias: bool = False,
        dropout: float = 0.0,
        variant: str = "paper",
    ) -> None:
        super().__init__()
        check_channels(dim=dim, num_heads=num_heads, cluster_size=cluster_size, local_window=local_window)
        if dim % num_heads:
            raise ArgumentError("num_heads", f"a divisor of the width {dim}", num_heads)
        whole("local_heads", local_heads, most=num_heads - 1, why="one routing head at least")
        if variant not in ("paper", "official"):
            raise ArgumentError("variant", "'paper' or 'official'", repr(variant))
        self.official = variant == "official"
        strict = causal and not self.official
        assignment = ("argmax" if strict else "topk") if assignment is None else assignment
        if assignment not in (("argmax", "topk") if strict else ("topk",)):
            expected = "'argmax' or 'topk'" if strict else "'topk', unless causal and of the paper's variant"
            raise ArgumentError("assignment", expected, repr(assignment))
        self.dim, self.num_heads, self.head_dim = dim, num_heads, dim // num_heads
        self.local_heads, self.local_window, self.cluster_size = local_heads, local_window, cluster_size
        self.causal, self.assignment, self.dropout = causal, assignment, dropout
        self.shared_qk = causal if shared_qk is None else shared_qk
        self.commitment, self.scale = commitment, self.head_dim**-0.5 if scale is None else scale
        self.block = min(_BLOCK, max(8, 1 << (cluster_size - 1).bit_length()))
        routed = num_heads - local_heads
        key_heads = local_heads if self.shared_qk else num_heads
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key = nn.Linear(dim, key_heads * self.head_dim, bias=bias) if key_heads else None
        self.value = nn.Linear(dim, dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=False)
        self.router = OnlineKMeans(routed, num_clusters, self.head_dim, decay=decay)
        self.aux: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the last loss, which hangs on its graph: so copies and pickles work after a forward."""
        return {**super().__getstate__(), "aux": {}}

    def extra_repr(self) -> str:
        """The sizes."""
        heads = f"{self.num_heads - self.local_heads} routing heads and {self.local_heads} local of {self.head_dim}"
        return f"{self.dim}, {heads}, {self.assignment} of {self.cluster_size}{', causal' if self.causal else ''}"

    def reset_parameters(self) -> None:
        """As `torch.nn.Linear` starts; centroids drawn anew."""
        for module in (self.query, self.key, self.value, self.out, self.router):
            if module is not None:
                module.reset_parameters()

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """Put the centroids on tokens of x [..., N, dim] far from each other, in place of a random start."""
        self._check(x, None, None)
        query, key, _ = self._projected(x.reshape(1, -1, self.dim))
        both = (query,) if self.shared_qk else (query, key)
        self.router.start_from(torch.cat([t[:, :, self.local_heads :] for t in both], 1))

    # ------------------------------------------------------------------ forward

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        state: KVState | None = None,
        head_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend within clusters and neighbourhoods, and leave the commitment loss in ``aux``."""
        self._check(x, mask, state)
        if head_mask is not None:
            fitting("head_mask", head_mask, torch.Size([*x.shape[:-1], self.num_heads]))
        lead, flat = x.shape[:-2], x.reshape(x.shape[:-2].numel(), *x.shape[-2:])
        mask = token_mask("mask", mask, x.shape[:-1])
        present = None if mask is None else mask.reshape(flat.shape[:2])
        flat = without_padding(flat, present)
        query, key, value = self._projected(flat)
        near = self._near(query, key, present)
        if state is not None:
            more = (near[1].transpose(1, 2).unsqueeze(-1),)
            kept = state.append(*(t.reshape(*lead, *t.shape[1:]) for t in (key, value, *more)))
            key, value, cluster = (t.reshape(lead.numel(), *t.shape[-3:]) for t in kept)
            near = near[0], cluster.squeeze(-1).transpose(1, 2)
        local = self.local_heads
        shared = self.shared_qk and state is None  # a step has more keys than queries
        parts = [self._routed(query[:, :, local:], key[:, :, local:], value[:, :, local:], near, present, shared)]
        if local:
            parts.insert(0, self._local(query[:, :, :local], key[:, :, :local], value[:, :, :local], present))
        heard = torch.cat([part.out for part in parts], 2)
        if head_mask is not None:
            heard = torch.where(head_mask.expand(*x.shape[:-1], -1).reshape(heard.shape[:3]).unsqueeze(-1), heard, 0.0)
        if recording(self):
            self._note(query, key, tuple(parts), head_mask, x)
        return self.out(heard.flatten(2)).view(*lead, x.shape[-2], self.dim)

    def _check(self, x: Tensor, mask: Tensor | None, state: KVState | None) -> None:
        if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[-1] != self.dim:
            got = f"shape {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ArgumentError("x", f"shape [..., N, {self.dim}]", got)
        if state is not None and (not self.causal or self.assignment != "argmax" or mask is not None):
            hint = (
                "Which tokens a centroid claims hangs on later ones, so a step cannot give what the whole forward gives"
            )
            raise ArgumentError("state", "None, but for causal attention by 'argmax' without a mask", "a state", hint)

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, N, H, D]; those of routing heads lie on the sphere."""
        local = self.local_heads
        query, value = (f(x).unflatten(-1, (self.num_heads, self.head_dim)) for f in (self.query, self.value))
        query = torch.cat([query[:, :, :local], on_sphere(query[:, :, local:])], 2)
        if self.key is None:
            return query, query, value
        key = self.key(x).unflatten(-1, (-1, self.head_dim))
        routed = query[:, :, local:] if self.shared_qk else on_sphere(key[:, :, local:])
        return query, torch.cat([key[:, :, :local], routed], 2), value

    def _near(self, query: Tensor, key: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """The nearest centroids [B, H, N] of queries and keys, -1 for padding; in training these then move on."""
        routed = [x[:, :, self.local_heads :] for x in ((key,) if self.shared_qk else (query, key))]
        near = [self.router.nearest(x) for x in routed]
        if present is not None:
            near = [torch.where(present.unsqueeze(1), n, -1) for n in near]
        self.aux = {}
        if self.training:
            first, *second = (self._distance(x, n) for x, n in zip(routed, near, strict=True))
            self.aux = {"commitment": self.commitment * (first + (second[0] if second else first))}
            self.router.update(torch.cat(routed, 1).detach(), torch.cat(near, 2))
        return near[0], near[-1]

    def _distance(self, x: Tensor, near: Tensor) -> Tensor:
        """The mean squared distance of tokens to their centroids."""
        away = (widened(x) - self.router.chosen(near).to(widened(x[:0]).dtype)).square().mean(-1)
        weight = (near >= 0).transpose(1, 2).to(away.dtype)
        return (away * weight).sum() / weight.sum().clamp(min=1)

    def _local(self, q: Tensor, k: Tensor, v: Tensor, present: Tensor | None) -> Heard:
        tiles = nearby(
            q.shape[1],
            k.shape[1],
            self.local_window,
            causal=self.causal,
            block=_BLOCK,
            present=present,
            device=q.device,
        )
        dropout = self.dropout if self.training else 0.0
        result = attend(tiles, q, k, v, scale=self.scale, dropout=dropout)
        return Heard(result.out, tiles, result.lse, None)

    def _routed(
        self, q: Tensor, k: Tensor, v: Tensor, near: tuple[Tensor, Tensor], present: Tensor | None, shared: bool
    ) -> Heard:
        """Bring tokens to the slots of their clusters, attend there, and lead what was heard back."""
        routes, heads, width = self._routes(q, k, near, present, shared), q.shape[2], q.shape[3]
        of_queries = Routes.members(routes.query, q.shape[1])
        of_keys = of_queries if routes.aligned else Routes.members(routes.key, k.shape[1])

        def brought(x: Tensor, members: Adjacency, token: Tensor) -> Tensor:
            rows = F.pad(x.flatten(0, 2), (0, 0, 0, 1))  # the last one is nobody
            return propagate(members, rows).view(x.shape[0], token.shape[-1], heads, width)

        there = brought(q, of_queries, routes.query)
        result = attend(
            tiles := routes.tiles(),
            there,
            there if self.shared_qk and routes.aligned else brought(k, of_keys, routes.key),
            brought(v, of_keys, routes.key),
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
        )
        back = of_queries.transpose()
        out = propagate(back, result.out.flatten(0, 2), reduce="mean")[:-1].view(q.shape)
        if self.official:
            clusters = back.target_degree()[:-1].to(out.dtype).view(*q.shape[:3], 1)
            out = out * (clusters / (clusters + 0.01))
        return Heard(out, tiles, result.lse, routes)

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

    def _note(self, query: Tensor, key: Tensor, parts: tuple[Heard, ...], listens: Tensor | None, x: Tensor) -> None:
        n, s = query.shape[1], key.shape[1]
        graph = patterns.causal(n, s) if self.causal else patterns.full(n, s)
        if listens is not None:
            listens = listens.expand(*x.shape[:-1], -1).reshape(query.shape[:3])
        parts = tuple(part._replace(out=part.out.detach(), lse=part.lse.detach()) for part in parts)
        record(
            self,
            graph,
            query,
            key,
            query.new_zeros(query.shape[:3]),  # each slot has its own lse, in the parts
            kind=RoutedRecord,
            parts=parts,
            scale=self.scale,
            surplus=0.01 if self.official else 0.0,
            listens=listens,
        )
