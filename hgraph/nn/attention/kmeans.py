"""Online k-means: centroids that are running means of tokens, without gradients."""

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

_AT_ONCE = 4096  # tokens per chunk in `nearest`, to limit memory
_EPS = 1e-5


def on_sphere(x: Tensor) -> Tensor:
    r"""Features [..., D] with mean 0 and length :math:`\sqrt D`: layer norm without gain and bias."""
    return F.layer_norm(x, x.shape[-1:]).to(x.dtype)


def _repeats() -> bool:
    """Whether this forward is recomputed within a backward."""
    return in_backward()


class OnlineKMeans(nn.Module):
    r"""C centroids per head, each the running mean of its nearest tokens; they are not trained by the loss.

    Use it to assign tokens to clusters that follow the data during training.

    .. math:: a_t = \operatorname{argmax}_c \, x_t \cdot \hat\mu_c, \qquad
              N_c \leftarrow \lambda N_c + (1 - \lambda) \sum_t [a_t = c], \qquad
              M_c \leftarrow \lambda M_c + (1 - \lambda) \sum_{t: a_t = c} x_t, \qquad
              \mu_c = M_c \Big/ \frac{N_c + \epsilon}{\sum N + C \epsilon} \sum N

    with :math:`\hat\mu` of length :math:`\sqrt D`, so that the largest product is the nearest direction. Counts start
    at 1 (at 0, as published, the centroid of a small cluster is huge at first). A centroid without tokens does not
    change. With `torch.distributed`, sums are over all processes. A forward that is recomputed in the backward
    (`torch.utils.checkpoint`) uses the centroids before the last update and does not update them again; so in training,
    run the backward of each forward before the next forward.

    Args:
        num_heads: H.
        num_clusters: C.
        head_dim: D.
        decay: lambda, the decay of the running means.

    Shapes:
        x [B, N, H, D], each row from `on_sphere` -> scores [B, H, C, N].

    Source: Roy et al., "Efficient Content-Based Sparse Attention with Routing Transformers", section 4.1.

    >>> means, x = OnlineKMeans(1, 2, 4), on_sphere(torch.randn(1, 10, 1, 4))
    >>> means.start_from(x)                         # instead of random centroids
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
        """Drop the centroids for recomputed forwards."""
        return {**super().__getstate__(), "_before": None}

    def reset_parameters(self) -> None:
        """Initialize the centroids at random on the sphere, each with the count of one token."""
        with torch.no_grad():
            self.centroids.copy_(on_sphere(torch.randn_like(self.centroids)))
            self.total.copy_(self.centroids)
            self.size.fill_(1.0)

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """Initialize the centroids with tokens that are far from each other.

        The first token is the first centroid, and each next one is the token least similar to all centroids so far.
        With random centroids, as published, some centroids have no tokens and others have those of several clusters.
        """
        points = upcast(x).flatten(0, 1).transpose(0, 1)  # [H, tokens, D]
        if points.shape[1] < self.size.shape[1]:
            raise ArgumentError("x", f"at least {self.size.shape[1]} tokens, one per centroid", points.shape[1])
        own = torch.zeros(len(points), 1, dtype=torch.long, device=x.device)
        similarity = points.new_full(points.shape[:2], -torch.inf)
        for c in range(self.size.shape[1]):
            at = points.gather(1, own.unsqueeze(-1).expand(-1, -1, points.shape[2]))
            self.centroids[:, c] = at.squeeze(1)
            similarity = torch.maximum(
                similarity, (F.normalize(points, dim=-1) @ F.normalize(at, dim=-1).mT).squeeze(-1)
            )
            own = similarity.argmin(1, keepdim=True)
        self.total.copy_(self.centroids)
        self.size.fill_(1.0)

    def scores(self, x: Tensor) -> Tensor:
        """Similarity [B, H, C, N] of each token to each centroid, without gradients."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            center = F.normalize(upcast(self._means()), dim=-1) * x.shape[-1] ** 0.5
            return center.to(upcast(x[:0]).dtype) @ upcast(x).permute(0, 2, 3, 1)

    def nearest(self, x: Tensor) -> Tensor:
        """The nearest centroid [B, H, N] of each token."""
        parts = x.split(_AT_ONCE, dim=1) if x.shape[1] else (x,)
        return torch.cat([self.scores(part).argmax(2) for part in parts], -1)

    def chosen(self, near: Tensor) -> Tensor:
        """The nearest centroids [B, N, H, D] of tokens, given their indices ``near`` [B, H, N], without gradients."""
        heads = torch.arange(near.shape[1], device=near.device)
        return self._means()[heads, near.clamp(min=0).transpose(1, 2)]

    def distance(self, x: Tensor, near: Tensor) -> Tensor:
        """The mean squared distance of tokens x [B, N, H, D] to the centroids ``near`` [B, H, N], -1 for padding."""
        away = (upcast(x) - self.chosen(near).to(upcast(x[:0]).dtype)).square().mean(-1)
        weight = (near >= 0).transpose(1, 2).to(away.dtype)
        return (away * weight).sum() / weight.sum().clamp(min=1)

    def _means(self) -> Tensor:
        repeated = self.training and self._before is not None and _repeats()  # no updates in evaluation
        return self._before if repeated else self.centroids  # type: ignore[return-value]

    @torch.no_grad()
    def update(self, x: Tensor, near: Tensor) -> None:
        """Update each centroid with its nearest tokens; ``near`` [B, H, N] is -1 for padding."""
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
        count_sum = self.size.sum(-1, keepdim=True)
        smooth = (self.size + _EPS) / (count_sum + count * _EPS) * count_sum
        mean = self.total / smooth.unsqueeze(-1)
        self.centroids.copy_(torch.where(found[..., -1:] > 0, mean, self.centroids))
