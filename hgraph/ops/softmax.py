r"""Softmax over each target's edges, alone and with the weighted sum that follows it.

- ``softmax``: :math:`\alpha_e = \exp(s_e - \mathrm{lse}_t)`
- ``attend``: :math:`y_t = \sum_e \alpha_e v_s` and :math:`\mathrm{lse}_t`, without keeping :math:`\alpha`

Backwards are written in `spmm` and `sddmm`, so second order exists.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hgraph.ops.linear import Rows, at_target, edges_to_targets, row_sum, sddmm, spmm, spmm_kernel, transpose, widened
from hgraph.ops.register import OperatorFunction, register

# ---------------------------------------------------------------------- softmax over each target's edges


def _row_max(adj: Rows, score: Tensor) -> Tensor:
    """[T, H]: the largest score of each target, 0 where there is none or all are -inf, so that a shift is safe."""
    top = torch.segment_reduce(score, "max", offsets=adj[0].long(), axis=0, unsafe=True, initial=float("-inf"))
    return torch.where(top == float("-inf"), 0.0, top)


def _exponentials(adj: Rows, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """exp(score - shift) [E, H], its sums [T, H] and the shifts [T, H]."""
    shift = _row_max(adj, score)
    each = torch.exp(score - shift.index_select(0, adj[2]))
    return each, spmm_kernel(edges_to_targets(adj), None, each), shift


def _softmax_kernel(adj: Rows, score: Tensor) -> Tensor:
    each, total, _ = _exponentials(adj, widened(score))
    total = torch.where(total == 0, 1.0, total)
    return (each / total.index_select(0, adj[2])).to(score.dtype)


class _Softmax(OperatorFunction):
    operator = "softmax"

    @staticmethod
    def forward(adj: Rows, score: Tensor) -> Tensor:
        return _Softmax.run(adj, score)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[0], output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *adj, alpha = ctx.saved_tensors
        flow = alpha * grad
        return None, flow - alpha * at_target(adj, row_sum(adj, flow))


softmax = register(
    "softmax(Tensor[] adj, Tensor score) -> Tensor", _softmax_kernel, lambda adj, s: torch.empty_like(s), _Softmax
)


# ---------------------------------------------------------------------- attend: softmax and weighted sum


def _attend_kernel(adj: Rows, score: Tensor, v: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    each, total, shift = _exponentials(adj, score)
    lse = shift + total.log()
    out = spmm_kernel(adj, each if keep is None else each * keep, widened(v))
    total = torch.where(total == 0, 1.0, total)
    out = _by_head(out, score.shape[1]) / total.unsqueeze(-1)
    return out.flatten(1).to(v.dtype), lse


def _by_head(x: Tensor, heads: int) -> Tensor:
    """[T, H, D] from [T, H * D]; H = 0 is what an empty batch folds into."""
    return x.unflatten(1, (heads, x.shape[1] // max(heads, 1)))


def _attend_fake(adj: Rows, score: Tensor, v: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    targets = adj[0].shape[0] - 1
    return v.new_empty((targets, v.shape[1])), score.new_empty((targets, score.shape[1]))


class _Attend(OperatorFunction):
    operator = "attend"

    @staticmethod
    def forward(adj: Rows, score: Tensor, v: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        return _Attend.run(adj, score, v, keep)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        adj, score, v, keep = inputs
        ctx.save_for_backward(*adj, score, v, keep, *output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
        *adj, score, v, keep, out, lse = ctx.saved_tensors
        grad, heads = widened(grad), score.shape[1]
        # Rows without a finite score have lse = -inf; their exponentials must come out 0, not NaN.
        alpha = torch.exp(score - at_target(adj, torch.where(lse == float("-inf"), 0.0, lse)))
        kept = alpha if keep is None else alpha * keep
        grad_score = grad_v = None
        if ctx.needs_input_grad[1]:
            delta = _by_head((grad * out).to(score.dtype), heads).sum(-1) - grad_lse
            inner = sddmm(adj, grad, widened(v), heads).to(score.dtype)
            grad_score = kept * inner - alpha * at_target(adj, delta)
        if ctx.needs_input_grad[2]:
            grad_v = spmm(transpose(adj), kept.index_select(0, adj[6]), grad).to(v.dtype)
        return None, grad_score, grad_v, None


attend = register(
    "attend(Tensor[] adj, Tensor score, Tensor v, Tensor? keep) -> (Tensor, Tensor)",
    _attend_kernel,
    _attend_fake,
    _Attend,
)
