"""Content-based selection of sources inside a forward: lists for `BlockAdjacency.trusted` with static sizes.

Nothing here synchronizes with the device. Scores come from the caller: structures contain no neural layers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.errors import ArgumentError

__all__ = ["from_boundaries", "topk_members", "tree_topk"]

_REPRESENTATIVES = ("first", "middle")


def topk_members(score: Tensor, top_k: int) -> Tensor:
    """The members [..., C, K] of each cluster, ascending: the K tokens with the best scores above -inf.

    Args:
        score: [..., C, N], of clusters (or of tiles of targets) and tokens (or tiles of sources); -inf excludes.
        top_k: K, at most N; missing entries are -1.

    >>> topk_members(torch.tensor([[3.0, 1.0, 2.0], [-torch.inf, -torch.inf, 0.0]]), 2).tolist()
    [[0, 2], [-1, 2]]
    """
    best = score.topk(whole("top_k", top_k, most=score.shape[-1]), dim=-1)
    return torch.where(best.values > -torch.inf, best.indices, -1).sort(-1).values


def from_boundaries(boundary: Tensor) -> Tensor:
    """The segment [..., N] of each token: every marked token begins a new one.

    Args:
        boundary: booleans [..., N]; the first token begins segment 0 whether marked or not.

    >>> from_boundaries(torch.tensor([False, False, True, False, True])).tolist()
    [0, 0, 1, 1, 2]
    """
    later = boundary.clone()
    later[..., :1] = False
    return later.long().cumsum(-1)


def tree_topk(
    score: Callable[[Tensor], Tensor], visible: Tensor, top_k: int, *, size: int, representative: str = "middle"
) -> Tensor:
    r"""The K leaves [..., R, K] of each row, ascending, found by descending a tree of ranges instead of scoring all.

    Row r may choose among the leaves :math:`0 .. n_r - 1`, which are cut into K nearly equal ranges. Then every range
    of more than one leaf is halved repeatedly, and the K best ranges are selected: 2 K scores per level, and
    :math:`\lceil \log_2 \lceil n / K \rceil \rceil` levels. A range is scored by one of its leaves. Scores of leaves
    outside a row's range are ignored.

    Args:
        score: computes scores [..., R, C] of leaves [..., R, C], integers 0 .. size - 1; it is also called with entries
            outside a row's range, whose scores are ignored. Ties go to the lower leaf.
        visible: integers [..., R], n_r: 0 .. size.
        top_k: K.
        size: the maximum number of visible leaves: it sets the number of levels.
        representative: ``"middle"`` or ``"first"``, the leaf that represents a range.

    Returns:
        int64 [..., R, K], -1 where a row sees fewer than K leaves. No gradient flows through the selection.

    Source: Lee et al., "HiP Attention", section 3.2.

    >>> value = torch.tensor([0.0, 1.0, 2.0, 3.0, 2.5, 2.0, 1.0, 0.0])
    >>> tree_topk(lambda leaf: value[leaf], torch.tensor([8, 3, 1]), 2, size=8).tolist()
    [[3, 4], [1, 2], [-1, 0]]
    """
    whole("top_k", top_k, 1), whole("size", size)
    if representative not in _REPRESENTATIVES:
        raise ArgumentError("representative", " or ".join(map(repr, _REPRESENTATIVES)), repr(representative))
    with torch.no_grad():
        cut = visible.long().unsqueeze(-1) * torch.arange(top_k + 1, device=visible.device)
        cut = cut.div(top_k, rounding_mode="floor")
        start, stop = cut[..., :-1], cut[..., 1:]
        for _ in range((max(-(-size // top_k), 1) - 1).bit_length()):
            middle = start + (stop - start).div(2, rounding_mode="floor")
            middle = torch.where(stop - start == 1, stop, middle)  # a single leaf stays whole, its other half is empty
            start = torch.stack([start, middle], -1).flatten(-2)
            stop = torch.stack([middle, stop], -1).flatten(-2)
            leaf = start if representative == "first" else start + (stop - start).div(2, rounding_mode="floor")
            value = score(leaf.clamp(0, max(size - 1, 0)))
            # Empty ranges come last, even after scores of -inf; sorted, since topk does not define the order of ties.
            value = value.to(torch.promote_types(value.dtype, torch.float32))
            value = torch.where(start < stop, value.clamp(min=torch.finfo(value.dtype).min), -torch.inf)
            order = torch.sort(value, dim=-1, descending=True, stable=True).indices[..., :top_k]
            order = order.sort(-1).values
            start, stop = start.gather(-1, order), stop.gather(-1, order)
        return torch.where(start < stop, start, -1).sort(-1).values
