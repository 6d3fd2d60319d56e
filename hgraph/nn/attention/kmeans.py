"""Centroids that follow the tokens by a running mean instead of a gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph._torch import in_backward
from hgraph.checks import check_channels, real
from hgraph.errors import ArgumentError
from hgraph.ops.scatter import scatter
from hgraph.ops.sparse.linear import upcast

__all__ = ["OnlineKMeans", "on_sphere"]

_AT_ONCE = 4096  # tokens scored at once when only the best centroid is asked for: bounds what is held
_EPS = 1e-5


def on_sphere(x: Tensor) -> Tensor:
    r"""Features [..., D] without mean, of length :math:`\sqrt D`: a layer norm with neither gain nor bias."""
    return F.layer_norm(x, x.shape[-1:]).to(x.dtype)


def _repeats() -> bool:
    """Whether this is a forward within a backward."""
    return in_backward()


class OnlineKMeans(nn.Module):
    r"""C centroids a head, each the running mean of the tokens that are nearest to it; the loss does not train them.

    .. math:: a_t = \operatorname{argmax}_c \, x_t \cdot \hat\mu_c, \qquad
              N_c \leftarrow \lambda N_c + (1 - \lambda) \sum_t [a_t = c], \qquad
              M_c \leftarrow \lambda M_c + (1 - \lambda) \sum_{t: a_t = c} x_t, \qquad
              \mu_c = M_c \Big/ \frac{N_c + \epsilon}{\sum N + C \epsilon} \sum N

    with :math:`\hat\mu` of length :math:`\sqrt D`, so that the largest product is the nearest direction. Counts start
    at 1 (at 0, as published, a small cluster's centroid is huge at first), and a centroid that nobody is nearest to
    stays where it is. Sums are those of all processes where `torch.distributed` runs. A forward that is repeated in the
    backward (`torch.utils.checkpoint`) sees the centroids of before the last update and does not move them
    again: so each forward in training is to have its backward before the next one.

    Args:
        num_heads: H.
        num_clusters: C.
        head_dim: D.
        decay: lambda.

    Shapes:
        x [B, N, H, D], each row from `on_sphere` -> scores [B, H, C, N].

    Source: Roy et al., "Efficient Content-Based Sparse Attention with Routing Transformers", section 4.1.

    >>> means, x = OnlineKMeans(1, 2, 4), on_sphere(torch.randn(1, 10, 1, 4))
    >>> means.start_from(x)                         # instead of a random start
    >>> means.update(x, means.nearest(x))
    >>> means.scores(x).shape, means.size.sum() > 2
    (torch.Size([1, 1, 2, 10]), tensor(True))
    """

    centroids: Tensor
    size: Tensor
    total: Tensor

    def __init__(self, num_heads: int, num_clusters: int, head_dim: int, *, decay: float = 0.999) -> None:
        super().__init__()
        check_channels(num_heads=num_heads, num_clusters=num_clusters, head_dim=head_dim)
        if real("decay", decay, "a number in [0, 1)", 0.0, 1.0) == 1.0:
            raise ArgumentError("decay", "a number in [0, 1)", decay)
        self.decay = decay
        for name in ("centroids", "total"):
            self.register_buffer(name, torch.empty(num_heads, num_clusters, head_dim))
        self.register_buffer("size", torch.empty(num_heads, num_clusters))
        self._before: Tensor | None = None
        self.reset_parameters()

    def __getstate__(self) -> dict[str, Any]:
        """Without what a repeated forward would need."""
        return {**super().__getstate__(), "_before": None}

    def reset_parameters(self) -> None:
        """Centroids drawn at random on the sphere, each as if it had one token."""
        with torch.no_grad():
            self.centroids.copy_(on_sphere(torch.randn_like(self.centroids)))
            self.total.copy_(self.centroids)
            self.size.fill_(1.0)

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """Put the centroids on tokens far from each other, so that none shares a cluster of tokens at first.

        The first token is the first centroid, and the token least like all so far is the next one. A random start, as
        published, leaves some centroids without tokens and others with those of several.
        """
        points = upcast(x).flatten(0, 1).transpose(0, 1)  # [H, tokens, D]
        if points.shape[1] < self.size.shape[1]:
            raise ArgumentError("x", f"as many tokens as centroids, {self.size.shape[1]}", points.shape[1])
        own = torch.zeros(len(points), 1, dtype=torch.long, device=x.device)
        alike = points.new_full(points.shape[:2], -torch.inf)
        for c in range(self.size.shape[1]):
            at = points.gather(1, own.unsqueeze(-1).expand(-1, -1, points.shape[2]))
            self.centroids[:, c] = at.squeeze(1)
            alike = torch.maximum(alike, (F.normalize(points, dim=-1) @ F.normalize(at, dim=-1).mT).squeeze(-1))
            own = alike.argmin(1, keepdim=True)
        self.total.copy_(self.centroids)
        self.size.fill_(1.0)

    def scores(self, x: Tensor) -> Tensor:
        """[B, H, C, N]: how near each token is to each centroid; no gradient."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            center = F.normalize(upcast(self._means()), dim=-1) * x.shape[-1] ** 0.5
            return center.to(upcast(x[:0]).dtype) @ upcast(x).permute(0, 2, 3, 1)

    def nearest(self, x: Tensor) -> Tensor:
        """[B, H, N]: the nearest centroid of each token."""
        parts = x.split(_AT_ONCE, dim=1) if x.shape[1] else (x,)
        return torch.cat([self.scores(part).argmax(2) for part in parts], -1)

    def chosen(self, near: Tensor) -> Tensor:
        """[B, N, H, D]: the centroids that tokens are nearest to, ``near`` [B, H, N]; no gradient."""
        heads = torch.arange(near.shape[1], device=near.device)
        return self._means()[heads, near.clamp(min=0).transpose(1, 2)]

    def distance(self, x: Tensor, near: Tensor) -> Tensor:
        """The mean squared distance of tokens x [B, N, H, D] to the centroids ``near`` [B, H, N], -1 for padding."""
        away = (upcast(x) - self.chosen(near).to(upcast(x[:0]).dtype)).square().mean(-1)
        weight = (near >= 0).transpose(1, 2).to(away.dtype)
        return (away * weight).sum() / weight.sum().clamp(min=1)

    def _means(self) -> Tensor:
        again = self.training and self._before is not None and _repeats()  # in evaluation nothing has moved
        return self._before if again else self.centroids  # type: ignore[return-value]

    @torch.no_grad()
    def update(self, x: Tensor, near: Tensor) -> None:
        """Move each centroid towards the tokens nearest to it; ``near`` [B, H, N] is -1 for padding."""
        if _repeats():
            return
        self._before = self.centroids.clone()
        heads, count, width = self.centroids.shape
        own = near.transpose(1, 2) + count * torch.arange(heads, device=near.device)
        own = torch.where(near.transpose(1, 2) < 0, heads * count, own).flatten()
        rows = upcast(x).flatten(0, 2)
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        found = scatter(rows, own, 0, dim_size=heads * count + 1)[:-1].view(heads, count, width + 1)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(found)
        found = found.to(self.total.dtype)
        self.total.lerp_(found[..., :-1], 1 - self.decay)
        self.size.lerp_(found[..., -1], 1 - self.decay)
        everybody = self.size.sum(-1, keepdim=True)
        smooth = (self.size + _EPS) / (everybody + count * _EPS) * everybody
        mean = self.total / smooth.unsqueeze(-1)
        self.centroids.copy_(torch.where(found[..., -1:] > 0, mean, self.centroids))
