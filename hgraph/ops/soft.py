"""The operators over a `SoftAdjacency`: batched matrix products, and softmax in at least float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.ops.sparse.linear import upcast
from hgraph.structure import SoftAdjacency

__all__ = ["soft_attend", "soft_propagate", "soft_score", "soft_softmax"]


def soft_propagate(adj: SoftAdjacency, x: Tensor, weight: Tensor | None, reduce: str) -> Tensor:
    """``weight @ x``; for the mean, divided by the number of edges."""
    if weight is not None:
        raise ArgumentError("weight", "None with a SoftAdjacency, which has its own weight", "a tensor")
    if reduce not in ("sum", "mean"):
        raise ArgumentError("reduce", "'sum' or 'mean' with a SoftAdjacency", repr(reduce))
    if reduce == "sum":
        return adj.weight.to(x.dtype) @ x
    wide = upcast(x)  # in this dtype and divided first, no sum is beyond its range if the mean is not
    return (adj.weight.to(wide.dtype) / _num_edges(adj).to(wide.dtype) @ wide).to(x.dtype)


def _num_edges(adj: SoftAdjacency) -> Tensor:
    """[..., T, 1]: the number of edges of each target, at least 1."""
    if adj.mask is None:
        return adj.weight.new_tensor(max(adj.num_sources, 1))
    return adj.mask.expand(*adj.mask.shape[:-1], adj.num_sources).sum(-1, keepdim=True).clamp(min=1)


def soft_softmax(adj: SoftAdjacency, score: Tensor) -> Tensor:
    """Softmax of scores [..., T, S] over each target's sources; 0 where masked and where all scores are -inf."""
    wide = upcast(score)
    if adj.mask is not None:
        wide = torch.where(adj.mask, wide, float("-inf"))
    if not adj.num_sources:
        return score
    empty_row = wide.amax(-1, keepdim=True) == float("-inf")  # without the shift to 0 these rows would be 0 / 0
    return torch.where(empty_row, 0.0, torch.where(empty_row, 0.0, wide).softmax(-1)).to(score.dtype)


def soft_score(q: Tensor, k: Tensor, *, slope: float | None, a: Tensor | None) -> Tensor:
    """Scores [..., H, T, S] of q [..., T, H(, D)] and k [..., S, H(, D)]; inner products if ``slope`` is None."""
    if slope is None:
        return q.movedim(-2, -3) @ k.movedim(-2, -3).mT
    if a is None:
        return F.leaky_relu(q.mT.unsqueeze(-1) + k.mT.unsqueeze(-2), slope)
    each = F.leaky_relu(q.movedim(-2, -3).unsqueeze(-2) + k.movedim(-2, -3).unsqueeze(-3), slope)
    return (each * a.to(each.dtype)[:, None, None]).sum(-1)


def soft_attend(adj: SoftAdjacency, score: Tensor, v: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax of scores [..., H, T, S] applied to v [..., S, H, D]: out [..., T, H, D] and lse [..., T, H]."""
    if adj.mask is not None:
        score = torch.where(adj.mask.unsqueeze(-3), score, float("-inf"))
    if not adj.num_sources:
        lse = score.new_full(score.shape[:-1], float("-inf"))
        return v.new_zeros(*lse.mT.shape, v.shape[-1]), lse.mT
    top = score.detach().amax(-1, keepdim=True)
    top = torch.where(top == float("-inf"), 0.0, top)
    each = torch.exp(score - top)
    total = each.sum(-1, keepdim=True)
    empty = total == 0
    lse = torch.where(empty, float("-inf"), top + torch.where(empty, 1.0, total).log())
    each = each if keep is None else each * keep
    out = (each / torch.where(empty, 1.0, total)) @ upcast(v).movedim(-2, -3)
    return out.movedim(-3, -2).to(v.dtype), lse.squeeze(-1).mT
