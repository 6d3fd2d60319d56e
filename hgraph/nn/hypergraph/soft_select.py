"""SoftHGNN with sparse hyperedge selection (SoftHGNN-SeS, 2025)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.soft import (
    Axis,
    Context,
    SoftHyperedges,
    check_tokens,
    reset_soft,
    soft_convolve,
)
from hgraph.nn.padding import without_padding
from hgraph.structure.choice import topk_mask

__all__ = ["SoftHGNNSeS"]


class SoftHGNNSeS(nn.Module):
    r"""`SoftHGNN` with sparse hyperedge selection: each sample uses all fixed hyperedges and its top k dynamic ones.

    Use it when samples need different hyperedges, but only a few each.

    .. math:: s_m = \sum_n S_{nm}, \qquad T = \operatorname{topk}(s_{\mathrm{dynamic}}, k), \qquad
              L = \operatorname{mean}_m \left( \operatorname{mean}_b [m \in T_b] - k / M_d \right)^2

    The softmax over the nodes of a hyperedge is independent of other hyperedges, so only the ``k + M_f`` selected
    columns are normalized and used for messages. Ties go to the lower index. There is no gate.

    After a forward pass, ``usage`` :math:`[M_d]` is the fraction of samples that selected each dynamic hyperedge. In
    training, ``aux["balance"]`` is the weighted loss L, which `hgraph.train.fit` adds (see `hgraph.nn.aux_losses`).

    Args:
        dim: D, features per node.
        num_dynamic: :math:`M_d`, number of dynamic hyperedges.
        num_fixed: :math:`M_f`, number of hyperedges that are always used.
        top_k: k, number of dynamic hyperedges used per sample.
        num_heads: h, a divisor of D.
        dropout: dropout probability of the logits; it also affects the selection.
        context: see `SoftHyperedges`, also for normalize, per_head and context_rank.
        normalize: ``"node"`` or ``"edge"``; with ``"edge"``, the softmax is over all hyperedges.
        per_head: whether each head has its own participation; all heads use the same hyperedges.
        context_rank: None, or the rank of the linear map of the context.
        balance: the balance loss: ``"straight_through"`` has the value of L and the gradient of
            :math:`p = \min(k \operatorname{softmax}_m (s / N), 1)`; ``"official"`` is L itself, whose gradient is zero
            (as in the published code; it has no balancing effect); None is no loss.
        balance_weight: weight of L.

    Shapes:
        x [..., N, D], mask None or booleans [..., N] -> [..., N, D]; the mask is True at real nodes. Padding may
        contain any values, also NaN; it is in no hyperedge, and its output is 0.

    Source: "SoftHGNN: Soft Hypergraph Neural Networks for General Visual Recognition" (arXiv 2505.15325),
    sparse hyperedge selection. The published class also has a gate that it never uses.

    >>> layer = SoftHGNNSeS(8, num_dynamic=6, num_fixed=2, top_k=3, num_heads=2)
    >>> layer(torch.randn(4, 5, 8)).shape, layer.usage.sum().item(), list(layer.aux)
    (torch.Size([4, 5, 8]), 3.0, ['balance'])
    """

    usage: Tensor

    def __init__(
        self,
        dim: int,
        num_dynamic: int = 32,
        num_fixed: int = 16,
        top_k: int = 16,
        num_heads: int = 8,
        *,
        dropout: float = 0.1,
        context: Context = "both",
        normalize: Axis = "node",
        per_head: bool = False,
        context_rank: int | None = None,
        balance: Literal["straight_through", "official"] | None = "straight_through",
        balance_weight: float = 1.0,
    ) -> None:
        check_channels(num_dynamic=num_dynamic)
        if isinstance(num_fixed, bool) or not isinstance(num_fixed, int) or num_fixed < 0:
            raise ArgumentError("num_fixed", "a whole number, 0 or more", repr(num_fixed))
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= num_dynamic:
            raise ArgumentError("top_k", f"1 .. {num_dynamic}, the dynamic hyperedges", repr(top_k))
        if balance not in ("straight_through", "official", None):
            raise ArgumentError("balance", "'straight_through', 'official' or None", repr(balance))
        super().__init__()
        self.num_dynamic, self.num_fixed, self.top_k = num_dynamic, num_fixed, top_k
        self.balance, self.balance_weight = balance, balance_weight
        self.edge_generator = SoftHyperedges(
            dim, num_fixed + num_dynamic, num_heads, dropout=dropout, context=context, normalize=normalize,
            per_head=per_head, context_rank=context_rank,
        )  # fmt: skip
        self.edge_proj = nn.Sequential(nn.Linear(dim, dim), nn.GELU())
        self.node_proj = nn.Sequential(nn.Linear(dim, dim), nn.GELU())
        self.aux: dict[str, Tensor] = {}
        self.register_buffer("usage", torch.zeros(num_dynamic), persistent=False)

    def __getstate__(self) -> dict[str, Any]:
        """Drop the loss of the last forward, whose autograd graph can be neither copied nor pickled."""
        return {**super().__getstate__(), "aux": {}}

    def extra_repr(self) -> str:
        """Numbers of hyperedges."""
        return f"num_dynamic={self.num_dynamic}, num_fixed={self.num_fixed}, top_k={self.top_k}"

    def reset_parameters(self) -> None:
        """Reset all parameters, as in `SoftHGNN`."""
        reset_soft(self)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pass messages over the selected hyperedges."""
        check_tokens(x, mask, self.edge_generator.dim)
        x = without_padding(x, mask)
        score = self.edge_generator.score(x, mask)  # [..., (h,) M, N]
        total, chosen = self._choose(score, mask)
        self._balance(total, x.shape[-2], mask)
        rows = chosen.unsqueeze(-2).expand(*score.shape[:-2], -1) if self.edge_generator.per_head else chosen
        if self.edge_generator.normalize == "node":
            selected = score.gather(-2, rows.unsqueeze(-1).expand(*rows.shape, score.shape[-1]))
            soft = self.edge_generator.hyperedges(selected, mask)
        else:
            soft = self.edge_generator.hyperedges(score, mask).select(rows)
        update = soft_convolve(x, soft, self.edge_proj, self.node_proj)
        return x + without_padding(update, mask)

    def _choose(self, score: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scores [..., M_d] of the dynamic hyperedges, and indices [..., M_f + k] of the selected ones."""
        score = score.sum(-3) if self.edge_generator.per_head else score
        total = score if mask is None else torch.where(mask.unsqueeze(-2), score, 0.0)
        total = total[..., self.num_fixed :, :].sum(-1)
        # A stable sort, since the order of ties in topk depends on the device.
        best = total.detach().sort(dim=-1, descending=True, stable=True).indices[..., : self.top_k].sort(-1).values
        fixed = torch.arange(self.num_fixed, device=best.device).expand(*best.shape[:-1], -1)
        return total, torch.cat([fixed, best + self.num_fixed], -1)

    def _balance(self, total: Tensor, num_nodes: int, mask: Tensor | None) -> None:
        """Set ``usage`` and ``aux``; samples with only padding do not count."""
        on = topk_mask(total, self.top_k).to(total.dtype)  # the hyperedges selected by _choose
        count: Tensor | int = max(num_nodes, 1)
        votes = torch.ones_like(total[..., :1])
        if mask is not None:
            count = mask.sum(-1, keepdim=True).clamp(min=1)
            votes = mask.any(-1, keepdim=True).to(total.dtype)

        def mean(each: Tensor) -> Tensor:
            return (each * votes).reshape(-1, self.num_dynamic).sum(0) / votes.sum().clamp(min=1)

        self.usage = mean(on).detach()
        self.aux = {}
        if self.training and self.balance is not None:
            if self.balance == "straight_through":
                p = (self.top_k * (total / count).softmax(-1)).clamp(max=1)
                on = on + p - p.detach()
            loss = (mean(on) - self.top_k / self.num_dynamic).square().mean()
            self.aux = {"balance": self.balance_weight * loss}
